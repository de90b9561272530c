"""The JSON files of runs and checkpoints, of this format version and older ones, and the names of tensor files.

config.json                    of a run: its options
step-N/manifest.json           of a checkpoint: format, options, step, images seen, writer, sha256 of every file and
                               of all that
step-N/generator/config.json   of a network: enough to rebuild it without the run
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gan_shared import legacy
from gan_shared.atomic import replacing
from gan_shared.config import Config
from gan_shared.errors import UserError, unexpected
from gan_shared.image_conditions import condition_name, image_condition
from gan_shared.validation import from_json

FORMAT_VERSION = 9
# Versions that are read.
READ_VERSIONS = (4, 5, 6, 7, 8, FORMAT_VERSION)
# The first version whose manifest has a hash of itself.
HASHED_VERSION = 7
# The first whose networks have today's config.json.
NETWORK_CONFIG_VERSION = 5
# No JSON file of a run is as large; one that is, is not read.
MAX_JSON_BYTES = 64 * 10**6
# Largest header of a safetensors file, as its own library has it.
MAX_HEADER_BYTES = 100 * 10**6
# What a GAN's own checkpoint records of its images: none yet, or arrays, which have no name.
MEMORY = "images in memory"
# Network of a checkpoint -> its role.
ROLES = {"generator": "generator", "discriminator": "discriminator", "generator_ema": "generator"}
TRAINED = ("generator", "discriminator")
# A manifest's hash of itself.
OWN_HASH = "manifest_sha256"
# What belongs to the trainer and to no network; scalars.
TRAINER = ("augment_probability", "augment_signs", "step")
FOLDER = re.compile(r"step-(\d{7,})")
# Tensor file of each part of a canonical name.
FILES = {
    **{network: f"{network}/model.safetensors" for network in ROLES},
    "optimizer": "optimizer.safetensors",
    "trainer": "trainer.safetensors",
}
# Options in a network's own config.json, with those of its image condition: enough to rebuild it without the run.
NETWORK_OPTIONS = ("resolution", "channels", "num_classes", "latent_size", "width", "precision")
ROLE_OPTIONS = {"generator": ("activation",), "discriminator": ("activation", "norm")}


def network_config(config: Config, network: str) -> dict[str, Any]:
    """Return what ``network``'s own config.json holds: its role, its family and the options that shape it."""
    role, values = ROLES[network], config.to_json()
    conditions = image_condition(config).network_options if role == "generator" else ()
    above_lowest = role == "generator" and condition_name(config) == "lower-level"
    return {
        "role": role,
        "network": "lapgan" if above_lowest else values[role],
        **{name: values[name] for name in (*NETWORK_OPTIONS, *conditions)},
        **{name: values[f"{role}_{name}"] for name in ROLE_OPTIONS[role]},
        "output": config.networks.output_activation,
    }


def write_config(run_dir: Path, config: Config) -> None:
    """Write a run's config.json."""
    with replacing(run_dir / "config.json") as temporary:
        write_json(temporary, {"format_version": FORMAT_VERSION, **config.to_json()})


def read_config(run_dir: Path) -> Config:
    """Read a run's config.json, of this format version or an older one.

    Raises:
        UserError: there is none, or it is damaged.
    """
    file = run_dir / "config.json"
    if not file.is_file():
        raise UserError(f"{run_dir}: found no run to resume, expected a folder with config.json")
    values = read_json(file)
    version = values.pop("format_version", 4 if legacy.is_version_4(values) else None)
    return config_from_json(values, version, file)


def file_names(version: int) -> set[str]:
    """Return the names of all files that a checkpoint of a format version has beside its manifest."""
    tensors = {legacy.FILES.get(file, file) if version == 4 else file for file in FILES.values()}
    return tensors | {f"{network}/config.json" for network in ROLES}


def check_hashes(path: Path, hashes: Mapping[str, str]) -> None:
    """Compare every file of a checkpoint with the manifest's sha256.

    Raises:
        UserError: a file is missing, unreadable, another, or no file of its own.
    """
    for file, expected in sorted(hashes.items()):
        check_file(path / file, "the one that the manifest lists")
        try:
            found = sha256(path / file)
        except OSError as error:
            raise UserError(f"{path / file}: could not be read: {error.strerror}") from error
        if found != expected:
            raise UserError(f"{path / file}: found sha256 {found[:12]}..., expected {expected[:12]}...")


def _check_kind(path: Path) -> os.stat_result:
    """Return the status of a file or a folder of a checkpoint, and refuse links, pipes and devices.

    Raises:
        UserError: naming what it is.
        OSError: there is none.
    """
    status = os.lstat(path)
    if not (stat.S_ISREG(status.st_mode) or (stat.S_ISDIR(status.st_mode) and path.name in ROLES)):
        kind = "a link" if stat.S_ISLNK(status.st_mode) else "something else than a file"
        raise UserError(f"{path}: found {kind}, expected a {'folder' if path.name in ROLES else 'file'}")
    return status


