"""Arrays, IDX and CIFAR-10 files: what is read, and what is refused with which words."""

import gzip
import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_shared.data import cifar, load
from gan_shared.errors import UserError
from tests.image_files import cifar_files, idx, noise, refused, saved, tarred

# --- arrays -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 16, 16), (5, 16, 16, 1), (5, 16, 16, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_pixels_arrive_unchanged(tmp_path: Path, shape: tuple[int, ...], order: str):
    images = noise(*shape)
    path = saved(tmp_path / "a.npy", np.asarray(images, order=order))  # type: ignore[call-overload]
    dataset = load(str(path), 16, None)
    np.testing.assert_array_equal(dataset.images, images.reshape(5, 16, 16, -1))
    assert dataset.labels is None
    assert dataset.class_names == ()


def test_arrays_of_another_size_are_cut_and_resized_as_pillow_does(tmp_path: Path):
    images = noise(2, 20, 31, 3)
    dataset = load(str(saved(tmp_path / "a.npy", images)), 16, 1)
    for found, image in zip(dataset.images, images, strict=True):
        grey = Image.fromarray(image[:, 5:25]).convert("L")
        np.testing.assert_array_equal(found[..., 0], grey.resize((16, 16), Image.Resampling.LANCZOS))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_images_and_labels(tmp_path: Path, save):
    images, labels = noise(6, 16, 16), np.array([2, 0, 1, 2, 0, 2], np.int16)
    save(tmp_path / "a.npz", other=noise(2, 2), images=images, labels=labels)
    dataset = load(str(tmp_path / "a.npz"), 16, None)
    np.testing.assert_array_equal(dataset.images[..., 0], images)
    np.testing.assert_array_equal(dataset.labels, labels)
    assert dataset.class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("names", "about"),
    [
        (("data", "labels"), "3 images: the array data; classes: labels"),
        (("images", "labels"), "3 images: the array images; classes: labels"),
        # Keras, whose first array is that of the test images.
        (
            ("x_train", "y_train", "x_test", "y_test"),
            "3 images: the array x_train; classes: y_train; x_test, y_test left out",
        ),
        # MedMNIST, whose labels have a column.
        (
            ("train_images", "train_labels", "val_images", "val_labels"),
            "3 images: the array train_images; classes: train_labels; val_images, val_labels left out",
        ),
    ],
)
def test_npz_has_images_and_labels_under_known_names(tmp_path: Path, names: tuple[str, ...], about: str):
    images, labels = noise(3, 16, 16, 3), np.array([2, 0, 1])
    wanted = dict(zip(names[:2], (images, labels[:, None] if names[0] == "train_images" else labels), strict=True))
    others = {name: noise(4, 16, 16) if i == 0 else np.zeros(4, int) for i, name in enumerate(names[2:])}
    np.savez(tmp_path / "a.npz", allow_pickle=False, **others, **wanted)
    dataset = load(str(tmp_path / "a.npz"), 16, None)
    np.testing.assert_array_equal(dataset.images, images)
    np.testing.assert_array_equal(dataset.labels, labels)
    assert sorted(dataset.about.split("; ")) == sorted(about.split("; "))


@pytest.mark.parametrize("names", [("arr_0", "arr_1"), ("images", "x_train"), ("train", "test", "labels"), ("labels",)])
def test_npz_in_which_the_images_are_not_clear_is_refused(tmp_path: Path, names: tuple[str, ...]):
    np.savez(tmp_path / "a.npz", allow_pickle=False, **{name: noise(3, 16, 16) for name in names})
    refused(tmp_path / "a.npz", f"the arrays {', '.join(names)}", "choices: images and labels, x_train and y_train")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((4, 16, 16), np.float32), ["float32 values", "uint8 values from 0 to 255"]),
        (np.zeros((4, 16), np.uint8), ["shape (4, 16)", "(N, H, W, 3)"]),
        (np.zeros((4, 3, 16, 16), np.uint8), ["shape (4, 3, 16, 16)", "(N, H, W, 1)"]),
        (np.zeros((), np.uint8), ["shape ()"]),
        (np.zeros((0, 16, 16), np.uint8), ["0 images", "a number from 1"]),
        (np.zeros((4, 0, 16), np.uint8), ["16 x 0 pixels"]),
        (np.zeros((4, 3, 3), np.uint8), ["3 x 3 pixels", "at least 8"]),
        (np.array([{"a": 1}, None]), ["pickled Python objects, which are never loaded"]),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path: Path, values: np.ndarray, words: list[str]):
    refused(saved(tmp_path / "a.npy", values), "a.npy", *words)
    np.savez(tmp_path / "a.npz", images=values)
    refused(tmp_path / "a.npz", "a.npz: images", *words)


