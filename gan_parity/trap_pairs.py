"""Pairs of the catalogue of traps: torch's result, the obvious port's, and this project's."""

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F
from flax import linen
from torch import nn

import gan_jax.layers
import gan_jax.losses
import gan_jax.optimizers
import gan_jax.step
import gan_torch.step_trace
from gan_jax import interop
from gan_parity.configurations import SMALL
from gan_parity.norm_pairs import nhwc, numbers
from gan_parity.runs import BACKENDS, backend
from gan_shared.initial import ZEROS


def convolution(padding: Any) -> Callable[[], tuple[Any, Any, Any]]:
    def pair() -> tuple[Any, Any, Any]:
        x, w = numbers(2, 3, 8, 8), numbers(4, 3, 3, 3, seed=1)
        expected = nhwc(F.conv2d(torch.tensor(x), torch.tensor(w), stride=2, padding=1).numpy())
        kernel = {"params": {"kernel": w.transpose(2, 3, 1, 0)}}
        naive = linen.Conv(4, (3, 3), strides=2, padding=padding, use_bias=False, param_dtype=jnp.float64)
        ours = gan_jax.layers.Conv(3, 4, 3, ZEROS, stride=2, padding=1)
        return expected, naive.apply(kernel, nhwc(x)), ours.apply(kernel, nhwc(x))

    return pair


def transposed() -> tuple[Any, Any, Any]:
    x, w = numbers(2, 3, 4, 4), numbers(3, 5, 4, 4, seed=1)
    expected = nhwc(F.conv_transpose2d(torch.tensor(x), torch.tensor(w), stride=2, padding=1).numpy())
    naive = linen.ConvTranspose(5, (4, 4), strides=(2, 2), padding="SAME", use_bias=False, param_dtype=jnp.float64)
    ours = gan_jax.layers.ConvTranspose(3, 5, 4, ZEROS, stride=2, padding=1)
    made = naive.apply({"params": {"kernel": w.transpose(2, 3, 0, 1)}}, nhwc(x))
    return expected, made, ours.apply({"params": {"kernel": w.transpose(2, 3, 1, 0)}}, nhwc(x))


def kernel_axes() -> tuple[Any, Any, Any]:
    """As many inputs as outputs, so that every order of axes fits."""
    x, w = numbers(2, 3, 8, 8), numbers(3, 3, 3, 3, seed=1)
    expected = nhwc(F.conv2d(torch.tensor(x), torch.tensor(w)).numpy())
    naive = linen.Conv(3, (3, 3), padding="VALID", use_bias=False, param_dtype=jnp.float64)
    ours = gan_jax.layers.Conv(3, 3, 3, ZEROS)
    made = naive.apply({"params": {"kernel": w.transpose(2, 3, 0, 1)}}, nhwc(x))
    return expected, made, ours.apply({"params": ported(w)}, nhwc(x))


def matrix_axes() -> tuple[Any, Any, Any]:
    """As many inputs as outputs again."""
    x, w = numbers(2, 4), numbers(4, 4, seed=1)
    naive = linen.Dense(4, use_bias=False, param_dtype=jnp.float64).apply({"params": {"kernel": w}}, x)
    ours = gan_jax.layers.Linear(4, 4, ZEROS).apply({"params": ported(w)}, x)
    return F.linear(torch.tensor(x), torch.tensor(w)), naive, ours


def ported(weight: np.ndarray) -> dict[str, Any]:
    """Return a layer's parameters in Flax's layout, by this project's rule."""
    shape = [weight.shape[axis] for axis in interop.TO_FLAX[weight.ndim]]
    return interop.from_torch({"weight": weight}, {"kernel": np.zeros(shape)})


def flatten() -> tuple[Any, Any, Any]:
    x, w = numbers(2, 3, 4, 4), numbers(5, 48, seed=1)
    expected = torch.tensor(x).flatten(1) @ torch.tensor(w).T
    ours = nhwc(x).transpose(0, 3, 1, 2).reshape(2, -1) @ w.T
    return expected, nhwc(x).reshape(2, -1) @ w.T, ours


def batch_norm(which: str, dtype: Any = np.float64, mean: float = 0.0, **options: Any) -> Callable[[], tuple[Any, ...]]:
    def pair() -> tuple[Any, Any, Any]:
        x = (mean + numbers(4, 3, 2, 2)).astype(dtype)
        theirs = nn.BatchNorm2d(3).to(torch.float64)  # in float64 also where the others are in float32
        made = theirs(torch.tensor(x, dtype=torch.float64))
        naive = linen.BatchNorm(use_running_average=False, epsilon=1e-5, dtype=dtype, param_dtype=dtype, **options)
        variables = naive.init(jax.random.key(0), nhwc(x))
        ours = gan_jax.layers.BatchNorm(3)
        own = linen.meta.unbox(ours.init(jax.random.key(0), nhwc(x), True))
        own = jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.ndim else leaf, own)
        own["params"]["scale"] = jnp.ones(3, dtype)
        own["batch_stats"]["var"] = jnp.ones(3, dtype)
        (y, left), (z, kept) = (
            module.apply(values, nhwc(x), *more, mutable=["batch_stats"])
            for module, values, more in ((naive, variables, ()), (ours, own, (True,)))
        )
        if which == "output":
            return nhwc(made.detach().numpy()), y, z
        return getattr(theirs, f"running_{which}"), left["batch_stats"][which], kept["batch_stats"][which]

    return pair


