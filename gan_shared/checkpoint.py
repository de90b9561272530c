"""Checkpoints: one folder, safetensors only, torch's names and layouts, written whole or not at all.

    step-0000500/
        manifest.json                          format, config, step, images seen, writer, sha256 of every file
        generator/{config.json,model.safetensors}     likewise discriminator/ and generator_ema/
        optimizer.safetensors                  <network>.state.<parameter>.exp_avg | exp_avg_sq | step; of one of the
                                               user's own <network>.torch.<parameter>/<key> | <network>.optax.<path>
        trainer.safetensors                    step, augment_probability, augment_signs

A state crosses into this module as ``{canonical name: array}``; the name is the file, a slash, the tensor:
``generator/stem.conv.weight``, ``optimizer/generator.state.stem.conv.weight.exp_avg``, ``trainer/step``. Older formats
are read as well (``legacy.py``).
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from gan_shared import legacy
from gan_shared.atomic import replacing
from gan_shared.backend import Backend
from gan_shared.config import Config
from gan_shared.data.source import BROKEN
from gan_shared.errors import NotFinite, UserError, unexpected
from gan_shared.generator_config import read_generator_config
from gan_shared.manifest import (
    FILES,
    FOLDER,
    FORMAT_VERSION,
    MEMORY,
    NETWORK_CONFIG_VERSION,
    OWN_HASH,
    ROLES,
    check_file,
    check_hashes,
    config_from_json,
    named_step,
    network_config,
    own_hash,
    read_json,
    read_manifest,
    sha256,
    write_json,
)
from gan_shared.segments import images_seen

# Folders of a run: of its newest checkpoints, and of the one that an evaluation found best.
CHECKPOINTS, BEST = "checkpoints", "best"
# What holds a generator in a folder of its own.
GENERATOR_WEIGHTS = "model.safetensors"
# Tensors that differ are listed up to this many: a wrong architecture differs in all of them.
SHOWN_FAULTS = 20


class Checkpoint(NamedTuple):
    """A checkpoint that was read and found whole.

    Attributes:
        path: its folder.
        config: the run's configuration.
        step: steps done.
        data: name, fingerprint and class names of the training images.
        tensors: the state by canonical name.
    """

    path: Path
    config: Config
    step: int
    data: dict[str, Any]
    tensors: dict[str, np.ndarray]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class; empty where there are no classes, or the checkpoint is of before they were kept.

        A class that has none goes by its number.
        """
        names = tuple(self.data.get("class_names", ()))
        classes = self.config.num_classes if names and self.config.data.class_conditional else 0
        return (*names, *map(str, range(len(names), classes)))


def optimizer_state_name(network: str, parameter: str, key: str) -> str:
    """Return the canonical name of a value (``exp_avg``, say) that the optimiser keeps for one parameter."""
    return f"{optimizer_prefix(network)}state.{parameter}.{key}"


def optimizer_prefix(network: str) -> str:
    """Return what the canonical names of everything that a network's optimiser keeps begin with."""
    return f"optimizer/{network}."


def save(
    run_dir: Path,
    config: Config,
    tensors: Mapping[str, np.ndarray],
    written_by: Mapping[str, Any],
    data: Mapping[str, Any],
) -> Path:
    """Write a checkpoint under ``run_dir/checkpoints`` and remove the oldest beyond ``keep_checkpoints``.

    Args:
        run_dir: the run folder.
        config: the run's configuration.
        tensors: the state by canonical name.
        written_by: backend and versions, for the manifest.
        data: name, fingerprint and class names of the training images.

    Returns:
        The checkpoint's folder.

    Raises:
        UserError: a tensor is not finite, or the disk is full; older checkpoints stay as they are.
    """
    target = run_dir / CHECKPOINTS / f"step-{int(tensors['trainer/step']):07d}"
    try:
        write(target, config, tensors, written_by, data)
    except UserError as error:
        raise type(error)(f"{error}; {last_good(run_dir)}") from error
    if config.execution.keep_checkpoints:
        for old in folders(run_dir)[: -config.execution.keep_checkpoints]:
            shutil.rmtree(old, ignore_errors=True)  # a leftover is no reason to end a healthy run
    return target


