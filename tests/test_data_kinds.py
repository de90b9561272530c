"""What people's folders hold: formats, damaged metadata, files of other kinds, classes at another level."""

import io
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from gan_shared.data import load
from gan_shared.data.picture import FORMATS, decode
from tests.image_files import refused

RED = (200, 30, 30)


def plain(path: Path, colour: object = RED, mode: str = "RGB", size: tuple[int, int] = (24, 24), **options) -> Path:
    """Write a picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)  # type: ignore[arg-type]
    return path


def bytes_of(kind: str, size: tuple[int, int] = (40, 24), **options) -> bytes:
    """A picture in memory."""
    stream = io.BytesIO()
    Image.new("RGB", size, RED).save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file, right by its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# A directory of EXIF that says how to turn the picture, and gives a resolution as text where a fraction belongs:
# readers find the first, writers trip over the second.
TIFF = (
    b"II*\0"
    + struct.pack("<IH", 8, 2)
    + struct.pack("<HHIHH", 0x112, 3, 1, 6, 0)
    + struct.pack("<HHI4s", 0x11A, 2, 3, b"72\0\0")
    + bytes(4)
)


# --- metadata -----------------------------------------------------------------------------------------------


def test_a_photograph_with_damaged_exif_is_turned_all_the_same():
    jpeg, block = bytes_of("JPEG"), b"Exif\0\0" + TIFF
    phone = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]
    assert decode(phone, "phone.jpg").size == (24, 40)
    png = bytes_of("PNG")
    assert decode(png[:33] + chunk(b"eXIf", TIFF) + png[33:], "phone.png").size == (24, 40)


@pytest.mark.parametrize("exif", [b"", b"II*\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"MM\0*" + bytes(200), b"\xff" * 30])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_unreadable_exif_is_none(tmp_path: Path, kind: str, exif: bytes):
    if kind not in FORMATS:
        pytest.skip("this Pillow has no such format")
    if kind == "JPEG":
        block, jpeg = b"Exif\0\0" + exif, bytes_of("JPEG")
        content = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]
    elif kind == "PNG":
        png = bytes_of("PNG")
        content = png[:33] + chunk(b"eXIf", exif) + png[33:]
    else:
        try:
            content = bytes_of(kind, exif=exif) if exif else bytes_of(kind)
        except Exception:  # a library that writes no such block
            content = bytes_of(kind)
    (tmp_path / f"a.{kind.lower()}").write_bytes(content)
    np.testing.assert_allclose(load(str(tmp_path), 16, None).images[0, 8, 8].astype(int), RED, atol=4)


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * 3_000_000)),  # what makers of images write
        chunk(b"iCCP", b"profile\0\7none"),
        chunk(b"pHYs", b"\0"),
        chunk(b"gAMA", b"\0"),
        chunk(b"iTXt", b"\xff"),
    ],
)
@pytest.mark.parametrize("place", ["before", "behind"])
def test_png_chunks_that_no_pixel_depends_on_do_no_harm(extra: bytes, place: str):
    png = bytes_of("PNG")
    content = png[:33] + extra + png[33:] if place == "before" else png[:-12] + extra + png[-12:]
    np.testing.assert_array_equal(np.asarray(decode(content, "a.png"))[0, 0], RED)


def test_a_damaged_byte_of_a_png_is_refused_where_pixels_depend_on_it():
    png, text = bytes_of("PNG", (8, 8)), chunk(b"zTXt", b"text\0\0" + zlib.compress(b"x"))
    content = png[:33] + text + png[33:]
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1
        inside = place - 33
        if 0 <= inside < len(text) and inside >= 8:  # behind length and kind, and with them the place of what follows
            np.testing.assert_array_equal(np.asarray(decode(bytes(damaged), "a.png"))[0, 0], RED)
        elif not 4 <= inside < 8:  # another kind of metadata is as good
            with pytest.raises(Exception, match=r"a\.png: found"):
                decode(bytes(damaged), "a.png")


# --- formats ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "tolerance"),
    [
        ("a.tif", "TIFF", 0),
        ("a.tiff", "TIFF", 0),
        ("a.gif", "GIF", 0),
        ("a.jfif", "JPEG", 2),
        ("a.jpe", "JPEG", 2),
        ("a.avif", "AVIF", 4),
        ("a.jp2", "JPEG2000", 0),
        ("a.ppm", "PPM", 0),
        ("a.qoi", "QOI", 0),
        ("a.tga", "TGA", 0),
        ("a.pcx", "PCX", 0),
        ("a.ICO", "ICO", 0),
        ("a.dib", "DIB", 0),
        ("a.sgi", "SGI", 0),
    ],
)
def test_formats(tmp_path: Path, name: str, kind: str, tolerance: int):
    if kind == "AVIF" and "avif" not in features.get_supported():
        pytest.skip("this Pillow has no such format")
    plain(tmp_path / name, format=kind)
    found = load(str(tmp_path), 16, None).images[0, 8, 8].astype(int)
    np.testing.assert_allclose(found, RED, atol=tolerance)


def test_the_first_frame_of_an_animation_is_read_and_that_is_said(tmp_path: Path):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    dataset = load(str(tmp_path), 16, None)
    assert dataset.images[0, 8, 8].tolist() == [255, 0, 0]
    assert dataset.about == "1 picture; the first frame of 1 animation"


@pytest.mark.parametrize("orientation", [1, 6])
def test_tiff_is_turned_once(tmp_path: Path, orientation: int):
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.new("RGB", (40, 24), RED).save(tmp_path / "a.tif", exif=exif)
    assert decode((tmp_path / "a.tif").read_bytes(), "a.tif").size == ((40, 24) if orientation == 1 else (24, 40))


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((16, 16), 0.5, np.float32), "floating-point pixels, of which it is not known what is white"),
        (np.full((16, 16), 70_000, np.int32), "whole numbers from 70000 to 70000, not of 16 bits"),
    ],
)
def test_pixels_whose_white_is_not_known_are_refused(tmp_path: Path, pixels: np.ndarray, words: str):
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    refused(tmp_path, "a.tif", words)


def test_what_was_found_and_left_out_is_said(tmp_path: Path):
    for number in range(1, 12):
        plain(tmp_path / str(number) / "a.png", (number,) * 3)
    for name in ("notes.txt", "more.txt", "photo.heic", "README", ".hidden"):
        (tmp_path / name).write_text("x")
    dataset = load(str(tmp_path), 16, None)
    left_out = "4 files of other kinds (.txt, README, .heic) left out"
    assert dataset.about == f"11 pictures in 11 classes: 1, 2 .. 11; {left_out}"


# --- classes ------------------------------------------------------------------------------------------------


def test_folders_that_are_numbers_are_classes_in_the_order_of_the_numbers(tmp_path: Path):
    for number in (10, 9, 2, 100):
        plain(tmp_path / str(number) / "a.png", (number,) * 3)
    dataset = load(str(tmp_path), 16, 1)
    assert dataset.class_names == ("2", "9", "10", "100")
    assert dataset.labels is not None
    assert [int(dataset.class_names[label]) for label in dataset.labels] == dataset.images[:, 8, 8, 0].tolist()


def test_a_single_folder_around_the_classes_is_looked_through(tmp_path: Path):
    for name in ("cat", "dog"):
        plain(tmp_path / "wrap" / "images" / name / "a.png")
    assert load(str(tmp_path), 16, None).class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("stray", "message"),
    [
        ("preview.png", "preview.png beside the folder images"),
        ("images/preview.png", "images/preview.png beside the folders cat, dog"),
    ],
)
def test_a_stray_picture_is_named(tmp_path: Path, stray: str, message: str):
    for name in ("images/cat/a.png", "images/dog/a.png", stray):
        plain(tmp_path / name)
    dataset = load(str(tmp_path), 16, None)
    assert dataset.labels is None and dataset.no_labels == message
    assert f"no classes, because of {message}" in dataset.about


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (("training", "testing"), "found testing, training, expected the folders of the classes, or one part of a set"),
        (("north", "south"), "found north, south, which all have the folders 0, 1, 2 and 7 more"),
    ],
)
def test_parts_of_a_set_are_not_taken_for_classes(tmp_path: Path, parts: tuple[str, str], words: str):
    for part in parts:
        for digit in range(10):
            plain(tmp_path / part / str(digit) / "x.png")
    root, (first, second) = tmp_path, sorted(parts)
    refused(root, words, f"choices: --data {root}/{first}, --data {root}/{second}")
    assert load(str(root / parts[0]), 16, None).class_names == tuple("0123456789")


def test_a_part_without_classes_is_no_class_beside_one_with_classes(tmp_path: Path):
    for name in ("Train/cat/a.png", "Train/dog/b.png", "test/c.png"):
        plain(tmp_path / name)
    refused(tmp_path, "found Train, test, expected the folders of the classes, or one part of a set; choices: --data ")
    archive = shutil.make_archive(str(tmp_path.parent / f"{tmp_path.name}-parts"), "zip", tmp_path)
    refused(archive, "found Train, test, expected", "choices: unpack it and name one")
    # A class may be called as a part is.
    plain(tmp_path / "cat" / "d.png")
    assert load(str(tmp_path), 16, None).class_names == ("Train", "cat", "test")


def test_one_folder_that_all_classes_have_is_none(tmp_path: Path):
    for name in ("n01/images/a.png", "n02/images/b.png"):
        plain(tmp_path / name)
    assert load(str(tmp_path), 16, None).class_names == ("n01", "n02")


def test_classes_with_folders_of_their_own_are_classes(tmp_path: Path):
    for name in ("cat/a.png", "cat/young/a.png", "dog/young/b.png"):
        plain(tmp_path / name)
    assert load(str(tmp_path), 16, None).class_names == ("cat", "dog")


# --- 28 pixels ----------------------------------------------------------------------------------------------


def test_pictures_of_28_pixels_get_the_border_that_arrays_get(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    (tmp_path / "folder").mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "folder" / f"{number}.png")
    np.save(tmp_path / "a.npy", pixels)
    for resolution, channels in ((28, 1), (32, 1), (32, 3), (64, 1)):
        found = load(str(tmp_path / "folder"), resolution, channels).images
        np.testing.assert_array_equal(found, load(str(tmp_path / "a.npy"), resolution, channels).images)
