"""Convolution, its transpose and resampling against torch's own operations, in float64, to the second derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import gan_jax.layers as jax_layers
import gan_jax.resampling as jax_resampling
import gan_torch.layers as torch_layers
import gan_torch.resampling as torch_resampling
from gan_jax.convolution import MANY_IMAGES, PART, convolve_grouped
from gan_shared.initial import ZEROS
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
# DCGAN's own: on a CPU a form with several taps in each phase, which few drawn sizes have.
DCGAN = {"kernel_size": 4, "stride": 2, "padding": 1, "height": 6, "width": 4}
DCGAN |= {"in_channels": 3, "out_channels": 2, "batch": 2, "seed": 1}
# More images than the weight gradient's form on a CPU takes at once, and no multiple of them.
MANY = DCGAN | {"batch": MANY_IMAGES + 3}
# Matrix products: a kernel as large as the image, and an image of one pixel.
WHOLE = DCGAN | {"height": 4, "width": 4, "padding": 0}
PIXEL = DCGAN | {"height": 1, "width": 1, "padding": 0}
drawn = settings(max_examples=30, deadline=None, derandomize=True)
# Without most of XLA's optimisations, which are most of the time of compiling.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


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

    def everything(x, w):
        return jax_derivatives(lambda a, b: jax_layer.apply({"params": {"kernel": b}}, a), x, w)

    ours = jax.jit(everything, compiler_options=QUICK)(x_nchw.transpose(0, 2, 3, 1), w_torch.transpose(2, 3, 1, 0))
    theirs = derivatives(torch_function, x_nchw, w_torch)
    for name, a, b in zip(("y", "dx", "dw", "ddx", "ddw"), ours, theirs, strict=True):
        back = (3, 2, 0, 1) if name.endswith("w") else (0, 3, 1, 2)
        assert_close(np.asarray(a).transpose(back), b, TOLERANCE, name)


def check_torch(found, expected):
    """Check that torch's layer computes what torch's function does: of matrix products in another order of sums."""
    assert found.shape == expected.shape
    assert_close(found.detach().numpy(), expected.numpy(), TOLERANCE, "torch")


@drawn
@given(shapes)
@example(DCGAN)
@example(DCGAN | {"in_channels": 5})
@example(MANY | {"in_channels": 5})
@example(WHOLE)
@example(WHOLE | {"padding": 1, "stride": 1})
def test_convolution_is_equal_to_torchs_to_the_second_derivative(drawn):
    k, s, p = drawn["kernel_size"], drawn["stride"], drawn["padding"]
    assume(min(drawn["height"], drawn["width"]) + 2 * p >= k)
    rng = np.random.default_rng(drawn["seed"])
    x = rng.standard_normal((drawn["batch"], drawn["in_channels"], drawn["height"], drawn["width"]))
    w = rng.standard_normal((drawn["out_channels"], drawn["in_channels"], k, k))
    layer = jax_layers.Conv(drawn["in_channels"], drawn["out_channels"], k, ZEROS, stride=s, padding=p)
    compare(lambda x, w: F.conv2d(x, w, stride=s, padding=p), layer, x, w)
    ours = torch_layers.Conv(drawn["in_channels"], drawn["out_channels"], k, ZEROS, stride=s, padding=p)
    ours.weight = torch.nn.Parameter(torch.tensor(w))
    check_torch(ours(torch.tensor(x)), F.conv2d(torch.tensor(x), torch.tensor(w), stride=s, padding=p))


@drawn
@given(shapes, st.integers(0, 2))
@example(DCGAN, 0)
@example(DCGAN, 1)
@example(MANY | {"out_channels": 5}, 0)
@example(PIXEL, 0)
@example(PIXEL, 1)
def test_transposed_convolution_is_equal_to_torchs_to_the_second_derivative(drawn, output_padding):
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
    check_torch(ours(torch.tensor(x)), F.conv_transpose2d(torch.tensor(x), torch.tensor(w), **sizes))


@pytest.mark.fast
def test_weight_gradient_of_many_images_in_parts_that_do_not_fill_up():
    rng = np.random.default_rng(0)
    images = MANY_IMAGES + PART // 2
    x, w = rng.standard_normal((images, 5, 4, 4)), rng.standard_normal((2, 5, 3, 3))
    compare(lambda x, w: F.conv2d(x, w, padding=1), jax_layers.Conv(5, 2, 3, ZEROS, padding=1), x, w)


@pytest.mark.parametrize("layers", [torch_layers, jax_layers], ids=["torch", "jax"])
@pytest.mark.parametrize(
    ("kind", "channels", "options", "message"),
    [
        ("Conv", (4, 4), {"stride": 2, "groups": 2}, r"`groups` \(=2\), `stride` \(=2\)"),
        ("Conv", (6, 8), {"groups": 4}, r"`in_channels` \(=6\) must be divisible by `groups` \(=4\)"),
        ("Conv", (8, 6), {"groups": 4}, r"`out_channels` \(=6\) must be divisible by `groups` \(=4\)"),
        ("ConvTranspose", (4, 4), {"stride": 2, "output_padding": 2}, r"`output_padding` \(=2\) .* `stride` \(=2\)"),
    ],
)
def test_what_cannot_be_built_is_refused_where_it_is_written(layers, kind, channels, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(layers, kind)(*channels, 3, ZEROS, **options)


def test_grouped_convolution_stays_the_library_s_where_that_is_fast():
    def loss(x, kernel):
        return (convolve_grouped(x, kernel, 4, 1) ** 2).sum()

    traced = jax.jit(jax.grad(loss, (0, 1))).trace(jnp.ones((2, 4, 4, 12)), jnp.ones((3, 3, 3, 8)))
    counts = {
        name: traced.lower(lowering_platforms=(name,)).as_text().count("convolution(") for name in ("cpu", "cuda")
    }
    assert counts == {"cpu": 8, "cuda": 3}


OUTER = torch.tensor([[1.0], [3.0], [3.0], [1.0]], dtype=torch.float64) * torch.tensor([1.0, 3.0, 3.0, 1.0]) / 64
# What each function is equivalent to, by its docstring.
RESAMPLINGS = {
    "upsample_smooth": lambda x: F.conv_transpose2d(
        x, 4 * OUTER.repeat(x.shape[1], 1, 1, 1), stride=2, padding=1, groups=x.shape[1]
    ),
    "downsample_smooth": lambda x: F.conv2d(
        x, OUTER.repeat(x.shape[1], 1, 1, 1), stride=2, padding=1, groups=x.shape[1]
    ),
    "upsample_nearest": torch.nn.Upsample(scale_factor=2, mode="nearest"),
    "max_pool": torch.nn.MaxPool2d(2),
    "average_pool": torch.nn.AvgPool2d(2),
    "average_pool_3x3": torch.nn.AvgPool2d(3, stride=1, padding=1),
    "sum_4x4": torch.nn.AvgPool2d(4, stride=1, padding=1, divisor_override=1),
}


@pytest.mark.fast
@pytest.mark.parametrize("size", [(4, 6), (5, 3)], ids=["even", "odd"])
@pytest.mark.parametrize("name", RESAMPLINGS)
def test_resampling_is_equal_to_torchs_to_the_second_derivative(name, size):
    x = np.random.default_rng(12).standard_normal((2, 3, *size))
    theirs = derivatives(lambda x, w: RESAMPLINGS[name](x) * w, x, np.float64(1.5))
    twin = derivatives(lambda x, w: getattr(torch_resampling, name)(x) * w, x, np.float64(1.5))
    function = jax.jit(lambda x, w: jax_derivatives(lambda x, w: getattr(jax_resampling, name)(x) * w, x, w))
    ours = function(x.transpose(0, 2, 3, 1), np.float64(1.5))
    for what, a, b, c in zip(("y", "dx", "dw", "ddx", "ddw"), ours, twin, theirs, strict=True):
        assert_close(b, c, 1e-14, what)
        assert_close(a, c.transpose(0, 2, 3, 1) if c.ndim == 4 else c, TOLERANCE, what)


def test_smooth_resampling_by_hand():
    """One row of numbers, repeated so that height is as smooth as can be away from its borders."""
    row = np.broadcast_to([0.0, 4.0, 8.0, 16.0], (8, 4))
    # A quarter of the further neighbour and three of the nearer one; zeros beyond the ends.
    larger = [0.0, 1.0, 3.0, 5.0, 7.0, 10.0, 14.0, 12.0]
    smaller = [(0 + 3 * 0 + 3 * 4 + 8) / 8, (4 + 3 * 8 + 3 * 16 + 0) / 8]
    images = {
        torch_resampling: torch.tensor(row.reshape(1, 1, 8, 4)),
        jax_resampling: jnp.asarray(row.reshape(1, 8, 4, 1)),
    }
    for package, x in images.items():
        np.testing.assert_array_equal(np.asarray(package.upsample_smooth(x)).reshape(16, 8)[8], larger)
        np.testing.assert_array_equal(np.asarray(package.downsample_smooth(x)).reshape(4, 2)[2], smaller)
