"""Lists of what a set must hold: who may add, take away or change a picture unseen: nobody."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_shared import data_manifest as command
from gan_shared.config import Config
from gan_shared.data import Trusted, load, load_held_out
from gan_shared.data.data_manifest import expecting
from gan_shared.data.sources import find_source
from gan_shared.errors import UserError
from gan_shared.real_images import HELD_OUT, find_real_images, load_training_images
from tests.fixtures import ANY, TRAIN_MAINS


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six pictures in two classes."""
    for number in range(6):
        path = tmp_path / "pictures" / ("even", "odd")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 40 * number).save(path)
    return tmp_path / "pictures"


@pytest.fixture
def archive(pictures: Path, tmp_path: Path) -> Path:
    """The same in a .zip file."""
    return zipped(pictures, tmp_path / "a.zip")


def zipped(pictures: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for each in sorted(pictures.rglob("*.png")):
            file.write(each, each.relative_to(pictures))
    return path


def listed(data: Path, *more: str) -> Path:
    out = data.with_name(f"{data.name}.json")
    assert command.main([str(data), str(out), *more]) == 0
    return out


def refusal(data: Path, file: Path, key: Path | None = None) -> str:
    with pytest.raises(UserError) as raised:
        load(str(data), 16, 1, trusted=Trusted(file, key))
    return str(raised.value)


def test_a_set_that_holds_what_is_listed_is_read(pictures: Path, archive: Path):
    for data in (pictures, archive):
        file = listed(data)
        names = json.loads(file.read_text())["sha256"]
        assert len(names) == 6 and {"even/0.png", "odd/5.png"} <= names.keys()
        found = load(str(data), 16, 1, trusted=Trusted(file))
        np.testing.assert_array_equal(found.images[:, 0, 0, 0], [0, 80, 160, 40, 120, 200])
        assert found.fingerprint == load(str(data), 16, 1).fingerprint
    # The same pictures, whether they lie in a folder or in an archive.
    load(str(archive), 16, 1, trusted=Trusted(listed(pictures)))


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_every_change_is_named(pictures: Path, tmp_path: Path, kind: str):
    file = listed(pictures)

    def data() -> Path:
        return pictures if kind == "folder" else zipped(pictures, tmp_path / "a.zip")

    load(str(data()), 16, 1, trusted=Trusted(file))
    extra = pictures / "odd" / "9.png"
    shutil.copy(pictures / "odd" / "1.png", extra)
    expected = f"{file}: found pictures that it does not list: odd/9.png, expected the 6 that it lists"
    assert refusal(data(), file) == expected
    extra.unlink()
    (pictures / "odd" / "1.png").rename(tmp_path / "1.png")
    assert refusal(data(), file).startswith(f"{file}: found no picture for names that it lists: odd/1.png, expected")
    (tmp_path / "1.png").rename(pictures / "odd" / "1.png")
    Image.new("L", (16, 16), 41).save(pictures / "odd" / "1.png")
    message = refusal(data(), file)
    assert "1 of 6 pictures cannot be used" in message
    assert "odd/1.png: found sha256 " in message and f"as in {file}: it has been changed" in message


def test_a_change_that_keeps_size_and_time_is_found_too(pictures: Path):
    """The cache goes by them; pictures that are to be compared with a list have entries of their own."""
    path = pictures / "odd" / "1.png"
    load(str(pictures), 16, 1)
    file, status, content = listed(pictures), path.stat(), path.read_bytes()
    other = (pictures / "odd" / "3.png").read_bytes()
    assert len(other) == len(content)
    path.write_bytes(other)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "odd/1.png: found sha256 " in refusal(pictures, file)


def test_another_class_is_named_too(pictures: Path, archive: Path, tmp_path: Path):
    """A list of classes that is put into an archive, or a picture in another folder, changes what is learned."""
    file = listed(archive)
    with zipfile.ZipFile(archive, "a") as added:
        labels = [[f"{name}/{i}.png", 0] for i in range(6) for name in [("even", "odd")[i % 2]]]
        added.writestr("dataset.json", json.dumps({"labels": labels}))
    expected = f"{archive.parent}: found even/0.png in class 0, and 5 more, expected class even as in {file}"
    assert refusal(archive, file) == f"{expected}: it has been changed"


def test_a_list_never_takes_the_place_of_what_it_lists(archive: Path, keys: tuple[Path, Path], capsys):
    before = archive.read_bytes(), keys[0].read_bytes()
    assert command.main([str(archive), str(archive)]) == 2
    assert command.main([str(archive), str(keys[0]), "--sign-with", str(keys[0])]) == 2
    assert "out: found " in capsys.readouterr().err
    assert (archive.read_bytes(), keys[0].read_bytes()) == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
def test_pipes_are_not_waited_for(pictures: Path, tmp_path: Path, capsys):
    os.mkfifo(tmp_path / "pipe")
    assert refusal(pictures, tmp_path / "pipe").startswith(
        f"{tmp_path / 'pipe'}: found an unreadable file (a pipe, a device or a folder"
    )
    assert command.main([str(pictures), str(tmp_path / "a.json"), "--sign-with", str(tmp_path / "pipe")]) == 2
    os.mkfifo(pictures / "odd" / "9.png")
    assert command.main([str(pictures), str(tmp_path / "a.json")]) == 2
    assert "pipe: found" in capsys.readouterr().err


def test_of_other_sets_the_files_are_listed(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16), np.uint8)
    np.save(tmp_path / "a.npy", images)
    file = listed(tmp_path / "a.npy")
    assert json.loads(file.read_text())["sha256"].keys() == {"a.npy"}
    load(str(tmp_path / "a.npy"), 16, 1, trusted=Trusted(file))
    np.save(tmp_path / "a.npy", 255 - images)
    assert refusal(tmp_path / "a.npy", file).startswith(f"{tmp_path / 'a.npy'}: found sha256 ")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other", "version": 1, "sha256": {}}', "\x00"])
