"""Checkpoints: one folder, safetensors only, torch's names and layouts, written whole or not at all.

    step-0000500/
        manifest.json                          format, config, step, images seen, writer, sha256 of every file
        generator/{config.json,model.safetensors}     likewise discriminator/ and generator_ema/
        optimizer.safetensors                  <network>.state.<parameter>.exp_avg | exp_avg_sq | step
        game.safetensors                       step, augment_probability, augment_signs

A state crosses into this module as ``{canonical name: array}``; the name is the file, a slash, the tensor:
``generator/stem.conv.weight``, ``optimizer/generator.state.stem.conv.weight.exp_avg``, ``game/step``.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from gan_shared.atomic import replacing
from gan_shared.config import Config
from gan_shared.errors import UserError, unexpected
from gan_shared.schedules import images_seen
from gan_shared.validation import from_json

FORMAT_VERSION = 4
# Network of a checkpoint -> the player it is.
ROLES = {"generator": "generator", "discriminator": "discriminator", "generator_ema": "generator"}
TRAINED = ("generator", "discriminator")
# What belongs to the game; scalars.
GAME = ("augment_probability", "augment_signs", "step")
FOLDER = re.compile(r"step-(\d{7,})")
# Tensors that differ are listed up to this many: a wrong architecture differs in all of them.
SHOWN_FAULTS = 20
# Tensor file of each part of a canonical name.
FILES = {
    **{network: f"{network}/model.safetensors" for network in ROLES},
    "optimizer": "optimizer.safetensors",
    "game": "game.safetensors",
}
# What a network's own config.json tells: enough to rebuild it without the rest of the run.
NETWORK_FIELDS = ("resolution", "channels", "classes", "latent_size", "width", "precision")
GENERATOR_FIELDS = ("levels", "vgg_layer", "vgg_sha256")
ROLE_FIELDS = {"generator": ("activation",), "discriminator": ("activation", "norm")}


class Checkpoint(NamedTuple):
    """A checkpoint that was read and found whole.

    Attributes:
        path: its folder.
        config: the run's configuration.
        step: steps done.
        data: name and fingerprint of the training images.
        tensors: the state by canonical name.
    """

    path: Path
    config: Config
    step: int
    data: dict[str, str]
    tensors: dict[str, np.ndarray]


def moment_name(network: str, parameter: str, moment: str) -> str:
    """Return the canonical name of what the optimiser remembers of one parameter."""
    return f"optimizer/{network}.state.{parameter}.{moment}"


def save(
    run_dir: Path,
    config: Config,
    tensors: Mapping[str, np.ndarray],
    written_by: Mapping[str, Any],
    data: Mapping[str, str],
) -> Path:
    """Write a checkpoint under ``run_dir/checkpoints`` and remove the oldest beyond ``keep_checkpoints``.

    Args:
        run_dir: the run folder.
        config: the run's configuration.
        tensors: the state by canonical name.
        written_by: backend and versions, for the manifest.
        data: name and fingerprint of the training images.

    Returns:
        The checkpoint's folder.

    Raises:
        UserError: a tensor is not finite, or the disk is full; older checkpoints stay as they are.
    """
    target = run_dir / "checkpoints" / f"step-{int(tensors['game/step']):07d}"
    try:
        write(target, config, tensors, written_by, data)
    except UserError as error:
        raise UserError(f"{error}; {last_good(run_dir)}") from error
    if config.keep_checkpoints:
        for old in folders(run_dir)[: -config.keep_checkpoints]:
            shutil.rmtree(old, ignore_errors=True)  # a leftover is no reason to end a healthy run
    return target


def write(
    target: Path,
    config: Config,
    tensors: Mapping[str, np.ndarray],
    written_by: Mapping[str, Any],
    data: Mapping[str, str],
) -> None:
    """Write a checkpoint as the folder ``target``, in the place of an older one; see ``save``.

    Raises:
        UserError: a tensor is not finite, or the folder cannot be written; nothing is changed then.
    """
    broken = [name for name, value in tensors.items() if not np.isfinite(value).all()]
    if broken:
        step, first = int(tensors["game/step"]), min(broken)
        raise UserError(
            f"step {step}: {len(broken)} tensors are not finite ({first} first), so this state was not saved"
        )
    if target.exists() and not (target / "manifest.json").is_file():
        raise unexpected("path", f"{target}, which is something else", "a new folder or a checkpoint folder")
    if (named := _named_step(target)) not in (None, int(tensors["game/step"])):
        raise unexpected("path", target, f"a folder not named for step {named}, as {tensors['game/step']} are done")
    try:
        with replacing(target) as folder:
            _write(folder, config, tensors, {"written_by": dict(written_by), "data": dict(data)})
    except (OSError, SafetensorError) as error:
        raise UserError(f"{target}: could not be written: {error}") from error


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
            _write_json(path.with_name("config.json"), network_config(config, part))
    step = int(tensors["game/step"])
    files = {path.relative_to(folder).as_posix(): _sha256(path) for path in _files(folder)}
    manifest = {
        "format_version": FORMAT_VERSION,
        "step": step,
        "images_seen": images_seen(config, step),
        "seed": config.seed,
        "config": config.to_json(),
        **extra,
        "sha256": files,
    }
    _write_json(folder / "manifest.json", manifest)


def with_networks(tensors: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a state whose networks are those of another state; optimisers and game stay."""
    foreign = {name: value for name, value in other.items() if name.split("/")[0] in ROLES}
    return {name: value for name, value in tensors.items() if name.split("/")[0] not in ROLES} | foreign


