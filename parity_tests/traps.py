"""Where a port from PyTorch to JAX goes wrong in silence: ``python -m parity_tests.traps`` measures every case.

Each trap is a pair: what Flax, Optax or ``jax.numpy`` do when asked in the obvious way, and what this project does,
both against torch on the same numbers in float64 (float32 where the trap is one of precision). The naive half is
measured in this report alone: a library that mends itself should fail nobody's tests.
"""

import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F
import tyro
from flax import linen
from torch import nn

import gan_jax.augment
import gan_jax.layers
import gan_jax.losses
import gan_jax.optimizers
import gan_torch.trace
from benchmarks.command import guarded
from benchmarks.machine import processor
from gan_jax import interop
from gan_shared.atomic import replacing
from gan_shared.initial import ZEROS
from parity_tests.pair import BACKENDS, SMALL, backend

# A pair is equal where no number is further apart than this part of the largest: rounding, with two digits to spare.
EQUAL = 1e-11


class Trap(NamedTuple):
    """One way to port wrongly.

    Attributes:
        name: what it is about.
        torch: what torch does.
        naive: what the obvious port does.
        fix: what to do instead.
        lives: where this project does it.
        pair: () -> (torch's result, the naive one, this project's), arrays of one shape.
        at_least: the naive result is off by this part of the largest number, or more.
        modules: classes of modules in which a difference may come of it.
        kinds: of a trace's values (``gan_torch/trace.py``) that show it first.
        equal: how far this project's result may be off.
    """

    name: str
    torch: str
    naive: str
    fix: str
    lives: str
    pair: Callable[[], tuple[Any, Any, Any]]
    at_least: float
    modules: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("forward",)
    equal: float = EQUAL


class Measured(NamedTuple):
    """A trap, tried.

    Attributes:
        trap: which.
        naive: largest difference of the naive port, as a part of the largest number; infinite where it is not a number.
        ours: likewise of this project's.
    """

    trap: Trap
    naive: float
    ours: float


def apart(found: Any, expected: Any) -> float:
    """Return the largest difference as a part of the largest expected number; infinite where one is not finite."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def measure(trap: Trap) -> Measured:
    """Try one trap."""
    expected, naive, ours = trap.pair()
    return Measured(trap, apart(naive, expected), apart(ours, expected))


def _numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def _nhwc(x: np.ndarray) -> np.ndarray:
    return x.transpose(0, 2, 3, 1)


def _convolution(padding: Any) -> Callable[[], tuple[Any, Any, Any]]:
    def pair() -> tuple[Any, Any, Any]:
        x, w = _numbers(2, 3, 8, 8), _numbers(4, 3, 3, 3, seed=1)
        expected = _nhwc(F.conv2d(torch.tensor(x), torch.tensor(w), stride=2, padding=1).numpy())
        kernel = {"params": {"kernel": w.transpose(2, 3, 1, 0)}}
        naive = linen.Conv(4, (3, 3), strides=2, padding=padding, use_bias=False, param_dtype=jnp.float64)
        ours = gan_jax.layers.Conv(3, 4, 3, ZEROS, stride=2, padding=1)
        return expected, naive.apply(kernel, _nhwc(x)), ours.apply(kernel, _nhwc(x))

    return pair


def _transposed() -> tuple[Any, Any, Any]:
    x, w = _numbers(2, 3, 4, 4), _numbers(3, 5, 4, 4, seed=1)
    expected = _nhwc(F.conv_transpose2d(torch.tensor(x), torch.tensor(w), stride=2, padding=1).numpy())
    naive = linen.ConvTranspose(5, (4, 4), strides=(2, 2), padding="SAME", use_bias=False, param_dtype=jnp.float64)
    ours = gan_jax.layers.ConvTranspose(3, 5, 4, ZEROS, stride=2, padding=1)
    made = naive.apply({"params": {"kernel": w.transpose(2, 3, 0, 1)}}, _nhwc(x))
    return expected, made, ours.apply({"params": {"kernel": w.transpose(2, 3, 1, 0)}}, _nhwc(x))


def _kernel_axes() -> tuple[Any, Any, Any]:
    """As many inputs as outputs, so that every order of axes fits."""
    x, w = _numbers(2, 3, 8, 8), _numbers(3, 3, 3, 3, seed=1)
    expected = _nhwc(F.conv2d(torch.tensor(x), torch.tensor(w)).numpy())
    naive = linen.Conv(3, (3, 3), padding="VALID", use_bias=False, param_dtype=jnp.float64)
    ours = gan_jax.layers.Conv(3, 3, 3, ZEROS)
    made = naive.apply({"params": {"kernel": w.transpose(2, 3, 0, 1)}}, _nhwc(x))
    return expected, made, ours.apply({"params": _ported(w)}, _nhwc(x))


def _matrix_axes() -> tuple[Any, Any, Any]:
    """As many inputs as outputs again."""
    x, w = _numbers(2, 4), _numbers(4, 4, seed=1)
    naive = linen.Dense(4, use_bias=False, param_dtype=jnp.float64).apply({"params": {"kernel": w}}, x)
    ours = gan_jax.layers.Linear(4, 4, ZEROS).apply({"params": _ported(w)}, x)
    return F.linear(torch.tensor(x), torch.tensor(w)), naive, ours


def _ported(weight: np.ndarray) -> dict[str, Any]:
    """Return a layer's parameters in Flax's layout, by this project's rule."""
    shape = [weight.shape[axis] for axis in interop.TO_FLAX[weight.ndim]]
    return interop.from_torch({"weight": weight}, {"kernel": np.zeros(shape)})


