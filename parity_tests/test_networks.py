"""Networks of both backends by themselves: declarations, published sizes, forwards, derivatives, buffers."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import linen

import gan_jax.layers as jax_layers
import gan_torch.layers as torch_layers
from gan_jax.models.dcgan import categorical as jax_categorical
from gan_shared import initial
from gan_shared.architecture import inception_plan, patch_plan, r3gan_plan
from gan_shared.errors import UserError
from gan_shared.families import FAMILIES
from gan_torch.models import patch, r3gan
from gan_torch.models.dcgan import categorical as torch_categorical
from parity_tests.network_pairs import (
    BATCH,
    CLASSES,
    FILES,
    LATENT,
    WIDTHS,
    build,
    channels_first,
    compare,
    fill,
    images,
    jax_declared,
    logits_shape,
    torch_declared,
    values,
)

# Case -> network, resolution, options. At 32 pixels the tiny R3GAN has maps of two widths.
GENERATORS = {
    "dcgan": ("dcgan", 16, {}),
    "dcgan-of-20-pixels": ("dcgan", 20, {}),
    "dcgan-labels": ("dcgan", 16, {"num_classes": CLASSES, "activation": "silu", "output": "sigmoid"}),
    "dcgan-deep-labels": ("dcgan-deep", 28, {"num_classes": CLASSES, "activation": "leaky_relu"}),
    "resnet-labels": ("resnet", 16, {"num_classes": CLASSES}),
    "inception-labels": ("inception", 16, {"num_classes": CLASSES, "output": "none"}),
    "r3gan-tiny-labels": ("r3gan-tiny", 32, {"num_classes": CLASSES}),
}
DISCRIMINATORS = {
    "dcgan": ("dcgan", 16, {}),
    "dcgan-spectral-labels": ("dcgan", 16, {"num_classes": CLASSES, "norm": "spectral"}),
    "dcgan-none": ("dcgan", 24, {"norm": "none", "activation": "gelu"}),
    "dcgan-deep-none-labels": ("dcgan-deep", 28, {"num_classes": CLASSES, "norm": "none"}),
    "dcgan-deep-spectral": ("dcgan-deep", 16, {"norm": "spectral", "activation": "silu"}),
    "resnet": ("resnet", 16, {}),
    "resnet-spectral-labels": ("resnet", 16, {"num_classes": CLASSES, "norm": "spectral"}),
    "resnet-batch": ("resnet", 16, {"norm": "batch", "activation": "leaky_relu"}),
    "inception-spectral-labels": ("inception", 16, {"num_classes": CLASSES}),
    "inception-batch": ("inception", 16, {"norm": "batch", "activation": "relu"}),
    "r3gan-tiny": ("r3gan-tiny", 32, {}),
    "r3gan-tiny-spectral-labels": ("r3gan-tiny", 32, {"num_classes": CLASSES, "norm": "spectral"}),
    "patch-batch": ("patch", 16, {"activation": "silu"}),
    "patch-spectral-labels": ("patch", 32, {"num_classes": CLASSES, "norm": "spectral"}),
    "patch-none-labels": ("patch", 20, {"num_classes": CLASSES, "norm": "none"}),
}


@pytest.mark.fast
@pytest.mark.parametrize("name", GENERATORS)
def test_generators_are_equal_with_their_gradients(name):
    # No loss needs a generator's second derivative.
    compare("Generator", *GENERATORS[name], strength=0.0)


@pytest.mark.fast
@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminators_are_equal_to_the_second_derivative(name):
    compare("Discriminator", *DISCRIMINATORS[name], strength=1.0)


@pytest.mark.fast
def test_categorical_latents_are_sharp_softmaxes_of_the_first_latents():
    latents = np.random.default_rng(0).normal(size=(3, 20))
    powers = np.exp(4 * latents[:, :16].reshape(3, 2, 8))
    made = np.sqrt(8) * powers / powers.sum(2, keepdims=True)
    expected = np.concatenate([made.reshape(3, 16), latents[:, 16:]], 1)
    for found in (torch_categorical(torch.from_numpy(latents), 2), jax_categorical(jnp.asarray(latents), 2)):
        np.testing.assert_allclose(found, expected, rtol=1e-14)  # a few roundings of float64


@pytest.mark.parametrize("family", FILES)
def test_every_resolution_declares_the_same_tensors_and_makes_its_size(family):
    for resolution in FAMILIES[family].resolutions:
        for role in (role.capitalize() for role in FAMILIES[family].roles):
            twins = build(role, family, resolution, 3, WIDTHS[family], num_classes=CLASSES)
            declared = torch_declared(twins.module)
            assert declared == jax_declared(twins.variables)
            assert declared.keys() == twins.module.state_dict().keys()
            shape = (2, LATENT) if role == "Generator" else (2, 3, resolution, resolution)
            made = twins.module.eval()(
                torch.empty(shape, device="meta"), torch.zeros(2, dtype=torch.int64, device="meta")
            )
            logits = (2, *logits_shape(family, resolution))
            assert made.shape == ((2, 3, resolution, resolution) if role == "Generator" else logits)


def counts(family: str, resolution: int, latent_size: int, classes: int = 0) -> list[int]:
    """Count the parameters of torch's pair, generator first, without values."""
    own = {"num_classes": classes} | ({"plan": family} if family.startswith("r3gan") else {})
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
    pair = [build(role, "r3gan", resolution, 3, 1.0, num_classes=classes) for role in ("Generator", "Discriminator")]
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


