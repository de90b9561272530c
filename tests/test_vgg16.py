"""The vgg-inversion preset as a user has it: weights from a file or random, reconstructions, and what is refused."""

import importlib
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from sklearn.datasets import load_sample_images

from gan_shared import checkpoint, pictures, runlog, vgg16
from gan_shared.architecture import vgg_decoder_plan, vgg_plan
from gan_shared.errors import UserError
from gan_shared.presets import PRESETS
from tests.fixtures import ANY, EACH, gan_class
from tests.fixtures import SAMPLE_MAINS as SAMPLE
from tests.fixtures import TRAIN_MAINS as TRAIN
from tests.frameworks import HERE

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
SIZE = [
    "vgg-inversion",
    "--resolution",
    "32",
    "--width",
    "0.0625",
    "--batch-size",
    "2",
    "--device",
    "cpu",
    "--steps",
    "2",
]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Crops of photographs as JPEG files."""
    folder, generator = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number in range(6):
        picture = load_sample_images().images[number % 2]
        top, left = (generator.integers(side - 96) for side in picture.shape[:2])
        Image.fromarray(picture[top : top + 96, left : left + 96]).save(folder / f"{number}.jpg")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A file of the layout of the published weights, up to relu3_3, which is all that this test reads of it."""
    generator, file = np.random.default_rng(0), tmp_path_factory.mktemp("weights") / "vgg16.safetensors"
    wanted = vgg16.shapes("relu3_3")
    save_file({name: generator.normal(0, 0.05, shape).astype(np.float32) for name, shape in wanted.items()}, str(file))
    return file


