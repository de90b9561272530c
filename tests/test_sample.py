"""Samples: every kind of output, from either backend's checkpoints, and pictures of many images."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from gan_shared import checkpoint, pictures
from gan_shared.backend import Inputs
from gan_shared.config import Config
from gan_shared.draws import sample_latents
from gan_shared.latents import FRAMES_PER_LATENT
from gan_shared.sample import BATCH, class_numbers
from tests.fixtures import ANY, EACH, TRAIN_MAINS, backend_class
from tests.fixtures import SAMPLE_MAINS as MAINS

main = MAINS[ANY]
CONFIG = Config().with_options(width=0.0625, batch_size=8, latent_size=8, resolution=16, channels=3, device="cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run with two checkpoints whose generators, and whose averages, make different images with contrast."""
    folder = tmp_path_factory.mktemp("run")
    backend = backend_class(ANY)(CONFIG)
    tensors = backend.export(backend.init())
    for step in (1, 2):
        for network, factor in (("generator", 30.0), ("generator_ema", 50.0)):
            name = f"{network}/image.weight"
            tensors[name] = tensors[name] * np.float32(factor / step)
        writer = {"backend": ("torch", "jax")[step - 1]}
        data = {"name": "none", "fingerprint": "0"}
        checkpoint.save(folder, CONFIG, tensors | {"trainer/step": np.array(step)}, writer, data)
    return folder


def sample(main, source: Path, out: Path, *more: str) -> None:
    assert main([str(source), "--out", str(out), "--device", "cpu", *more]) == 0


def arrays(main, source: Path, out: Path, *more: str) -> np.ndarray:
    sample(main, source, out, *more)
    with np.load(out, allow_pickle=False) as archive:
        return archive["images"]


def refused(capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    capsys.readouterr()
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    return err.removeprefix("error: ").rstrip("\n")


def read(file: Path) -> np.ndarray:
    with Image.open(file) as picture:
        return np.asarray(picture)


@pytest.fixture(scope="module")
def expected(run) -> np.ndarray:
    """The images of seed 0, made by the newest average without the sampler's own batches."""
    backend = backend_class(ANY)(CONFIG)
    state = backend.restore(checkpoint.load_newest(run).tensors)
    images = backend.sample(state, Inputs(sample_latents(0, 70, CONFIG.networks.latent_size)))
    assert images.std() > 20, "images too dark or uniform to distinguish two generators"
    return images


def gap(ours: np.ndarray, theirs: np.ndarray) -> int:
    """The largest difference between two sets of uint8 images."""
    assert ours.dtype == theirs.dtype == np.uint8 and ours.shape == theirs.shape
    return int(np.abs(ours.astype(int) - theirs).max())


@pytest.mark.parametrize("name", EACH)
def test_an_archive_holds_images_and_latents_and_follows_the_newest_checkpoint(run, expected, tmp_path, name):
    images = arrays(MAINS[name], run, tmp_path / "s.npz", "--num-images", "70")
    assert gap(images, expected) <= 1  # one grey level between the backends
    with np.load(tmp_path / "s.npz") as archive:
        np.testing.assert_array_equal(archive["latents"], sample_latents(0, 70, CONFIG.networks.latent_size))
        assert set(archive) == {"images", "latents"}


@pytest.mark.parametrize("name", EACH)
def test_either_backend_samples_from_a_checkpoint_folder_too(run, tmp_path, name):
    main, few = MAINS[name], ("--num-images", "3")
    newest = arrays(main, run, tmp_path / "a.npz", *few)
    first, second = (arrays(main, run / "checkpoints" / f"step-000000{i}", tmp_path / f"{i}.npz", *few) for i in (1, 2))
    np.testing.assert_array_equal(second, newest)
    assert gap(first, second) > 10


@pytest.mark.parametrize("name", EACH)
def test_the_folder_of_a_generator_is_enough(run, conditional, tmp_path, name):
    main, few = MAINS[name], ("--num-images", "3")
    for network, options in (("generator_ema", ()), ("generator", ("--no-ema",))):
        folder = shutil.copytree(run / "checkpoints" / "step-0000002" / network, tmp_path / network)
        alone = arrays(main, folder, tmp_path / f"{network}.npz", *few)
        np.testing.assert_array_equal(alone, arrays(main, run, tmp_path / "run.npz", *few, *options))
    folder = shutil.copytree(conditional / "checkpoints" / "step-0000001" / "generator_ema", tmp_path / "labels")
    for classes in ((), ("--classes", "2", "0")):
        alone = arrays(main, folder, tmp_path / "labels.npz", *few, *classes)
        np.testing.assert_array_equal(alone, arrays(main, conditional, tmp_path / "run.npz", *few, *classes))


def test_a_folder_of_no_generator_is_refused(capsys, run, tmp_path):
    newest = run / "checkpoints" / "step-0000002"
    argv = ["--device", "cpu", "--out", str(tmp_path / "x.png")]

    def copied(part: str = "generator_ema", **changes: object) -> Path:
        folder = shutil.copytree(newest / part, tmp_path / "copy")
        values = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(values))
        return folder

    def message(folder: Path) -> str:
        text = refused(capsys, [str(folder), *argv])
        shutil.rmtree(folder)
        return text.removeprefix(f"{folder}/")

    expected = "config.json: found role 'discriminator', expected a generator; choices: generator, generator_ema"
    assert message(copied("discriminator")) == expected
    assert message(copied(network="lapgan")).startswith("config.json: found a generator of a pyramid level, expected a")
    assert message(copied(network="vgg")).startswith("config.json: generator: found 'vgg'")
    assert message(copied(width="wide")).startswith("config.json: width: found 'wide'")
    assert message(copied(colour="red")).startswith("config.json: unknown options: colour")
    folder = copied()
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({name: values[name] for name in values if name != "precision"}))
    assert (
        message(folder) == "config.json: found no whole configuration, expected what a checkpoint says of its generator"
    )
    folder = copied(width=0.125)  # another than that of the weights
    assert "tensors" in message(folder)
    folder = copied()
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1])
    assert message(folder).startswith("model.safetensors: found no readable safetensors file (another length than its")
    folder = copied()
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(newest / "generator" / "model.safetensors")
    assert message(folder) == "model.safetensors: found a link, expected a file"