@pytest.mark.parametrize("backend", [0, 1], ids=["torch", "jax"])
def test_blocks_refuse_channels_that_they_cannot_divide(backend):
    conv, norm = (torch_layers, jax_layers)[backend].conv_and_norm("none")
    with pytest.raises(ValueError, match=r"`out_channels` \(=6\) must be divisible by `branches` \(=4\)"):
        FILES["inception"][backend].Block(8, 6, conv, norm, "relu")
    with pytest.raises(ValueError, match=r"`2 \* channels` \(=24\) must be divisible by `channels per group` \(=16\)"):
        FILES["r3gan"][backend].Block(12, 1.0, "relu", conv)


def test_r3gan_refuses_batch_normalisation():
    for file in FILES["r3gan"]:
        with pytest.raises(UserError, match=r"discriminator_norm: found batch, .* choices: none, spectral"):
            network: Any = file.Discriminator(32, 3, 1 / 96, norm="batch")
            network.init(jax.random.key(0), jnp.zeros((2, 32, 32, 3)), train=False)


def test_patchgan_has_the_published_parameters_strides_and_receptive_field():
    """The 70x70 PatchGAN has 2.769 million parameters (their code prints it) on pairs of images, six channels."""
    with torch.device("meta"):
        module = patch.Discriminator(256, 6)
    assert sum(parameter.numel() for parameter in module.parameters()) == 2_768_705
    twin = build("Discriminator", "patch", 256, 6, 1.0)
    assert sum(leaf.size for leaf in jax.tree.leaves(twin.variables["params"])) == 2_768_705
    assert patch_plan(256, 1.0) == ((64, 128, 256, 512), (2, 2, 2, 1))
    assert patch_plan(28, 1.0) == patch_plan(16, 1.0) == ((64, 128, 256), (2, 2, 1))
    for resolution, field in ((128, 70), (28, 34)):
        # No activation leaves out a pixel, and no two logits in the middle see the border.
        narrow = build("Discriminator", "patch", resolution, 1, 1 / 32, norm="none", activation="silu")
        module, _ = fill(narrow, values(narrow))
        x = torch.tensor(np.random.default_rng(3).standard_normal((1, 1, resolution, resolution)), requires_grad=True)
        logits = module(x)
        middle = logits.shape[1] // 2
        (slope,) = torch.autograd.grad(logits[0, middle, middle], x)
        rows, columns = slope[0, 0].nonzero().T
        expected = min(field, resolution)
        assert rows.max() - rows.min() + 1 == columns.max() - columns.min() + 1 == expected, resolution


def test_patchgan_projects_the_features_under_each_logit():
    """The logits of a label are those without one, plus its vector times the features in each window of 4x4."""
    twins = build("Discriminator", "patch", 32, 2, 1 / 32, norm="none", num_classes=CLASSES)
    tensors = values(twins)
    module, _ = fill(twins, tensors)
    x, taken = channels_first(images(32)), {}
    head = module.get_submodule("head")
    head.register_forward_hook(lambda layer, inputs, output: taken.update(f=inputs[0], y=output))
    logits = module(x, torch.tensor([0, 1, 2, 1]))
    vectors = torch.tensor(tensors["embedding.weight"])[[0, 1, 2, 1]]
    padded = F.pad(taken["f"], (1, 1, 1, 1))
    for i, j in ((0, 0), (0, 1), (1, 1)):
        window = padded[:, :, i : i + 4, j : j + 4].sum((2, 3))
        torch.testing.assert_close(logits[:, i, j], taken["y"][:, 0, i, j] + (vectors * window).sum(1))


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
def test_a_class_vector_of_zero_leaves_the_logits_without_labels(family):
    """A label whose vector is zero leaves the logits of the network without labels; R3GAN's, whose logit is a product,
    gives zero."""
    make = partial(build, "Discriminator", family, FAMILIES[family].resolutions[0], 2, WIDTHS[family], norm="none")
    twins = make(num_classes=CLASSES)
    tensors = values(twins)
    tensors["embedding.weight"][1] = 0
    module, _ = fill(twins, tensors)
    x = channels_first(images(FAMILIES[family].resolutions[0]))
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
    twins = build(role, "r3gan-tiny", 32, 3, WIDTHS["r3gan-tiny"], num_classes=CLASSES)
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
