"""Decoded sets on the disk: each is written once, then mapped into memory at every start.

An entry is the folder ``<cache>/decoded/<key>``, where the key is a hash over the format version, the kind
and folder of the source, each file's relative path, size and time of change, the resolution and the channels.
So a changed source gets another entry. Old entries are left where they are: removing ``<cache>/decoded``,
or any folder in it, is always safe and costs only the decoding. ``<cache>`` is the environment variable
TWIN_GAN_CACHE, or else the user's cache folder (``~/.cache/twin-gan`` on Linux).

    meta.json      format version, count, class names, fingerprint, notes, sha256 of the keys and of all these
    images.npy     uint8 (N, H, W, C)
    labels.npy     int64 (N,), where there are labels
    keys.npy       uint64 (N,), the content key of each image

An entry that does not agree with its hashes is made anew. They are computed at every start, a second or two for each
gigabyte.

The two parts that a holdout divides a set into, and a set without some images, are entries of their own, copied from
that of the whole set.
"""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from gan_shared.atomic import clear_leftovers, replacing
from gan_shared.data.dataset import Dataset
from gan_shared.data.holdout import Part, part_of
from gan_shared.data.source import BROKEN, CHUNK_BYTES, Contents, Source, modified, reason
from gan_shared.errors import UserError, unexpected
from gan_shared.progress_bar import progress_bar

FORMAT_VERSION = 3
# Left free beside an entry: other programs write too, and a full disk harms them all.
MARGIN_BYTES = 100 * 10**6
# What a process that decodes has not written to for so long was left by one that was killed.
STALE_SECONDS = 24 * 3600
# What a damaged entry trips besides the readers' own errors.
DAMAGED = (*BROKEN, LookupError, AttributeError, ArithmeticError, MemoryError)

Shape = tuple[int, int, int, int]


class _Overtaken(Exception):
    """Another process has finished the same entry."""


def root() -> Path:
    """Return the cache folder, which may not exist yet."""
    chosen = os.environ.get("TWIN_GAN_CACHE")
    if chosen:
        try:
            return Path(chosen).expanduser()
        except RuntimeError as error:
            raise unexpected("TWIN_GAN_CACHE", repr(chosen), "a folder") from error
    import pooch  # here because it takes a while and is rarely needed

    return Path(pooch.os_cache("twin-gan"))


def cached(source: Source, name: str, resolution: int, channels: int, part: Part | None = None) -> Dataset:
    """Return the decoded source, or a part of it, from the cache; what is missing or damaged there is made first.

    Args:
        source: the set.
        name: what the user called it.
        resolution: height and width of the images in pixels.
        channels: 1 or 3.
        part: a part of the set; the whole set when not given.

    Raises:
        UserError: the source is bad, or has no image in a part, or the cache cannot be written; nothing half-written
            is left.
    """

    def read() -> Contents:
        if part is None:
            return source.read(resolution, channels)
        return part_of(cached(source, name, resolution, channels), part)

    dataset = _entry(_key(source, resolution, channels, part), name, resolution, channels, read)
    about = "; ".join(text for text in (source.about, dataset.about) if text)
    return dataset._replace(about=about, no_labels=source.no_labels)


def _entry(key: str, name: str, resolution: int, channels: int, read: Callable[[], Contents]) -> Dataset:
    """Return the entry ``key``, which is written first, from what ``read`` gives, where it is missing or damaged."""
    folder, about = root() / "decoded" / key, ""
    dataset = _opened(folder, name, resolution, channels)
    if dataset is None:
        about = f"{folder} was damaged and has been made anew" if os.path.lexists(folder) else ""
        contents = read()
        _write(folder, contents, (contents.total, resolution, resolution, channels))
        dataset = _opened(folder, name, resolution, channels)
    if dataset is None:
        raise UserError(f"{folder}: damaged right after it was written; is another program changing it?")
    return dataset._replace(about="; ".join(text for text in (dataset.about, about) if text))


def _key(source: Source, resolution: int, channels: int, part: Part | None) -> str:
    """Return the hash that names the entry of a source or of a part of it.

    The folder takes part because two folders unpacked from archives can agree in names, sizes and times.
    """
    lines = [FORMAT_VERSION, source.kind, str(source.root.resolve()), resolution, channels, part]
    digest = sha256(json.dumps(lines).encode())
    for entry in modified(source.root, source.files):
        digest.update(json.dumps(entry).encode())
    return digest.hexdigest()[:32]