def _flatten() -> tuple[Any, Any, Any]:
    x, w = _numbers(2, 3, 4, 4), _numbers(5, 48, seed=1)
    expected = torch.tensor(x).flatten(1) @ torch.tensor(w).T
    ours = _nhwc(x).transpose(0, 3, 1, 2).reshape(2, -1) @ w.T
    return expected, _nhwc(x).reshape(2, -1) @ w.T, ours


def _batch_norm(
    which: str, dtype: Any = np.float64, mean: float = 0.0, **options: Any
) -> Callable[[], tuple[Any, ...]]:
    def pair() -> tuple[Any, Any, Any]:
        x = (mean + _numbers(4, 3, 2, 2)).astype(dtype)
        theirs = nn.BatchNorm2d(3).to(torch.float64)  # in float64 also where the others are in float32
        made = theirs(torch.tensor(x, dtype=torch.float64))
        naive = linen.BatchNorm(use_running_average=False, epsilon=1e-5, dtype=dtype, param_dtype=dtype, **options)
        variables = naive.init(jax.random.key(0), _nhwc(x))
        ours = gan_jax.layers.BatchNorm(3)
        own = linen.meta.unbox(ours.init(jax.random.key(0), _nhwc(x), True))
        own = jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.ndim else leaf, own)
        own["params"]["scale"] = jnp.ones(3, dtype)
        own["batch_stats"]["var"] = jnp.ones(3, dtype)
        (y, left), (z, kept) = (
            module.apply(values, _nhwc(x), *more, mutable=["batch_stats"])
            for module, values, more in ((naive, variables, ()), (ours, own, (True,)))
        )
        if which == "output":
            return _nhwc(made.detach().numpy()), y, z
        return getattr(theirs, f"running_{which}"), left["batch_stats"][which], kept["batch_stats"][which]

    return pair


def _forwards() -> tuple[Any, Any, Any]:
    """The running mean after reals, then fakes, in training."""
    reals, fakes = 1 + _numbers(4, 3, 2, 2), _numbers(4, 3, 2, 2, seed=1)
    theirs = nn.BatchNorm2d(3).double()
    for x in (reals, fakes):
        theirs(torch.tensor(x))
    naive = linen.BatchNorm(use_running_average=False, momentum=0.9, param_dtype=jnp.float64)
    variables = naive.init(jax.random.key(0), _nhwc(reals))
    lefts = [naive.apply(variables, _nhwc(x), mutable=["batch_stats"])[1] for x in (reals, fakes)]
    ours = gan_jax.layers.BatchNorm(3)
    own = linen.meta.unbox(ours.init(jax.random.key(0), _nhwc(reals), True))
    own = jax.tree.map(lambda leaf: leaf.astype(np.float64) if leaf.ndim else leaf, own)
    for x in (reals, fakes):
        own |= ours.apply(own, _nhwc(x), True, mutable=["batch_stats"])[1]
    return theirs.running_mean, lefts[-1]["batch_stats"]["mean"], own["batch_stats"]["mean"]