@pytest.mark.parametrize("name", EACH)
def test_the_averaged_generator_makes_the_images_unless_it_is_switched_off(run, expected, tmp_path, name):
    images = arrays(MAINS[name], run, tmp_path / "s.npz", "--num-images", "3", "--no-ema")
    assert gap(images, expected[:3]) > 10
    backend = backend_class(name)(CONFIG)
    state = backend.restore(checkpoint.load_newest(run).tensors)
    own = backend.sample(state, Inputs(sample_latents(0, 3, CONFIG.networks.latent_size)), ema=False)
    assert gap(images, own) <= 1


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("count", [1, BATCH, BATCH + 1])
def test_an_image_does_not_depend_on_how_many_are_asked_for(run, tmp_path, name, count):
    many = arrays(MAINS[name], run, tmp_path / "many.npz", "--num-images", str(BATCH + 6))
    few = arrays(MAINS[name], run, tmp_path / "few.npz", "--num-images", str(count))
    np.testing.assert_array_equal(few, many[:count])


def test_another_seed_gives_other_images_and_the_same_seed_the_same(run, tmp_path):
    made = [
        arrays(main, run, tmp_path / f"{i}.npz", "--num-images", "4", "--seed", seed)
        for i, seed in enumerate(("3", "3", "4"))
    ]
    np.testing.assert_array_equal(made[0], made[1])
    assert all(gap(made[0][i], made[2][j]) > 0 for i in range(4) for j in range(4))


def test_a_png_is_a_grid_of_the_images(run, expected, tmp_path):
    sample(main, run, tmp_path / "grid.PNG", "--num-images", "5")
    with Image.open(tmp_path / "grid.PNG") as picture:
        assert picture.format == "PNG"
    sheet = read(tmp_path / "grid.PNG")
    assert sheet.shape == (2 * 18 + 2, 3 * 18 + 2, 3)
    for i, (row, column) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]):
        tile = sheet[2 + 18 * row : 18 + 18 * row, 2 + 18 * column : 18 + 18 * column]
        np.testing.assert_array_equal(tile, expected[i])


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_gets_one_png_per_image_in_order(run, expected, tmp_path, exists):
    folder = tmp_path / "out" / "pictures"
    if exists:
        folder.mkdir(parents=True)
    sample(main, run, folder, "--num-images", str(BATCH + 2))
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [f"{i:04d}.png" for i in range(BATCH + 2)]
    for file, image in zip(files, expected, strict=False):
        np.testing.assert_array_equal(read(file), image)