@pytest.fixture(scope="module")
def run(photographs, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "random"
    argv = [*SIZE, "--data", str(photographs), "--vgg-weights", "random", "--run-dir", str(folder)]
    assert TRAIN[ANY](argv) == 0
    return folder


@pytest.fixture
def script(monkeypatch) -> Any:
    monkeypatch.syspath_prepend(SCRIPTS)
    sys.modules.pop("vgg_weights", None)
    return importlib.import_module("vgg_weights")


def refused(capsys, status: int) -> str:
    err = capsys.readouterr().err
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1, err
    return err


def test_random_weights_are_marked_in_the_manifest_and_on_the_grids(run):
    manifest = json.loads((next(iter(checkpoint.folders(run))) / "manifest.json").read_text())
    assert manifest["config"]["vgg_sha256"] == "random"
    with Image.open(run / "samples/step-0000002.png") as sheet:
        pixels = np.asarray(sheet)
    strip = pixels[: -(8 * 34 + 2)]  # above 32 pictures beside what was made of them, in eight rows
    assert len(strip) > 5 and strip.min() < 20 and np.median(strip) == pictures.GAP_VALUE, "no line of text"


def test_the_reconstruction_error_is_logged(run):
    assert all(line["reconstruction_loss"] > 0 for line in runlog.read_scalars(run))


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("suffix", [".png", ".npz", ""])
def test_samples_show_each_picture_beside_its_reconstruction(run, photographs, tmp_path, name, suffix):
    out = tmp_path / f"pairs{suffix}"
    argv = [str(run), "--images", str(photographs), "--num-images", "3", "--out", str(out), "--device", "cpu"]
    assert SAMPLE[name](argv) == 0
    if suffix == ".npz":
        with np.load(out) as archive:
            assert archive["images"].shape == archive["input_images"].shape == (3, 32, 32, 3)
            assert archive["latents"].shape == (3, 0)
    elif suffix == ".png":
        with Image.open(out) as sheet:
            assert sheet.width >= 34 * 4 + 2 and sheet.height > 34 * 2 + 2
    else:
        for number in range(3):
            with Image.open(out / f"{number:04}.png") as picture:
                assert picture.size == (34 * 2 + 2, 34 + 2)


def test_a_run_with_weights_of_a_file_is_not_drawn_with_random_ones(photographs, weights, tmp_path, capsys):
    folder = tmp_path / "run"
    argv = ["vgg-inversion", "--resolution", "32", "--batch-size", "1", "--device", "cpu", "--steps", "1"]
    argv += ["--vgg-layer", "relu3_3", "--vgg-weights", str(weights), "--data", str(photographs)]
    assert TRAIN[ANY]([*argv, "--run-dir", str(folder)]) == 0
    capsys.readouterr()
    ask = [str(folder), "--images", str(photographs), "--out", str(tmp_path / "s.png"), "--vgg-weights", "random"]
    for name in HERE:
        assert "vgg_weights: found random with sha256 random, expected sha256" in refused(capsys, SAMPLE[name](ask))


def test_init_from_refuses_networks_of_another_vgg_layer(run, photographs, tmp_path, capsys):
    argv = [*SIZE, "--data", str(photographs), "--vgg-weights", "random", "--init-from", str(run)]
    argv += ["--run-dir", str(tmp_path / "run")]
    status = TRAIN[ANY]([*argv, "--vgg-layer", "relu4_2"])
    assert "init_from: vgg_layer: found relu4_3 there, expected relu4_2" in refused(capsys, status)
    assert TRAIN[ANY](argv) == 0


def test_init_from_refuses_networks_of_other_random_features(run, photographs, tmp_path, capsys):
    argv = [*SIZE, "--data", str(photographs), "--vgg-weights", "random", "--init-from", str(run), "--seed", "5"]
    status = TRAIN[ANY]([*argv, "--run-dir", str(tmp_path / "run")])
    assert "init_from: seed: found 0 there, expected 5" in refused(capsys, status)


def test_a_wrong_option_is_not_reported_as_a_damaged_checkpoint(run, photographs, tmp_path, capsys):
    ask = [str(run), "--out", str(tmp_path / "s.png"), "--images", str(photographs)]
    err = refused(capsys, SAMPLE[ANY]([*ask, "--vgg-weights", "/nowhere"]))
    assert "checkpoint" not in err and err.startswith("error: vgg_weights: found no file /nowhere")
    err = refused(capsys, SAMPLE[ANY]([*ask[:-1], "/nowhere"]))
    assert err.startswith("error: images: found '/nowhere'")


def test_input_images_have_the_classes_of_the_run(photographs, tmp_path, capsys):
    folder = tmp_path / "classes"
    for number, path in enumerate(sorted(photographs.iterdir())):
        (folder / "abc"[number % 3]).mkdir(parents=True, exist_ok=True)
        (folder / "abc"[number % 3] / path.name).write_bytes(path.read_bytes())
    argv = [
        *SIZE,
        "--data",
        str(folder),
        "--vgg-weights",
        "random",
        "--class-conditional",
        "--run-dir",
        str(tmp_path / "run"),
    ]
    assert TRAIN[ANY](argv) == 0
    ask = [str(tmp_path / "run"), "--out", str(tmp_path / "s.npz"), "--device", "cpu", "--images"]
    assert SAMPLE[ANY]([*ask, str(folder)]) == 0
    with np.load(tmp_path / "s.npz") as archive:
        assert archive["labels"].tolist() == [0, 0, 1, 1, 2, 2]
    (folder / "a").rename(tmp_path / "elsewhere")
    capsys.readouterr()
    assert "images: found 2 classes, expected the 3 of the run" in refused(capsys, SAMPLE[ANY]([*ask, str(folder)]))
    assert SAMPLE[ANY]([*ask, str(folder), "--classes", "1", "2"]) == 0


@pytest.mark.parametrize("name", EACH)
def test_data_on_the_device_and_several_steps_per_call_change_nothing(photographs, tmp_path, name):
    """Data on the device and several steps in a call end where the plain run does, bit for bit."""
    plain = [*SIZE, "--data", str(photographs), "--vgg-weights", "random", "--latent-size", "3", "--steps", "4"]
    held = ["--data-on", "device", "--steps-per-call", "2", "--log-every", "2"]
    states = []
    for more in ([], held):
        folder = tmp_path / f"run-{len(states)}"
        assert TRAIN[name]([*plain, *more, "--run-dir", str(folder)]) == 0
        states.append(checkpoint.load_newest(folder).tensors)
    assert all(np.array_equal(states[0][key], states[1][key]) for key in states[0])


def test_an_image_conditional_sample_without_input_images_is_refused(run, tmp_path, capsys):
    status = SAMPLE[ANY]([str(run), "--out", str(tmp_path / "s.png")])
    assert "images: found None, expected a folder of images" in refused(capsys, status)


@pytest.mark.parametrize("name", EACH)
def test_a_run_with_a_file_of_weights_keeps_its_hash_alone(photographs, weights, tmp_path, capsys, name):
    folder = tmp_path / "run"
    argv = [*SIZE, "--data", str(photographs), "--vgg-layer", "relu3_3", "--batch-size", "1", "--run-dir", str(folder)]
    assert TRAIN[name]([*argv, "--vgg-weights", str(weights)]) == 0
    saved = checkpoint.load_newest(folder)
    assert saved.config.image_condition.vgg_sha256 == vgg16._sha256(weights)
    held = sum(path.stat().st_size for path in saved.path.rglob("*"))
    assert held < weights.stat().st_size, "a copy of the weights was saved"
    # Moved elsewhere, the file is named anew; another one is refused.
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(weights.read_bytes())
    resume = ["--resume", "--run-dir", str(folder), "--steps", "3", "--vgg-weights"]
    assert TRAIN[name]([*resume, str(moved)]) == 0
    resume[4] = "4"  # one that has no step to do is not begun
    tensors = load_file(moved)
    save_file({**tensors, "features.0.bias": tensors["features.0.bias"] + 1}, str(moved))
    capsys.readouterr()
    assert "vgg_weights: found" in refused(capsys, TRAIN[name]([*resume, str(moved)]))
    err = refused(capsys, TRAIN[name]([*resume, "random"]))
    assert "vgg_weights: found random with sha256 random, expected sha256" in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "vgg_weights: found none, expected the file that python scripts/vgg_weights.py writes, or random"),
        (["--vgg-weights", "nowhere"], "vgg_weights: found no file nowhere"),
        (["--vgg-weights", "random", "--vgg-layer", "relu2_1"], "vgg_layer: found 'relu2_1'"),
        (["--vgg-weights", "random", "--vgg-layer", "fc6"], "resolution: found 32, expected 224, as vgg_layer is fc6"),
        (["--vgg-weights", "random", "--generator", "dcgan"], "as generator dcgan is given no features"),
        (["--vgg-weights", "random", "--resolution", "40"], "resolution: found 40"),
        (["--vgg-weights", "random", "--discriminator", "vgg-decoder"], "discriminator: found 'vgg-decoder'"),
        (
            ["--vgg-weights", "random", "--pyramid-levels", "16", "32"],
            "generator: found vgg-decoder beside pyramid_levels 16 32",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(photographs, tmp_path, capsys, argv, message):
    folder = tmp_path / "run"
    status = TRAIN[ANY]([*SIZE, "--data", str(photographs), "--run-dir", str(folder), *argv])
    assert message in refused(capsys, status)
    assert not folder.exists()


def test_files_that_are_no_vgg16_are_refused(weights, photographs, tmp_path, capsys):
    tensors = load_file(weights)
    name = "features.0.weight"
    broken = {
        "text.safetensors": None,
        "missing.safetensors": {key: value for key, value in tensors.items() if key != name},
        "shape.safetensors": tensors | {name: tensors[name][:, :1].copy()},
        "type.safetensors": tensors | {name: tensors[name].astype(np.float64)},
        "nan.safetensors": tensors | {name: tensors[name] * np.float32("nan")},
    }
    messages = ["which cannot be read", f"no {name} in", f"{name} of float32 (64, 1, 3, 3)", "float64", "not finite"]
    for (file, values), words in zip(broken.items(), messages, strict=True):
        path = tmp_path / file
        if values is None:
            path.write_text("these are no weights")
        else:
            save_file(values, str(path))
        argv = [*SIZE, "--data", str(photographs), "--vgg-layer", "relu3_3", "--run-dir", str(tmp_path / "run")]
        assert words in refused(capsys, TRAIN[ANY]([*argv, "--vgg-weights", str(path)]))


def test_vgg16_and_its_decoder_have_the_published_sizes():
    """torchvision's vgg16 has 138,357,544 parameters, of which its two last layers have 20,878,312."""
    count = sum(int(np.prod(shape)) for shape in vgg16.shapes("fc6").values())
    assert count == 138_357_544 - (4096 * 4096 + 4096) - (4096 * 1000 + 1000)
    assert vgg_plan("relu4_3").features == 512 and vgg_plan("fc6").hidden == (25088, 4096)
    assert vgg_decoder_plan("relu4_3", 224, 1.0) == (28, (256, 128, 64))
    assert vgg_decoder_plan("fc6", 224, 1.0) == (7, (512, 512, 256, 128, 64))
    assert vgg16.width(PRESETS["vgg-inversion"]) == 1.0


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.torch
def test_the_script_takes_a_state_dict_and_nothing_else(script, monkeypatch, tmp_path, capsys):
    import torch

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vgg16, "shapes", lambda layer, width=1.0: {"features.0.bias": (64,)})
    torch.save({"features.0.bias": torch.ones(64), "classifier.6.bias": torch.ones(3)}, "good.pth")
    assert script.main(["--state-dict", "good.pth", "--out", "out/vgg.safetensors"]) == 0
    assert "--vgg-weights out/vgg.safetensors" in capsys.readouterr().out
    assert list(load_file("out/vgg.safetensors")) == ["features.0.bias"]
    Path("evil.pth").write_bytes(pickle.dumps(Evil()))
    torch.save({"features.0.bias": torch.ones(3)}, "other.pth")
    torch.save([1, 2], "list.pth")
    for file, message in (
        ("evil.pth", "cannot be read"),
        ("nowhere.pth", "cannot be read"),
        ("other.pth", "features.0.bias of float32 (3,), expected float32 (64,)"),
        ("list.pth", "holds something else"),
    ):
        assert message in refused(capsys, script.main(["--state-dict", file, "--out", "no.safetensors"]))
    assert not Path("pwned").exists() and not Path("no.safetensors").exists()