def _spectral_norm(train: bool) -> tuple[Any, Any, Any]:
    """After the weight has moved."""
    w, moved = _numbers(6, 4), _numbers(6, 4) + 0.3 * _numbers(6, 4, seed=1)
    module: Any = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6, bias=False).double())
    with torch.no_grad():
        original = module.parametrizations.weight.original
        original.copy_(torch.tensor(w))
        module.train()
        module(torch.zeros(1, 4, dtype=torch.float64))
        u, v = (module.parametrizations.weight[0].__getattr__(name).numpy().copy() for name in ("_u", "_v"))
        original.copy_(torch.tensor(moved))
        module.train(train)
        x = _numbers(3, 4, seed=2)
        expected = module(torch.tensor(x)).numpy()
    naive = linen.SpectralNorm(linen.Dense(6, use_bias=False, param_dtype=jnp.float64))
    variables = naive.init(jax.random.key(0), x, update_stats=False)
    stats = jax.tree.map(lambda leaf: u[None] if leaf.ndim == 2 else leaf, variables["batch_stats"])
    values = {"params": {"layer_instance": {"kernel": moved.T}}, "batch_stats": stats}
    ours = gan_jax.layers.Linear(4, 6, ZEROS, spectral=True)
    own = {"params": {"kernel": moved.T}, "batch_stats": {"weight_u": u, "weight_v": v}}
    made, _ = naive.apply(values, x, update_stats=train, mutable=["batch_stats"])
    return expected, made, ours.apply(own, x, train, mutable=["batch_stats"])[0]


def _slope(function: Callable[[Any], Any], naive: Callable[[Any], Any], ours: Callable[[Any], Any], at: Any) -> Any:
    """Gradients of three functions at the same points, where some are ties."""
    x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(function(x).sum(), x)
    value = jnp.asarray(at, jnp.float64)
    return expected, *(jax.grad(lambda x, f=f: f(x).sum())(value) for f in (naive, ours))


def _values(function: Callable[[Any], Any], naive: Callable[[Any], Any], ours: Callable[[Any], Any], at: Any) -> Any:
    """Values of three functions at the same points."""
    value = jnp.asarray(at, jnp.float64)
    return function(torch.tensor(at, dtype=torch.float64)), naive(value), ours(value)


def _penalty_at_zero() -> tuple[Any, Any, Any]:
    """The gradient of (|g| - 1)^2 where g is zero for one image."""
    g = np.stack([np.zeros(4), _numbers(4)])
    x = torch.tensor(g, requires_grad=True)
    (expected,) = torch.autograd.grad((x.norm(dim=1) - 1).square().sum(), x)
    value = jnp.asarray(g)
    naive = jax.grad(lambda x: ((jnp.linalg.norm(x, axis=1) - 1) ** 2).sum())(value)
    ours = jax.grad(lambda x: gan_jax.losses.PENALTIES["gradient-penalty"].value(x[:, None, None]).sum())(value)
    return expected, naive, ours


def _optimizer(
    theirs: Callable[[Any], Any],
    naive: Any,
    ours: Any,
    steps: int = 3,
    dtype: Any = np.float64,
    scale: float = 1.0,
    begin_scale: float = 1.0,
) -> Callable[[], tuple[Any, Any, Any]]:
    """Where three optimisers have gone after some steps."""

    def pair() -> tuple[Any, Any, Any]:
        gradients = [scale * _numbers(8, seed=step) for step in range(steps)]
        weight = nn.Parameter(torch.tensor(begin_scale * _numbers(8, seed=99)))
        begin, optimizer = weight.detach().numpy().copy(), theirs([weight])
        for gradient in gradients:
            weight.grad = torch.tensor(gradient)
            optimizer.step()
        with jax.enable_x64(dtype == np.float64):
            value: Any = {"w": jnp.asarray(begin, dtype)}
            own: Any
            own, state, moments = value, naive.init(value), ours.init(value)
            for gradient in gradients:
                grads = {"w": jnp.asarray(gradient, dtype)}
                update, state = naive.update(grads, state, value)
                value = optax.apply_updates(value, update)
                own, moments = ours.update(own, grads, moments, jnp.asarray(1e-3, dtype), jnp.asarray(1e-3, dtype))
        moved = (weight.detach().numpy(), value["w"], own["w"])
        return tuple(np.asarray(each, np.float64) - begin.astype(dtype) for each in moved)  # type: ignore[return-value]

    return pair