def test_the_current_folder_may_be_the_empty_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sample(main, run, Path("."), "--num-images", "2")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0000.png", "0001.png"]


def test_a_gif_plays_forever_through_as_many_frames_as_asked_for(run, tmp_path):
    sample(main, run, tmp_path / "walk.gif", "--num-images", "20")
    with Image.open(tmp_path / "walk.gif") as picture:
        assert isinstance(picture, GifImageFile)
        assert (picture.format, picture.n_frames, picture.info["loop"]) == ("GIF", 20, 0)
        assert picture.size == (4 * 18 + 2, 4 * 18 + 2)
        frames = []
        for i in range(20):
            picture.seek(i)
            frames.append(np.asarray(picture.convert("RGB")).astype(float))
    steps = [np.abs(a - b).mean() for a, b in zip(frames, frames[1:] + frames[:1], strict=True)]
    assert min(steps) > 0


@pytest.mark.parametrize("name", EACH)
def test_listed_seeds_give_one_image_each_and_its_file_is_called_by_it(run, tmp_path, name):
    first = {
        seed: arrays(MAINS[name], run, tmp_path / f"{seed}.npz", "--seed", seed, "--num-images", "1") for seed in "573"
    }
    listed = arrays(MAINS[name], run, tmp_path / "listed.npz", "--seeds", "5", "7", "3-3")
    np.testing.assert_array_equal(listed, np.concatenate([first[seed] for seed in "573"]))
    with np.load(tmp_path / "listed.npz") as archive:
        assert archive["seeds"].tolist() == [5, 7, 3]
    sample(MAINS[name], run, tmp_path / "single", "--seeds", "5", "12345", "3-4")
    names = ["seed00003.png", "seed00004.png", "seed00005.png", "seed12345.png"]
    assert sorted(file.name for file in (tmp_path / "single").iterdir()) == names
    np.testing.assert_array_equal(read(tmp_path / "single" / "seed00005.png"), listed[0])


@pytest.mark.parametrize("name", EACH)
def test_a_lower_truncation_brings_images_nearer_to_each_other(run, tmp_path, name):
    spread = []
    for limit in ("0.1", "1", "1e9"):
        images = arrays(MAINS[name], run, tmp_path / f"{limit}.npz", "--num-images", "40", "--truncation", limit)
        spread.append(images.astype(float).std(0).mean())
    assert spread[0] < spread[1] / 3 and spread[1] < spread[2]
    whole = arrays(MAINS[name], run, tmp_path / "whole.npz", "--num-images", "40")
    assert gap(images, whole) <= 1  # latents that differ in the last bit of float32


def test_a_walk_between_seeds_is_a_film_of_one_image(run, tmp_path):
    sample(main, run, tmp_path / "walk.gif", "--seeds", "1", "2")
    with Image.open(tmp_path / "walk.gif") as picture:
        assert isinstance(picture, GifImageFile)
        assert picture.n_frames == 2 * FRAMES_PER_LATENT and picture.size == (20, 20)
        start = np.asarray(picture.convert("RGB"))[2:18, 2:18]
    (first,) = arrays(main, run, tmp_path / "1.npz", "--seeds", "1")
    assert np.abs(start.astype(int) - first).mean() < 8  # of a palette of 256 colours