def batch_norm_epsilon() -> tuple[Any, Any, Any]:
    """A batch of variance 1e-2, beside which an epsilon of 1e-3 is a tenth."""
    x = 0.1 * numbers(4, 3, 2, 2)
    expected = nhwc(nn.BatchNorm2d(3).double()(torch.tensor(x)).detach().numpy())
    made = []
    for epsilon in (1e-3, 1e-5):
        module = linen.BatchNorm(
            use_running_average=False, epsilon=epsilon, use_fast_variance=False, param_dtype=jnp.float64
        )
        variables = module.init(jax.random.key(0), nhwc(x))
        made.append(module.apply(variables, nhwc(x), mutable=["batch_stats"])[0])
    return expected, *made


def forwards() -> tuple[Any, Any, Any]:
    """The running mean after reals, then fakes, in training."""
    reals, fakes = 1 + numbers(4, 3, 2, 2), numbers(4, 3, 2, 2, seed=1)
    theirs = nn.BatchNorm2d(3).double()
    for x in (reals, fakes):
        theirs(torch.tensor(x))
    naive = linen.BatchNorm(use_running_average=False, momentum=0.9, param_dtype=jnp.float64)
    variables = naive.init(jax.random.key(0), nhwc(reals))
    lefts = [naive.apply(variables, nhwc(x), mutable=["batch_stats"])[1] for x in (reals, fakes)]
    ours = gan_jax.layers.BatchNorm(3)
    own = linen.meta.unbox(ours.init(jax.random.key(0), nhwc(reals), True))
    own = jax.tree.map(lambda leaf: leaf.astype(np.float64) if leaf.ndim else leaf, own)
    for x in (reals, fakes):
        own |= ours.apply(own, nhwc(x), True, mutable=["batch_stats"])[1]
    return theirs.running_mean, lefts[-1]["batch_stats"]["mean"], own["batch_stats"]["mean"]


def spectral_norm(train: bool) -> tuple[Any, Any, Any]:
    """After the weight has moved."""
    w, moved = numbers(6, 4), numbers(6, 4) + 0.3 * numbers(6, 4, seed=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of u and v
        module: Any = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6, bias=False).double())
    with torch.no_grad():
        original = module.parametrizations.weight.original
        original.copy_(torch.tensor(w))
        module.train()
        module(torch.zeros(1, 4, dtype=torch.float64))
        u, v = (module.parametrizations.weight[0].__getattr__(name).numpy().copy() for name in ("_u", "_v"))
        original.copy_(torch.tensor(moved))
        module.train(train)
        x = numbers(3, 4, seed=2)
        expected = module(torch.tensor(x)).numpy()
    naive = linen.SpectralNorm(linen.Dense(6, use_bias=False, param_dtype=jnp.float64))
    variables = naive.init(jax.random.key(0), x, update_stats=False)
    stats = jax.tree.map(lambda leaf: u[None] if leaf.ndim == 2 else leaf, variables["batch_stats"])
    values = {"params": {"layer_instance": {"kernel": moved.T}}, "batch_stats": stats}
    ours = gan_jax.layers.Linear(4, 6, ZEROS, spectral=True)
    own = {"params": {"kernel": moved.T}, "batch_stats": {"weight_u": u, "weight_v": v}}
    made, _ = naive.apply(values, x, update_stats=train, mutable=["batch_stats"])
    return expected, made, ours.apply(own, x, train, mutable=["batch_stats"])[0]


def slope(function: Callable[[Any], Any], naive: Callable[[Any], Any], ours: Callable[[Any], Any], at: Any) -> Any:
    """Gradients of three functions at the same points, where some are ties."""
    x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(function(x).sum(), x)
    value = jnp.asarray(at, jnp.float64)
    return expected, *(jax.grad(lambda x, f=f: f(x).sum())(value) for f in (naive, ours))


def values(function: Callable[[Any], Any], naive: Callable[[Any], Any], ours: Callable[[Any], Any], at: Any) -> Any:
    """Values of three functions at the same points."""
    value = jnp.asarray(at, jnp.float64)
    return function(torch.tensor(at, dtype=torch.float64)), naive(value), ours(value)


