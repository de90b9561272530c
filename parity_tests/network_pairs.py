"""A network in both backends, filled with the same values: how it is built, evaluated, differentiated and compared."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen, traverse_util
from torch import nn

from gan_jax import interop
from gan_jax.models import dcgan as jax_dcgan
from gan_jax.models import inception as jax_inception
from gan_jax.models import patch as jax_patch
from gan_jax.models import r3gan as jax_r3gan
from gan_jax.models import resnet as jax_resnet
from gan_shared import initial
from gan_shared.architecture import patch_plan
from gan_torch.models import dcgan, inception, patch, r3gan, resnet

FILES = {
    "dcgan": (dcgan, jax_dcgan),
    "dcgan-deep": (dcgan, jax_dcgan),
    "resnet": (resnet, jax_resnet),
    "inception": (inception, jax_inception),
    "r3gan": (r3gan, jax_r3gan),
    "r3gan-tiny": (r3gan, jax_r3gan),
    "patch": (patch, jax_patch),
}
# The narrowest that every family allows.
WIDTHS = {
    "dcgan": 1 / 32,
    "dcgan-deep": 1 / 32,
    "resnet": 1 / 32,
    "inception": 1 / 8,
    "r3gan": 1 / 12,
    "r3gan-tiny": 0.25,
    "patch": 1 / 32,
}
# Rounding of a few thousand float64 additions, with two digits to spare; of each tensor's own maximum.
TOLERANCE = 1e-11
# A tensor whose true gradient is zero holds rounding alone, no larger than this part of the network's gradients.
NOTHING = 1e-12
# The latent has room for two categorical latents and four other numbers.
BATCH, LATENT, CLASSES = 4, 20, 3
# Without most of XLA's optimisations, which are most of the time of compiling.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


class Case(NamedTuple):
    """What a network is compared on.

    Attributes:
        x: latents (batch, latent) or images (batch, height, width, channel).
        labels: (batch,), or None without classes.
        weights: of each output in the loss.
    """

    x: np.ndarray
    labels: np.ndarray | None
    weights: np.ndarray


class Twins(NamedTuple):
    """One network in both backends, its JAX variables as shapes that carry declarations."""

    module: nn.Module
    network: linen.Module
    variables: dict[str, Any]
    labelled: bool


def build(role: str, family: str, resolution: int, channels: int, width: float, **own: Any) -> Twins:
    """Build the twins without values; torch's on the meta device."""
    own |= {"plan": family} if family.startswith(("dcgan", "r3gan")) else {}
    sizes = (resolution, channels, LATENT, width) if role == "Generator" else (resolution, channels, width)
    ours, theirs = (getattr(file, role) for file in FILES[family])
    with torch.device("meta"):
        module = ours(*sizes, **own)
    network = theirs(*sizes, **own)
    shape = (2, LATENT) if role == "Generator" else (2, resolution, resolution, channels)
    labels = jax.ShapeDtypeStruct((2,), jnp.int32) if own.get("num_classes") else None
    initialize = partial(network.init, jax.random.key(0), train=False)
    variables = jax.eval_shape(lambda x, y: initialize(x, labels=y), jax.ShapeDtypeStruct(shape, jnp.float32), labels)
    return Twins(module, network, variables, bool(own.get("num_classes")))


def torch_declared(module: nn.Module) -> dict[str, tuple[tuple[int, ...], initial.Initial]]:
    """Every tensor's name, shape and declaration, as torch's modules give them."""
    declared = {}
    for path, layer in module.named_modules():
        for key, how in getattr(layer, "declared", {}).items():
            declared[f"{path}.{key}"] = (tuple(getattr(layer, key).shape), how)
    return declared


def jax_declared(variables: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], initial.Initial]]:
    """Every tensor's canonical name, shape and declaration, as the linen modules give them."""
    declared = {}
    for (_, *path), leaf in traverse_util.flatten_dict(variables).items():
        assert isinstance(leaf, interop.Declared), path
        shape = interop.torch_shape(tuple(path), leaf.value.shape)
        declared[interop.torch_name(tuple(path))] = (shape, leaf.initial)
    return declared


def values(twins: Twins, disturbance: float = 0.1) -> dict[str, np.ndarray]:
    """Draw the initial tensors and disturb them, so that none is trivial.

    Every second bias stays at zero: with bias-free stems and zeros in the images, activations are taken at their ties.
    """
    random = np.random.default_rng(0)
    drawn = initial.tensors(0, "network", torch_declared(twins.module))
    moved = {}
    for name, value in drawn.items():
        noise = disturbance * random.standard_normal(value.shape)
        if name.endswith(".bias"):
            noise[..., ::2] = 0
        still = name.endswith(("weight_u", "weight_v", "num_batches_tracked"))
        moved[name] = value.astype(np.int64 if name.endswith("tracked") else np.float64) + (0 if still else noise)
    return moved


def fill(twins: Twins, tensors: dict[str, np.ndarray]) -> tuple[nn.Module, dict[str, Any]]:
    """Return torch's module and JAX's variables with these values in float64."""
    module = twins.module.to_empty(device="cpu").double()
    module.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()})
    shapes = jax.tree.map(as_float64, linen.meta.unbox(twins.variables))
    return module, {name: interop.from_torch(tensors, tree) for name, tree in shapes.items()}


