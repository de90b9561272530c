"""Images that are left out of a set one by one, as a list names them.

A list is text, with a line for each image: the name of a picture in its folder or archive, with slashes, or the number
of an image, from 0; behind a tab perhaps the key of its content (``source.content_key``, 16 hexadecimal digits), which
is compared. Empty lines and those that begin with ``#`` say nothing; ``./`` before a name changes nothing.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gan_shared.data.source import check_plain, reading
from gan_shared.errors import unexpected

# Some ten million names.
MAX_BYTES = 10**9
_KEYED = re.compile(r"(.+)\t([0-9a-f]{16})", re.DOTALL)


class Excluded(NamedTuple):
    """An image that is left out.

    Attributes:
        line: where the list names it, from 1.
        name: of a picture, or the number of an image.
        key: of its content, or None where the list does not say it.
    """

    line: int
    name: str
    key: int | None


def line_of(index: int, name: str, key: int | None) -> str:
    """Return the line that leaves an image out.

    Args:
        index: of the image.
        name: of the picture; empty for an image that has none.
        key: of its content, where it is known.
    """
    named = f"./{name}" if name.startswith("#") else name
    if not name or "\n" in name or "\r" in name:
        named = str(index)
    return named if key is None else f"{named}\t{key:016x}"


def read(file: Path) -> list[Excluded]:
    """Return what a list names.

    Raises:
        UserError: it cannot be read.
    """
    with reading(file, "a list of images"):
        size = check_plain(file).st_size
        if size > MAX_BYTES:
            raise ValueError(f"{size:,} bytes")
        text = file.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
        lines = text.replace("\r\n", "\n").split("\n")
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        keyed = _KEYED.fullmatch(line)
        name, key = (keyed[1], int(keyed[2], 16)) if keyed else (line, None)
        found.append(Excluded(number, name.removeprefix("./"), key))
    return found


def rows_of(file: Path, names: Sequence[str], keys: np.ndarray) -> tuple[int, ...]:
    """Return the images that a list leaves out of a set, by their numbers, sorted.

    Args:
        file: the list.
        names: of the set's pictures; empty where it has none.
        keys: uint64 (N,), of the images' contents.

    Raises:
        UserError: the list cannot be read, names an image that is not there or has changed, or leaves none in.
    """
    excluded = read(file)
    numbers = {name: number for number, name in enumerate(names)}
    rows = [_row(file, each, numbers, keys) for each in excluded]
    for each, row in zip(excluded, rows, strict=True):
        if each.key is not None and each.key != int(keys[row]):
            found = f"line {each.line}: {each.name} with the key {each.key:016x}"
            raise unexpected(str(file), found, f"{int(keys[row]):016x}: it is another image than the list was made of")
    if len(set(rows)) == len(keys):
        raise unexpected(str(file), f"all of the {len(keys)} images", "a list that leaves some")
    return tuple(sorted(set(rows)))


def _row(file: Path, excluded: Excluded, numbers: dict[str, int], keys: np.ndarray) -> int:
    """Return the number of an image that a list names."""
    row = numbers.get(excluded.name)
    if row is None and re.fullmatch(r"[0-9]{1,18}", excluded.name) and int(excluded.name) < len(keys):
        row = int(excluded.name)
    if row is None:
        kinds = "the name of a picture, or a number" if numbers else "the number of an image"
        raise unexpected(
            str(file), f"line {excluded.line}: {excluded.name!r}", f"{kinds} from 0 to {len(keys) - 1} in the set"
        )
    return row