def test_a_list_that_is_none_is_refused(pictures: Path, tmp_path: Path, text: str):
    (tmp_path / "a.json").write_text(text)
    assert refusal(pictures, tmp_path / "a.json").startswith(f"{tmp_path / 'a.json'}: found ")


@pytest.fixture(params=["pem", "openssh"])
def keys(request, tmp_path: Path) -> tuple[Path, Path]:
    """A private and a public key in files."""
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key, pem = Ed25519PrivateKey.generate(), request.param == "pem"
    formats, encodings = serialization.PrivateFormat, serialization.Encoding
    private = key.private_bytes(encodings.PEM, formats.PKCS8 if pem else formats.OpenSSH, serialization.NoEncryption())
    public = key.public_key().public_bytes(
        encodings.PEM if pem else encodings.OpenSSH,
        serialization.PublicFormat.SubjectPublicKeyInfo if pem else serialization.PublicFormat.OpenSSH,
    )
    (tmp_path / "key").write_bytes(private)
    (tmp_path / "key.pub").write_bytes(public)
    return tmp_path / "key", tmp_path / "key.pub"


def test_a_list_that_was_signed_is_taken_and_a_changed_one_refused(pictures: Path, keys: tuple[Path, Path]):
    private, public = keys
    file = listed(pictures, "--sign-with", str(private))
    signature = file.with_name(file.name + ".sig")
    load(str(pictures), 16, 1, trusted=Trusted(file, public))
    # Whoever changes a picture and the list with it cannot sign that.
    Image.new("L", (16, 16), 41).save(pictures / "odd" / "1.png")
    kept = signature.read_bytes()
    file = listed(pictures)
    signature.write_bytes(kept)
    expected = f"{signature}: found another signature, expected one of {file.name} by {public}"
    assert refusal(pictures, file, public) == expected
    signature.unlink()
    assert refusal(pictures, file, public).startswith(f"{signature}: found an unreadable file (No such file")
    assert refusal(pictures, file, private).startswith(f"{private}: found no such key")
    load(str(pictures), 16, 1, trusted=Trusted(file))  # where no signature is asked for