def as_float64(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Widen a floating tensor; counters stay integers."""
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return jax.ShapeDtypeStruct(leaf.shape, jnp.float64 if floating else leaf.dtype)


def images(resolution: int) -> np.ndarray:
    """Images (batch, height, width, channel) with a blank half, a blank image and a constant channel."""
    x = np.random.default_rng(1).uniform(-1, 1, (BATCH, resolution, resolution, 2))
    x[0, :, : resolution // 2] = 0
    x[1] = 0
    x[2, :, :, 0] = 0.5
    return x


def channels_first(x: np.ndarray) -> torch.Tensor:
    """Turn the layout of JAX into that of torch."""
    return torch.tensor(x if x.ndim < 4 else x.transpose(0, 3, 1, 2))


def channels_last(x: torch.Tensor) -> np.ndarray:
    """Turn what torch gives into what JAX gives."""
    array = x.detach().numpy()
    return array if array.ndim < 4 else array.transpose(0, 2, 3, 1)


def torch_results(module: nn.Module, case: Case, strength: float) -> dict[str, Any]:
    """Outputs in both modes, buffers, the gradient to the input, and of the loss and its penalty to the parameters.

    The loss is a weighted sum of the outputs, the penalty the squared gradient to the input (R1), whose own gradient
    is a second derivative. Where an image has several logits, it is the gradient of their weighted sum.
    """
    parameters = dict(module.named_parameters())
    x = channels_first(case.x).requires_grad_()
    labels = () if case.labels is None else (torch.tensor(case.labels),)
    with torch.no_grad():
        evaluated = module.eval()(x, *labels)
    output = module.train()(x, *labels)
    loss = (output * channels_first(case.weights)).sum()
    (slope,) = torch.autograd.grad(loss, x, create_graph=True)
    total = loss + strength * slope.square().sum()
    gradients = torch.autograd.grad(total, list(parameters.values()), materialize_grads=True)
    return {
        "output": {"evaluation": channels_last(evaluated), "training": channels_last(output)},
        "input gradient": {"x": channels_last(slope)},
        "gradient": {name: grad.numpy() for name, grad in zip(parameters, gradients, strict=True)},
        "buffer": {name: value.numpy() for name, value in module.named_buffers()},
    }


def jax_results(network: linen.Module, variables: dict[str, Any], case: Case, strength: float) -> dict[str, Any]:
    """Return what ``torch_results`` does, from one compiled function."""
    labels = None if case.labels is None else jnp.asarray(case.labels)

    @partial(jax.jit, compiler_options=QUICK)
    def results(params: Any, stats: Any, x: Any) -> Any:
        def loss(x: Any, params: Any) -> Any:
            variables = {"params": params, **stats}
            output, mutated = network.apply(variables, x, train=True, labels=labels, mutable=["batch_stats"])
            return (output * case.weights).sum(), (output, mutated)

        def total(params: Any) -> Any:
            (value, more), slope = jax.value_and_grad(loss, has_aux=True)(x, params)
            # Spares the compiler a second derivative that is not used.
            slope = slope if strength else jax.lax.stop_gradient(slope)
            return value + strength * jnp.square(slope).sum(), (slope, *more)

        evaluated = network.apply({"params": params, **stats}, x, train=False, labels=labels)
        return evaluated, *jax.grad(total, has_aux=True)(params)

    stats = {name: tree for name, tree in variables.items() if name != "params"}
    evaluated, gradients, (slope, output, mutated) = results(variables["params"], stats, case.x)
    return {
        "output": {"evaluation": np.asarray(evaluated), "training": np.asarray(output)},
        "input gradient": {"x": np.asarray(slope)},
        "gradient": interop.to_torch(gradients),
        "buffer": interop.to_torch(mutated.get("batch_stats", {})),
    }


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Require each tensor within the tolerance of its own maximum; of the network's where its truth is zero."""
    for kind in expected:
        assert found[kind].keys() == expected[kind].keys(), kind
        largest = max((np.abs(value).max() for value in expected[kind].values()), default=0.0)
        for name, theirs in expected[kind].items():
            ours = found[kind][name]
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), (kind, name)
            assert np.isfinite(ours).all() and np.isfinite(theirs).all(), (kind, name)
            own, error = np.abs(theirs).max(), np.abs(ours - theirs).max()
            scale = own if own > NOTHING * largest else largest
            assert error <= TOLERANCE * scale, f"{kind} {name}: error {error:.3g}, scale {scale:.3g}"


def logits_shape(family: str, resolution: int) -> tuple[int, ...]:
    """Return the shape of one image's logits: one number, or a map of what the last two convolutions leave."""
    if family != "patch":
        return ()
    size = resolution // 2 ** (len(patch_plan(resolution, 1.0).strides) - 1) - 2
    return (size, size)


def compare(role: str, family: str, resolution: int, own: dict[str, Any], strength: float) -> None:
    """Compare everything about one network with random weights, images and labels."""
    twins = build(role, family, resolution, 2, WIDTHS[family], **own)
    module, variables = fill(twins, values(twins))
    random = np.random.default_rng(2)
    x = random.standard_normal((BATCH, LATENT)) if role == "Generator" else images(resolution)
    labels = np.array([0, 2, 2, 1]) if twins.labelled else None
    shape = (BATCH, resolution, resolution, 2) if role == "Generator" else (BATCH, *logits_shape(family, resolution))
    case = Case(x, labels, random.standard_normal(shape))
    assert_same(jax_results(twins.network, variables, case, strength), torch_results(module, case, strength))