@pytest.mark.parametrize("channels", [1, 3])
def test_a_film_holds_the_frames_enlarged(tmp_path, channels):
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="the extra video is not installed")
    blocks = np.random.default_rng(0).integers(0, 256, (7, 9, 11, channels), np.uint8)
    pictures.save_mp4(tmp_path / "film.mp4", iter(blocks))
    decode = [ffmpeg.get_ffmpeg_exe(), "-i", str(tmp_path / "film.mp4"), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    decoded = subprocess.run(decode, capture_output=True, check=True)
    factor = pictures.FILM_HEIGHT // 9
    width, height = 11 * factor + 11 * factor % 2, 9 * factor + 9 * factor % 2
    about = decoded.stderr.decode()
    assert "Video: h264" in about and f"{width}x{height}" in about and "16.67 fps" in about
    frames = np.frombuffer(decoded.stdout, np.uint8).reshape(7, height, width, 3)
    middles = frames[:, factor // 2 :: factor, factor // 2 :: factor][:, :9, :11]
    grey = middles.astype(float).mean(3) if channels == 1 else middles.astype(float)
    expected = blocks[..., 0] if channels == 1 else blocks
    assert np.abs(grey - expected).mean() < 12  # of 255: the codec loses a little, and most of colours


def test_a_film_without_its_package_and_seeds_that_do_not_fit_are_refused(capsys, run, tmp_path, monkeypatch):
    argv = [str(run), "--device", "cpu", "--out", str(tmp_path / "a.gif")]
    assert refused(capsys, [*argv, "--seeds", "4"]) == "seeds: found 4, expected two or more to walk between"
    argv[-1] = str(tmp_path / "folder")
    expected = "seeds: found 4 twice, expected each once, as single pictures are called by their seeds"
    assert refused(capsys, [*argv, "--seeds", "4", "3-5"]) == expected
    walk = [*argv[:-1], str(tmp_path / "a.gif"), "--seeds", "3-5"]
    expected = "num_images: found 2, expected at least the 3 seeds, as each is a frame"
    assert refused(capsys, [*walk, "--num-images", "2"]) == expected
    expected = "classes: found 0 1, expected one, which every image of a walk between seeds has"
    assert refused(capsys, [*walk, "--classes", "0", "1"]) == expected
    expected = "num_images: found 5, expected 3 as there are seeds, or none"
    assert refused(capsys, [*argv, "--seeds", "3-5", "--num-images", "5"]) == expected
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    argv[-1] = str(tmp_path / "a.mp4")
    expected = "out: found a.mp4 without imageio-ffmpeg, expected it installed: pip install -e '.[video]'"
    assert refused(capsys, argv) == expected
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def conditional(tmp_path_factory) -> Path:
    """A run whose generator, and whose average, make other images of each of three classes."""
    config = CONFIG.with_options(channels=1, class_conditional=True, num_classes=3)
    backend = backend_class(ANY)(config)
    tensors, numbers = backend.export(backend.init()), np.random.default_rng(0)
    for name, value in tensors.items():
        if name.startswith("generator") and value.ndim and "running" not in name:
            tensors[name] = value + numbers.normal(0, 0.5, value.shape).astype(np.float32)
    folder = tmp_path_factory.mktemp("conditional")
    checkpoint.save(folder, config, tensors | {"trainer/step": np.array(1)}, {}, {"name": "none", "fingerprint": "0"})
    return folder


@pytest.mark.parametrize("name", EACH)
def test_classes_are_made_in_turn_and_are_the_labels_of_the_archive(conditional, tmp_path, name):
    made, labels = {}, {}
    for kind, options in {"all": (), "ones": ("1",), "two": ("2", "0")}.items():
        file = tmp_path / f"{kind}.npz"
        made[kind] = arrays(
            MAINS[name], conditional, file, "--num-images", "5", *(("--classes", *options) * bool(options))
        )
        with np.load(file) as archive:
            assert set(archive) == {"images", "latents", "labels"}
            labels[kind] = archive["labels"].tolist()
    assert labels == {"all": [0, 1, 2, 0, 1], "ones": [1] * 5, "two": [2, 0, 2, 0, 2]}
    for kind in ("ones", "two"):
        for i in range(5):
            same = labels[kind][i] == labels["all"][i]
            assert (gap(made[kind][i], made["all"][i]) == 0) == same
    assert gap(made["all"], read_images(conditional, labels["all"])) <= 1


def read_images(run: Path, labels: list[int]) -> np.ndarray:
    """The images of seed 0 that a backend makes of these classes, without the sampler."""
    loaded = checkpoint.load_newest(run)
    backend = backend_class(ANY)(loaded.config)
    latents = sample_latents(0, len(labels), CONFIG.networks.latent_size)
    return backend.sample(backend.restore(loaded.tensors), Inputs(latents, np.array(labels)))


def test_a_walk_of_a_conditional_generator_keeps_each_picture_to_its_class(conditional, tmp_path):
    for kind, classes in (("all", ()), ("turn", ("--classes", "0", "1", "2")), ("one", ("--classes", "1"))):
        sample(main, conditional, tmp_path / f"{kind}.gif", "--num-images", "2", *classes)
    walks = {kind: (tmp_path / f"{kind}.gif").read_bytes() for kind in ("all", "turn", "one")}
    assert walks["all"] == walks["turn"] != walks["one"]


def test_classes_that_the_generator_does_not_have_are_refused(capsys, run, conditional, tmp_path):
    argv = ["--out", str(tmp_path / "x.png"), "--device", "cpu", "--classes", "0", "3"]
    assert refused(capsys, [str(conditional), *argv]) == "classes: found 0 3, expected numbers from 0 to 2"
    for classes in (["0", "3"], ["cat"]):
        expected = f"classes: found {' '.join(classes)}, expected none, as the generator is not class-conditional"
        assert refused(capsys, [str(run), *argv[:-2], *classes]) == expected
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def named(tmp_path_factory) -> Path:
    """A run of one step on pictures in folders whose names are numbers."""
    folder = tmp_path_factory.mktemp("named")
    for name in ("1", "2", "10"):
        (folder / "pictures" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (16, 16), 20 * i).save(folder / "pictures" / name / f"{i}.png")
    options = ["--width", "0.0625", "--resolution", "16", "--batch-size", "4", "--device", "cpu", "--steps", "1"]
    arguments = ["--data", str(folder / "pictures"), "--class-conditional", *options]
    assert TRAIN_MAINS[ANY](["dcgan", *arguments, "--run-dir", str(folder / "run")]) == 0
    return folder / "run"


@pytest.mark.parametrize("name", EACH)
def test_classes_go_by_the_names_of_their_folders(capsys, named, tmp_path, name):
    assert checkpoint.load_newest(named).class_names == ("1", "2", "10")
    labels = {}
    for classes in (("10", "1"), ("0",)):  # a name before a number: folder 10 is class 2, and there is no folder 0
        file = tmp_path / f"{classes[0]}.npz"
        arrays(MAINS[name], named, file, "--num-images", "4", "--classes", *classes)
        with np.load(file) as archive:
            labels[classes] = archive["labels"].tolist()
    assert labels == {("10", "1"): [2, 0, 2, 0], ("0",): [0] * 4}
    argv = [str(named), "--out", str(tmp_path / "x.png"), "--device", "cpu", "--classes"]
    expected = "classes: found 'cat', expected the name or the number of a class; choices: 1, 2, 10"
    assert refused(capsys, [*argv, "cat"]) == expected
    assert refused(capsys, [*argv, "7"]) == "classes: found 7, expected numbers from 0 to 2; choices: 1, 2, 10"


def test_classes_that_the_data_has_no_name_for_go_by_their_numbers(named, tmp_path):
    options = ["--width", "0.0625", "--resolution", "16", "--batch-size", "4", "--device", "cpu", "--steps", "1"]
    begin = ["dcgan", "--data", str(named.parent / "pictures"), "--class-conditional", "--num-classes", "5", *options]
    assert TRAIN_MAINS[ANY]([*begin, "--run-dir", str(tmp_path / "run")]) == 0
    assert checkpoint.load_newest(tmp_path / "run").class_names == ("1", "2", "10", "3", "4")
    assert class_numbers(("3", "4", "1"), ("3", "4", "2", "3")) == (0, 1, 1)  # the folder that is called 3
    sample(main, tmp_path / "run", tmp_path / "a.png")


def test_a_grid_of_a_conditional_run_names_its_classes(named, tmp_path):
    sample(main, named, tmp_path / "a.png", "--num-images", "9", "--classes", "10", "1")
    sample(main, named, tmp_path / "a.npz", "--num-images", "9", "--classes", "10", "1")
    with np.load(tmp_path / "a.npz") as archive:
        expected = pictures.captioned(pictures.grid(archive["images"]), "in turn: 10, 1")
    np.testing.assert_array_equal(read(tmp_path / "a.png").reshape(expected.shape), expected)
    sheet = read(named / "samples" / "step-0000001.png")
    assert sheet.shape[0] > 8 * 18 + 2  # the caption is above the eight rows


@pytest.mark.parametrize("kind", ["folder", "suffixed.v1"])
def test_a_folder_that_is_not_empty_is_refused_and_left_alone(capsys, run, tmp_path, kind):
    folder = tmp_path / kind
    folder.mkdir()
    (folder / "mine").write_text("mine")
    message = refused(capsys, [str(run), "--out", str(folder)])
    assert message.startswith(f"out: found {folder}, which is not empty")
    assert [file.name for file in folder.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("x.jpeg", ["out: found .jpeg", "choices: .png, .npz, .gif, .mp4, a folder"]),
        ("x.tar.gz", ["out: found .gz"]),
        ("file", ["out: found", "which is not empty"]),
        ("folder.png", ["out: found the folder", "expected a file name"]),
        ("file/x.png", ["out: found ", "file/x.png, below the file ", "expected a place in a folder"]),
        ("file/folder", ["out: found ", "file/folder, below the file "]),
        (".PNG", ["out: found ", "expected a name before .PNG"]),
        ("n" * 300 + ".png", ["n.png: ", "name too long"]),
    ],
)
def test_an_output_that_cannot_be_written_is_refused(capsys, run, tmp_path, out, words):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.png").mkdir()
    message = refused(capsys, [str(run), "--out", str(tmp_path / out), "--num-images", "1"])
    for word in words:
        assert word in message
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder.png"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--num-images", "0"], "num_images: found 0, expected a number from 1 to 10000000"),
        (["--num-images", "-3"], "num_images: found -3, expected a number from 1 to 10000000"),
        (["--seed", "-1"], "seed: found -1"),
        (["--device", "tpu"], "device: found 'tpu'"),
    ],
)
def test_a_wrong_value_is_refused_and_nothing_written(capsys, run, tmp_path, argv, words):
    assert refused(capsys, [str(run), "--out", str(tmp_path / "x.png"), *argv]).startswith(words)
    assert not list(tmp_path.iterdir())


