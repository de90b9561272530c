"""LAPGAN (Denton et al. 2015): a run for every pyramid level, tied by a manifest in the folder that holds them.

runs/lapgan-mnist-5k/lapgan.json     the pyramid levels, what they share, and the folder of each one that was begun
runs/lapgan-mnist-5k/level-8/        an ordinary run, in either backend; likewise level-16/ and level-32/
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from gan_shared import checkpoint, legacy
from gan_shared.atomic import replacing
from gan_shared.checkpoint import Checkpoint
from gan_shared.config import Config
from gan_shared.errors import UserError, unexpected
from gan_shared.manifest import read_json

MANIFEST = "lapgan.json"
FORMAT_VERSION = 2
# Options that all pyramid levels share, as each is given what the one below makes.
SHARED = ("pyramid_levels", "channels", "class_conditional", "num_classes", "output_activation")
ELSE = "another LAPGAN takes another parent folder"


def register(run_dir: Path, config: Config, data: Mapping[str, str]) -> None:
    """Enter a run into the manifest of the LAPGAN in its folder's parent; the first one writes it.

    Levels may be trained in any order or at once.

    Args:
        run_dir: the run's folder.
        config: the run, its channels and classes known.
        data: name and fingerprint of the training images.

    Raises:
        UserError: the folder holds another LAPGAN, or this pyramid level in another run.
    """
    run_dir = Path(os.path.abspath(run_dir))
    folder = run_dir.parent
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{MANIFEST}.lock"):
        manifest = {"format_version": FORMAT_VERSION, **_shared(config), "data": dict(data), "runs": {}}
        before = _read(folder) if is_lapgan(folder) else manifest
        begun = {size: name for size, name in before["runs"].items() if (folder / name).is_dir()}
        if begun:  # runs that were removed restrict nothing
            manifest = before | {"runs": begun}
            _check(manifest, config, data, f"this run, in {folder / MANIFEST}")
        other = manifest["runs"].setdefault(str(config.data.resolution), run_dir.name)
        if other != run_dir.name and (folder / other / "config.json").is_file():
            raise unexpected(
                "run_dir",
                run_dir,
                f"{folder / other}, where pyramid level {config.data.resolution} is, or another parent",
            )
        manifest["runs"][str(config.data.resolution)] = run_dir.name
        if run_dir.exists() and not run_dir.is_dir():
            raise unexpected("run_dir", f"{run_dir}, which is a file", "a folder")
        with replacing(folder / MANIFEST) as temporary:
            content = manifest | {"format_version": FORMAT_VERSION}
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (folder / legacy.LAPGAN_MANIFEST).unlink(missing_ok=True)
        run_dir.mkdir(exist_ok=True)


def is_lapgan(path: Path) -> bool:
    """Whether a folder holds the manifest of a LAPGAN, of this format version or an older one."""
    return (path / MANIFEST).exists() or (path / legacy.LAPGAN_MANIFEST).exists()


def load(folder: Path, resolution: int | None = None) -> list[Checkpoint]:
    """Return the newest checkpoint of every pyramid level, the lowest first.

    Args:
        folder: where the manifest is.
        resolution: the pyramid level to stop at, in pixels; the highest when not given.

    Raises:
        UserError: naming the pyramid level that is missing, or that does not belong: of another size, trained on
            other images, or with other shared options.
    """
    manifest, found = _read(folder), []
    levels = manifest["pyramid_levels"]
    if resolution not in (None, *levels):
        raise unexpected("resolution", resolution, "one of the pyramid levels", levels)
    for size in levels[: levels.index(resolution or levels[-1]) + 1]:
        name = manifest["runs"].get(str(size))
        if name is None or not checkpoint.folders(folder / name):
            where = f"no checkpoint in {folder / name}" if name else "no run"
            remedy = f"--resume --run-dir FOLDER enters a run that {MANIFEST} does not know"
            raise UserError(f"{folder}: pyramid level {size}: found {where}, expected a trained one; {remedy}")
        loaded = checkpoint.load_newest(folder / name)
        if loaded.config.data.resolution != size:
            raise UserError(
                f"{folder / name}: found resolution {loaded.config.data.resolution}, expected the pyramid level {size}"
            )
        _check(manifest, loaded.config, loaded.data, f"pyramid level {size}, in {folder / name}")
        found.append(loaded)
    return found


def _shared(config: Config) -> dict[str, Any]:
    """Return the options that all pyramid levels share, as JSON holds them."""
    values = config.to_json()
    return {name: values[name] for name in SHARED}


def _check(manifest: Mapping[str, Any], config: Config, data: Mapping[str, str], what: str) -> None:
    """Refuse a run that does not belong to a LAPGAN."""
    for field, value in _shared(config).items():
        if value != manifest[field]:
            raise unexpected(f"{what}: {field}", value, f"{manifest[field]}, as in the other pyramid levels; {ELSE}")
    if data["fingerprint"] != manifest["data"]["fingerprint"]:
        names = (
            f"other images ({data['name']})",
            f"those of the other pyramid levels ({manifest['data']['name']}); {ELSE}",
        )
        raise unexpected(f"{what}: data", *names)


def _read(folder: Path) -> dict[str, Any]:
    """Read a manifest and check what the rest relies on."""
    file = folder / MANIFEST
    if file.exists():
        manifest, known = read_json(file), FORMAT_VERSION
    else:
        file = folder / legacy.LAPGAN_MANIFEST
        manifest, known = legacy.lapgan_of_version_1(read_json(file)), 1
    version = manifest.get("format_version")
    if type(version) is not int or version != known:
        raise unexpected(str(file), f"format version {version}", str(known))
    levels, runs, data = (manifest.get(field) for field in ("pyramid_levels", "runs", "data"))
    sizes = isinstance(levels, list) and len(levels) > 1 and all(type(size) is int for size in levels)
    named = isinstance(runs, dict) and all(isinstance(name, str) and Path(name).name == name for name in runs.values())
    sourced = isinstance(data, dict) and all(isinstance(data.get(field), str) for field in ("name", "fingerprint"))
    if not (sizes and named and sourced and set(SHARED) <= set(manifest)):
        expected = "the pyramid levels of a LAPGAN, what they share, their data and runs"
        raise unexpected(str(file), "other contents", expected)
    return manifest