def network_config(config: Config, network: str) -> dict[str, Any]:
    """Return what ``network``'s own config.json holds: its role, its kind and what shapes it."""
    role = ROLES[network]
    told = GENERATOR_FIELDS if role == "generator" else ()
    sizes = {field: config.to_json()[field] for field in (*NETWORK_FIELDS, *told)}
    own = {field: getattr(config, f"{role}_{field}") for field in ROLE_FIELDS[role]}
    level = role == "generator" and config.condition == "level"
    return {
        "role": role,
        "network": "pyramid" if level else getattr(config, role),
        **sizes,
        **own,
        "output": config.output_activation,
    }


def folders(run_dir: Path) -> list[Path]:
    """List the checkpoint folders of a run, oldest step first.

    Raises:
        OSError: they cannot be listed; taken for none, they would be trained anew.
    """
    parent = run_dir / "checkpoints"
    paths = parent.iterdir() if parent.is_dir() else ()
    found = [(int(match[1]), path) for path in paths if (match := FOLDER.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def newest_step(run_dir: Path) -> int:
    """Return the step of a run's newest checkpoint; 0 where there is none."""
    found = folders(run_dir)
    return int(found[-1].name.removeprefix("step-")) if found else 0


def remove_leftovers(run_dir: Path) -> None:
    """Remove what a process that was killed while it saved has left behind."""
    for path in (run_dir / "checkpoints").glob(".step-*.partial"):
        shutil.rmtree(path, ignore_errors=True)


def newest_good(run_dir: Path, but: Path | None = None) -> Path | None:
    """Return the newest checkpoint of a run, ``but`` left out, that reads whole, or None."""
    for path in reversed(folders(run_dir)):
        with suppress(UserError):
            if path != but:
                return load(path).path
    return None


def last_good(run_dir: Path, but: Path | None = None) -> str:
    """Say which is the newest checkpoint of a run, ``but`` left out, that reads whole."""
    good = newest_good(run_dir, but)
    return f"the last good checkpoint is {good}" if good else "there is no good checkpoint of this run yet"


def find(path: Path) -> Path:
    """Return the checkpoint folder that ``path`` means: itself, or the newest of a run folder.

    Raises:
        UserError: there is none.
    """
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
    manifest = _read_manifest(path)
    _check_hashes(path, manifest["sha256"])
    tensors = {}
    for part, file in FILES.items():
        if file not in manifest["sha256"]:
            raise UserError(f"{path / 'manifest.json'}: found no entry for {file}, expected one")
        try:
            named = load_file(path / file)
        except (SafetensorError, OSError, TypeError) as error:  # TypeError: a type that NumPy has not
            raise UserError(f"{path / file}: found no readable safetensors file: {error}") from error
        tensors |= {f"{part}/{name}": value for name, value in named.items()}
    config = from_json(manifest.get("config"), path / "manifest.json")
    for field, expected in (("channels", "1 or 3"), ("classes", "their number, as conditional is true")):
        if getattr(config, field) is None and (field == "channels" or config.conditional):
            raise UserError(f"{path / 'manifest.json'}: {field}: found null, expected {expected}")
    broken = [name for name, value in tensors.items() if not np.isfinite(value).all()]
    if broken:
        raise UserError(f"{path}: found {len(broken)} tensors that are not finite ({min(broken)} first), expected none")
    step = tensors.get("game/step")
    if step is None or step.shape or step.dtype.kind != "i" or int(step) != manifest["step"]:
        found = "no step" if step is None else f"step {step}"
        raise UserError(f"{path / FILES['game']}: found {found}, expected {manifest['step']} as in manifest.json")
    return Checkpoint(path, config, manifest["step"], manifest["data"], tensors)


def _check_hashes(path: Path, hashes: Mapping[str, str]) -> None:
    """Compare every file of a checkpoint with the manifest's sha256.

    Raises:
        UserError: a file is missing, unreadable or another.
    """
    for file, expected in sorted(hashes.items()):
        if not (path / file).is_file():
            raise UserError(f"{path / file}: found no such file, expected the one that the manifest lists")
        try:
            found = _sha256(path / file)
        except OSError as error:
            raise UserError(f"{path / file}: could not be read: {error.strerror}") from error
        if found != expected:
            raise UserError(f"{path / file}: found sha256 {found[:12]}..., expected {expected[:12]}...")


def load_newest(path: Path) -> Checkpoint:
    """Read a checkpoint folder or the newest checkpoint of a run folder.

    Raises:
        UserError: it is damaged; the message offers the newest good one, if there is one.
    """
    chosen = find(path)
    with offering(chosen):
        return load(chosen)


@contextmanager
def offering(chosen: Path) -> Iterator[None]:
    """Add to a mistake found in a checkpoint which other one of its run is good, if there is one.

    Args:
        chosen: the folder of the checkpoint that the block uses.
    """
    try:
        yield
    except UserError as error:
        run_dir = chosen.parent.parent
        remedy = f": remove {chosen.name} to go on from it" if newest_good(run_dir, but=chosen) else ""
        raise UserError(f"{error}; {last_good(run_dir, but=chosen)}{remedy}") from error


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


def _read_manifest(path: Path) -> dict[str, Any]:
    """Read manifest.json and check what the rest relies on."""
    file = path / "manifest.json"
    manifest = read_json(file)
    version = manifest.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise UserError(f"{file}: found format version {version}, expected {FORMAT_VERSION}")
    hashes, data, step = (manifest.get(field) for field in ("sha256", "data", "step"))
    for field, value, good, expected in (
        ("sha256", hashes, _all_text(hashes), "the hash of every file"),
        ("data", data, _all_text(data) and {"name", "fingerprint"} <= set(data or {}), "name and fingerprint"),
        ("step", step, type(step) is int and step >= 0, "a number of steps"),
    ):
        if not good:
            raise UserError(f"{file}: found {field} {value!r}, expected {expected}")
    if _named_step(path) not in (None, step):
        raise UserError(f"{file}: found step {step}, expected that of its folder {path.name}")
    return manifest


def _named_step(path: Path) -> int | None:
    """Return the step that the name of a run's own checkpoint says; what a user calls a saved GAN is the user's."""
    match = FOLDER.fullmatch(path.name) if path.resolve().parent.name == "checkpoints" else None
    return int(match[1]) if match else None


def _all_text(value: object) -> bool:
    """Whether ``value`` is a JSON object of strings."""
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: could not be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: found no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{file}: found a JSON {type(value).__name__}, expected an object")
    return value


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON that a person can read."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _files(folder: Path) -> list[Path]:
    """List every file below ``folder``."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    """Return the hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
