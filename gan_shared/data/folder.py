"""A folder of pictures, searched with all its sub-folders."""

import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

from gan_shared.data import parquet
from gan_shared.data.collection import LIST, MAX_FILE_BYTES, about, chosen, classes_of, decoded, listed_classes, visible
from gan_shared.data.picture import is_picture
from gan_shared.data.source import Check, Contents, File, Source, check_plain, reading, reason
from gan_shared.errors import unexpected


def source(root: Path) -> Source:
    """Find the pictures below ``root``; none is opened yet. See ``collection.py`` for their classes.

    Raises:
        UserError: a folder cannot be listed, there is no picture, or what the classes are is not clear.
    """
    found = sorted(_files(root))
    if parquet.is_parquet(found) and not any(map(is_picture, found)):
        return parquet.source(root, found)
    files, others = chosen(str(root), found)
    if LIST in found:
        lists, classes = (LIST,), listed_classes(str(root / LIST), files, _content(root / LIST))
    else:
        lists, classes = (), classes_of(str(root), files)

    def pictures() -> Iterable[File]:
        return [(file, partial(_content, root / file)) for file in files]

    def read(resolution: int, channels: int, check: Check | None = None) -> Contents:
        chunks = decoded(str(root), pictures(), resolution, channels, check)
        return Contents(len(files), chunks, classes.labels, classes.names)

    text = about(files, others, classes)
    return Source("folder", root, (*files, *lists), 3, read, text, classes.missing, files, pictures, classes.of_each())


def _files(root: Path) -> Iterator[str]:
    """Yield the paths of files relative to ``root``; hidden files and folders are passed over.

    Links are followed; a folder that can be reached twice is searched once, so a circle of links ends.
    """
    seen = {os.path.realpath(root)}
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=_refuse):
        relative = Path(folder).relative_to(root)
        yield from ((relative / name).as_posix() for name in names if visible(name))
        subfolders[:] = [name for name in sorted(subfolders) if visible(name)]
        reached = {name: os.path.realpath(os.path.join(folder, name)) for name in subfolders}
        subfolders[:] = [name for name in subfolders if reached[name] not in seen]
        seen.update(reached.values())


def _refuse(error: OSError) -> NoReturn:
    """Refuse a folder that cannot be listed, rather than train on what is left."""
    raise unexpected(str(error.filename), reason(error), "a folder that can be listed") from error


def _content(path: Path) -> bytes:
    """Return a file, which is no larger than a picture may be."""
    with reading(path, "a file that can be read"):
        check_plain(path)
        with open(path, "rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise unexpected(str(path), f"more than {MAX_FILE_BYTES:,} bytes", "a file of at most that many")
    return content