def npy_bytes(header: str) -> bytes:
    """A .npy file of 16 x 16 zeros with any text as its header."""
    text = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(256)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 16",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (True, 16, 16), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': 7, }",
        "[",
    ],
)
def test_npy_headers_that_are_no_headers_are_refused(tmp_path: Path, fresh: Path, header: str):
    (tmp_path / "a.npy").write_bytes(npy_bytes(header))
    refused(tmp_path / "a.npy", "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", npy_bytes(header))
    refused(tmp_path / "a.npz", "a.npz")


def test_npz_whose_lzma_data_is_damaged_is_refused(tmp_path: Path, fresh: Path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 16, 16), }"
        archive.writestr("images.npy", npy_bytes(header))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[60:90] = bytes(30)
    (tmp_path / "a.npz").write_bytes(content)
    refused(tmp_path / "a.npz", "a.npz")


class Trap:
    """Fails the test when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize("field", ["images", "labels"])
def test_pickles_are_never_loaded(tmp_path: Path, field: str):
    arrays = {"images": noise(2, 16, 16), "labels": np.arange(2), field: np.array([Trap(), Trap()])}
    np.savez(tmp_path / "a.npz", **arrays)
    refused(tmp_path / "a.npz", f"a.npz: {field}", "pickled Python objects, which are never loaded")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.arange(3), ["shape (3,)", "shape (4,)"]),
        (np.zeros(4), ["float64", "integers"]),
        (np.array([0, -1, 2, 3]), ["from -1 to 3", "0 to 65535"]),
        (np.array([0, 1, 2, 10**9]), ["from 0 to 1000000000"]),
        (np.zeros((4, 2), int), ["shape (4, 2)"]),
    ],
)
def test_npz_labels_that_do_not_fit_are_refused(tmp_path: Path, fresh: Path, labels: np.ndarray, words: list[str]):
    np.savez(tmp_path / "a.npz", images=noise(4, 16, 16), labels=labels)
    refused(tmp_path / "a.npz", "a.npz: labels", *words)
    assert not fresh.exists()


def test_npz_with_two_arrays_of_one_name_is_refused(tmp_path: Path):
    np.savez(tmp_path / "b.npz", images=noise(3, 16, 16))
    with zipfile.ZipFile(tmp_path / "b.npz") as archive:
        content = archive.read("images.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("images.npy", content)
        archive.writestr("images.npy", content)
    refused(tmp_path / "a.npz", "the arrays images, images", "names that stand for one array each")


def test_npz_in_fortran_order_is_refused(tmp_path: Path):
    np.savez(tmp_path / "b.npz", images=np.asfortranarray(noise(3, 16, 16)))
    refused(tmp_path / "b.npz", "Fortran order", "ascontiguousarray")


def test_npz_whose_pixels_are_not_as_many_as_announced_is_refused(tmp_path: Path):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 16, 16)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", buffer.getvalue() + bytes(1000))
    refused(tmp_path / "a.npz", "1000 bytes of pixels", "256000000")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("kept", [0, 5, 100, 600])
def test_truncated_arrays_are_refused(tmp_path: Path, fresh: Path, suffix: str, kept: int):
    path = tmp_path / f"a{suffix}"
    (np.save if suffix == ".npy" else np.savez)(path, noise(4, 16, 16))
    path.write_bytes(path.read_bytes()[:kept])
    refused(path, f"a{suffix}", "unreadable file")
    assert not list(fresh.rglob("*.npy"))


def test_npz_with_a_flipped_byte_fails_its_checksum(tmp_path: Path, fresh: Path):
    path = tmp_path / "a.npz"
    np.savez(path, noise(4, 16, 16))
    damaged = bytearray(path.read_bytes())
    damaged[500] ^= 1
    path.write_bytes(damaged)
    refused(path, "CRC")
    assert not list(fresh.rglob("*.npy"))
    assert not list(fresh.rglob("*partial*"))


# --- IDX ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", [(4, 16, 16), (4, 16, 16, 3)])
def test_idx_with_its_labels(tmp_path: Path, packed: bool, shape: tuple[int, ...]):
    images, labels = noise(*shape), np.array([3, 1, 0, 1], np.uint8)
    ending = ".gz" if packed else ""
    pack = gzip.compress if packed else bytes
    path = tmp_path / f"my-images-idx{len(shape)}-ubyte{ending}"
    path.write_bytes(pack(idx(images)))
    (tmp_path / f"my-labels-idx1-ubyte{ending}").write_bytes(pack(idx(labels)))
    dataset = load(str(path), 16, None)
    np.testing.assert_array_equal(dataset.images, images.reshape(4, 16, 16, -1))
    np.testing.assert_array_equal(dataset.labels, labels)
    assert dataset.class_names == ("0", "1", "2", "3")


def test_a_folder_of_idx_files_and_one_without_labels(tmp_path: Path):
    images = noise(4, 28, 28)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images))
    dataset = load(str(tmp_path), 28, None)
    np.testing.assert_array_equal(dataset.images[..., 0], images)
    assert dataset.labels is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["(none)"]),
        (b"\x89PNG\r\n", ["89 50 4e 47", "IDX file"]),
        (idx(noise(4, 16, 16), kind=13), ["type 0x0d", "unsigned bytes"]),
        (idx(noise(4)), ["shape (4,)"]),
        (idx(noise(4, 16, 16))[:9], ["in its header"]),
        (idx(noise(4, 16, 16))[:-1], ["after 3 images", "4 images"]),
        (idx(noise(4, 16, 16)) + b"x", ["more bytes after its last image"]),
        (gzip.compress(idx(noise(4, 16, 16)))[:-20], ["unreadable file"]),
        (gzip.compress(b"")[:4], ["unreadable file"]),
    ],
)
def test_idx_files_that_are_damaged_are_refused(tmp_path: Path, fresh: Path, content: bytes, words: list[str]):
    path = tmp_path / "a-idx3-ubyte"
    path.write_bytes(content)
    refused(path, "a-idx3-ubyte", *words)
    assert not list(fresh.rglob("*.npy"))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (idx(noise(3)), ["shape (3,)", "4 images"]),
        (idx(noise(4))[:-1], ["3 bytes"]),
        (idx(noise(4), kind=12), ["0x0c"]),
    ],
)
def test_idx_labels_that_do_not_fit_are_refused(tmp_path: Path, labels: bytes, words: list[str]):
    (tmp_path / "a-images-idx3-ubyte").write_bytes(idx(noise(4, 16, 16)))
    (tmp_path / "a-labels-idx1-ubyte").write_bytes(labels)
    refused(tmp_path / "a-images-idx3-ubyte", "a-labels-idx1-ubyte", *words)


# --- CIFAR-10 -----------------------------------------------------------------------------------------------


def test_cifar_from_the_archive_and_from_its_folder(tmp_path: Path):
    labels, images = np.array([9, 0, 3, 3, 6], np.uint8), noise(5, 32, 32, 3)
    files = cifar_files(labels, images)
    folder = tmp_path / "in" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "test_batch.bin").write_bytes(b"not read")
    before = set(tmp_path.rglob("*"))
    path = tarred(tmp_path / "in" / "cifar-10-binary.tar.gz", {"test_batch.bin": b"not read", **files})
    archive = load(str(path), 32, None)
    np.testing.assert_array_equal(archive.images, images)
    np.testing.assert_array_equal(archive.labels, labels)
    assert archive.class_names[9] == "truck"
    assert set(tmp_path.rglob("*")) - before == {path}
    assert load(str(folder), 32, None).fingerprint == archive.fingerprint


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"data_batch_1.bin": bytes(3073 + 10)}, ["data_batch_1.bin", "10 bytes after", "3073"]),
        ({"data_batch_1.bin": b"\x0a" + bytes(3072)}, ["label 10", "0 to 9"]),
        ({"readme.txt": b"hello"}, ["no pictures, but 1 file of other kinds (.txt)"]),
    ],
)
def test_cifar_archives_that_are_damaged_are_refused(tmp_path: Path, files: dict[str, bytes], words: list[str]):
    refused(tarred(tmp_path / "a.tar.gz", files), "a.tar.gz", *words)


def test_cifar_archive_that_is_cut_short_is_refused(tmp_path: Path):
    path = tarred(tmp_path / "a.tar.gz", {"data_batch_1.bin": noise(3073 * 20).tobytes()})
    path.write_bytes(path.read_bytes()[:-1000])
    refused(path, "a.tar.gz", "unreadable file")
    path.write_text("no archive")
    refused(path, "a.tar.gz", "unreadable file")


def test_cifar_archive_whose_checksum_differs_is_refused(tmp_path: Path):
    """The checksum stands behind the last image."""
    path = tarred(tmp_path / "a.tar.gz", {"data_batch_1.bin": bytes(3073)})
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    refused(path, "a.tar.gz", "CRC check failed")
    with pytest.raises(UserError, match="CRC check failed"):
        list(cifar.source(path).read(32, 3).chunks)


# --- other files --------------------------------------------------------------------------------------------


def test_a_file_of_unknown_kind_lists_the_kinds(tmp_path: Path):
    (tmp_path / "a.h5").write_bytes(b"PAR1")
    refused(tmp_path / "a.h5", "a.h5", "unknown kind (.h5)", "choices: .npy, .npz", "IDX")


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = saved(tmp_path / "a.npy", noise(2, 16, 16))

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    # The tests may run as root, whom no permission stops.
    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(UserError, match=re.escape("a.npy: found an unreadable file (Permission denied)")):
        load(str(path), 16, None)


def test_a_npy_file_that_is_longer_than_its_header_says_is_refused(tmp_path: Path):
    path = saved(tmp_path / "a.npy", noise(4, 16, 16))
    with path.open("ab") as stream:
        stream.write(bytes(2 * 16 * 16))
    refused(path, "a.npy: found 512 bytes after its last image, expected 4 images only")


def test_labels_may_have_the_other_separator_and_those_with_the_images_own_come_first(tmp_path: Path):
    images = noise(4, 16, 16)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images))
    assert load(str(tmp_path), 16, 1).no_labels == "no file of labels beside it"
    (tmp_path / "train-labels.idx1-ubyte").write_bytes(idx(np.array([3, 1, 2, 0], np.uint8)))
    np.testing.assert_array_equal(load(str(tmp_path), 16, 1).labels, [3, 1, 2, 0])
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.array([0, 0, 1, 1], np.uint8)))
    np.testing.assert_array_equal(load(str(tmp_path), 16, 1).labels, [0, 0, 1, 1])


def test_batches_of_cifar_that_are_missing_are_told_of(tmp_path: Path):
    for name, content in cifar_files(np.arange(6, dtype=np.uint8), noise(6, 32, 32, 3)).items():
        (tmp_path / name).write_bytes(content)
    assert load(str(tmp_path), 32, None).about.startswith("2 of 5 batches: data_batch_1.bin, data_batch_2.bin")
