"""Networks of both backends by themselves: declarations, published sizes, forwards, derivatives, buffers."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import linen, traverse_util
from torch import nn

from gan_jax import interop
from gan_jax.models import dcgan as jax_dcgan
from gan_jax.models import inception as jax_inception
from gan_jax.models import r3gan as jax_r3gan
from gan_jax.models import resnet as jax_resnet
from gan_shared import initial
from gan_shared.architecture import inception_plan, r3gan_plan
from gan_shared.config import RESOLUTIONS
from gan_shared.errors import UserError
from gan_torch.models import dcgan, inception, r3gan, resnet

FILES = {
    "dcgan": (dcgan, jax_dcgan),
    "resnet": (resnet, jax_resnet),
    "inception": (inception, jax_inception),
    "r3gan": (r3gan, jax_r3gan),
    "r3gan-tiny": (r3gan, jax_r3gan),
}
# The narrowest that every family allows.
WIDTHS = {"dcgan": 1 / 32, "resnet": 1 / 32, "inception": 1 / 8, "r3gan": 1 / 12, "r3gan-tiny": 0.25}
# Rounding of a few thousand float64 additions, with two digits to spare; of each tensor's own maximum.
TOLERANCE = 1e-11
# A tensor whose true gradient is zero holds rounding alone, no larger than this part of the network's gradients.
NOTHING = 1e-12
BATCH, LATENT, CLASSES = 4, 6, 3

# Case -> network, resolution, options. At 32 pixels the tiny R3GAN has maps of two widths.
GENERATORS = {
    "dcgan": ("dcgan", 16, {}),
    "dcgan-labels": ("dcgan", 16, {"classes": CLASSES, "activation": "silu", "output": "sigmoid"}),
    "resnet-labels": ("resnet", 16, {"classes": CLASSES}),
    "inception-labels": ("inception", 16, {"classes": CLASSES, "output": "none"}),
    "r3gan-tiny-labels": ("r3gan-tiny", 32, {"classes": CLASSES}),
}
DISCRIMINATORS = {
    "dcgan": ("dcgan", 16, {}),
    "dcgan-spectral-labels": ("dcgan", 16, {"classes": CLASSES, "norm": "spectral"}),
    "dcgan-none": ("dcgan", 16, {"norm": "none", "activation": "gelu"}),
    "resnet": ("resnet", 16, {}),
    "resnet-spectral-labels": ("resnet", 16, {"classes": CLASSES, "norm": "spectral"}),
    "resnet-batch": ("resnet", 16, {"norm": "batch", "activation": "leaky_relu"}),
    "inception-spectral-labels": ("inception", 16, {"classes": CLASSES}),
    "inception-batch": ("inception", 16, {"norm": "batch", "activation": "relu"}),
    "r3gan-tiny": ("r3gan-tiny", 32, {}),
    "r3gan-tiny-spectral-labels": ("r3gan-tiny", 32, {"classes": CLASSES, "norm": "spectral"}),
}
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
    own |= {"plan": family} if family.startswith("r3gan") else {}
    sizes = (resolution, channels, LATENT, width) if role == "Generator" else (resolution, channels, width)
    ours, theirs = (getattr(file, role) for file in FILES[family])
    with torch.device("meta"):
        module = ours(*sizes, **own)
    network = theirs(*sizes, **own)
    shape = (2, LATENT) if role == "Generator" else (2, resolution, resolution, channels)
    labels = jax.ShapeDtypeStruct((2,), jnp.int32) if own.get("classes") else None
    initialize = partial(network.init, jax.random.key(0), train=False)
    variables = jax.eval_shape(lambda x, y: initialize(x, labels=y), jax.ShapeDtypeStruct(shape, jnp.float32), labels)
    return Twins(module, network, variables, bool(own.get("classes")))


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

    Every second bias stays at zero: with bias-free stems and zeros in the images, activations meet their ties.
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
    """Turn what JAX reads into what torch reads."""
    return torch.tensor(x if x.ndim < 4 else x.transpose(0, 3, 1, 2))


def channels_last(x: torch.Tensor) -> np.ndarray:
    """Turn what torch gives into what JAX gives."""
    array = x.detach().numpy()
    return array if array.ndim < 4 else array.transpose(0, 2, 3, 1)


def torch_results(module: nn.Module, case: Case, strength: float) -> dict[str, Any]:
    """Outputs in both modes, buffers, the gradient to the input, and of the loss and its penalty to the parameters.

    The loss is a weighted sum of the outputs, the penalty the squared gradient to the input (R1), whose own gradient
    is a second derivative.
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
            # Spares the compiler a second derivative that nobody asks for.
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