def _clip() -> tuple[Any, Any, Any]:
    """Gradients of norm 1e-4, clipped to half of it."""
    gradient, largest = 1e-4 * _numbers(8) / np.linalg.norm(_numbers(8)), 0.5e-4
    weight = nn.Parameter(torch.zeros(8, dtype=torch.float64))
    weight.grad = torch.tensor(gradient)
    nn.utils.clip_grad_norm_([weight], largest)
    naive: Any
    naive, _ = optax.clip_by_global_norm(largest).update({"w": jnp.asarray(gradient)}, optax.EmptyState())
    clipped, begin = gan_jax.optimizers.Clipped(gan_jax.optimizers.SGD(0.0), largest), {"w": jnp.zeros(8)}
    ours, _ = clipped.update(begin, {"w": jnp.asarray(gradient)}, clipped.init(begin), 1.0, 0.0)
    return weight.grad, naive["w"], -ours["w"]


def _average() -> tuple[Any, Any, Any]:
    """The first average of a weight that begins at itself."""
    values = [_numbers(4, seed=i) for i in range(3)]
    expected = values[0]
    for value in values[1:]:
        expected = 0.9 * expected + 0.1 * value
    ema, own = optax.ema(0.9, debias=True), jnp.asarray(values[0])
    naive: Any = None
    state = ema.init({"w": own})
    for value in values[1:]:
        naive, state = ema.update({"w": jnp.asarray(value)}, state)
        own = own + 0.1 * (jnp.asarray(value) - own)
    return expected, naive["w"], own


def _beginning() -> tuple[Any, Any, Any]:
    """One weight of the same network in both backends, and what Flax draws for it."""
    twins = [backend(name, SMALL) for name in BACKENDS]
    expected, ours = (twin.export(twin.init())["generator/stem.conv.weight"] for twin in twins)
    return expected, linen.initializers.lecun_normal()(jax.random.key(0), expected.shape), ours


def _snapshot() -> tuple[Any, Any, Any]:
    """A weight before an update in place, looked at afterwards."""
    weight = nn.Parameter(torch.tensor(_numbers(4)))
    before = weight.detach().numpy().copy()
    view, copied = weight.detach().numpy(), gan_torch.trace.to_numpy({"weight": weight})["weight"]
    weight.grad = torch.ones(4, dtype=torch.float64)
    torch.optim.SGD([weight], lr=0.5).step()
    return before, view, copied


def _single() -> tuple[Any, Any, Any]:
    """A float64 array that becomes one of JAX, in a process of the default settings and in one of this project's."""
    with jax.enable_x64(False), warnings.catch_warnings(action="ignore"):
        naive = np.asarray(jnp.asarray(_numbers(4)), np.float64)
    with jax.enable_x64(True):
        ours = np.asarray(jnp.asarray(_numbers(4)))
    return _numbers(4), naive, ours