def write(
    target: Path,
    config: Config,
    tensors: Mapping[str, np.ndarray],
    written_by: Mapping[str, Any],
    data: Mapping[str, Any],
) -> None:
    """Write a checkpoint as the folder ``target``, in the place of an older one; see ``save``.

    Raises:
        UserError: a tensor is not finite, or the folder cannot be written; nothing is changed then.
    """
    broken = [name for name, value in tensors.items() if not np.isfinite(value).all()]
    if broken:
        step, first = int(tensors["trainer/step"]), min(broken)
        raise NotFinite(
            f"step {step}: {len(broken)} tensors are not finite ({first} first), so this state was not saved"
        )
    if target.exists() and not (target / "manifest.json").is_file():
        raise unexpected("path", f"{target}, which is something else", "a new folder or a checkpoint folder")
    if (named := named_step(target)) not in (None, int(tensors["trainer/step"])):
        raise unexpected("path", target, f"a folder not named for step {named}, as {tensors['trainer/step']} are done")
    try:
        with replacing(target) as folder:
            _write(folder, config, tensors, {"written_by": dict(written_by), "data": dict(data)})
    except (OSError, SafetensorError) as error:
        raise UserError(f"{target}: could not be written: {getattr(error, 'strerror', None) or error}") from error


def _write(folder: Path, config: Config, tensors: Mapping[str, np.ndarray], extra: Mapping[str, Any]) -> None:
    """Write all files of a checkpoint, the manifest with their hashes last."""
    for part, file in FILES.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f"{part}/"
        named = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        # "pt" is what loaders of the Hugging Face Hub look for: torch's names and layouts.
        save_file(named, path, metadata={"format": "pt"})
        # safetensors makes its files for their owner alone; these are shared like any other.
        path.chmod(folder.stat().st_mode & 0o666)
        if part in ROLES:
            write_json(path.with_name("config.json"), network_config(config, part))
    step = int(tensors["trainer/step"])
    files = {path.relative_to(folder).as_posix(): sha256(path) for path in _files(folder)}
    manifest = {
        "format_version": FORMAT_VERSION,
        "step": step,
        "images_seen": images_seen(config, step),
        "seed": config.training.seed,
        "config": config.to_json(),
        **extra,
        "sha256": files,
    }
    write_json(folder / "manifest.json", {**manifest, OWN_HASH: own_hash(manifest)})