def compare(role: str, family: str, resolution: int, own: dict[str, Any], strength: float) -> None:
    """Compare everything about one network with random weights, images and labels."""
    twins = build(role, family, resolution, 2, WIDTHS[family], **own)
    module, variables = fill(twins, values(twins))
    random = np.random.default_rng(2)
    x = random.standard_normal((BATCH, LATENT)) if role == "Generator" else images(resolution)
    labels = np.array([0, 2, 2, 1]) if twins.labelled else None
    shape = (BATCH, resolution, resolution, 2) if role == "Generator" else (BATCH,)
    case = Case(x, labels, random.standard_normal(shape))
    assert_same(jax_results(twins.network, variables, case, strength), torch_results(module, case, strength))


@pytest.mark.fast
@pytest.mark.parametrize("name", GENERATORS)
def test_generators(name):
    # No loss asks for a generator's second derivative.
    compare("Generator", *GENERATORS[name], strength=0.0)


@pytest.mark.fast
@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminators(name):
    compare("Discriminator", *DISCRIMINATORS[name], strength=1.0)


@pytest.mark.parametrize("family", FILES)
def test_every_resolution_declares_the_same_tensors_and_makes_its_size(family):
    for resolution in RESOLUTIONS[family]:
        for role in ("Generator", "Discriminator"):
            twins = build(role, family, resolution, 3, WIDTHS[family], classes=CLASSES)
            declared = torch_declared(twins.module)
            assert declared == jax_declared(twins.variables)
            assert declared.keys() == twins.module.state_dict().keys()
            shape = (2, LATENT) if role == "Generator" else (2, 3, resolution, resolution)
            made = twins.module.eval()(
                torch.empty(shape, device="meta"), torch.zeros(2, dtype=torch.int64, device="meta")
            )
            assert made.shape == ((2, 3, resolution, resolution) if role == "Generator" else (2,))


def counts(family: str, resolution: int, latent_size: int, classes: int = 0) -> list[int]:
    """Count the parameters of torch's pair, generator first, without values."""
    own = {"classes": classes} | ({"plan": family} if family.startswith("r3gan") else {})
    file = FILES[family][0]
    with torch.device("meta"):
        pair = (file.Generator(resolution, 3, latent_size, **own), file.Discriminator(resolution, 3, **own))
    return [sum(parameter.numel() for parameter in module.parameters()) for module in pair]


@pytest.mark.parametrize(
    ("resolution", "classes", "published"),
    [
        (32, 0, [20_732_160, 20_683_776]),  # StackedMNIST
        (32, 10, [20_781_952, 21_280_512]),  # CIFAR-10
        (64, 0, [22_429_824, 22_381_440]),  # FFHQ-64
        (256, 0, [23_057_952, 23_009_568]),  # FFHQ-256
    ],
)
def test_r3gan_has_the_published_parameter_counts(resolution, classes, published):
    assert counts("r3gan", resolution, 64, classes) == published
    pair = [build(role, "r3gan", resolution, 3, 1.0, classes=classes) for role in ("Generator", "Discriminator")]
    # The twin of the latent that build() takes is shorter: those columns of the stem are not in the count.
    missing = [(64 - LATENT) * 768, 0]
    found = [sum(leaf.size for leaf in jax.tree.leaves(twins.variables["params"])) for twins in pair]
    assert [size + rest for size, rest in zip(found, missing, strict=True)] == published


def test_sngan_32_has_the_parameters_of_its_tables():
    def conv(size: int, low: int, high: int) -> int:
        return size**2 * low * high + high

    # Without the biases that batch normalisation removes: mimicry, which has them, counts 9 * 256 more, 4,276,739.
    up = 2 * conv(3, 256, 256) + conv(1, 256, 256) - 3 * 256 + 2 * 2 * 256
    generator = (128 + 1) * 16 * 256 + 3 * up + 2 * 256 + conv(3, 256, 3)
    first = conv(3, 3, 128) + conv(3, 128, 128) + conv(1, 3, 128)
    halving = 2 * conv(3, 128, 128) + conv(1, 128, 128)
    discriminator = first + halving + 2 * 2 * conv(3, 128, 128) + 128 + 1
    assert counts("resnet", 32, 128) == [generator, discriminator] == [4_276_739 - 9 * 256, 1_053_825]
    # Ten classes: a scale and a bias for each at seven normalisations, and a vector of the last width.
    assert counts("resnet", 32, 128, 10) == [generator + 9 * 7 * 2 * 256, discriminator + 10 * 128]


def test_inception_widths_are_multiples_of_four():
    assert inception_plan(64, 1.0) == (256, 256, 256, 128, 64)
    assert all(size % 4 == 0 and size > 0 for width in (0.01, 0.3, 0.77) for size in inception_plan(64, width))


