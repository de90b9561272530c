"""The locator names the module that is at fault, and nothing where nothing is."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen
from torch import nn

import gan_jax.convolution
import gan_jax.layers
import gan_jax.losses
from gan_shared import checkpoint
from gan_shared.errors import UserError
from parity_tests import locate, pair
from parity_tests.pair import SMALL

ROOT = Path(__file__).resolve().parents[1]


def wrong_slope(monkeypatch):
    monkeypatch.setitem(gan_jax.layers.ACTIVATIONS, "leaky_relu", lambda x: gan_jax.layers.leaky_relu(x, 0.21))


def wrong_epsilon(monkeypatch):
    normalize: Any = gan_jax.layers._normalize
    monkeypatch.setattr(gan_jax.layers, "_normalize", lambda *values: normalize(*values[:-1], 1e-4))


def wrong_momentum(monkeypatch):
    blend = gan_jax.layers._blend
    monkeypatch.setattr(gan_jax.layers, "_blend", lambda old, new, momentum: blend(old, new, 1 - momentum))


def wrong_derivative(monkeypatch):
    convolution: Any = gan_jax.convolution._strided

    def turned(stride, padding, saved, gradient, right=convolution.bwd):
        for_input, for_kernel = right(stride, padding, saved, gradient)
        return for_input[:, ::-1], for_kernel

    monkeypatch.setattr(convolution, "bwd", turned)


def wrong_loss(monkeypatch):
    loss = gan_jax.losses.LOSSES["bce"]
    monkeypatch.setitem(gan_jax.losses.LOSSES, "bce", loss._replace(generator=lambda real, fake: -fake))


FAULTS = {
    wrong_slope: ("input/discriminator.0/stages.0", "discriminator/", "Discriminator"),
    wrong_epsilon: ("forward/generator.0/stem.norm", "generator/stem.norm", "BatchNorm"),
    wrong_momentum: ("state/generator/stem.norm.running_mean", "generator/stem.norm", "BatchNorm"),
    wrong_derivative: ("returned/discriminator.1.0/head", "discriminator/head", "Conv"),
    wrong_loss: ("backward/discriminator.2.0/", "", ""),
}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_fault_in_a_network_or_a_loss_is_named(monkeypatch, plant):
    plant(monkeypatch)
    found = locate.locate_in_preset(replace(SMALL, seed=3))
    assert found is not None and (found.key, found.module, found.kind) == FAULTS[plant], found
    assert found.ratio > 1e6
    text = locate.report(found, "dcgan")
    assert found.key in text and "times rounding" in text


def test_momentum_is_suspected(monkeypatch):
    wrong_momentum(monkeypatch)
    found = locate.locate_in_preset(replace(SMALL, seed=3))
    assert found is not None and "momentum of batch normalisation" in [trap.name for trap in found.traps]


def test_nothing_is_named_where_nothing_is_wrong():
    assert locate.locate_in_preset(SMALL) is None
    assert "no value differs" in locate.report(None, "dcgan")


def test_not_a_number_is_named_whatever_comes_later():
    good: dict[str, Any] = {"forward/a.0/x": np.ones(3), "forward/a.0/y": np.ones(3)}
    found = locate.compare(good, good | {"forward/a.0/y": np.array([1.0, np.nan, 1.0])}, {"a/y": "Conv"})
    assert found is not None and (found.key, found.module, found.position) == ("forward/a.0/y", "a/y", 1)
    assert found.error == found.ratio == float("inf")


def test_infinity_hides_nothing():
    good: dict[str, Any] = {"forward/a.0/x": np.ones(3), "forward/a.0/y": np.array([1.0, np.inf, 1.0])}
    for other in (np.ones(3), np.full(3, np.nan)):
        found = locate.compare(good, good | {"forward/a.0/y": other}, {})
        assert found is not None and found.key == "forward/a.0/y" and found.ratio == np.inf
    later = good | {"forward/a.0/z": np.ones(3)}
    found = locate.compare(later, later | {"forward/a.0/x": np.array([1.0, 1.0, 1.1])}, {})
    assert found is not None and found.key == "forward/a.0/x"


def test_a_tensor_that_one_side_lacks_is_a_difference_and_a_module_is_none():
    both: dict[str, Any] = {"forward/a.0/": np.ones(3), "state/a/x.weight": np.ones(3)}
    assert locate.compare(both | {"forward/a.0/relu": np.ones(3)}, both, {}) is None
    more = both | {"state/a/y.weight": np.ones(2)}
    for theirs, ours in ((more, both), (both, more)):
        found = locate.compare(theirs, ours, {})
        assert found is not None and (found.key, found.module) == ("state/a/y.weight", "a/y")
        assert "one side has no such tensor" in locate.report(found, "x")


def test_counters_and_other_moments_are_no_scale():
    name = "state/optimizer/generator.state.w"
    theirs = {f"{name}.step": np.float32(50_000), f"{name}.exp_avg": np.ones(2), f"{name}.exp_avg_sq": np.full(2, 1e-9)}
    theirs = {key: np.asarray(value) for key, value in theirs.items()}
    found = locate.compare(theirs, theirs | {f"{name}.exp_avg_sq": np.full(2, 1.00005e-9)}, {})
    assert found is not None and found.key == f"{name}.exp_avg_sq"


def test_float32_has_the_rounding_of_float32():
    value = {"state/a/w": np.ones(3, np.float32)}
    for factor, differs in ((1 + 1e-6, False), (1 + 1e-4, True)):
        other = {"state/a/w": value["state/a/w"] * np.float32(factor)}
        assert (locate.compare(value, other, {}) is not None) == differs


class Original(nn.Module):
    """A layer that trains and one that does not."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 5), nn.Tanh())
        self.head = nn.Linear(5, 2)
        self.head.requires_grad_(False)

    def forward(self, x):
        return self.head(self.body(x))


