"""Pictures that lie together in a folder or an archive: which take part, their classes, and how they are decoded."""

import json
import os
import re
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import PurePosixPath
from threading import Condition
from typing import NamedTuple

import numpy as np
from PIL import Image

from gan_shared.data.picture import BYTES_PER_PIXEL, SUFFIXES, is_picture, large_blocks, read_resized, size_of
from gan_shared.data.source import Check, Chunk, File, Held, check_labels, content_key
from gan_shared.errors import UserError, unexpected

# Decoding releases Python's lock; past a few threads the disk is the limit.
MAX_THREADS = 8
# Bytes of files and of decoded pixels that the threads decode at a time; a larger picture is decoded alone.
BYTES_IN_FLIGHT = 400 * 10**6
# The largest file: a picture of the most pixels there may be, of four colours with 16 bits each.
MAX_FILE_BYTES = 8 * 80_000_000 + 10**6
# StyleGAN's list of classes.
LIST = "dataset.json"
# What the parts of a set are called.
PARTS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}
# How many names a message gives before it counts the others.
NAMED = 3


class Classes(NamedTuple):
    """The classes of pictures.

    Attributes:
        labels: int64 (N,), or None where there are none.
        names: of each label.
        missing: why there are no labels, where that may not be what was meant.
    """

    labels: np.ndarray | None = None
    names: tuple[str, ...] = ()
    missing: str = ""

    def of_each(self) -> tuple[str, ...]:
        """Return the name of each picture's class; nothing without classes."""
        return () if self.labels is None else tuple(self.names[label] for label in self.labels)


def visible(name: str) -> bool:
    """Return whether neither a file nor a folder above it is hidden, or of those that other systems leave behind."""
    parts = [part for part in name.split("/") if part not in (".", "..")]
    return not any(part.startswith(".") or part == "__MACOSX" for part in parts)


def chosen(root: str, names: Iterable[str]) -> tuple[tuple[str, ...], Counter[str]]:
    """Divide files into pictures, in their order, and others, counted by their endings.

    Raises:
        UserError: there is no picture.
    """
    pictures, others = [], Counter[str]()
    for name in names:
        if is_picture(name):
            pictures.append(name)
        elif name != LIST:
            others[PurePosixPath(name).suffix.lower() or PurePosixPath(name).name] += 1
    if not pictures:
        found = "no pictures" + (f", but {_counted(others)}" if others else "")
        raise unexpected(root, found, "pictures", SUFFIXES)
    return tuple(pictures), others


def classes_of(root: str, files: Sequence[str]) -> Classes:
    """Return the classes of pictures by the folders that they lie in.

    The folders of the first level are the classes where every picture lies in one and there are at least two; a single
    folder around all pictures is looked through. Classes whose names are all whole numbers are in the numbers' order.

    Args:
        root: the folder or archive, for messages.
        files: paths relative to it.

    Raises:
        UserError: the folders are parts of a set (training and test), each with the same classes below it.
    """
    paths, above = [file.split("/") for file in files], ""
    while all(len(path) > 1 and path[0] == paths[0][0] for path in paths):
        above += f"/{paths[0][0]}"
        paths = [path[1:] for path in paths]
    folders = _in_order({path[0] for path in paths if len(path) > 1})
    beside = [file for file, path in zip(files, paths, strict=True) if len(path) == 1]
    if beside and (len(folders) > 1 or len({path[1] for path in paths if len(path) > 2}) > 1):
        plural = "s" if len(folders) > 1 else ""
        return Classes(missing=f"{named(beside)} beside the folder{plural} {named(folders)}")
    if len(folders) < 2:
        return Classes()
    _check_parts(root + above, folders, paths)
    number = {name: index for index, name in enumerate(folders)}
    return Classes(np.array([number[path[0]] for path in paths], np.int64), tuple(folders))


def _is_number(name: str) -> bool:
    """Return whether a name is a whole number that Python reads."""
    return re.fullmatch(r"[0-9]{1,18}", name) is not None


def _in_order(names: Iterable[str]) -> list[str]:
    """Return names sorted, as numbers where all of them are."""
    ordered = sorted(names)
    return sorted(ordered, key=int) if all(_is_number(name) for name in ordered) else ordered


def _check_parts(root: str, folders: Sequence[str], paths: Sequence[Sequence[str]]) -> None:
    """Refuse folders that are parts of a set: by their names, or as they hold nothing but folders of the same names."""
    choices = [f"--data {root}/{folder}" for folder in folders] if os.path.isdir(root) else ["unpack it and name one"]
    if {folder.lower() for folder in folders} <= PARTS:
        raise unexpected(root, named(folders), "the folders of the classes, or one part of a set", choices)
    below: dict[str, set[str | None]] = {folder: set() for folder in folders}
    for path in paths:
        below[path[0]].add(path[1] if len(path) > 2 else None)
    shared = set.intersection(*below.values())
    # One name that all of them share is no class: ``n01/images``, ``n02/images``.
    if len(shared) > 1 and not any(None in each for each in below.values()):
        found = f"{named(folders)}, which all have the folders {named(_in_order(map(str, shared)))}"
        raise unexpected(root, found, "the folders of the classes of one part of a set", choices)