def _opened(folder: Path, name: str, resolution: int, channels: int) -> Dataset | None:
    """Return the entry in ``folder``, or None where it is missing, damaged or not what was asked for."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        shape = (meta["count"], resolution, resolution, channels)
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        good = images.shape == shape and images.dtype == np.uint8 and meta["format"] == FORMAT_VERSION
        keys = np.load(folder / "keys.npy", mmap_mode="r", allow_pickle=False)
        good = good and keys.shape == shape[:1] and keys.dtype == np.uint64
        labels, classes = None, tuple(meta["classes"])
        if classes:
            # Mapped before it is read: a damaged header may promise more than there is memory.
            mapped = np.load(folder / "labels.npy", mmap_mode="r", allow_pickle=False)
            good = good and mapped.shape == shape[:1] and mapped.dtype == np.int64
            labels = np.array(mapped) if good else None
            good = good and mapped.min() >= 0 and mapped.max() < len(classes)
        good = good and meta["labels"] == bool(classes) and meta.pop("sha256") == _hash_of(meta)
        good = good and meta["keys"] == sha256(np.ascontiguousarray(keys, "<u8").data).hexdigest()
        good = good and _fingerprint_of_entry(folder, images, labels) == meta["fingerprint"]
        return (
            Dataset(name, images, labels, classes, meta["fingerprint"], keys=keys, about=meta["notes"])
            if good
            else None
        )
    except DAMAGED:
        return None


def _fingerprint_of_entry(folder: Path, images: np.memmap, labels: np.ndarray | None) -> str:
    """Return the sha256 of the images' shape and bytes, then of the labels' shape and bytes.

    The images are read from the file: pages of a map would count as memory of this process.

    Args:
        folder: of the entry.
        images: uint8 (N, H, W, C), mapped.
        labels: int64 (N,), or None.
    """
    digest = sha256(json.dumps(images.shape).encode())
    with (
        open(folder / "images.npy", "rb") as stream,
        progress_bar(total=images.nbytes, desc="verifying decoded images", unit="B", unit_scale=True) as bar,
    ):
        stream.seek(images.offset)
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            bar.update(len(chunk))
    _add_labels(digest, labels)
    return digest.hexdigest()


def notes_on(keys: np.ndarray, labels: np.ndarray | None) -> str:
    """Say how many images of a set are copies of others, and how many of those contradict each other.

    Args:
        keys: uint64 (N,), equal for equal images.
        labels: int64 (N,), or None.

    Returns:
        A part of a sentence, empty where there are no copies.
    """
    different, which = np.unique(keys, return_inverse=True)
    copies = len(keys) - len(different)
    if not copies:
        return ""
    text = f"{copies:,} {'copy' if copies == 1 else 'copies'} of other images"
    if labels is None:
        return text
    lowest, highest = np.full(len(different), np.iinfo(np.int64).max), np.full(len(different), -1)
    np.minimum.at(lowest, which, labels)
    np.maximum.at(highest, which, labels)
    contradicting = int((lowest < highest)[which].sum())
    return text + (f", {contradicting:,} images that equal one of another class" if contradicting else "")


def _add_labels(digest: Any, labels: np.ndarray | None) -> None:
    """Hash labels behind the images."""
    if labels is not None:
        digest.update(json.dumps(labels.shape).encode())
        digest.update(np.ascontiguousarray(labels, "<i8").data)


def _hash_of(meta: dict[str, Any]) -> str:
    """Return the sha256 of what describes an entry."""
    return sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _write(folder: Path, contents: Contents, shape: Shape) -> None:
    """Write an entry; a process that finished the same one meanwhile wins, and that is as good.

    Raises:
        UserError: the disk is too small or cannot be written.
    """
    try:
        with suppress(OSError):  # what others have left is no reason not to begin
            clear_leftovers(folder.parent, STALE_SECONDS)
        _check_space(folder, shape)
        if os.path.lexists(folder) and not folder.is_dir():
            folder.unlink()
        with replacing(folder) as temporary:
            temporary.mkdir()
            _write_entry(temporary, contents, shape)
            # Two processes may have begun together. Entries that others may hold open are not replaced.
            if _opened(folder, "", shape[1], shape[3]) is not None:
                raise _Overtaken
    except _Overtaken:
        return
    except OSError as error:
        if _opened(folder, "", shape[1], shape[3]) is None:
            raise UserError(
                f"{folder}: cannot be written ({reason(error)}); TWIN_GAN_CACHE may name another folder for the cache"
            ) from error


def _check_space(folder: Path, shape: Shape) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        UserError: naming the needed and the free space.
    """
    existing = next(each for each in folder.parents if os.path.exists(each))
    needed = int(np.prod(shape, dtype=object)) + 2 * 8 * shape[0] + MARGIN_BYTES  # with labels and keys
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise UserError(
            f"{folder.parent}: found {free // 10**6} MB free, expected {-(-needed // 10**6)} MB for "
            f"{shape[0]} decoded images of {shape[1]} x {shape[2]} x {shape[3]}; "
            "TWIN_GAN_CACHE may name another folder for the cache"
        )


def _write_entry(folder: Path, contents: Contents, shape: Shape) -> None:
    """Write images, labels, keys and what describes them; no more than a chunk of images is in memory."""
    digest, keys = sha256(json.dumps(shape).encode()), []
    # Plain writes, not a map: on a full disk a write is an error that can be reported, a map kills the process.
    with (
        open(folder / "images.npy", "wb") as stream,
        progress_bar(total=shape[0], desc="decoding", unit=" images") as bar,
    ):
        np.lib.format.write_array_header_1_0(stream, _header(shape))
        for chunk in contents.chunks:
            data = np.ascontiguousarray(chunk.images)
            stream.write(data.data)
            digest.update(data.data)
            keys.append(chunk.keys)
            bar.update(len(data))
    all_keys = np.concatenate(keys)
    np.save(folder / "keys.npy", all_keys)
    if contents.labels is not None:
        np.save(folder / "labels.npy", contents.labels)
    _add_labels(digest, contents.labels)
    meta = {
        "format": FORMAT_VERSION,
        "count": shape[0],
        "labels": contents.labels is not None,
        "classes": list(contents.class_names),
        "fingerprint": digest.hexdigest(),
        "keys": sha256(np.ascontiguousarray(all_keys, "<u8").data).hexdigest(),
        "notes": notes_on(all_keys, contents.labels),
    }
    meta["sha256"] = _hash_of(meta)
    (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")


def _header(shape: Shape) -> dict[str, Any]:
    """Return the .npy header of uint8 images."""
    return {"descr": "|u1", "fortran_order": False, "shape": shape}