def penalty_at_zero() -> tuple[Any, Any, Any]:
    """The gradient of (|g| - 1)^2 where g is zero for one image."""
    g = np.stack([np.zeros(4), numbers(4)])
    x = torch.tensor(g, requires_grad=True)
    (expected,) = torch.autograd.grad((x.norm(dim=1) - 1).square().sum(), x)
    value = jnp.asarray(g)
    naive = jax.grad(lambda x: ((jnp.linalg.norm(x, axis=1) - 1) ** 2).sum())(value)
    ours = jax.grad(lambda x: gan_jax.losses.PENALTIES["gradient-penalty"].value(x[:, None, None]).sum())(value)
    return expected, naive, ours


def optimizer(
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
        gradients = [scale * numbers(8, seed=step) for step in range(steps)]
        weight = nn.Parameter(torch.tensor(begin_scale * numbers(8, seed=99)))
        begin, optimizer = weight.detach().numpy().copy(), theirs([weight])
        for gradient in gradients:
            weight.grad = torch.tensor(gradient)
            optimizer.step()
        with jax.enable_x64(dtype == np.float64):
            value: Any = {"w": jnp.asarray(begin, dtype)}
            own: Any
            own, state, kept = value, naive.init(value), ours.init(value)
            for gradient in gradients:
                grads = {"w": jnp.asarray(gradient, dtype)}
                update, state = naive.update(grads, state, value)
                value = optax.apply_updates(value, update)
                own, kept = ours.update(own, grads, kept, jnp.asarray(1e-3, dtype), jnp.asarray(1e-3, dtype))
        moved = (weight.detach().numpy(), value["w"], own["w"])
        return tuple(np.asarray(each, np.float64) - begin.astype(dtype) for each in moved)  # type: ignore[return-value]

    return pair


def clip() -> tuple[Any, Any, Any]:
    """Gradients of norm 1e-4, clipped to half of it."""
    gradient, largest = 1e-4 * numbers(8) / np.linalg.norm(numbers(8)), 0.5e-4
    weight = nn.Parameter(torch.zeros(8, dtype=torch.float64))
    weight.grad = torch.tensor(gradient)
    nn.utils.clip_grad_norm_([weight], largest)
    naive: Any
    naive, _ = optax.clip_by_global_norm(largest).update({"w": jnp.asarray(gradient)}, optax.EmptyState())
    clipped, begin = gan_jax.optimizers.Clipped(gan_jax.optimizers.SGD(0.0), largest), {"w": jnp.zeros(8)}
    ours, _ = clipped.update(begin, {"w": jnp.asarray(gradient)}, clipped.init(begin), 1.0, 0.0)
    return weight.grad, naive["w"], -ours["w"]


class Averaged(NamedTuple):
    """What of a state the average of the weights is made of."""

    generator: Any
    generator_ema: Any


def average() -> tuple[Any, Any, Any]:
    """The first average of a weight that begins at itself."""
    values = [numbers(4, seed=i) for i in range(3)]
    expected = values[0]
    for value in values[1:]:
        expected = 0.9 * expected + 0.1 * value
    ema = optax.ema(0.9, debias=True)
    naive: Any = None
    own: Any = Averaged(generator=values[0], generator_ema=jnp.asarray(values[0]))
    state = ema.init({"w": jnp.asarray(values[0])})
    for value in values[1:]:
        naive, state = ema.update({"w": jnp.asarray(value)}, state)
        own = own._replace(generator=jnp.asarray(value))
        own = gan_jax.step.update_average(own, SimpleNamespace(ema_complement=jnp.asarray(0.1)))  # type: ignore[arg-type]
    return expected, naive["w"], own.generator_ema


def beginning() -> tuple[Any, Any, Any]:
    """One weight of the same network in both backends, and what Flax draws for it."""
    twins = [backend(name, SMALL) for name in BACKENDS]
    expected, ours = (twin.export(twin.init())["generator/stem.conv.weight"] for twin in twins)
    return expected, linen.initializers.lecun_normal()(jax.random.key(0), expected.shape), ours


def snapshot() -> tuple[Any, Any, Any]:
    """A weight before an update in place, read afterwards."""
    weight = nn.Parameter(torch.tensor(numbers(4)))
    before = weight.detach().numpy().copy()
    view, copied = weight.detach().numpy(), gan_torch.step_trace.to_numpy({"weight": weight})["weight"]
    weight.grad = torch.ones(4, dtype=torch.float64)
    torch.optim.SGD([weight], lr=0.5).step()
    return before, view, copied


def single() -> tuple[Any, Any, Any]:
    """A float64 array that becomes one of JAX, in a process of the default settings and in one of this project's."""
    with jax.enable_x64(False), warnings.catch_warnings(action="ignore"):
        naive = np.asarray(jnp.asarray(numbers(4)), np.float64)
    with jax.enable_x64(True):
        ours = np.asarray(jnp.asarray(numbers(4)))
    return numbers(4), naive, ours