def test_r3gan_widths_always_fill_groups():
    assert r3gan_plan("r3gan", 256, 1.0).channels == (768, 768, 768, 768, 384, 192, 96)
    assert r3gan_plan("r3gan-tiny", 32, 0.5).channels == (48, 32)
    for width in (0.001, 0.1, 0.3, 1.7):
        assert all(2 * size % 16 == 0 and size > 0 for size in r3gan_plan("r3gan", 256, width).channels)


def test_r3gan_refuses_batch_normalisation():
    for file in FILES["r3gan"]:
        with pytest.raises(UserError, match=r"discriminator_norm: found batch, .* choices: none, spectral"):
            network: Any = file.Discriminator(32, 3, 1 / 96, norm="batch")
            network.init(jax.random.key(0), jnp.zeros((2, 32, 32, 3)), train=False)


def test_r3gan_begins_as_its_resampling_and_outer_convolutions():
    """Blocks begin as identities, so the first discriminator is linear: by library convolutions in float64."""
    twins = build("Discriminator", "r3gan", 32, 3, 1 / 96)
    drawn = initial.tensors(0, "network", torch_declared(twins.module))
    module, _ = fill(twins, {name: value.astype(np.float64) for name, value in drawn.items()})
    x = torch.tensor(np.random.default_rng(3).standard_normal((2, 3, 32, 32)))
    weights = module.state_dict()
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8
    y = F.conv2d(x, weights["image.weight"])
    for _ in range(3):
        y = F.conv2d(y, torch.outer(taps, taps).expand(8, 1, 4, 4), stride=2, padding=1, groups=8)
    y = (y * weights["head.weight"][:, 0]).sum((2, 3)) @ weights["linear.weight"][0]
    torch.testing.assert_close(module(x), y, rtol=0, atol=1e-12 * float(y.abs().max()))


@pytest.mark.parametrize("family", FILES)
def test_projection_and_labels(family):
    """A label whose vector is zero leaves the logit of the network without labels; R3GAN's, whose logit is a product,
    gives zero."""
    make = partial(build, "Discriminator", family, RESOLUTIONS[family][0], 2, WIDTHS[family], norm="none")
    twins = make(classes=CLASSES)
    tensors = values(twins)
    tensors["embedding.weight"][1] = 0
    module, _ = fill(twins, tensors)
    x = channels_first(images(RESOLUTIONS[family][0]))
    with torch.no_grad():
        blank, logits = (module(x, torch.full((BATCH,), label)) for label in (1, 0))
    if family.startswith("r3gan"):
        assert (blank == 0).all() and (logits != 0).all()
        return
    unlabelled, _ = fill(make(), {name: value for name, value in tensors.items() if name != "embedding.weight"})
    with torch.no_grad():
        assert (blank == unlabelled(x)).all() and (logits != blank).any()


@pytest.mark.parametrize("role", ["Generator", "Discriminator"])
def test_r3gan_computes_its_4x4_maps_in_the_type_of_the_parameters(role):
    twins = build(role, "r3gan-tiny", 32, 3, WIDTHS["r3gan-tiny"], classes=CLASSES)
    module, seen = twins.module, {}

    def watch(layer: Any, _: Any, y: Any) -> None:
        seen[names[layer]] = (y.shape[2], y.dtype)

    names = {layer: name for name, layer in module.named_modules() if isinstance(layer, r3gan.Block)}
    for layer in names:
        layer.register_forward_hook(watch)
    shape = (2, LATENT) if role == "Generator" else (2, 3, 32, 32)
    x = torch.empty(shape, dtype=torch.bfloat16, device="meta")
    result = module(x, torch.zeros(2, dtype=torch.int64, device="meta"))
    wide, half = torch.float32, torch.bfloat16
    sizes = [4, 8, 8]
    expected = [(size, wide if size == 4 else half) for size in (sizes if role == "Generator" else sizes[::-1])]
    assert list(seen.values()) == expected
    assert result.dtype == (half if role == "Generator" else wide)

    shape = (2, LATENT) if role == "Generator" else (2, 32, 32, 3)
    apply = partial(twins.network.apply, train=False, mutable=["intermediates"], capture_intermediates=True)
    given = (linen.meta.unbox(twins.variables), jax.ShapeDtypeStruct(shape, jnp.bfloat16))
    labels = jax.ShapeDtypeStruct((2,), jnp.int32)
    found, kept = jax.eval_shape(lambda variables, x, y: apply(variables, x, labels=y), *given, labels)
    assert found.dtype == (jnp.bfloat16 if role == "Generator" else jnp.float32)
    intermediates: Any = kept["intermediates"]
    for name, (size, dtype) in seen.items():
        (y,) = intermediates[name]["__call__"]
        assert y.shape[1] == size and y.dtype.name == str(dtype).removeprefix("torch."), name