TRAPS = (
    Trap(
        "axes of a kernel",
        "out, in, height, width",
        "height, width, out, in",
        "transpose(2, 3, 1, 0)",
        "gan_jax/interop.py",
        _kernel_axes,
        0.1,
        ("Conv",),
    ),
    Trap(
        "axes of a matrix",
        "(out, in)",
        "the same matrix in linen.Dense, which has (in, out)",
        ".T",
        "gan_jax/interop.py",
        _matrix_axes,
        0.1,
        ("Linear",),
    ),
    Trap(
        "padding of a strided convolution",
        "padding=1 pads both sides",
        "linen.Conv pads 'SAME': (0, 1) for an even size",
        "give explicit pairs",
        "gan_jax/convolution.py",
        _convolution("SAME"),
        0.1,
        ("Conv",),
    ),
    Trap(
        "kernel of a transposed convolution",
        "the gradient of a convolution: the kernel is turned",
        "linen.ConvTranspose does not turn it",
        "keep the kernel of the convolution that is transposed; lax.conv_transpose(transpose_kernel=True)",
        "gan_jax/convolution.py",
        _transposed,
        0.1,
        ("ConvTranspose",),
    ),
    Trap(
        "flattening before a matrix",
        "channel, height, width",
        "height, width, channel",
        "transpose to torch's order, or permute the matrix",
        "gan_jax/models/vgg.py",
        _flatten,
        0.1,
        ("Linear",),
        kinds=("input", "forward"),
    ),
    Trap(
        "variance that batch normalisation keeps",
        "n / (n - 1) times the one it divides by",
        "linen.BatchNorm keeps the biased one",
        "multiply by n / (n - 1)",
        "gan_jax/layers.py",
        _batch_norm("var", momentum=0.9),
        1e-3,
        ("BatchNorm",),
        ("state",),
    ),
    Trap(
        "momentum of batch normalisation",
        "0.1 is the weight of the new batch",
        "linen.BatchNorm: 0.99 is the weight of the old average",
        "1 - momentum",
        "gan_jax/layers.py",
        _batch_norm("mean"),
        0.5,
        ("BatchNorm",),
        ("state",),
    ),
    Trap(
        "variance in one pass (float32, mean 1,000)",
        "two passes",
        "linen.BatchNorm: E[x^2] - E[x]^2",
        "subtract the mean first",
        "gan_jax/layers.py",
        _batch_norm("output", np.float32, mean=1000.0),
        1e-2,
        ("BatchNorm",),
        equal=1e-3,  # float32 numbers of 1,000 are 6e-5 apart, of a deviation of 1
    ),
    Trap(
        "spectral normalisation in evaluation",
        "uses the stored u and v",
        "linen.SpectralNorm iterates again",
        "store u and v, iterate in training only, u first",
        "gan_jax/layers.py",
        lambda: _spectral_norm(train=False),
        1e-3,
        ("Conv", "Linear", "Embedding"),
    ),
    Trap(
        "order of spectral normalisation's iteration",
        "u first, then v",
        "linen.SpectralNorm: v first, then u",
        "u first, from the stored v",
        "gan_jax/layers.py",
        lambda: _spectral_norm(train=True),
        1e-4,
        ("Conv", "Linear", "Embedding"),
    ),
    Trap(
        "forwards that advance statistics",
        "every forward in training, reals and fakes",
        "each from the state before both: the last one wins",
        "hand the state from forward to forward, in torch's order",
        "gan_jax/step.py",
        _forwards,
        0.1,
        ("BatchNorm",),
        kinds=("state",),
    ),
    Trap(
        "LeakyReLU's slope at 0",
        "0.2",
        "jax.nn.leaky_relu: 1",
        "where(x > 0, x, 0.2 x)",
        "gan_jax/layers.py",
        lambda: _slope(
            lambda x: F.leaky_relu(x, 0.2),
            lambda x: jax.nn.leaky_relu(x, 0.2),
            gan_jax.layers.leaky_relu,
            [-1.0, 0.0, 1.0],
        ),
        0.5,
        kinds=("backward", "gradient"),
    ),
    Trap(
        "hinge at its corner",
        "relu(1 - x): slope 0",
        "jnp.maximum(1 - x, 0): slope 0.5",
        "jax.nn.relu",
        "gan_jax/losses.py",
        lambda: _slope(
            lambda x: F.relu(1 - x),
            lambda x: jnp.maximum(1 - x, 0),
            lambda x: gan_jax.losses.LOSSES["hinge"].discriminator(x, jnp.full_like(x, -2.0)),
            [0.0, 1.0, 2.0],
        ),
        0.4,
        kinds=("backward", "gradient"),
    ),
    Trap(
        "gradient penalty where the gradient is 0",
        "the norm's subgradient at 0 is 0",
        "jnp.linalg.norm: not a number",
        "a root of a sum that is kept off 0",
        "gan_jax/losses.py",
        _penalty_at_zero,
        0.5,
        kinds=("gradient",),
        equal=1e-5,  # the small number below the root
    ),
    Trap(
        "softplus above 20",
        "F.softplus is linear there",
        "jax.nn.softplus is not (here the naive half is torch's own function)",
        "log(1 + exp(x)) in a stable form in both",
        "gan_torch/losses.py, gan_jax/losses.py",
        lambda: (
            np.logaddexp(0, [20.1]) - 20.1,
            F.softplus(torch.tensor([20.1], dtype=torch.float64)) - 20.1,
            gan_jax.losses.softplus(jnp.array([20.1])) - 20.1,
        ),
        0.5,
        kinds=("scalar", "gradient"),
        equal=1e-5,  # of 2e-9, which is what is left of 20.1 in float64
    ),
    Trap(
        "cross-entropy of a logit of 40",
        "binary_cross_entropy_with_logits",
        "-log(1 - sigmoid(x)): infinite",
        "softplus(x)",
        "gan_jax/losses.py",
        lambda: _values(
            lambda x: F.binary_cross_entropy_with_logits(x, torch.zeros_like(x), reduction="none"),
            lambda x: -jnp.log(1 - jax.nn.sigmoid(x)),
            gan_jax.losses.softplus,
            [-1.0, 0.5, 40.0],
        ),
        0.1,
        kinds=("scalar", "backward"),
    ),
    Trap(
        "GELU",
        "by erf",
        "jax.nn.gelu: by tanh",
        "approximate=False",
        "gan_jax/layers.py",
        lambda: _values(F.gelu, jax.nn.gelu, gan_jax.layers.gelu, [-1.0, 0.5, 1.0]),
        1e-5,
        ("GELU",),
    ),
    Trap(
        "Adam's bias correction (float32, first step, beta2 0.999)",
        "in double precision",
        "optax.adam: 1 - 0.999 in float32",
        "-expm1(t log(beta2)) of the complement",
        "gan_jax/optimizers.py",
        _optimizer(
            lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.9, 0.999)),
            optax.adam(1e-3, b1=0.9, b2=0.999),
            gan_jax.optimizers.Adam(0.9),
            steps=1,
            dtype=np.float32,
            begin_scale=0.0,  # a weight of 1 would have no digits for it
        ),
        3e-6,
        kinds=("update",),
        equal=5e-7,  # a few roundings of float32
    ),
    Trap(
        "weight decay of Adam",
        "torch.optim.Adam: a penalty, added to the gradient",
        "optax.adamw: taken from the weights",
        "add it to the gradients before Adam",
        "gan_jax/optimizers.py",
        _optimizer(
            lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=0.1),
            optax.adamw(1e-3, weight_decay=0.1),
            gan_jax.optimizers.Adam(0.9, weight_decay=0.1),
        ),
        1e-3,
        kinds=("update",),
    ),
    Trap(
        "weight decay of AdamW",
        "0.01 when not given",
        "optax.adamw: 0.0001",
        "give it",
        "gan_shared/config.py",
        _optimizer(
            lambda p: torch.optim.AdamW(p, lr=1e-3), optax.adamw(1e-3), gan_jax.optimizers.AdamW(0.9, weight_decay=0.01)
        ),
        1e-4,
        kinds=("update",),
    ),
    Trap(
        "RMSprop's epsilon (gradients of 1e-5)",
        "outside of the root, alpha 0.99",
        "optax.rmsprop: inside, decay 0.9",
        "eps_in_sqrt=False, decay=0.99",
        "gan_jax/optimizers.py",
        _optimizer(
            lambda p: torch.optim.RMSprop(p, lr=1e-3, alpha=0.999),
            optax.rmsprop(1e-3),
            gan_jax.optimizers.RMSprop(0.0),
            scale=1e-5,
        ),
        0.1,
        kinds=("update",),
    ),
    Trap(
        "clipping by the norm of all gradients (1e-4)",
        "divides by norm + 1e-6",
        "optax.clip_by_global_norm divides by the norm",
        "add 1e-6",
        "gan_jax/optimizers.py",
        _clip,
        5e-3,
        kinds=("update",),
    ),
    Trap(
        "average of the weights",
        "d average + (1 - d) weight, begun at the weight",
        "optax.ema begins at 0 and corrects for it",
        "write it out",
        "gan_jax/step.py",
        _average,
        0.1,
        ("generator_ema",),
        kinds=("state",),
    ),
    Trap(
        "initial weights",
        "its own initialisers and generator",
        "linen draws others, from a generator of its own",
        "declare distributions, draw once in NumPy",
        "gan_shared/initial.py",
        _beginning,
        0.1,
        kinds=(),
        equal=0.0,
    ),
    Trap(
        "a weight that is kept for later",
        "weight.numpy() shows what the next update makes of it",
        "kept as it is",
        "copy",
        "gan_torch/state.py, gan_jax/interop.py",
        _snapshot,
        0.1,
        kinds=(),
        equal=0.0,
    ),
    Trap(
        "float64 arrays",
        "stay float64",
        "jnp.asarray makes them float32, with no more than a warning",
        "jax_enable_x64, before anything is computed",
        "gan_jax/backend.py",
        _single,
        1e-9,
        kinds=(),
        equal=0.0,
    ),
)