def check_file(file: Path, expected: str) -> None:
    """Refuse what is no plain file, and a file of tensors that is not as long as its header says.

    A checkpoint may come from a stranger: a link could lead anywhere, and a file that is sparse or a device be endless.

    Args:
        file: the file.
        expected: what it should be, for the error message.

    Raises:
        UserError: naming the file.
    """
    try:
        status = _check_kind(file)
        if file.suffix == ".safetensors":
            with file.open("rb") as stream:
                length = int.from_bytes(stream.read(8), "little")
                if length > min(status.st_size, MAX_HEADER_BYTES):
                    raise ValueError("a header longer than the file")
                header = json.loads(stream.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            if status.st_size != 8 + length + max(ends, default=0):
                raise ValueError("another length than its header says")
    except FileNotFoundError:
        raise UserError(f"{file}: found no such file, expected {expected}") from None
    except OSError as error:
        raise UserError(f"{file}: could not be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise UserError(f"{file}: found no readable safetensors file ({error}), expected {expected}") from error


def config_from_json(values: object, version: object, source: Path) -> Config:
    """Return the configuration that JSON of a format version holds.

    Raises:
        UserError: it is damaged.
    """
    if version not in READ_VERSIONS:
        raise unexpected(str(source), f"format version {version!r}", "one that is read", READ_VERSIONS)
    if not isinstance(values, dict):
        raise unexpected(str(source), type(values).__name__, "a JSON object of options")
    return from_json(legacy.to_current(values, version, source), source)


def read_manifest(path: Path) -> dict[str, Any]:
    """Read manifest.json and check what the rest relies on."""
    file = path / "manifest.json"
    for each in (file, *(path / network for network in ROLES)):
        if os.path.lexists(each):
            _check_kind(each)
    manifest = read_json(file)
    version = manifest.get("format_version")
    if type(version) is not int or version not in READ_VERSIONS:
        raise unexpected(str(file), f"format version {version!r}", "one that is read", READ_VERSIONS)
    _check_own_hash(manifest, version, file)
    hashes, data, step = (manifest.get(field) for field in ("sha256", "data", "step"))
    for field, value, good, expected in (
        ("sha256", hashes, _all_text(hashes), "the hash of every file"),
        ("data", data, _is_data(data), "name, fingerprint and class names"),
        ("step", step, type(step) is int and step >= 0, "a number of steps"),
    ):
        if not good:
            raise UserError(f"{file}: found {field} {value!r}, expected {expected}")
    files = file_names(version)
    for name in sorted(set(hashes or {}) ^ files):
        found, expected = ("an", "none") if name not in files else ("no", "one")
        raise UserError(f"{file}: found {found} entry for {name}, expected {expected}")
    if named_step(path) not in (None, step):
        raise UserError(f"{file}: found step {step}, expected that of its folder {path.name}")
    return manifest


def own_hash(manifest: Mapping[str, Any]) -> str:
    """Return the sha256 of what a manifest holds besides its hash of itself."""
    rest = {name: value for name, value in manifest.items() if name != OWN_HASH}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _check_own_hash(manifest: Mapping[str, Any], version: int, file: Path) -> None:
    """Compare a manifest with its hash of itself, which those of older versions do not have.

    Raises:
        UserError: they differ.
    """
    found = manifest.get(OWN_HASH)
    expected = own_hash(manifest) if version >= HASHED_VERSION else None
    if found != expected:
        wanted = f"{expected[:12]}..." if expected else f"none in format version {version}"
        there = f"{OWN_HASH} {str(found)[:12]}..." if found else f"no {OWN_HASH}"
        raise UserError(f"{file}: found {there}, expected {wanted}: it has been changed")


def named_step(path: Path) -> int | None:
    """Return the step that the name of a run's own checkpoint says; what a user calls a saved GAN is the user's."""
    match = FOLDER.fullmatch(path.name) if path.resolve().parent.name == "checkpoints" else None
    return int(match[1]) if match else None


def _all_text(value: object) -> bool:
    """Whether ``value`` is a JSON object of strings."""
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _is_data(value: object) -> bool:
    """Whether ``value`` says what a checkpoint was trained on; before there were class names, without them."""
    if not isinstance(value, dict):
        return False
    names = value.get("class_names", [])
    texts = [value.get("name"), value.get("fingerprint"), *(names if isinstance(names, list) else [None])]
    return all(isinstance(each, str) for each in texts)


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            raise UserError(f"{file}: found more than {MAX_JSON_BYTES:,} bytes, expected a file of JSON")
        value = json.loads(content.decode("utf-8"))
    except OSError as error:
        raise UserError(f"{file}: could not be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: found no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{file}: found a JSON {type(value).__name__}, expected an object")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON that a person can read."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
