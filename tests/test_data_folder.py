"""Folders of pictures: which are found, how they are decoded, and which are refused with which words."""

import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from gan_shared.data import load
from tests.image_files import refused

PHOTOS = Path(load_sample_images.__code__.co_filename).parent / "images"


def plain(path: Path, colour: object = (200, 30, 90), mode: str = "RGB", size: int = 16, **options) -> Path:
    """Write a picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (size, size), colour).save(path, **options)  # type: ignore[arg-type]
    return path


# --- which pictures -----------------------------------------------------------------------------------------


def test_photographs_are_cut_to_the_centre_and_resized():
    dataset = load(str(PHOTOS), 64, None)
    assert dataset.images.shape == (2, 64, 64, 3)
    for found, name in zip(dataset.images, ("china.jpg", "flower.jpg"), strict=True):
        with Image.open(PHOTOS / name) as photo:
            assert photo.size == (640, 427)
            square = photo.crop((106, 0, 533, 427)).resize((64, 64), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(found, square)
    assert dataset.labels is None


def test_the_resize_does_not_alias(tmp_path: Path):
    # Stripes of one pixel, eight times too fine for the result: a careless resize keeps some of them.
    stripes = np.zeros((128, 128), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a.png")
    assert np.ptp(load(str(tmp_path), 16, 1).images[:, 2:-2, 2:-2]) <= 4


def test_search_is_recursive_sorted_and_skips_what_is_hidden(tmp_path: Path):
    grey = {"b.PNG": 10, "a/z.jpeg": 20, "a/b/c.WebP": 30, "a.bmp": 40, "B.JPG": 50}
    for name, value in grey.items():
        plain(tmp_path / name, (value,) * 3)
    plain(tmp_path / ".hidden.png")
    plain(tmp_path / ".thumbnails" / "a.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    images = load(str(tmp_path), 16, 1).images
    assert len(images) == 5
    order = ["B.JPG", "a.bmp", "a/b/c.WebP", "a/z.jpeg", "b.PNG"]
    np.testing.assert_allclose(images[:, 8, 8, 0].astype(int), [grey[name] for name in order], atol=2)


def test_labels_are_the_first_level_folders(tmp_path: Path):
    for name in ("dog/1.png", "cat/2.png", "cat/young/0.png"):
        plain(tmp_path / name)
    dataset = load(str(tmp_path), 16, None)
    assert dataset.class_names == ("cat", "dog")
    np.testing.assert_array_equal(dataset.labels, [0, 0, 1])


@pytest.mark.parametrize("files", [("cat/1.png", "cat/2.png"), ("cat/1.png", "dog/1.png", "0.png")])
def test_no_labels_from_one_folder_or_where_a_picture_lies_outside(tmp_path: Path, files: tuple[str, ...]):
    for name in files:
        plain(tmp_path / name)
    dataset = load(str(tmp_path), 16, None)
    assert dataset.labels is None
    assert dataset.class_names == ()


@pytest.mark.skipif(os.name == "nt", reason="Windows makes links for administrators only")
def test_links_are_followed_and_circles_end(tmp_path: Path):
    plain(tmp_path / "elsewhere" / "a.png")
    root = tmp_path / "root"
    plain(root / "own" / "b.png")
    (root / "own" / "circle").symlink_to(root)
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    dataset = load(str(root), 16, None)
    assert dataset.class_names == ("linked", "own")
    assert len(dataset.images) == 2


# --- modes --------------------------------------------------------------------------------------------------


def pixel(folder: Path, channels: int | None = None) -> list[int]:
    return load(str(folder), 16, channels).images[0, 8, 8].tolist()


@pytest.mark.parametrize(
    ("mode", "colour", "name", "expected"),
    [
        ("L", 77, "a.png", [77, 77, 77]),
        ("RGB", (1, 2, 3), "a.png", [1, 2, 3]),
        ("1", 1, "a.png", [255, 255, 255]),
        ("RGBA", (255, 0, 0, 0), "a.png", [255, 255, 255]),  # nothing but the white behind it
        ("RGBA", (0, 0, 0, 51), "a.png", [204, 204, 204]),  # a fifth of black on white
        ("RGBA", (0, 0, 0, 51), "a.webp", [204, 204, 204]),
        ("LA", (0, 51), "a.png", [204, 204, 204]),
        ("I;16", 257 * 200, "a.png", [200, 200, 200]),
        ("I;16", 65535, "a.png", [255, 255, 255]),
        ("CMYK", (0, 255, 255, 0), "a.jpg", [255, 0, 0]),
    ],
)
def test_pictures_of_every_mode_become_8_bit_grey_or_rgb(
    tmp_path: Path, mode: str, colour: object, name: str, expected: list[int]
):
    options = {"lossless": True} if name.endswith("webp") else {}
    plain(tmp_path / name, colour, mode, **options)
    assert pixel(tmp_path) == expected


@pytest.mark.parametrize("transparency", [None, 0])
def test_palettes_become_colours_and_transparent_parts_white(tmp_path: Path, transparency: int | None):
    picture = Image.new("P", (16, 16), 0)
    picture.putpalette([10, 20, 30, 0, 0, 0])
    options: dict[str, Any] = {} if transparency is None else {"transparency": transparency}
    picture.save(tmp_path / "a.png", **options)
    assert pixel(tmp_path) == ([10, 20, 30] if transparency is None else [255, 255, 255])


def test_palettes_are_resized_as_colours(tmp_path: Path):
    # Index 1 lies between 0 and 2 and must not appear where black and white are mixed.
    picture = Image.fromarray(np.tile(np.array([0, 2], np.uint8), (64, 32)))
    picture.putpalette([0, 0, 0, 255, 0, 0, 255, 255, 255])
    picture.save(tmp_path / "a.png")
    red, green, blue = pixel(tmp_path)
    assert red == green == blue


def test_grey_is_itu_601(tmp_path: Path):
    plain(tmp_path / "a.png", (200, 30, 90))
    assert pixel(tmp_path, 1) == [round(0.299 * 200 + 0.587 * 30 + 0.114 * 90)]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright_by_their_exif_orientation(tmp_path: Path, orientation: int):
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8, :8] = 255  # white corner at the top left
    upright[:8, 8:, 0] = 255  # red at its right
    # How the camera stored it: the EXIF standard says which sides row 0 and column 0 of the file are.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load(str(tmp_path), 16, None).images[0], upright)


# --- refusals -----------------------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and has next to no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def test_a_folder_without_pictures_is_refused(tmp_path: Path):
    refused(tmp_path, str(tmp_path), "no pictures", "choices: ", ".jpg, ", ".png, ", ".webp")
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.heic").write_text("x")
    refused(tmp_path, "no pictures, but 2 files of other kinds (.txt, .heic)")


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((60_000, 60_000), ["too large a picture", "decompression bomb", "at most 80,000,000"]),
        ((10_000, 9_500), ["too large a picture", "decompression bomb"]),  # where Pillow only warns
        ((10_000, 8_500), ["10000 x 8500 pixels", "at most 80,000,000"]),  # where Pillow says nothing
        ((7, 100), ["7 x 100 pixels", "at least 8 pixels"]),
        ((0, 16), ["a.png"]),
    ],
)
def test_sizes_are_refused_before_decoding(tmp_path: Path, size: tuple[int, int], words: list[str]):
    (tmp_path / "a.png").write_bytes(png_header(*size))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        refused(tmp_path, "a.png", *words)
    assert not warned


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp"])
def test_truncated_pictures_are_refused(tmp_path: Path, ending: str):
    path = tmp_path / f"a.{ending}"
    with Image.open(PHOTOS / "china.jpg") as photo:
        photo.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(tmp_path, f"a.{ending}", "cannot be decoded", "a complete picture")


@pytest.mark.parametrize("content", [b"just text", b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\x00"])
def test_files_that_are_no_pictures_are_refused(tmp_path: Path, content: bytes):
    (tmp_path / "a.png").write_bytes(content)
    message = refused(tmp_path, "a.png", "cannot be decoded")
    assert message.count("a.png") == 1


def test_one_bad_picture_refuses_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TWIN_GAN_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "pictures"
    for number in range(40):
        plain(root / f"{number:02}.png")
    (root / "20.png").write_text("text")
    message = refused(root, "1 of 40 pictures cannot be used", "20.png")
    assert "more" not in message
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.name != "decoded"]


def test_many_bad_pictures_are_counted_and_three_named(tmp_path: Path):
    for number in range(40):
        plain(tmp_path / f"{number:02}.png")
    for number in (3, 9, 20, 30, 39):
        (tmp_path / f"{number:02}.png").write_text("text")
    message = refused(tmp_path, "5 of 40 pictures", "03.png", "09.png", "20.png", "and 2 more")
    assert "30.png" not in message


def test_a_picture_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plain(tmp_path / "a.png")

    def denied(path: Path, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    # The tests may run as root, whom no permission stops.
    monkeypatch.setattr(Image, "open", denied)
    refused(tmp_path, "a.png", "Permission denied")


def test_a_folder_that_may_not_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plain(tmp_path / "a.png")
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    refused(tmp_path, "locked", "Permission denied", "a folder that can be listed")


@pytest.mark.skipif(os.name == "nt", reason="Windows makes links for administrators only")
def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path):
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    refused(tmp_path, "a.png", "No such file")


@pytest.mark.parametrize("kind", ["EPS", "TGA"])
def test_other_formats_are_refused_whatever_they_are_called(tmp_path: Path, kind: str):
    """Pillow hands EPS to an outside program: no file of a user's may start one. Any damaged file might be a TGA."""
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png", format=kind)
    refused(tmp_path, "a.png", "no known format", "PNG")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "a.png")
    refused(tmp_path, "a.png", "a pipe, a device or a folder")
    os.mkfifo(tmp_path / "a.npy")
    refused(tmp_path / "a.npy", "a.npy", "a pipe or a device")


def test_the_home_of_an_unknown_user_is_refused():
    refused("~nobody-of-that-name/pictures", "data", "home directory")


@pytest.mark.skipif(sys.platform != "linux", reason="its unit of the largest memory")
def test_large_pictures_are_decoded_in_the_memory_of_one(tmp_path: Path):
    """Four of 40 million pixels: each takes 260 MB while it is decoded and cut, and Python and NumPy 50 MB."""
    for number in range(4):
        Image.new("RGB", (8000, 5000), (number, 0, 0)).save(tmp_path / f"{number}.png", compress_level=1)
    program = (
        "import sys; from gan_shared.data import load; assert len(load(sys.argv[1], 16, None).images) == 4; "
        "(line,) = [each for each in open('/proc/self/status') if each.startswith('VmHWM')]; print(line.split()[1])"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    environment = {**os.environ, "TWIN_GAN_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 400_000  # kilobytes
