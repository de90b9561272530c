"""Whether a change moved a number: ten steps of every preset in two checkouts, compared bit for bit.

    PYTHONPATH=OLD python scripts/compare_numbers.py record old/    # OLD: a checkout, such as a `git worktree`
    PYTHONPATH=NEW python scripts/compare_numbers.py record new/
    python scripts/compare_numbers.py compare old/ new/

Every preset is run at the tests' reduced size, in float32 and in float64, by both backends, from the same seed.
`record` writes one safetensors file per run; `compare` prints the largest difference of each, as a part of its tensor's
largest number, and ends with status 1 where any is not 0 or a run is missing.
"""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
from safetensors.numpy import load_file, save_file

STEPS = 10
PRECISIONS = ("float32", "float64")
# Modules in which checkouts keep the reduced presets and what runs them, the newest place first.
PLACES = (("gan_parity.configurations", "gan_parity.runs"), ("parity_tests.pair", "parity_tests.pair"))
# Names of presets and of tensors before format version 5.
RENAMED_PRESETS = {"vgg16": "vgg-inversion", "pyramid": "lapgan"}
RENAMED_TENSORS = {"game/": "trainer/"}


def record(folder: Path, chosen: list[str]) -> None:
    """Write the state of every preset after ten steps; a file that is there already is kept."""
    import jax

    jax.config.update("jax_enable_x64", True)
    presets, runs = _modules()
    folder.mkdir(parents=True, exist_ok=True)
    for preset, config in presets.PRESET_CONFIGS.items():
        config = _changed(config, **presets.SHORTENED.get(preset, {}))
        name = RENAMED_PRESETS.get(preset, preset)
        for precision in PRECISIONS:
            for framework in runs.BACKENDS:
                file = folder / f"{name}-{precision}-{framework}.safetensors"
                if file.exists() or (chosen and name not in chosen):
                    continue
                backend = runs.backend(framework, _changed(config, precision=precision))
                state, _ = runs.run(backend, backend.init(), 0, STEPS)
                save_file(backend.export(state), file)
                print(file.stem, flush=True)


def compare(old: Path, new: Path) -> bool:
    """Print the largest difference of each run and return whether all are 0."""
    names = sorted({file.name for folder in (old, new) for file in folder.glob("*.safetensors")})
    same = bool(names)
    if not names:
        print(f"found no recorded runs in {old} and {new}")
    for file in (old / name for name in names):
        missing = [folder for folder in (old, new) if not (folder / file.name).exists()]
        if missing:
            print(f"{file.stem}: not recorded in {missing[0]}")
            same = False
            continue
        before = {_renamed(name): value for name, value in load_file(file).items()}
        after = {_renamed(name): value for name, value in load_file(new / file.name).items()}
        if before.keys() != after.keys():
            print(f"{file.stem}: other tensors: {sorted(before.keys() ^ after.keys())[:4]}")
            same = False
            continue
        worst, name = max((_difference(before[name], after[name]), name) for name in before)
        print(f"{file.stem}: {f'{worst:.1e} in {name}' if worst else 'the same bits'}")
        same = same and not worst
    return same


def _difference(before: np.ndarray, after: np.ndarray) -> float:
    """Return the largest difference as a part of the largest number; infinite where shapes, types or NaN differ."""
    if before.shape != after.shape or before.dtype != after.dtype:
        return float("inf")
    if np.array_equal(before, after):
        return 0.0
    error = np.abs(after.astype(np.float64) - before).max() / (np.abs(before).max() or 1.0)
    return float(error) if np.isfinite(error) else float("inf")


def _renamed(name: str) -> str:
    """Return today's name of a tensor."""
    for before, now in RENAMED_TENSORS.items():
        if name.startswith(before):
            return now + name.removeprefix(before)
    return name


def _modules() -> list[ModuleType]:
    """Import what holds and what runs the reduced presets in the checkout that is imported."""
    # Not whether they can be imported: an installed project has packages that an older checkout lacks.
    checkout = Path(importlib.import_module("gan_shared").__path__[0]).parent
    for place in PLACES:
        if (checkout / place[0].replace(".", "/")).with_suffix(".py").is_file():
            return [importlib.import_module(name) for name in place]
    sys.exit("error: found no reduced presets, expected a checkout of this project in PYTHONPATH")


def _changed(config, **options):
    """Return a configuration with other values, in either form that configurations had."""
    return config.with_options(**options) if hasattr(config, "with_options") else replace(config, **options)


def main() -> int:
    """Run the command line and return the exit status."""
    match sys.argv[1:]:
        case ["record", folder, *presets]:
            record(Path(folder), presets)
            return 0
        case ["compare", old, new]:
            return int(not compare(Path(old), Path(new)))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