class Body(linen.Module):
    @linen.compact
    def __call__(self, x):
        return jnp.tanh(linen.Dense(5, name="0")(x))


class Port(linen.Module):
    """With setup, and at Flax's default type of parameters."""

    head_name: str = "head"
    twice: bool = False

    def setup(self):
        self.body = Body()
        setattr(self, self.head_name, linen.Dense(2))

    def prepared(self, x):
        return self.body(x) * (2 if self.twice else 1)

    def __call__(self, x):
        return getattr(self, self.head_name)(self.prepared(x))


def test_a_port_with_setup_of_a_module_that_is_left_as_it_was():
    original, x = Original(), np.random.default_rng(0).standard_normal((3, 4))
    assert locate.locate(original, Port(), x) is None
    assert original.head.weight.dtype == torch.float32
    found = locate.locate(original, Port(twice=True), x)
    assert found is not None and (found.key, found.module, found.kind) == ("input/module.0/head", "module/", "Original")


def test_the_path_in_flax_is_its_own():
    original, x = Original(), np.random.default_rng(0).standard_normal((3, 4))
    tensors = {name: value.double().numpy() for name, value in Original().state_dict().items()}
    variables = locate.ported(Port(), jnp.asarray(x), tensors, {})
    found = locate.locate(original, Port(), x, variables)
    assert found is not None and (found.module, found.flax) == ("module/body.0", "module/body/0")
    assert "in Flax      module/body/0" in locate.report(found, "x")


def test_a_port_without_one_name_of_the_original_is_refused():
    original, x = Original(), np.random.default_rng(0).standard_normal((3, 4))
    variables = Port(head_name="last").init(jax.random.key(0), jnp.asarray(x))
    found = locate.locate(original, Port(head_name="last"), x, variables)
    assert found is not None and "on one side" in locate.report(found, "x")

    class Other(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(2, name="another")(x)

    with pytest.raises(UserError, match="modules of the port: found module/another, expected names of torch's"):
        locate.locate(original, Other(), x, Other().init(jax.random.key(0), jnp.asarray(x)))


def test_rounding_is_no_difference_and_more_is():
    value = {"gradient/a.0/w": np.array([1.0, 2.0])}
    for factor, differs in ((1 + 0.9e-11, False), (1 + 3e-11, True)):
        assert (locate.compare(value, {"gradient/a.0/w": value["gradient/a.0/w"] * factor}, {}) is not None) == differs


def test_the_worked_example_finds_one_mistake_after_the_other():
    done = subprocess.run([sys.executable, "examples/locate_a_port.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    parts = done.stdout.strip().split("\n\n")
    assert [part.split(" is ")[1].split("\n")[0] for part in parts] == [
        "forward/module.0/stem",
        "input/module.0/head",
        "state/module/norm.running_var",
    ]
    assert "padding of a strided convolution" in parts[0]
    assert "flattening before a matrix" in parts[1]
    assert "variance that batch normalisation keeps" in parts[2]


def test_checkpoints_of_two_runs(tmp_path, capsys):
    tensors = pair.backend("torch", SMALL).export(pair.backend("torch", SMALL).init())
    other = {**tensors, "generator/image.weight": tensors["generator/image.weight"] + 1e-6}
    for name, state in (("a", tensors), ("b", other)):
        checkpoint.save(tmp_path / name, SMALL, state, {"backend": "torch"}, {"name": "n", "fingerprint": "f"})
    both = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert locate.main(both) == 1
    assert "state/generator/image.weight" in capsys.readouterr().out
    assert locate.main([both[0], both[0]]) == 0
    assert locate.main(["gan9000"]) == 2
    assert "what: found gan9000, expected a preset, or two folders" in capsys.readouterr().err