def with_networks(tensors: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a state whose networks are those that another state has; optimisers and trainer stay."""
    foreign = {name: value for name, value in other.items() if name.split("/")[0] in ROLES}
    there = {name.split("/")[0] for name in foreign}
    return {name: value for name, value in tensors.items() if name.split("/")[0] not in there} | foreign


def completed(backend: Backend, loaded: Checkpoint) -> Mapping[str, np.ndarray]:
    """Return the tensors of a checkpoint; a generator alone gets the discriminator and trainer of a run that begins."""
    if "trainer/step" in loaded.tensors:
        return loaded.tensors
    return with_networks(backend.export(backend.init()), loaded.tensors)


def save_best(
    run_dir: Path,
    config: Config,
    tensors: Mapping[str, np.ndarray],
    written_by: Mapping[str, Any],
    data: Mapping[str, Any],
) -> Path:
    """Write a checkpoint under ``run_dir/best`` in the place of the one that was best before; see ``save``."""
    target = run_dir / BEST / f"step-{int(tensors['trainer/step']):07d}"
    write(target, config, tensors, written_by, data)
    for old in folders(run_dir, BEST):
        if old != target:
            shutil.rmtree(old, ignore_errors=True)
    return target


def folders(run_dir: Path, parent: str = CHECKPOINTS) -> list[Path]:
    """List the checkpoint folders of a run, oldest step first; those of ``best`` where that is the ``parent``.

    Raises:
        OSError: they cannot be listed; taken for none, they would be trained anew.
    """
    folder = run_dir / parent
    paths = folder.iterdir() if folder.is_dir() else ()
    found = [(int(match[1]), path) for path in paths if (match := FOLDER.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def newest_step(run_dir: Path) -> int:
    """Return the step of a run's newest checkpoint; 0 where there is none."""
    found = folders(run_dir)
    return step_of(found[-1]) if found else 0


def step_of(folder: Path) -> int:
    """Return the step that the name of a run's checkpoint says."""
    return int(folder.name.removeprefix("step-"))


def load_newest_good(run_dir: Path, without: Path | None = None) -> Checkpoint | None:
    """Return the newest checkpoint of a run, ``without`` left out, that reads whole, or None."""
    for path in reversed(folders(run_dir)):
        with suppress(UserError):
            if path != without:
                return load(path)
    return None


def last_good(run_dir: Path, without: Path | None = None) -> str:
    """Say which is the newest checkpoint of a run, ``without`` left out, that reads whole."""
    good = load_newest_good(run_dir, without)
    return f"the last good checkpoint is {good.path}" if good else "there is no good checkpoint of this run yet"


def described_by(path: Path) -> Path:
    """Return the file whose hash a checkpoint is known by: its manifest, or the weights of a generator alone."""
    file = path / "manifest.json"
    return file if file.exists() else path / GENERATOR_WEIGHTS


def newest_checkpoint(path: Path) -> Path:
    """Return the checkpoint folder that ``path`` means: itself, or the newest of a run folder or of one in it.

    Raises:
        UserError: there is none.
    """
    if path.name in (CHECKPOINTS, BEST) and folders(path.parent, path.name):
        return folders(path.parent, path.name)[-1]
    if (path / "manifest.json").is_file() or (FOLDER.fullmatch(path.name) and not folders(path)):
        return path
    if not path.is_dir():
        raise UserError(f"{path}: found no such folder, expected a run folder or a checkpoint folder")
    if not folders(path):
        raise UserError(f"{path}: found no checkpoint, expected a run folder with checkpoints/step-*")
    return folders(path)[-1]


def load(path: Path) -> Checkpoint:
    """Read a checkpoint folder and verify every file against the manifest.

    Args:
        path: the checkpoint folder.

    Raises:
        UserError: a file is missing, unreadable or not what the manifest says.
    """
    manifest = read_manifest(path)
    check_hashes(path, manifest["sha256"])
    tensors, version = {}, manifest["format_version"]
    for part, file in FILES.items():
        file = legacy.FILES.get(file, file) if version == 4 else file
        tensors |= {f"{part}/{name}": value for name, value in _tensors(path / file).items()}
    config = config_from_json(manifest.get("config"), version, path / "manifest.json")
    if config.data.channels is None:
        raise UserError(f"{path / 'manifest.json'}: channels: found null, expected 1 or 3")
    if config.data.class_conditional and config.data.num_classes is None:
        expected = "their number, as class_conditional is true"
        raise UserError(f"{path / 'manifest.json'}: num_classes: found null, expected {expected}")
    if version >= NETWORK_CONFIG_VERSION:
        _check_networks(path, config)
    _check_finite(path, tensors)
    step = tensors.get("trainer/step")
    if step is None or step.shape or step.dtype.kind != "i" or int(step) != manifest["step"]:
        found = "no step" if step is None else f"step {step}"
        raise UserError(f"{path / FILES['trainer']}: found {found}, expected {manifest['step']} as in manifest.json")
    return Checkpoint(path, config, manifest["step"], manifest["data"], tensors)


def _tensors(file: Path) -> dict[str, np.ndarray]:
    """Read a file of tensors.

    Raises:
        UserError: it is none.
    """
    try:
        return load_file(file)
    except (SafetensorError, AttributeError, *BROKEN) as error:  # a type or shape that NumPy has not
        raise UserError(f"{file}: found no readable safetensors file: {error}") from error


def _check_finite(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Refuse tensors that are not finite.

    Raises:
        UserError: counting them.
    """
    broken = [name for name, value in tensors.items() if not np.isfinite(value).all()]
    if broken:
        raise UserError(f"{path}: found {len(broken)} tensors that are not finite ({min(broken)} first), expected none")


def _check_networks(path: Path, config: Config) -> None:
    """Compare each network's own config.json with the manifest's options.

    Raises:
        UserError: naming the first that differs.
    """
    for network in ROLES:
        file = path / network / "config.json"
        found, expected = read_json(file), network_config(config, network)
        for name in sorted(found.keys() | expected.keys()):
            if found.get(name) != expected.get(name):
                raise UserError(
                    f"{file}: {name}: found {found.get(name)!r}, expected {expected.get(name)!r} as in manifest.json"
                )


def load_generator(folder: Path) -> Checkpoint:
    """Read the folder of a generator alone: ``generator`` or ``generator_ema`` of a checkpoint, wherever it is now.

    Returns:
        A checkpoint at step 0 that has nothing but this generator, which is its own average too; see ``completed``.

    Raises:
        UserError: it is damaged, or a network that cannot make images by itself.
    """
    config, class_names = read_generator_config(folder)
    weights = folder / GENERATOR_WEIGHTS
    check_file(weights, "the generator's weights")
    tensors = _tensors(weights)
    if not tensors:
        raise unexpected(str(weights), "no tensors", "the generator's weights")
    named = {f"{part}/{name}": value for part in ("generator", "generator_ema") for name, value in tensors.items()}
    _check_finite(folder, named)
    return Checkpoint(folder, config, 0, {"name": MEMORY, "fingerprint": "", "class_names": class_names}, named)


def load_newest(path: Path) -> Checkpoint:
    """Read a checkpoint folder, the newest checkpoint of a run folder, or a generator's folder alone.

    A run that trains meanwhile may remove the checkpoint that is read; then it has written another, which is taken.

    Raises:
        UserError: it is damaged; the message offers the newest good one, if there is one.
    """
    if described_by(path).name == GENERATOR_WEIGHTS and (path / GENERATOR_WEIGHTS).exists():
        return load_generator(path)
    chosen = newest_checkpoint(path)
    while True:
        try:
            return load(chosen)
        except UserError:
            newest = newest_checkpoint(path)
            if newest == chosen:
                with suggesting_another(chosen):
                    raise
            chosen = newest


@contextmanager
def suggesting_another(chosen: Path) -> Iterator[None]:
    """Add to a mistake found in a checkpoint which other one of its run is good, if there is one.

    Args:
        chosen: the folder of the checkpoint that the block uses.
    """
    try:
        yield
    except UserError as error:
        run_dir = chosen.parent.parent
        another = chosen.exists() and load_newest_good(run_dir, without=chosen)
        remedy = f": remove {chosen.name} to go on from it" if another else ""
        raise UserError(f"{error}; {last_good(run_dir, without=chosen)}{remedy}") from error


def check_layout(expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> None:
    """Compare names, shapes and types of two states.

    Raises:
        UserError: listing everything that is missing, extra or different.
    """
    faults = [f"{name} is missing" for name in expected if name not in found]
    faults += [f"{name} is not a tensor of this model" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        want, have = expected[name], found[name]
        if want.shape != have.shape:
            faults.append(f"{name} has shape {have.shape}, expected {want.shape}")
        elif want.dtype != have.dtype:
            faults.append(f"{name} has type {have.dtype}, expected {want.dtype}")
    if faults:
        count = f"{len(faults)} tensors differ" if len(faults) > 1 else "a tensor differs"
        shown = sorted(faults)[:SHOWN_FAULTS]
        more = f"; and {len(faults) - len(shown)} more" if len(faults) > len(shown) else ""
        raise UserError(f"checkpoint: {count} from the model: {'; '.join(shown)}{more}")


def _files(folder: Path) -> list[Path]:
    """List every file below ``folder``."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
