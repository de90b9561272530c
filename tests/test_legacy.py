"""Runs and checkpoints of older formats are read, and old names are answered with the new ones.

``data/format-4`` holds runs that version 4 wrote: ``python -m gan_torch.train`` of that version, two steps each in
float64, with networks of a few channels. ``data/format-5`` and ``data/format-6`` hold one of those versions.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from gan_shared import checkpoint, cli, lapgan
from gan_shared.errors import UserError
from gan_shared.manifest import FORMAT_VERSION, read_config
from gan_shared.presets import PRESETS

FORMAT_4 = Path(__file__).parent / "data" / "format-4"
FORMAT_5, FORMAT_6, FORMAT_7, FORMAT_8 = (FORMAT_4.with_name(f"format-{version}") for version in (5, 6, 7, 8))
LATER = (FORMAT_5 / "rules", FORMAT_6 / "rules", FORMAT_7 / "rules", FORMAT_8 / "rules")
RUNS = ("rules", "vgg", "pyramid/level-8", "pyramid/level-16")


def short(run: Path) -> str:
    """Return format and name of a run."""
    return f"{run.parent.name}-{run.name}"


@pytest.fixture
def old(tmp_path):
    """A copy of the runs of version 4 that may be written to."""
    return Path(shutil.copytree(FORMAT_4, tmp_path / "runs"))


@pytest.mark.parametrize(
    "run",
    [*(FORMAT_4 / run for run in RUNS), *LATER],
    ids=lambda run: f"{run.parent.name}-{run.name}",
)
def test_every_tensor_of_an_old_checkpoint_is_read(run):
    folder = run / "checkpoints" / "step-0000002"
    tensors = checkpoint.load(folder).tensors
    for network in ("generator", "discriminator", "generator_ema"):
        held = load_file(folder / network / "model.safetensors")
        assert all(np.array_equal(tensors[f"{network}/{name}"], value) for name, value in held.items())
    held = load_file(folder / ("game.safetensors" if FORMAT_4 in run.parents else "trainer.safetensors"))
    assert {name for name in tensors if name.startswith("trainer/")} == {f"trainer/{name}" for name in held}
    assert tensors["trainer/step"] == 2


@pytest.mark.parametrize("run", RUNS)
def test_old_options_have_their_new_names_in_run_and_checkpoint(run):
    config = read_config(FORMAT_4 / run)
    saved = checkpoint.load_newest(FORMAT_4 / run).config
    assert saved.generator_optimizer == config.generator_optimizer
    before = json.loads((FORMAT_4 / run / "config.json").read_text())
    values = config.to_json()
    assert values["class_conditional"] == before["conditional"] and values["pyramid_levels"] == before["levels"]
    for name in before.keys() & values.keys() - {"preset", "generator"}:
        if "beta" not in name:
            assert values[name] == before[name], name


def test_each_rule_has_its_own_hyperparameters():
    config = read_config(FORMAT_4 / "rules")
    rmsprop, sgd = config.generator_optimizer, config.discriminator_optimizer
    assert (rmsprop.optimizer, rmsprop.momentum, rmsprop.alpha, rmsprop.weight_decay) == ("rmsprop", 0.5, 0.9, 0.01)
    assert (sgd.optimizer, sgd.momentum, sgd.weight_decay) == ("sgd", 0.25, 0.01)
    assert rmsprop.beta1 is rmsprop.beta2 is sgd.beta1 is sgd.beta2 is sgd.alpha is None
    assert config.data.class_conditional and config.num_classes == 10


def test_presets_and_families_have_their_new_names():
    vgg, level = read_config(FORMAT_4 / "vgg"), read_config(FORMAT_4 / "pyramid" / "level-16")
    assert (vgg.preset, vgg.networks.generator) == ("vgg-inversion", "vgg-decoder")
    assert (level.preset, level.image_condition.pyramid_levels) == ("lapgan", (8, 16))
    assert {vgg.preset, level.preset} <= PRESETS.keys()


def test_a_run_of_version_5_held_nothing_out():
    before = json.loads((FORMAT_5 / "rules" / "config.json").read_text())
    assert before.pop("format_version") == 5 and "holdout" not in before
    for config in (read_config(FORMAT_5 / "rules"), checkpoint.load_newest(FORMAT_5 / "rules").config):
        assert config.to_json() | before | {"holdout": 0.0} == config.to_json()


def test_a_run_of_version_7_had_batches_of_one_size():
    before = json.loads((FORMAT_7 / "rules" / "config.json").read_text())
    assert before.pop("format_version") == 7 and "earlier_batch_sizes" not in before
    for config in (read_config(FORMAT_7 / "rules"), checkpoint.load_newest(FORMAT_7 / "rules").config):
        assert config.to_json() == before | {"earlier_batch_sizes": [], "penalty_every": 1}


def test_a_run_of_version_8_had_penalties_in_every_step():
    before = json.loads((FORMAT_8 / "rules" / "config.json").read_text())
    assert before.pop("format_version") == 8 and "penalty_every" not in before
    for config in (read_config(FORMAT_8 / "rules"), checkpoint.load_newest(FORMAT_8 / "rules").config):
        assert config.to_json() == before | {"penalty_every": 1}


@pytest.mark.parametrize("framework", ["gan_torch", "gan_jax"])
@pytest.mark.parametrize(
    "run",
    [FORMAT_4 / "rules", FORMAT_4 / "vgg", *LATER],
    ids=lambda run: f"{run.parent.name}-{run.name}",
)
def test_an_old_run_is_resumed_and_then_of_the_new_format(tmp_path, run, framework):
    train = pytest.importorskip(f"{framework}.train")
    run = Path(shutil.copytree(run, tmp_path / "run"))
    arguments = ["--resume", "--run-dir", str(run), "--steps", "3", "--log-every", "1"]
    assert train.main(arguments) == 0
    assert json.loads((run / "config.json").read_text())["format_version"] == FORMAT_VERSION
    newest = run / "checkpoints" / "step-0000003"
    assert json.loads((newest / "manifest.json").read_text())["format_version"] == FORMAT_VERSION
    assert (newest / "trainer.safetensors").is_file() and checkpoint.load(newest).step == 3
    steps = [json.loads(line)["step"] for line in (run / "scalars.jsonl").read_text().splitlines()]
    assert steps[-2:] == [2, 3]


def test_an_old_lapgan_is_read_and_goes_on(old, tmp_path):
    sample, train = (pytest.importorskip(f"gan_torch.{name}") for name in ("sample", "train"))
    assert [each.config.data.resolution for each in lapgan.load(old / "pyramid")] == [8, 16]
    assert sample.main([str(old / "pyramid"), "--num-images", "2", "--out", str(tmp_path / "made.npz")]) == 0
    assert np.load(tmp_path / "made.npz")["images"].shape == (2, 16, 16, 1)
    assert train.main(["--resume", "--run-dir", str(old / "pyramid" / "level-8"), "--steps", "3"]) == 0
    assert json.loads((old / "pyramid" / "lapgan.json").read_text())["pyramid_levels"] == [8, 16]
    assert not (old / "pyramid" / "pyramid.json").exists()
    assert [each.step for each in lapgan.load(old / "pyramid")] == [3, 2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--conditional"], "--conditional: found an option that was renamed, expected --class-conditional"),
        (["--no-conditional"], "--no-conditional: found an option that was renamed, expected --class-conditional"),
        (["--classes=3"], "--classes: found an option that was renamed, expected --num-classes"),
        (["--levels", "8", "16"], "expected --pyramid-levels"),
        (["--weight_decay", "0.1"], "expected --generator-weight-decay and --discriminator-weight-decay"),
        (["vgg16"], "preset: found 'vgg16', which was renamed, expected 'vgg-inversion'"),
        (["pyramid", "--steps", "3"], "preset: found 'pyramid', which was renamed, expected 'lapgan'"),
        (["--discriminator", "vgg16"], "discriminator: found 'vgg16', expected a known name"),
        (["--generator", "vgg16"], "generator: found 'vgg16', which was renamed, expected 'vgg-decoder'"),
    ],
)
def test_an_old_name_that_is_typed_is_answered_with_the_new_one(arguments, words):
    with pytest.raises(UserError) as raised:
        cli.parse_train(arguments)
    assert words in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("missing", ["conditional", "weight_decay", "generator_beta1", "preset"])
def test_an_incomplete_old_configuration_is_refused(old, missing):
    file = old / "rules" / "checkpoints" / "step-0000002" / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["config"][missing]
    file.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"manifest\.json: found no complete configuration of format version 4"):
        checkpoint.load(file.parent)


@pytest.mark.parametrize(
    ("version", "name"),
    [
        *(
            (4, name)
            for name in ("class_conditional", "num_classes", "pyramid_levels", "generator_momentum", "holdout")
        ),
        (5, "holdout"),
    ],
)
def test_old_and_new_names_in_one_configuration_are_refused(tmp_path, version, name):
    values = json.loads((FORMAT_4.with_name(f"format-{version}") / "rules" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {name: None}))
    found = f"{name} beside options of format version {version}, expected the options of one"
    with pytest.raises(UserError, match=found):
        read_config(tmp_path)


@pytest.mark.parametrize("version", [3, 10, "5", None, True])
def test_another_format_is_refused_with_those_that_are_read(old, version):
    file = old / "rules" / "checkpoints" / "step-0000002" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format_version": version}))
    with pytest.raises(UserError, match=r"found format version .*choices: 4, 5, 6, 7, 8, 9$"):
        checkpoint.load(file.parent)