@pytest.mark.torch
def test_the_script_fetches_through_torchvision_and_says_where_it_could_not(script, monkeypatch, tmp_path, capsys):
    import torch

    VGG16_Weights = pytest.importorskip("torchvision.models").VGG16_Weights

    monkeypatch.setattr(vgg16, "shapes", lambda layer, width=1.0: {"features.0.bias": (64,)})
    asked = []

    def fetched(self, **options):
        asked.append((self, options))
        return {"features.0.bias": torch.ones(64)}

    monkeypatch.setattr(VGG16_Weights, "get_state_dict", fetched)
    assert script.main(["--out", str(tmp_path / "vgg.safetensors")]) == 0
    assert asked == [(VGG16_Weights.IMAGENET1K_V1, {"progress": True, "check_hash": True})]

    def offline(self, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(VGG16_Weights, "get_state_dict", offline)
    err = refused(capsys, script.main(["--out", str(tmp_path / "none.safetensors")]))
    assert "no route to host" in err and "--state-dict FILE" in err


def test_the_gan_class_refuses_image_conditional_generators(run):
    with pytest.raises(UserError, match="GAN: found generator vgg-decoder"):
        gan_class(ANY).load(run)
    with pytest.raises(UserError, match="GAN: found pyramid_levels 8 16"):
        gan_class(ANY)(pyramid_levels=(8, 16), resolution=16)


def test_a_caption_is_written_above_the_image_and_leaves_it_as_it_is():
    for width in (20, 600):
        sheet = np.random.default_rng(0).integers(256, size=(30, width, 3), dtype=np.uint8)
        captioned = pictures.captioned(sheet, "these are words")
        np.testing.assert_array_equal(captioned[-30:, :width], sheet)
        assert captioned[:-30].min() < 100 and captioned.shape[1] >= width


def test_pairs_average_a_larger_picture():
    large = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    made = np.full((1, 2, 2, 1), 9, np.uint8)
    pair = pictures.beside(large, made)
    assert pair[0].ravel().tolist() == [2, 4, 10, 12]  # 2.5 and 10.5 to even
    np.testing.assert_array_equal(pair[1], made[0])