def listed_classes(field: str, files: Sequence[str], content: bytes) -> Classes:
    """Return the classes that StyleGAN's list of a set gives its pictures, whatever their folders.

    Args:
        field: the list, for messages.
        files: the pictures.
        content: JSON as dataset_tool.py writes it: {"labels": [[name, class number], ...] or null}.

    Raises:
        UserError: it is no such list, a picture is not in it, or its class is no class number.
    """
    try:
        labels = json.loads(content)["labels"]
        if labels is None:
            return Classes()
        listed: dict[str, object] = dict(labels)
        if len(listed) < len(labels) or not all(isinstance(name, str) for name in listed):
            raise ValueError("a name that is listed twice, or is none")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        expected = '{"labels": [[name, class number], ...]}'
        raise unexpected(field, f"another kind of list ({type(error).__name__}: {error})", expected) from error
    missing = [file for file in files if file not in listed]
    if missing:
        raise unexpected(field, f"no class for {named(missing)}", "a class number for each picture, or for none")
    numbers = [listed[file] for file in files]
    if any(type(number) is not int for number in numbers):
        wrong = next(number for number in numbers if type(number) is not int)
        raise unexpected(field, f"the class {wrong!r}", "class numbers")
    labels, names = check_labels(field, np.array(numbers), len(files))
    return Classes(labels, names)


def about(files: Sequence[str], others: Counter[str], classes: Classes) -> str:
    """Return in one line what was found: pictures, classes, and what was left out."""
    parts = [about_pictures(len(files), classes)]
    animated = sum(file.lower().endswith((".gif", ".apng")) for file in files)
    if animated:
        parts.append(f"the first frame of {_number(animated, 'animation')}")
    if others:
        parts.append(f"{_counted(others)} left out")
    return "; ".join(parts)


def about_pictures(count: int, classes: Classes) -> str:
    """Return how many pictures there are, in which classes."""
    pictures, names = _number(count, "picture"), classes.names
    if names:
        shown = ", ".join(names) if len(names) <= 2 * NAMED else f"{names[0]}, {names[1]} .. {names[-1]}"
        return f"{pictures} in {len(names)} classes: {shown}"
    return pictures + (f"; no classes, because of {classes.missing}" if classes.missing else "")


def _number(count: int, what: str) -> str:
    """Return a number with its noun."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _counted(others: Counter[str]) -> str:
    """Return how many files of other kinds there are, and the commonest endings."""
    kinds = [kind for kind, _ in others.most_common(NAMED)]
    more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    return f"{_number(others.total(), 'file')} of other kinds ({', '.join(kinds)}{more})"


def named(names: Sequence[str]) -> str:
    """Return the first few names and the number of the others."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def decoded(
    root: str, files: Iterable[File], resolution: int, channels: int, check: Check | None = None
) -> Iterator[Chunk]:
    """Yield each picture as a chunk, in order; one bad picture refuses all of them at the end.

    Args:
        root: the folder or archive, for messages.
        files: path relative to it, and content, of each.
        resolution: height and width in pixels.
        channels: 1 or 3.
        check: called with path and sha256 of each before it is decoded.

    Raises:
        UserError: naming the first bad pictures and counting all of them.
    """
    bad: list[str] = []
    total = 0
    for result in _in_threads(root, files, resolution, channels, check):
        total += 1
        try:
            yield result.result()
        except UserError as error:
            bad.append(str(error))
    if bad:
        more = f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise UserError(f"{root}: {len(bad)} of {total} pictures cannot be used: {'; '.join(bad[:NAMED])}{more}")


class _Budget:
    """Bytes that threads share; one that wants more than there are waits until it is alone."""

    def __init__(self, total: int) -> None:
        self._total, self._held, self._changed = total, 0, Condition()

    @contextmanager
    def holding(self, wanted: int) -> Iterator[None]:
        """Wait for so many bytes and give them back."""
        with self._changed:
            self._changed.wait_for(lambda: self._held == 0 or self._held + wanted <= self._total)
            self._held += wanted
        try:
            yield
        finally:
            with self._changed:
                self._held -= wanted
                self._changed.notify_all()


def _in_threads(
    root: str, files: Iterable[File], resolution: int, channels: int, check: Check | None
) -> Iterator[Future[Chunk]]:
    """Yield the decoded pictures in order, looking ahead by a few only, so that the memory stays flat."""
    budget = _Budget(BYTES_IN_FLIGHT)

    def work(name: str, read: Callable[[], bytes]) -> Chunk:
        field, content = f"{root}/{name}", read()
        digest = sha256(content)
        if check is not None:
            check(name, digest.hexdigest())
        width, height = size_of(content, field)
        with budget.holding(len(content) + BYTES_PER_PIXEL * width * height):
            image = read_resized(content, field, resolution, channels)
        return Chunk(image[np.newaxis], np.array([content_key(digest.digest())], np.uint64))

    threads = min(MAX_THREADS, os.cpu_count() or 1)
    waiting: deque[tuple[Future[Chunk], int]] = deque()
    held = 0
    # The filters are set around the threads because they belong to the process, not to a thread.
    with warnings.catch_warnings(), large_blocks():
        warnings.simplefilter("ignore")  # Pillow's about metadata that nobody needs
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        pool = ThreadPoolExecutor(threads)
        try:
            for name, read in files:
                size = len(read.content) if isinstance(read, Held) else 0
                waiting.append((pool.submit(work, name, read), size))
                held += size
                del read
                while waiting and (len(waiting) > 4 * threads or held > BYTES_IN_FLIGHT):
                    first, size = waiting.popleft()
                    held -= size
                    yield first
            for each, _ in waiting:
                yield each
        finally:
            # An early end (Ctrl-C, a full disk) does not wait for pictures that are not needed any more.
            pool.shutdown(wait=False, cancel_futures=True)