def test_a_source_that_is_no_run_is_refused(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    out = str(tmp_path / "x.png")
    assert "found no such folder" in refused(capsys, [str(tmp_path / "none"), "--out", out])
    assert "found no checkpoint" in refused(capsys, [str(tmp_path / "empty"), "--out", out])
    assert "step-0000009" in refused(capsys, [str(tmp_path / "step-0000009"), "--out", out])
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.torch
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("count", "columns", "gap"), [(1, 1, 2), (7, 3, 2), (8, 8, 0), (9, 3, 5), (4, 10, 1)])
def test_a_grid_is_torchvisions_pixel_for_pixel(channels, count, columns, gap):
    import torch

    make_grid = pytest.importorskip("torchvision.utils").make_grid

    images = np.random.default_rng(0).integers(0, 256, (count, 5, 7, channels), np.uint8)
    # torchvision makes three channels of one, and pads a single row only as far as it is filled.
    shown = min(columns, count)
    ours = pictures.grid(images, shown, gap)
    as_tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    theirs = make_grid(as_tensor, nrow=shown, padding=gap, pad_value=128).permute(1, 2, 0).numpy()
    if count == 1:  # of one image torchvision makes no grid
        theirs = np.pad(theirs, ((gap, gap), (gap, gap), (0, 0)), constant_values=128)
    np.testing.assert_array_equal(np.broadcast_to(ours, theirs.shape), theirs)
    assert ours.shape[2] == channels


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (5, 3), (64, 8), (65, 9)])
def test_a_grid_is_about_square_where_no_columns_are_given(count, columns):
    sheet = pictures.grid(np.zeros((count, 3, 3, 1), np.uint8))
    assert sheet.shape[1] == columns * 5 + 2 and sheet.shape[0] == -(-count // columns) * 5 + 2
