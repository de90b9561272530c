"""The locator on this project's own backends and checkpoints: it finds a planted fault, and no other."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gan_jax.backend
import gan_jax.convolution
import gan_jax.layers
from gan_parity import locate, runs
from gan_parity.configurations import SMALL
from gan_parity.difference import Context, first_difference
from gan_shared import checkpoint

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
    record = gan_jax.backend.record_step

    def with_another(config, components, *inputs):
        loss = components.loss._replace(generator=lambda real, fake: -fake)
        return record(config, components._replace(loss=loss), *inputs)

    monkeypatch.setattr(gan_jax.backend, "record_step", with_another)


FAULTS = {
    wrong_slope: ("input/discriminator.0/stages.0", "discriminator/", "Discriminator"),
    wrong_epsilon: ("forward/generator.0/stem.norm", "generator/stem.norm", "BatchNorm"),
    wrong_momentum: ("state/generator/stem.norm.running_mean", "generator/stem.norm", "BatchNorm"),
    # The head, whose kernel covers its image, is a matrix product.
    wrong_derivative: ("returned/discriminator.1.0/stages.1.conv", "discriminator/stages.1.conv", "Conv"),
    wrong_loss: ("backward/discriminator.2.0/", "", ""),
}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_fault_in_a_network_or_a_loss_is_found_where_it_is(monkeypatch, plant):
    plant(monkeypatch)
    found = locate.locate_in_preset(SMALL.with_options(seed=3))
    assert found is not None and (found.key, found.module, found.kind) == FAULTS[plant], found
    assert found.ratio > 1e6
    text = locate.report(found, "dcgan")
    assert found.key in text and "times what rounding explains" in text


def test_a_wrong_running_mean_leads_to_the_trap_of_momentum(monkeypatch):
    wrong_momentum(monkeypatch)
    found = locate.locate_in_preset(SMALL.with_options(seed=3))
    assert found is not None and "momentum of batch normalisation" in [trap.name for trap in found.traps]


def test_the_backends_do_not_differ():
    assert locate.locate_in_preset(SMALL) is None
    assert "no value differs" in locate.report(None, "dcgan")


def test_nan_is_a_difference():
    good: dict[str, Any] = {"forward/a.0/x": np.ones(3), "forward/a.0/y": np.ones(3)}
    found = first_difference(good, good | {"forward/a.0/y": np.array([1.0, np.nan, 1.0])}, Context({"a/y": "Conv"}))
    assert found is not None and (found.key, found.module, found.position) == ("forward/a.0/y", "a/y", 1)
    assert found.error == found.ratio == float("inf")


def test_infinity_is_a_difference_and_hides_no_other():
    good: dict[str, Any] = {"forward/a.0/x": np.ones(3), "forward/a.0/y": np.array([1.0, np.inf, 1.0])}
    for other in (np.ones(3), np.full(3, np.nan)):
        found = first_difference(good, good | {"forward/a.0/y": other})
        assert found is not None and found.key == "forward/a.0/y" and found.ratio == np.inf
    later = good | {"forward/a.0/z": np.ones(3)}
    found = first_difference(later, later | {"forward/a.0/x": np.array([1.0, 1.0, 1.1])})
    assert found is not None and found.key == "forward/a.0/x"


def test_a_tensor_on_one_side_is_a_difference_and_a_module_is_none():
    both: dict[str, Any] = {"forward/a.0/": np.ones(3), "state/a/x.weight": np.ones(3)}
    assert first_difference(both | {"forward/a.0/relu": np.ones(3)}, both) is None
    more = both | {"state/a/y.weight": np.ones(2)}
    for theirs, ours in ((more, both), (both, more)):
        found = first_difference(theirs, ours)
        assert found is not None and (found.key, found.module) == ("state/a/y.weight", "a/y")
        assert "one side has no such tensor" in locate.report(found, "x")


def test_the_scale_of_a_value_is_that_of_its_own_kind():
    name = "state/optimizer/generator.state.w"
    theirs = {f"{name}.step": np.float32(50_000), f"{name}.exp_avg": np.ones(2), f"{name}.exp_avg_sq": np.full(2, 1e-9)}
    theirs = {key: np.asarray(value) for key, value in theirs.items()}
    found = first_difference(theirs, theirs | {f"{name}.exp_avg_sq": np.full(2, 1.00005e-9)})
    assert found is not None and found.key == f"{name}.exp_avg_sq"


def test_values_in_float32_are_held_to_the_rounding_of_float32():
    value = {"state/a/w": np.ones(3, np.float32)}
    for factor, differs in ((1 + 1e-6, False), (1 + 1e-4, True)):
        other = {"state/a/w": value["state/a/w"] * np.float32(factor)}
        assert (first_difference(value, other) is not None) == differs


def test_rounding_is_no_difference_and_three_times_as_much_is():
    value = {"gradient/a.0/w": np.array([1.0, 2.0])}
    for factor, differs in ((1 + 0.9e-11, False), (1 + 3e-11, True)):
        assert (first_difference(value, {"gradient/a.0/w": value["gradient/a.0/w"] * factor}) is not None) == differs


def test_the_example_finds_one_mistake_after_the_other():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "examples/locate_a_port.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    parts = done.stdout.strip().split("\n\n")
    assert [part.split(" is ")[1].split("\n")[0] for part in parts] == [
        "forward/module.0/stem",
        "input/module.0/head",
        "state/module/norm.running_var",
    ]
    assert "padding of a convolution" in parts[0] and "spectral" not in parts[0]
    assert "flattening before a matrix" in parts[1]
    assert "variance that batch normalisation keeps" in parts[2]


def test_two_checkpoints_are_compared_by_the_command(tmp_path, capsys):
    tensors = runs.backend("torch", SMALL).export(runs.backend("torch", SMALL).init())
    other = {**tensors, "generator/image.weight": tensors["generator/image.weight"] + 1e-6}
    for name, state in (("a", tensors), ("b", other)):
        checkpoint.save(tmp_path / name, SMALL, state, {"backend": "torch"}, {"name": "n", "fingerprint": "f"})
    both = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert locate.main(both) == 1
    assert "state/generator/image.weight" in capsys.readouterr().out
    assert locate.main([both[0], both[0]]) == 0
    assert locate.main(["gan9000"]) == 2
    assert "what: found gan9000, expected a preset, or two folders" in capsys.readouterr().err
    assert locate.main(["vgg16"]) == 2
    assert "preset: found 'vgg16', which was renamed, expected 'vgg-inversion'" in capsys.readouterr().err
