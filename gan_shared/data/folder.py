"""A folder of pictures, searched with all its sub-folders and decoded by a few threads."""

import os
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import file_digest
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image

from gan_shared.data.picture import SUFFIXES, read_resized
from gan_shared.data.source import Chunk, Contents, Source, content_key, reading, reason
from gan_shared.errors import UserError, unexpected

# Decoding releases Python's lock; past a few threads the disk is the limit.
MAX_THREADS = 8
# A folder with many bad pictures names the first few and counts the others.
NAMED_PICTURES = 3


def source(root: Path) -> Source:
    """Find the pictures below ``root``; none is opened yet.

    Labels follow the first-level sub-folders, in sorted order, when every picture lies in one and there
    are at least two; otherwise there are none.

    Raises:
        UserError: a folder cannot be listed, or there is no picture.
    """
    files = tuple(sorted(_pictures(root)))
    if not files:
        raise unexpected(str(root), "no pictures", "a folder with pictures in it", SUFFIXES)

    def read(resolution: int, channels: int) -> Contents:
        labels, classes = _labels(files)
        return Contents(len(files), _decoded(root, files, resolution, channels), labels, classes)

    return Source("folder", root, files, 3, read)


def _pictures(root: Path) -> Iterator[str]:
    """Yield the pictures' paths relative to ``root``; hidden files and folders are passed over.

    Links are followed; a folder that can be reached twice is searched once, so a circle of links ends.
    """
    seen = {os.path.realpath(root)}
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=_refuse):
        relative = Path(folder).relative_to(root)
        for name in names:
            if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                yield (relative / name).as_posix()
        subfolders[:] = [name for name in sorted(subfolders) if not name.startswith(".")]
        reached = {name: os.path.realpath(os.path.join(folder, name)) for name in subfolders}
        subfolders[:] = [name for name in subfolders if reached[name] not in seen]
        seen.update(reached.values())


def _refuse(error: OSError) -> NoReturn:
    """Refuse a folder that cannot be listed, rather than train on what is left."""
    raise unexpected(str(error.filename), reason(error), "a folder that can be listed") from error


def _labels(files: tuple[str, ...]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return int64 (N,) labels and class names by first-level sub-folder, or (None, ()) without."""
    parents = [file.split("/", 1)[0] if "/" in file else None for file in files]
    classes = tuple(sorted({parent for parent in parents if parent is not None}))
    if None in parents or len(classes) < 2:
        return None, ()
    number = {name: index for index, name in enumerate(classes)}
    return np.array([number[str(parent)] for parent in parents], np.int64), classes


def _decoded(root: Path, files: tuple[str, ...], resolution: int, channels: int) -> Iterator[Chunk]:
    """Yield each picture as a chunk, in order; one bad picture refuses the folder at the end.

    Raises:
        UserError: naming the first bad pictures and counting all of them.
    """
    bad: list[str] = []
    for result in _in_threads(root, files, resolution, channels):
        try:
            yield result.result()
        except UserError as error:
            bad.append(str(error))
    if bad:
        more = f"; and {len(bad) - NAMED_PICTURES} more" if len(bad) > NAMED_PICTURES else ""
        raise UserError(
            f"{root}: {len(bad)} of {len(files)} pictures cannot be used: {'; '.join(bad[:NAMED_PICTURES])}{more}"
        )


def _in_threads(root: Path, files: tuple[str, ...], resolution: int, channels: int) -> Iterator[Future[Chunk]]:
    """Yield the decoded pictures in order, looking ahead by a few only, so that the memory stays flat."""

    def work(file: str) -> Chunk:
        image = read_resized(root / file, resolution, channels)
        with reading(root / file, "a file that can be read"), open(root / file, "rb") as stream:
            key = content_key(file_digest(stream, "sha256").digest())
        return Chunk(image[np.newaxis], np.array([key], np.uint64))

    threads = min(MAX_THREADS, os.cpu_count() or 1)
    waiting: deque[Future[Chunk]] = deque()
    # The filter is set around the threads because it belongs to the process, not to a thread.
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        pool = ThreadPoolExecutor(threads)
        try:
            for file in files:
                waiting.append(pool.submit(work, file))
                if len(waiting) > 4 * threads:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            # An early end (Ctrl-C, a full disk) does not wait for pictures that are not needed any more.
            pool.shutdown(wait=False, cancel_futures=True)
