"""Pyramids: a run for every level, tied by a manifest in the folder that holds them.

runs/pyramid-mnist-5k/pyramid.json     the levels, what they share, and the folder of each one that was begun
runs/pyramid-mnist-5k/level-8/         an ordinary run, in either backend; likewise level-16/ and level-32/
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from gan_shared import checkpoint
from gan_shared.atomic import replacing
from gan_shared.checkpoint import Checkpoint
from gan_shared.config import Config
from gan_shared.errors import UserError, unexpected

MANIFEST = "pyramid.json"
FORMAT_VERSION = 1
# What one level hands to the next: all must mean the same by it.
ELSE = "another pyramid takes another parent folder"
SHARED = ("levels", "channels", "conditional", "classes", "output_activation")


def enrol(run_dir: Path, config: Config, data: Mapping[str, str]) -> None:
    """Enter a run into the manifest of the pyramid that its folder's parent is; the first one writes it.

    Levels may be trained in any order or at once.

    Args:
        run_dir: the run's folder.
        config: the run, its channels and classes known.
        data: name and fingerprint of the training images.

    Raises:
        UserError: the folder holds another pyramid, or this level in another run.
    """
    run_dir = Path(os.path.abspath(run_dir))
    folder = run_dir.parent
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{MANIFEST}.lock"):
        manifest = {"format_version": FORMAT_VERSION, **_shared(config), "data": dict(data), "runs": {}}
        before = _read(folder) if (folder / MANIFEST).exists() else manifest
        begun = {size: name for size, name in before["runs"].items() if (folder / name).is_dir()}
        if begun:  # what has been removed binds nobody
            manifest = before | {"runs": begun}
            _check(manifest, config, data, f"this run, in {folder / MANIFEST}")
        other = manifest["runs"].setdefault(str(config.resolution), run_dir.name)
        if other != run_dir.name and (folder / other / "config.json").is_file():
            raise unexpected(
                "run_dir", run_dir, f"{folder / other}, where level {config.resolution} is, or another parent"
            )
        manifest["runs"][str(config.resolution)] = run_dir.name
        if run_dir.exists() and not run_dir.is_dir():
            raise unexpected("run_dir", f"{run_dir}, which is a file", "a folder")
        with replacing(folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        run_dir.mkdir(exist_ok=True)


def is_pyramid(path: Path) -> bool:
    """Whether a folder holds a pyramid's manifest."""
    return (path / MANIFEST).is_file()


def load(folder: Path, resolution: int | None = None) -> list[Checkpoint]:
    """Return the newest checkpoint of every level, the lowest first.

    Args:
        folder: where the manifest is.
        resolution: the level to stop at, in pixels; the highest when not given.

    Raises:
        UserError: naming the level that is missing, or is none of this pyramid: of another size, trained on other
            images, or with another meaning of what it hands on.
    """
    manifest, found = _read(folder), []
    levels = manifest["levels"]
    if resolution not in (None, *levels):
        raise unexpected("resolution", resolution, "one of the pyramid's levels", levels)
    for size in levels[: levels.index(resolution or levels[-1]) + 1]:
        name = manifest["runs"].get(str(size))
        if name is None or not checkpoint.folders(folder / name):
            where = f"no checkpoint in {folder / name}" if name else "no run"
            remedy = f"--resume --run-dir FOLDER enters a run that {MANIFEST} does not know"
            raise UserError(f"{folder}: level {size}: found {where}, expected a trained one; {remedy}")
        loaded = checkpoint.load_newest(folder / name)
        if loaded.config.resolution != size:
            raise UserError(f"{folder / name}: found resolution {loaded.config.resolution}, expected the level {size}")
        _check(manifest, loaded.config, loaded.data, f"level {size}, in {folder / name}")
        found.append(loaded)
    return found


def _shared(config: Config) -> dict[str, Any]:
    """Return what all levels have in common, as JSON holds it."""
    values = config.to_json()
    return {field: values[field] for field in SHARED}


def _check(manifest: Mapping[str, Any], config: Config, data: Mapping[str, str], what: str) -> None:
    """Refuse a run that does not belong to a pyramid."""
    for field, value in _shared(config).items():
        if value != manifest[field]:
            raise unexpected(f"{what}: {field}", value, f"{manifest[field]}, as in the pyramid's other levels; {ELSE}")
    if data["fingerprint"] != manifest["data"]["fingerprint"]:
        names = f"other images ({data['name']})", f"those of the pyramid ({manifest['data']['name']}); {ELSE}"
        raise unexpected(f"{what}: data", *names)


def _read(folder: Path) -> dict[str, Any]:
    """Read a manifest and check what the rest relies on."""
    file = folder / MANIFEST
    manifest = checkpoint.read_json(file)
    version = manifest.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise unexpected(str(file), f"format version {version}", str(FORMAT_VERSION))
    levels, runs, data = (manifest.get(field) for field in ("levels", "runs", "data"))
    sizes = isinstance(levels, list) and len(levels) > 1 and all(type(size) is int for size in levels)
    named = isinstance(runs, dict) and all(isinstance(name, str) and Path(name).name == name for name in runs.values())
    known = isinstance(data, dict) and all(isinstance(data.get(field), str) for field in ("name", "fingerprint"))
    if not (sizes and named and known and set(SHARED) <= set(manifest)):
        raise unexpected(str(file), "other contents", "the levels of a pyramid, what they share, their data and runs")
    return manifest