@dataclass(frozen=True)
class Options:
    """Measure every trap of a port from PyTorch to JAX, and write the table."""

    out: Path = Path("docs/porting.md")
    """Markdown file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 1 where a pair of this project's is not equal."""
    options = tyro.cli(Options, args=argv)
    wrong: list[Measured] = []

    def work() -> None:
        jax.config.update("jax_enable_x64", True)
        found = [measure(trap) for trap in TRAPS]
        wrong.extend(each for each in found if not each.ours <= each.trap.equal)
        with replacing(options.out) as temporary:
            temporary.write_text(page(found), encoding="utf-8")
        for trap, naive, ours in found:
            mended = "" if naive >= trap.at_least else f", less than {trap.at_least:.2g}: a library has mended itself"
            print(f"{trap.name}: the obvious port is off by {naive:.2g}{mended}, this one by {ours:.2g}")
        print(f"wrote {options.out}")
        for each in wrong:
            print(f"not equal: {each.trap.name}, off by {each.ours:.2g}", file=sys.stderr)

    return guarded(work) or int(bool(wrong))


def page(found: Sequence[Measured]) -> str:
    """Return the table as Markdown."""
    header = ("what", "torch", "the obvious port", "off by", "instead", "here", "off by")
    rows = [header, tuple("---" for _ in header), *map(_row, found)]
    versions = f"torch {torch.__version__}, jax {jax.__version__}, flax {flax.__version__}, optax {optax.__version__}"
    lines = [
        "# Traps of a port from PyTorch to JAX",
        f"Measured by `python -m parity_tests.traps` on {processor()}, {date.today()}: {versions}. Each row is one "
        "small computation, made three times; *off by* is the largest difference to torch's result as a part of its "
        "largest number, in float64 unless the row says float32.",
        "\n".join("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n\n".join(lines) + "\n"


def _row(measured: Measured) -> tuple[str, ...]:
    """Return the cells of one line."""
    trap, naive, ours = measured
    shown = "not a number" if np.isinf(naive) else f"{naive:.1e}"
    return trap.name, trap.torch, trap.naive, shown, trap.fix, f"`{trap.lives}`", f"{ours:.1e}"


def likely(kind: str, module: str, network: str = "") -> Iterator[Trap]:
    """Yield the traps that a difference may come of.

    Args:
        kind: of the value, as a trace names it.
        module: class of its module, here or in torch.nn (Conv or Conv2d).
        network: whose value it is.
    """
    names = {re.sub(r"\dd$", "", module), network}
    for trap in TRAPS:
        if kind in trap.kinds and (not trap.modules or names & set(trap.modules)):
            yield trap


if __name__ == "__main__":
    sys.exit(main())
