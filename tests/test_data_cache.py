"""The cache of decoded sets: written once, opened at once, rebuilt when damaged, whole or absent."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections import namedtuple
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_shared.data import collection, folder, load
from gan_shared.data.cache import FORMAT_VERSION
from gan_shared.data.source import CHUNK_BYTES
from gan_shared.errors import UserError

COUNT = 12


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test an empty cache."""
    monkeypatch.setenv("TWIN_GAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve pictures in two classes."""
    pixels = np.random.default_rng(3).integers(0, 256, (COUNT, 16, 16, 3), np.uint8)
    for number, image in enumerate(pixels):
        path = tmp_path / "pictures" / ("even", "odd")[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "pictures"


def entries(cache: Path) -> list[Path]:
    return sorted((cache / "decoded").iterdir())


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, *size: int) -> None:
        raise AssertionError(f"{path} is decoded again")

    monkeypatch.setattr(collection, "read_resized", refused)


def test_images_are_mapped_read_only(pictures: Path):
    images = load(str(pictures), 16, None).images
    assert isinstance(images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0, 0, 0, 0] = 1


def test_a_second_start_decodes_nothing(pictures: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch):
    first = load(str(pictures), 16, None)
    forbid_decoding(monkeypatch)
    second = load(str(pictures), 16, 3)  # what None stood for
    np.testing.assert_array_equal(second.images, first.images)
    np.testing.assert_array_equal(second.labels, first.labels)
    assert second.class_names == first.class_names == ("even", "odd")
    assert second.fingerprint == first.fingerprint
    assert len(entries(fresh)) == 1


@pytest.mark.parametrize("change", ["time", "size", "name", "removed", "added"])
def test_a_changed_source_is_decoded_again(pictures: Path, fresh: Path, change: str):
    load(str(pictures), 16, None)
    path = pictures / "even" / "00.png"
    status = path.stat()
    if change == "time":
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1000))
    elif change == "size":
        path.write_bytes(path.read_bytes() + b"\0")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "name":
        path.rename(path.with_name("000.png"))
    elif change == "removed":
        path.unlink()
    else:
        shutil.copy2(path, path.with_name("98.png"))
    load(str(pictures), 16, None)
    assert len(entries(fresh)) == 2


def test_other_sizes_and_colours_are_other_entries(pictures: Path, fresh: Path):
    shapes = {
        load(str(pictures), resolution, channels).images.shape for resolution, channels in ((16, 1), (16, 3), (8, 3))
    }
    assert shapes == {(COUNT, 16, 16, 1), (COUNT, 16, 16, 3), (COUNT, 8, 8, 3)}
    assert len(entries(fresh)) == 3


def test_folders_that_differ_in_pixels_alone_have_entries_of_their_own(tmp_path: Path):
    for name, colour in (("a", 10), ("b", 20)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (16, 16), (colour,) * 3).save(tmp_path / name / "0.bmp")
        os.utime(tmp_path / name / "0.bmp", ns=(10**18, 10**18))
    assert load(str(tmp_path / "a"), 16, 1).images[0, 0, 0, 0] == 10
    assert load(str(tmp_path / "b"), 16, 1).images[0, 0, 0, 0] == 20


def test_the_fingerprint_is_that_of_images_and_labels(tmp_path: Path):
    images, labels = (
        np.arange(3 * 256, dtype=np.uint32).astype(np.uint8).reshape(3, 16, 16, 1),
        np.array([1, 0, 1]),
    )
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    expected = sha256(b"[3, 16, 16, 1]" + images.tobytes() + b"[3]" + labels.astype("<i8").tobytes())
    assert load(str(tmp_path / "a.npz"), 16, None).fingerprint == expected.hexdigest()
    np.save(tmp_path / "a.npy", images)
    unlabelled = sha256(b"[3, 16, 16, 1]" + images.tobytes())
    assert load(str(tmp_path / "a.npy"), 16, None).fingerprint == unlabelled.hexdigest()


