"""Layers of the two backends against each other and against torch's own operations, in float64."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import gan_jax.layers as jax_layers
import gan_torch.layers as torch_layers
from gan_shared.initial import ONES, ZEROS
from parity_tests.pair import assert_close

# Sums of at most a few thousand float64 products.
TOLERANCE = 1e-12

shapes = st.fixed_dictionaries(
    {
        "kernel_size": st.integers(1, 5),
        "stride": st.integers(1, 3),
        "padding": st.integers(0, 3),
        "height": st.integers(1, 9),
        "width": st.integers(1, 9),
        "in_channels": st.integers(1, 4),
        "out_channels": st.integers(1, 4),
        "batch": st.integers(1, 3),
        "seed": st.integers(0, 2**16),
    }
)
drawn = settings(max_examples=30, deadline=None, derandomize=True)


def derivatives(function, x, w):
    """Value, first derivatives and the derivatives of a penalty on the input gradient, as R1 needs them (torch)."""
    x, w = torch.tensor(x, requires_grad=True), torch.tensor(w, requires_grad=True)
    y = function(x, w)
    loss = (y**3).sum()
    gx, gw = torch.autograd.grad(loss, (x, w), create_graph=True)
    penalty = (gx**2).sum() + (gw**2).sum()
    hx, hw = torch.autograd.grad(penalty, (x, w))
    return [tensor.detach().numpy() for tensor in (y, gx, gw, hx, hw)]


def jax_derivatives(function, x, w):
    """The same in JAX."""

    def loss(x, w):
        return (function(x, w) ** 3).sum()

    def penalty(x, w):
        gx, gw = jax.grad(loss, (0, 1))(x, w)
        return (gx**2).sum() + (gw**2).sum()

    return function(x, w), *jax.grad(loss, (0, 1))(x, w), *jax.grad(penalty, (0, 1))(x, w)


def compare(torch_function, jax_layer, x_nchw, w_torch):
    """Compare value, first and second derivatives with respect to input and kernel."""
    ours = jax.jit(lambda x, w: jax_derivatives(lambda a, b: jax_layer.apply({"params": {"kernel": b}}, a), x, w))(
        x_nchw.transpose(0, 2, 3, 1), w_torch.transpose(2, 3, 1, 0)
    )
    theirs = derivatives(torch_function, x_nchw, w_torch)
    for name, a, b in zip(("y", "dx", "dw", "ddx", "ddw"), ours, theirs, strict=True):
        back = (3, 2, 0, 1) if name.endswith("w") else (0, 3, 1, 2)
        assert_close(np.asarray(a).transpose(back), b, TOLERANCE, name)


@drawn
@given(shapes)
def test_convolution(drawn):
    k, s, p = drawn["kernel_size"], drawn["stride"], drawn["padding"]
    assume(min(drawn["height"], drawn["width"]) + 2 * p >= k)
    rng = np.random.default_rng(drawn["seed"])
    x = rng.standard_normal((drawn["batch"], drawn["in_channels"], drawn["height"], drawn["width"]))
    w = rng.standard_normal((drawn["out_channels"], drawn["in_channels"], k, k))
    layer = jax_layers.Conv(drawn["in_channels"], drawn["out_channels"], k, ZEROS, stride=s, padding=p)
    compare(lambda x, w: F.conv2d(x, w, stride=s, padding=p), layer, x, w)
    ours = torch_layers.Conv(drawn["in_channels"], drawn["out_channels"], k, ZEROS, stride=s, padding=p)
    ours.weight = torch.nn.Parameter(torch.tensor(w))
    expected = F.conv2d(torch.tensor(x), torch.tensor(w), stride=s, padding=p)
    assert torch.equal(ours(torch.tensor(x)), expected)


@drawn
@given(shapes, st.integers(0, 2))
def test_transposed_convolution(drawn, output_padding):
    k, s, p = drawn["kernel_size"], drawn["stride"], drawn["padding"]
    assume(output_padding < s)
    assume((min(drawn["height"], drawn["width"]) - 1) * s - 2 * p + k + output_padding >= 1)
    rng = np.random.default_rng(drawn["seed"])
    x = rng.standard_normal((drawn["batch"], drawn["in_channels"], drawn["height"], drawn["width"]))
    w = rng.standard_normal((drawn["in_channels"], drawn["out_channels"], k, k))
    sizes = {"stride": s, "padding": p, "output_padding": output_padding}
    layer = jax_layers.ConvTranspose(drawn["in_channels"], drawn["out_channels"], k, ZEROS, **sizes)
    compare(lambda x, w: F.conv_transpose2d(x, w, **sizes), layer, x, w)
    ours = torch_layers.ConvTranspose(drawn["in_channels"], drawn["out_channels"], k, ZEROS, **sizes)
    ours.weight = torch.nn.Parameter(torch.tensor(w))
    assert torch.equal(ours(torch.tensor(x)), F.conv_transpose2d(torch.tensor(x), torch.tensor(w), **sizes))


BATCHES = {
    "normal": lambda rng: rng.standard_normal((4, 3, 5, 6)),
    "one image": lambda rng: rng.standard_normal((1, 3, 2, 2)),
    "constant channel": lambda rng: rng.standard_normal((4, 3, 5, 6)) * np.array([1.0, 0.0, 2.0])[:, None, None] + 0.5,
    # The two-pass variance loses digits only through the subtraction of the mean.
    "mean far above deviation": lambda rng: rng.standard_normal((4, 3, 5, 6)) + 1e3,
}


@pytest.mark.parametrize("kind", BATCHES)
def test_batch_norm_in_training_and_evaluation(kind):
    rng = np.random.default_rng(1)
    x, scale, bias = BATCHES[kind](rng), rng.standard_normal(3), rng.standard_normal(3)
    reference = torch.nn.BatchNorm2d(3).double()
    twin = torch_layers.BatchNorm(3).double()
    with torch.no_grad():
        for module in (reference, twin):
            module.weight.copy_(torch.tensor(scale))
            module.bias.copy_(torch.tensor(bias))
        twin.running_mean.zero_()
        twin.running_var.fill_(1)
    layer = jax_layers.BatchNorm(3)
    stats = {"mean": jnp.zeros(3), "var": jnp.ones(3), "num_batches_tracked": jnp.zeros((), jnp.int32)}
    variables = {"params": {"scale": jnp.asarray(scale), "bias": jnp.asarray(bias)}, "batch_stats": stats}

    # x - mean cancels |mean| / deviation = 1000 units in the last place, squared in the second derivative.
    tolerance = 1e-8 if kind == "mean far above deviation" else 1e-11
    for step in range(3):
        batch = x + step
        tensor = torch.tensor(batch, requires_grad=True)
        expected = reference(tensor)
        (gradient,) = torch.autograd.grad((expected**3).sum(), tensor)
        assert torch.equal(twin(torch.tensor(batch)), expected)

        def value(a, variables=variables):
            y, changed = layer.apply(variables, a, train=True, mutable=["batch_stats"])
            return (y**3).sum(), (y, changed)

        slope, (y, changed) = jax.grad(value, has_aux=True)(jnp.asarray(batch.transpose(0, 2, 3, 1)))
        variables = {**variables, **changed}
        assert_close(np.asarray(y).transpose(0, 3, 1, 2), expected.detach().numpy(), tolerance, "y")
        # The gradient of a normalised sum cancels: its scale is that of the terms that cancel.
        terms = np.abs(3 * expected.detach().numpy() ** 2).max() * np.abs(scale).max()
        assert np.abs(np.asarray(slope).transpose(0, 3, 1, 2) - gradient.numpy()).max() <= tolerance * terms * (
            1 / np.sqrt(batch.var((0, 2, 3)).min() + 1e-5)
        )
        for name, key in (("running_mean", "mean"), ("running_var", "var")):
            assert_close(variables["batch_stats"][key], getattr(reference, name).numpy(), 1e-12, f"{name} {step}")
            assert torch.equal(getattr(twin, name), getattr(reference, name))
        assert int(variables["batch_stats"]["num_batches_tracked"]) == int(twin.num_batches_tracked) == step + 1

    reference.eval()
    twin.eval()
    expected = reference(torch.tensor(x))
    assert torch.equal(twin(torch.tensor(x)), expected)
    y = layer.apply(variables, jnp.asarray(x.transpose(0, 2, 3, 1)), train=False)
    assert_close(np.asarray(y).transpose(0, 3, 1, 2), expected.detach().numpy(), 1e-12, "evaluation")


def test_batch_norm_refuses_one_value_per_channel():
    message = "more than 1 value per channel"
    with pytest.raises(ValueError, match=message):
        torch_layers.BatchNorm(2).train()(torch.ones(1, 2, 1, 1))
    layer = jax_layers.BatchNorm(2)
    variables = nn.meta.unbox(layer.init(jax.random.key(0), jnp.ones((2, 1, 1, 2)), train=False))
    with pytest.raises(ValueError, match="more than one value per channel"):
        layer.apply(variables, jnp.ones((1, 1, 1, 2)), train=True, mutable=["batch_stats"])


@pytest.mark.parametrize(("name", "at_zero"), [("relu", 0.0), ("leaky_relu", 0.2)], ids=["relu", "leaky_relu"])
def test_activation_value_and_derivative_at_ties(name, at_zero):
    points = np.array([-2.0, -1e-300, -0.0, 0.0, 1e-300, 3.0])
    tensor = torch.tensor(points, requires_grad=True)
    expected = getattr(torch_layers, name)(tensor)
    (slope,) = torch.autograd.grad(expected.sum(), tensor)
    function = getattr(jax_layers, name)
    np.testing.assert_array_equal(function(jnp.asarray(points)), expected.detach().numpy())
    ours = jax.vmap(jax.grad(function))(jnp.asarray(points))
    np.testing.assert_array_equal(ours, slope.numpy())
    assert slope[2] == slope[3] == at_zero


def test_tanh_at_saturation():
    points = np.array([-400.0, -20.0, -1e-8, 0.0, 1e-8, 20.0, 400.0])
    tensor = torch.tensor(points, requires_grad=True)
    (slope,) = torch.autograd.grad(tensor.tanh().sum(), tensor)
    assert_close(jnp.tanh(jnp.asarray(points)), tensor.tanh().detach().numpy(), 1e-15, "tanh")
    assert_close(jax.vmap(jax.grad(jnp.tanh))(jnp.asarray(points)), slope.numpy(), 1e-15, "derivative")


def test_declared_beginnings_are_carried_not_drawn():
    boxed: Any = jax_layers.BatchNorm(2).init(jax.random.key(0), jnp.ones((2, 2, 2, 2)), train=False)
    assert boxed["params"]["scale"].initial == ONES
    assert boxed["batch_stats"]["mean"].initial == ZEROS