def test_a_run_refuses_pictures_that_are_not_listed(capsys, pictures: Path, tmp_path: Path):
    size = ["--resolution", "16", "--width", "0.0625", "--batch-size", "4", "--steps", "1", "--device", "cpu"]
    begin = ["dcgan", "--data", str(pictures), *size, "--run-dir", str(tmp_path / "run")]
    file = listed(pictures)
    assert TRAIN_MAINS[ANY]([*begin, "--data-manifest", str(file)]) == 0
    shutil.copy(pictures / "odd" / "1.png", pictures / "odd" / "9.png")
    begin[-1] = str(tmp_path / "other")
    assert TRAIN_MAINS[ANY]([*begin, "--data-manifest", str(file)]) == 2
    assert "pictures that it does not list: odd/9.png" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    assert TRAIN_MAINS[ANY]([*begin, "--data-key", str(file)]) == 2
    assert "data_key: found " in capsys.readouterr().err


def test_images_that_an_evaluation_compares_with_are_listed_too(pictures: Path):
    options = {"data": str(pictures), "data_manifest": str(listed(pictures)), "resolution": 16, "channels": 1}
    config = Config().with_options(**options, holdout=0.5)
    training = load_training_images(config)
    held_out = load_held_out(str(pictures), 16, 1, 0.5)
    assert len(training.images) + len(held_out.images) == 6
    _, found = find_real_images(config, HELD_OUT, training.fingerprint)
    assert found is not None and found.fingerprint == held_out.fingerprint
    number = int(held_out.images[0, 0, 0, 0]) // 40
    Image.new("L", (16, 16), 255).save(pictures / ("even", "odd")[number % 2] / f"{number}.png")
    with pytest.raises(UserError, match=rf"{number}\.png: found sha256 .* it has been changed"):
        find_real_images(config, HELD_OUT, training.fingerprint)


def test_a_damaged_picture_is_not_listed_in_silence(pictures: Path, tmp_path: Path, capsys):
    """What cannot be read stops the list, and nothing is written."""
    zipped(pictures, tmp_path / "a.zip")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[60] ^= 1
    (tmp_path / "a.zip").write_bytes(content)
    assert command.main([str(tmp_path / "a.zip"), str(tmp_path / "list.json")]) == 2
    assert "a.zip" in capsys.readouterr().err and not (tmp_path / "list.json").exists()


def test_a_file_that_changes_while_it_is_decoded_is_refused(tmp_path: Path):
    images = np.zeros((400, 64, 64), np.uint8)
    np.save(tmp_path / "a.npy", images)
    file = listed(tmp_path / "a.npy")
    contents = expecting(find_source(str(tmp_path / "a.npy")), file).read(16, 1)
    next(contents.chunks)
    with (tmp_path / "a.npy").open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"x")
    with pytest.raises(UserError, match="it has been changed"):
        list(contents.chunks)


def test_no_list_takes_the_place_of_classes_or_keys(pictures: Path, keys: tuple[Path, Path], tmp_path: Path, capsys):
    names = sorted(path.relative_to(pictures).as_posix() for path in pictures.rglob("*.png"))
    classes = pictures / "dataset.json"
    classes.write_text(json.dumps({"labels": [[name, 0] for name in names]}))
    private = tmp_path / "list.json.sig"
    shutil.copy(keys[0], private)
    before = classes.read_bytes(), private.read_bytes()
    other, no_file = "expected another file than what is listed or signed with", "a folder, expected a file"
    for arguments, words in (
        ([str(classes)], other),
        ([str(tmp_path / "list.json"), "--sign-with", str(private)], other),
        ([""], no_file),
        ([str(tmp_path)], no_file),
    ):
        assert command.main([str(pictures), *arguments]) == 2
        assert words in capsys.readouterr().err
    assert before == (classes.read_bytes(), private.read_bytes()) and not (tmp_path / "list.json").exists()