def damage(entry: Path, how: str) -> None:
    if how == "labels missing":
        (entry / "labels.npy").unlink()
    elif how == "keys missing":
        (entry / "keys.npy").unlink()
    elif how == "keys cut":
        os.truncate(entry / "keys.npy", 100)
    elif how == "keys of another number":
        np.save(entry / "keys.npy", np.zeros(COUNT + 1, np.uint64))
    elif how == "keys of another type":
        np.save(entry / "keys.npy", np.zeros(COUNT, np.int64))
    elif how == "images cut":
        os.truncate(entry / "images.npy", 1000)
    elif how == "images empty":
        (entry / "images.npy").write_bytes(b"")
    elif how == "images of another shape":
        np.save(entry / "images.npy", np.zeros((COUNT, 8, 8, 3), np.uint8))
    elif how == "labels of another type":
        np.save(entry / "labels.npy", np.zeros(COUNT, np.int32))
    elif how == "labels beyond the classes":
        np.save(entry / "labels.npy", np.full(COUNT, 99))
    elif how == "labels below 0":
        np.save(entry / "labels.npy", np.full(COUNT, -5))
    elif how == "labels that promise too much":
        header = {"descr": "<i8", "fortran_order": False, "shape": (10**15,)}
        with (entry / "labels.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
    elif how == "images in an archive":
        with (entry / "images.npy").open("wb") as file:
            np.savez(file, images=np.zeros((COUNT, 16, 16, 3), np.uint8))
    elif how == "meta without labels":
        meta = json.loads((entry / "meta.json").read_text())
        (entry / "meta.json").write_text(json.dumps(meta | {"labels": False}))
    elif how == "meta nested deeply":
        (entry / "meta.json").write_text("[" * 100_000)
    elif how == "meta cut":
        (entry / "meta.json").write_text('{"count": ')
    elif how == "meta of another format":
        meta = json.loads((entry / "meta.json").read_text())
        (entry / "meta.json").write_text(json.dumps(meta | {"format": 0}))
    elif how == "a pixel changed":
        flip(entry / "images.npy", -1)
    elif how == "a key changed":
        flip(entry / "keys.npy", -1)
    elif how == "a label changed":
        flip(entry / "labels.npy", -8)  # the other class
    elif how == "header of the images changed":
        flip(entry / "images.npy", 20)
    elif how == "fingerprint changed":
        meta = json.loads((entry / "meta.json").read_text())
        meta["fingerprint"] = f"{int(meta['fingerprint'], 16) ^ 1:064x}"
        (entry / "meta.json").write_text(json.dumps(meta))
    elif how == "class renamed":
        meta = json.loads((entry / "meta.json").read_text())
        (entry / "meta.json").write_text(json.dumps(meta | {"classes": ["even", "od"]}))


def flip(path: Path, place: int) -> None:
    """Change the lowest bit of a byte."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "how",
    [
        "labels missing",
        "keys missing",
        "keys cut",
        "keys of another number",
        "keys of another type",
        "images cut",
        "images empty",
        "images of another shape",
        "labels of another type",
        "labels beyond the classes",
        "labels below 0",
        "labels that promise too much",
        "images in an archive",
        "meta without labels",
        "meta nested deeply",
        "meta cut",
        "meta of another format",
        "a pixel changed",
        "a key changed",
        "a label changed",
        "header of the images changed",
        "fingerprint changed",
        "class renamed",
    ],
)
def test_a_damaged_entry_is_rebuilt(pictures: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch, how: str):
    first = load(str(pictures), 16, None)
    expected, keys = np.array(first.images), np.array(first.keys)
    damage(entries(fresh)[0], how)
    again = load(str(pictures), 16, None)
    np.testing.assert_array_equal(again.images, expected)
    np.testing.assert_array_equal(again.labels, [0] * 6 + [1] * 6)
    np.testing.assert_array_equal(again.keys, keys)
    assert json.loads((entries(fresh)[0] / "meta.json").read_text())["format"] == FORMAT_VERSION
    assert again.fingerprint == first.fingerprint and again.class_names == ("even", "odd")
    assert again.about.endswith(f"{entries(fresh)[0]} was damaged and has been made anew")
    forbid_decoding(monkeypatch)
    load(str(pictures), 16, None)
    assert len(entries(fresh)) == 1


def test_copies_and_contradicting_labels_are_told_of_at_every_start(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16), np.uint8)
    images[[3, 5]], images[7] = images[0], images[6]
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([0, 0, 0, 0, 0, 1, 1, 1]))
    for _ in range(2):
        about = load(str(tmp_path / "a.npz"), 16, None).about
        assert about.endswith("; 3 copies of other images, 3 images that equal one of another class")
    np.save(tmp_path / "a.npy", images)
    assert load(str(tmp_path / "a.npy"), 16, None).about == "3 copies of other images"
    np.save(tmp_path / "b.npy", images[[1, 2, 4]])
    assert load(str(tmp_path / "b.npy"), 16, None).about == ""


def test_two_processes_may_build_at_once(pictures: Path, fresh: Path):
    program = "import sys; from gan_shared.data import load; print(load(sys.argv[1], 16, None).fingerprint)"
    command = [sys.executable, "-W", "error", "-c", program, str(pictures)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    prints = {process.communicate(timeout=60)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert prints == {load(str(pictures), 16, None).fingerprint + "\n"}
    assert len(entries(fresh)) == 1


def finished(cache: Path) -> Path:
    """The images of the one entry that is complete."""
    (entry,) = [path for path in entries(cache) if not path.name.startswith(".")]
    return entry / "images.npy"


def test_the_slower_of_two_builders_keeps_the_faster_ones_entry(
    pictures: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch
):
    read_resized, inner = collection.read_resized, []

    def overtaken(*of: Any) -> np.ndarray:
        monkeypatch.setattr(collection, "read_resized", read_resized)
        if not inner:
            inner.append(load(str(pictures), 16, None))
            inner.append(finished(fresh).stat().st_ino)
        return read_resized(*of)

    monkeypatch.setattr(collection, "MAX_THREADS", 1)
    monkeypatch.setattr(collection, "read_resized", overtaken)
    outer = load(str(pictures), 16, None)
    assert finished(fresh).stat().st_ino == inner[1]
    np.testing.assert_array_equal(outer.images, inner[0].images)
    assert len(entries(fresh)) == 1


def test_a_disk_that_is_too_small_is_refused_first(pictures: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch):
    forbid_decoding(monkeypatch)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 7_000_000, 7_000_000))
    with pytest.raises(UserError) as caught:
        load(str(pictures), 256, None)
    # 12 x 256 x 256 x 3 bytes of pixels, 12 x 8 of labels and 100 MB to spare: 102.36 MB.
    assert f"{fresh / 'decoded'}: found 7 MB free, expected 103 MB" in str(caught.value)
    assert not fresh.exists()


def test_a_header_that_promises_too_much_is_stopped_by_the_disk(tmp_path: Path, fresh: Path):
    header = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in (2**32 - 1, 4096, 4096))
    (tmp_path / "a-idx3-ubyte").write_bytes(header)
    with pytest.raises(UserError, match=r"expected \d+ MB for 4294967295 decoded images"):
        load(str(tmp_path / "a-idx3-ubyte"), 256, None)
    assert not fresh.exists()


def test_a_disk_that_fills_up_leaves_nothing(pictures: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); TWIN_GAN_CACHE may"):
        load(str(pictures), 16, None)
    assert entries(fresh) == []


def test_a_cache_that_is_a_file_is_refused(pictures: Path, fresh: Path):
    fresh.write_text("in the way")
    with pytest.raises(UserError, match=r"cannot be written .*TWIN_GAN_CACHE may name another folder"):
        load(str(pictures), 16, None)


@pytest.mark.parametrize("kind", ["npy", "npz", "idx"])
def test_decoding_a_large_file_takes_the_memory_of_a_few_chunks(tmp_path: Path, kind: str):
    images = np.random.default_rng(5).integers(0, 256, (8000, 64, 64), np.uint8)  # 33 MB
    path = tmp_path / f"images-idx3.{kind}"
    if kind == "idx":
        path.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0x1F, 0x40, 0, 0, 0, 64, 0, 0, 0, 64]) + images.tobytes())
    else:
        (np.save if kind == "npy" else np.savez)(path, images)
    first = images[0].copy()
    del images
    tracemalloc.start()
    try:
        dataset = load(str(path), 64, None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(dataset.images[0, ..., 0], first)
    # Of 33 MB: the chunk that was read, its resized and its contiguous copy, and a million bytes of small things.
    assert peak < 3 * CHUNK_BYTES + 10**6


def test_no_more_than_six_pictures_are_decoded_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(collection, "MAX_THREADS", 1)
    Image.new("RGB", (16, 16)).save(tmp_path / "000.png")
    for number in range(1, 200):
        shutil.copy(tmp_path / "000.png", tmp_path / f"{number:03}.png")
    read_resized, begun = collection.read_resized, []

    def counted(*of: Any) -> np.ndarray:
        begun.append(of)
        return read_resized(*of)

    monkeypatch.setattr(collection, "read_resized", counted)
    chunks = folder.source(tmp_path).read(16, 3).chunks
    next(chunks)
    time.sleep(0.3)  # long enough to decode all of them, were they all handed out
    assert len(begun) <= 6
    assert sum(1 for _ in chunks) == 199


@pytest.mark.parametrize("kind", ["a file", "a link that leads nowhere", "a link to a folder"])
def test_what_is_no_folder_gives_way_to_an_entry(pictures: Path, fresh: Path, tmp_path: Path, kind: str):
    expected = np.array(load(str(pictures), 16, None).images)
    (entry,) = entries(fresh)
    shutil.rmtree(entry)
    if kind == "a file":
        entry.write_bytes(b"")
    else:
        entry.symlink_to(tmp_path if "folder" in kind else tmp_path / "nowhere")
    again = load(str(pictures), 16, None)
    np.testing.assert_array_equal(again.images, expected)
    assert "was damaged and has been made anew" in again.about
    assert entries(fresh) == [entry] and not entry.is_symlink()


def test_what_a_killed_process_left_a_day_ago_is_cleared_away(pictures: Path, fresh: Path):
    old, new = (fresh / "decoded" / f".{name * 32}.00000000.partial" for name in "ab")
    for each in (old, new):
        each.mkdir(parents=True)
        (each / "images.npy").write_bytes(b"half")
    for path in (old, old / "images.npy"):
        os.utime(path, (1, 1))
    load(str(pictures), 16, None)
    assert new.is_dir() and not old.exists()


def test_a_changed_list_of_classes_gives_other_labels(pictures: Path):
    names = sorted(path.relative_to(pictures).as_posix() for path in pictures.rglob("*.png"))
    for classes in (1, 0):
        listed = [[name, classes if number < 4 else 2] for number, name in enumerate(names)]
        (pictures / "dataset.json").write_text(json.dumps({"labels": listed}))
        np.testing.assert_array_equal(load(str(pictures), 16, None).labels, [classes] * 4 + [2] * 8)
    (pictures / "dataset.json").unlink()
    np.testing.assert_array_equal(load(str(pictures), 16, None).labels, [0] * 6 + [1] * 6)
