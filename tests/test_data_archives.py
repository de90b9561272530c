"""Pictures in archives: the same as in a folder, read in place, refused where a byte is wrong."""

import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_shared.data import load
from gan_shared.errors import UserError
from tests.image_files import refused

TARS: dict[str, Any] = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}


def png(value: int, size: int = 16) -> bytes:
    """A picture of one grey."""
    stream = io.BytesIO()
    Image.new("L", (size, size), value).save(stream, "PNG")
    return stream.getvalue()


def zipped(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a .zip file."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty pictures in five classes, and what is left out."""
    root = tmp_path / "folder"
    for number in range(20):
        path = root / str(number % 5 + 8) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(10 * number))
    (root / "notes.txt").write_text("x")
    (root / ".DS_Store").write_text("x")
    return root


def test_a_zip_is_read_like_its_folder(tmp_path: Path, folder: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in sorted(folder.rglob("*"), reverse=True):
            archive.write(path, path.relative_to(folder))
        archive.writestr("__MACOSX/8/._0.png", b"resource fork")
    before = set(tmp_path.rglob("*"))
    expected, found = load(str(folder), 16, None), load(str(tmp_path / "a.zip"), 16, None)
    assert found.fingerprint == expected.fingerprint
    assert found.class_names == expected.class_names == ("8", "9", "10", "11", "12")
    assert found.about == expected.about
    np.testing.assert_array_equal(found.keys, expected.keys)  # so a holdout divides both alike
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("suffix", TARS)
def test_a_tar_holds_the_same_pictures_with_their_classes(tmp_path: Path, folder: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    with tarfile.open(path, TARS[suffix]) as archive:
        archive.add(folder, ".")
    expected, found = load(str(folder), 16, None), load(str(path), 16, None)
    assert found.class_names == expected.class_names and found.about == expected.about
    assert found.keys is not None and expected.keys is not None
    assert found.labels is not None and expected.labels is not None
    order, wanted = np.argsort(found.keys), np.argsort(expected.keys)
    np.testing.assert_array_equal(found.images[order], expected.images[wanted])
    np.testing.assert_array_equal(found.labels[order], expected.labels[wanted])


@pytest.mark.parametrize("labels", [None, [3, 1, 2, 0]])
def test_stylegans_list_of_classes(tmp_path: Path, labels: list[int] | None):
    names = [f"0000{number % 2}/img{number:08}.png" for number in range(4)]
    listed = None if labels is None else [[name, label] for name, label in zip(names, labels, strict=True)]
    files = {name: png(10 * number) for number, name in enumerate(names)}
    zipped(tmp_path / "a.zip", {"dataset.json": json.dumps({"labels": listed}).encode(), **files})
    dataset = load(str(tmp_path / "a.zip"), 16, 1)
    shades = (dataset.images[:, 0, 0, 0] // 10).tolist()
    assert "dataset.json" not in dataset.about and ".json" not in dataset.about
    if labels is None:
        assert dataset.class_names == ()  # the folders are StyleGAN's own, no classes
    else:
        assert dataset.labels is not None
        assert [labels[shade] for shade in shades] == dataset.labels.tolist()
        assert dataset.class_names == ("0", "1", "2", "3")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path / "folder")
    assert load(str(tmp_path / "folder"), 16, 1).fingerprint == dataset.fingerprint


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        (b"{", "another kind of list"),
        (b"[1]", "another kind of list"),
        (b'{"labels": [["a.png", 1]]}', "no class for b.png"),
        (b'{"labels": [["a.png", 1], ["b.png", 1], ["b.png", 0]]}', "a name that is listed twice"),
        (b'{"labels": [["a.png", 1], ["b.png", [0, 1]]]}', "the class [0, 1]"),
        (b'{"labels": [["a.png", 1], ["b.png", -1]]}', "labels from -1 to 1"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(tmp_path: Path, listed: bytes, words: str):
    path = zipped(tmp_path / "a.zip", {"a.png": png(1), "b.png": png(2), "dataset.json": listed})
    refused(path, "a.zip: dataset.json", words)


def test_one_name_for_two_files_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a.png", png(1))
        archive.writestr("a.png", png(2))
    refused(tmp_path / "a.zip", "two files called a.png")


def test_a_file_without_a_name_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        nameless = zipfile.ZipInfo("a.png")
        out.writestr(nameless, b"")
        nameless.filename = ""  # in the directory, which is written last
    with pytest.raises(UserError, match=r"a\.zip: found an unreadable file \(a file without a name\), expected"):
        load(str(tmp_path / "a.zip"), 16, 1)


def test_an_archive_without_pictures_is_refused(tmp_path: Path):
    refused(zipped(tmp_path / "a.zip", {"a.txt": b"x"}), "no pictures, but 1 file of other kinds (.txt)")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.xz", ".tar.bz2"])
def test_a_damaged_byte_of_an_archive_is_refused(tmp_path: Path, suffix: str):
    """Of pictures and checksums, that is: names and dates of a .zip file have none.

    There are bits that say nothing, such as the length of a code that is not used: with them the pixels are the same.
    """
    path = tmp_path / f"a{suffix}"
    if suffix == ".zip":
        zipped(path, {"a.png": png(1, 64)}, zipfile.ZIP_STORED)
        start = path.read_bytes().index(b"\x89PNG")
        places = range(start, start + len(png(1, 64)))
    else:
        with tarfile.open(path, TARS[suffix]) as archive:
            info = tarfile.TarInfo("a.png")
            info.size = len(png(1, 64))
            archive.addfile(info, io.BytesIO(png(1, 64)))
        places = range(30, path.stat().st_size)  # behind gzip's header, which has none
    content, expected, taken = path.read_bytes(), np.array(load(str(path), 32, None).images), []
    chosen = places[:: max(1, len(places) // 60)]
    for place in chosen:
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        try:
            taken.append(load(str(path), 32, None).images)
        except UserError as error:
            assert f"a{suffix}" in str(error)
    assert len(taken) < len(chosen) / 10
    for images in taken:
        np.testing.assert_array_equal(images, expected)


def test_a_file_that_is_too_large_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gan_shared.data.archive.MAX_FILE_BYTES", 1000)
    path = zipped(tmp_path / "a.zip", {"a.png": bytes(10**6), "b.png": png(1)})
    refused(path, "a.zip: a.png: found 1,000,000 bytes, expected a file of at most 1,000")


@pytest.mark.skipif(sys.platform != "linux", reason="its unit of the largest memory")
def test_what_is_read_ahead_of_a_tar_has_a_limit(tmp_path: Path):
    """Of twelve files of 120 MB, which are packed into next to nothing, at most five are held at a time."""
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", compresslevel=1) as archive, open("/dev/zero", "rb") as zeros:
        for number in range(12):
            info = tarfile.TarInfo(f"{number}.png")
            info.size = 120 * 10**6
            archive.addfile(info, zeros)
    program = (
        "import sys\nfrom gan_shared.data import load\nfrom gan_shared.errors import UserError\n"
        "try:\n    load(sys.argv[1], 16, None)\nexcept UserError as error:\n"
        "    assert '12 of 12 pictures' in str(error)\n"
        "(line,) = [each for each in open('/proc/self/status') if each.startswith('VmHWM')]\nprint(line.split()[1])"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.tar.gz")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1_000_000  # kilobytes; all of them are 1,440,000


def tar_of(path: Path, count: int) -> list[int]:
    """Write a .tar file of some pictures and return where their headers begin."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for number in range(count):
            content = png(10 * number)
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with tarfile.open(path) as archive:
        return [member.offset for member in archive]


def test_a_tar_never_ends_at_a_damaged_header_or_before_its_end(tmp_path: Path):
    path = tmp_path / "a.tar"
    headers = tar_of(path, 4)
    whole = path.read_bytes()
    assert len(load(str(path), 16, None).images) == 4
    path.write_bytes(whole[: headers[2]] + b"x" + whole[headers[2] + 1 :])
    refused(path, "bad checksum where a file or the end of the archive is expected")
    path.write_bytes(whole[: headers[2]])
    refused(path, "empty header where a file or the end of the archive is expected")
    path.write_bytes(whole[: headers[2] + 100])
    refused(path, "truncated header where a file or the end of the archive is expected")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_any_length_is_not_read(tmp_path: Path, kind: bytes):
    path = tmp_path / "a.tar"
    tar_of(path, 1)
    member = tarfile.TarInfo("long")
    member.type, member.size = kind, 10**9
    path.write_bytes(member.tobuf() + path.read_bytes())  # a thousand megabytes that are not there
    refused(path, "a header of 1,000,000,000 bytes")


def test_links_in_a_tar_are_not_followed(tmp_path: Path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("a.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    refused(tmp_path / "a.tar", "no pictures, but 1 file of other kinds (.link)")


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "a//b.png", "./a.png", "cat\\a.png"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str):
    """Their folders would be taken for classes."""
    zipped(tmp_path / "a.zip", {"b.png": png(1)})
    content = (tmp_path / "a.zip").read_bytes()
    zipped(tmp_path / "a.zip", {name: png(1)})
    assert (tmp_path / "a.zip").read_bytes() != content
    refused(tmp_path / "a.zip", "a.zip: found the name ", "names of files below the archive's own folder")
