"""Pictures in a .zip or .tar file, read in place: nothing is unpacked to the disk."""

import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from gan_shared.data.collection import (
    LIST,
    MAX_FILE_BYTES,
    about,
    chosen,
    classes_of,
    decoded,
    listed_classes,
    visible,
)
from gan_shared.data.picture import is_picture
from gan_shared.data.source import Check, Contents, File, Held, Source, reading, unpacked
from gan_shared.errors import unexpected

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
EXPECTED = "a complete archive"
# Headers of a .tar file that hold a name or attributes of the next one, and their longest: many times the longest path.
EXTENDED = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
MAX_HEADER_BYTES = 2**16


def is_archive(name: str) -> bool:
    """Return whether a file has the ending of an archive that is read."""
    return name.lower().endswith(SUFFIXES)


def names_in(path: Path) -> list[str]:
    """Return the names of the files in an archive, in its order.

    Raises:
        UserError: it is damaged.
    """
    with reading(path, EXPECTED):
        return _zip_names(path) if _is_zip(path) else _tar_names(path)


def source(path: Path, found: Sequence[str]) -> Source:
    """Find the pictures in an archive, and their classes by its folders or by its ``dataset.json``.

    A .zip file's pictures are in sorted order, like a folder's; a .tar file's are in the order that it has them in, as
    it may be packed as one piece.

    Args:
        path: the archive.
        found: the names in it.

    Raises:
        UserError: there is no picture, one name stands for two files, or it is not clear what the classes are.
    """
    contents = _zip_contents if _is_zip(path) else _tar_contents
    odd = [name for name in found if "\\" in name or ({"", ".", ".."} & set(name.split("/")) and is_picture(name))]
    if odd:
        raise unexpected(str(path), f"the name {odd[0]}", "names of files below the archive's own folder, with slashes")
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise unexpected(str(path), f"two files called {twice[0]}", "names that stand for one file each")
    listed = next((read() for _, read in contents(path, [LIST])), None) if LIST in found else None
    visible_names = [name for name in found if visible(name)]
    files, others = chosen(str(path), sorted(visible_names) if _is_zip(path) else visible_names)
    classes = classes_of(str(path), files) if listed is None else listed_classes(f"{path}: {LIST}", files, listed)

    def read(resolution: int, channels: int, check: Check | None = None) -> Contents:
        chunks = decoded(str(path), contents(path, files), resolution, channels, check)
        return Contents(len(files), chunks, classes.labels, classes.names)

    text, pictures = about(files, others, classes), partial(contents, path, files)
    return Source(
        "archive", path.parent, (path.name,), 3, read, text, classes.missing, files, pictures, classes.of_each()
    )


def _is_zip(path: Path) -> bool:
    """Return whether an archive is a .zip file."""
    return path.name.lower().endswith(".zip")


def _zip_names(path: Path) -> list[str]:
    """Return the names of the files in a .zip file."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if "" in names:
        raise zipfile.BadZipFile("a file without a name")
    return [name for name in names if not name.endswith("/")]


def _zip_contents(path: Path, files: Sequence[str]) -> Iterator[File]:
    """Yield files of a .zip file, each read when it is asked for; its checksum is compared."""
    with reading(path, EXPECTED):
        archive = zipfile.ZipFile(path)  # closed with the last of the functions that read from it

    def read(file: str) -> bytes:
        field = f"{path}: {file}"
        _check_size(field, archive.getinfo(file).file_size)
        with reading(field, "a file that can be unpacked"):
            return archive.read(file)

    for file in files:
        yield file, partial(read, file)


class _Member(tarfile.TarInfo):
    """A member of a .tar file whose header is whole, and no longer than a header can be.

    ``tarfile`` takes a damaged header, or the end of the file, for the end of the archive, and so a part for the whole;
    and it reads an extended header of any length into memory.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        """Return the member of a block of 512 bytes.

        Raises:
            tarfile.ReadError: it is damaged, missing or too long.
        """
        try:
            member = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):  # the end of the archive
                raise
            raise tarfile.ReadError(f"{error} where a file or the end of the archive is expected") from error
        if member.type in EXTENDED and member.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {member.size:,} bytes")
        return member


def _members(stream: IO[bytes]) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the members of a .tar file with the archive, which keeps none of them."""
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive:
        for member in archive:
            yield archive, member
            archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]


def _tar_names(path: Path) -> list[str]:
    """Return the names of the files in a .tar file; that of a link ends in ``.link``."""
    with unpacked(path) as stream:
        # What is no file, a link say, is counted with what is left out.
        return [
            _plain(member.name) + ("" if member.isfile() else ".link")
            for _, member in _members(stream)
            if not member.isdir()
        ]


def _tar_contents(path: Path, files: Sequence[str]) -> Iterator[File]:
    """Yield files of a .tar file, read one after the other, as it may be packed."""
    wanted = set(files)
    with reading(path, EXPECTED), unpacked(path) as stream:
        for archive, member in _members(stream):
            name = _plain(member.name)
            if member.isfile() and name in wanted:
                _check_size(f"{path}: {name}", member.size)
                part = archive.extractfile(member)
                content = part.read() if part is not None else b""
                if len(content) != member.size:
                    raise EOFError(f"the end of the file in {name}")
                yield name, Held(content)


def _plain(name: str) -> str:
    """Return a member's name without the ``./`` that ``tar`` puts before it."""
    return name.removeprefix("./")


def _check_size(field: str, size: int) -> None:
    """Refuse a file that is larger than a picture may be, before it is unpacked."""
    if size > MAX_FILE_BYTES:
        raise unexpected(field, f"{size:,} bytes", f"a file of at most {MAX_FILE_BYTES:,}")
