"""VGG16 of both backends against torchvision's own module, on photographs; recomputed activations; reconstructions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from sklearn.datasets import load_sample_images
from torchvision.models import VGG16_Weights, vgg16

import gan_jax.examples
import gan_jax.image_conditions
import gan_jax.models
import gan_torch.examples
import gan_torch.image_conditions
import gan_torch.models
import gan_torch.models.vgg16
import gan_torch.step
from gan_parity import runs
from gan_parity.compare import ONE_STEP
from gan_parity.configurations import CONFIGS
from gan_parity.runs import BACKENDS, run
from gan_shared import vgg16 as vgg16_shared
from gan_shared.architecture import VGG_CONVOLUTIONS
from gan_shared.backend import Inputs
from gan_shared.draws import sample_latents
from parity_tests.pair import assert_close, assert_states_close

# Sums of up to 25,088 products, each rounded once, with two digits to spare.
TOLERANCE = 1e-12


def photographs(size):
    """Two photographs, cut at random places, uint8 (2, size, size, 3)."""
    generator, cut = np.random.default_rng(0), []
    for picture in load_sample_images().images:
        top, left = (generator.integers(side - size + 1) for side in picture.shape[:2])
        cut.append(picture[top : top + size, left : left + size])
    return np.stack(cut)


@pytest.fixture(scope="module")
def theirs():
    """torchvision's module, with biases other than 0, and its weights in a file as scripts/vgg_weights.py writes it."""
    torch.manual_seed(0)
    module = vgg16(weights=None)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.1, 0.1)
    return module.eval()


@pytest.fixture(scope="module")
def file(theirs, tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg16.safetensors"
    save_file({name: value.numpy() for name, value in theirs.state_dict().items()}, path)
    return path


def both(layer, file):
    """Both backends' VGG16 up to ``layer``, filled from ``file`` and computing in float64."""
    config = CONFIGS["vgg-inversion"].with_options(vgg_layer=layer, vgg_weights=str(file), width=1.0)
    ours: Any = gan_torch.image_conditions.load_vgg(config)
    other: Any = gan_jax.image_conditions.load_vgg(config.with_options(resolution=224))
    return ours.double(), jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), other)


@pytest.mark.parametrize("layer", [*VGG_CONVOLUTIONS, "fc6"])
def test_features_are_those_of_torchvision_layer_by_layer(theirs, file, layer):
    """On real photographs, from bytes on, through what a step does with them, with torchvision's own preprocessing."""
    size = 224 if layer == "fc6" else 64
    pictures = photographs(size)[: 1 if layer == "fc6" else 2]
    ours, other = both(layer, file)
    bytes_ = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    # torchvision's transform ends in float32: its constants are applied in float64 here, and compared with it.
    prepare = VGG16_Weights.IMAGENET1K_V1.transforms(crop_size=size, resize_size=size)
    mean, deviation = (
        torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (prepare.mean, prepare.std)
    )
    x = (bytes_.double() / 255 - mean) / deviation
    assert_close(x.float(), prepare(bytes_), 1e-6, "torchvision's transform")  # float32 arithmetic in two orders
    with torch.no_grad():
        double = theirs.double()
        if layer == "fc6":
            expected = double.classifier[:2](double.features(x).flatten(1))
        else:
            expected = double.features[: VGG_CONVOLUTIONS[layer][0] + 2](x)
    assert float(expected.max()) > 0
    for output in ("tanh", "sigmoid"):  # pixels from -1 to 1, and from 0 to 1
        config = CONFIGS["vgg-inversion"].with_options(resolution=size, output_activation=output)
        images = gan_torch.examples.to_float(config, torch.from_numpy(pictures), torch.float64)
        found = gan_torch.image_conditions.vgg_features(config, ours, images)
        assert_close(found, expected, TOLERANCE, f"torch {layer}")
        images = gan_jax.examples.to_float(config, jnp.asarray(pictures), jnp.float64)
        also = np.asarray(gan_jax.image_conditions.vgg_features(config, other, images))
        also = also if layer == "fc6" else also.transpose(0, 3, 1, 2)
        assert_close(also, expected, TOLERANCE, f"jax {layer}")


@pytest.mark.parametrize("layer", ["relu4_1", "relu5_3", "fc6"])
def test_one_step_from_other_layers(layer):
    """Every tensor of a step whose generator is given that layer's features; test_step.py has relu3_3 and relu4_3."""
    resolution = 224 if layer == "fc6" else 32
    config = CONFIGS["vgg-inversion"].with_options(vgg_layer=layer, resolution=resolution, width=1 / 32, batch_size=2)
    begin = runs.backend("torch", config).export(runs.backend("torch", config).init())
    exported = []
    for name in BACKENDS:
        twin = runs.backend(name, config)
        state, (line,) = run(twin, twin.restore(begin), 0, 1)
        exported.append((twin.export(state), line))
    (theirs, line), (ours, also) = exported
    assert_states_close(ours, theirs, ONE_STEP, config)
    assert line["reconstruction_loss"] > 0
    assert_close(also["reconstruction_loss"], line["reconstruction_loss"], ONE_STEP, "reconstruction_loss")


def test_no_checkpoint_carries_the_weights_of_the_vgg():
    twin = runs.backend("torch", CONFIGS["vgg-inversion"])
    names = twin.export(twin.init())
    assert not [name for name in names if "features" in name or "vgg" in name]


@pytest.mark.parametrize("name", BACKENDS)
def test_recomputed_activations_change_nothing(name):
    """But for the order of sums: VGG16 is applied to one image at a time."""
    exported = []
    for recompute in (False, True):
        twin = runs.backend(name, CONFIGS["vgg-inversion"].with_options(recompute=recompute))
        state, _ = run(twin, twin.init(), 0, 2)
        exported.append(twin.export(state))
    kept, again = exported
    assert_states_close(again, kept, ONE_STEP, CONFIGS["vgg-inversion"])


def test_torch_checkpoints_vgg16_image_by_image(monkeypatch):
    calls: list[int] = []
    features: Any = gan_torch.models.vgg16.Vgg16._features

    def counted(self, x):
        calls.append(len(x))
        return features(self, x)

    monkeypatch.setattr(gan_torch.models.vgg16.Vgg16, "_features", counted)
    counts = []
    for recompute in (False, True):
        calls.clear()
        twin = runs.backend("torch", CONFIGS["vgg-inversion"].with_options(recompute=recompute, seed=1))
        run(twin, twin.init(), 0, 1)
        counts.append(list(calls))
    # Reals pass once and without gradients; the activations of the fakes are computed again.
    assert counts == [[4, 4], [1] * 12]


def test_jax_checkpoints_vgg16():
    texts = []
    for recompute in (False, True):
        config = CONFIGS["vgg-inversion"].with_options(recompute=recompute)
        network: Any = gan_jax.image_conditions.load_vgg(config)

        def total(images, network=network):
            return gan_jax.models.call(network, images)[0].sum()

        texts.append(str(jax.make_jaxpr(jax.grad(total))(jnp.zeros((1, 32, 32, 3)))))
    assert ["checkpoint" in text or "remat" in text for text in texts] == [False, True]


@pytest.mark.parametrize("name", ["vgg-inversion", "vgg-inversion-grey"])
def test_reconstructions_are_the_same_within_a_grey_level(name):
    """float32, from one state."""
    config = CONFIGS[name].with_options(precision="float32")
    twins = [runs.backend(backend, config) for backend in BACKENDS]
    tensors = twins[0].export(twins[0].init())
    tensors["generator_ema/image.weight"] *= 500  # contrast, without which all that is made is grey
    pictures = photographs(32)[..., : config.data.channels]
    labels = np.arange(2) if config.data.class_conditional else None
    inputs = Inputs(sample_latents(0, 2, config.networks.latent_size), labels, np.ascontiguousarray(pictures))
    ours, others = (twin.sample(twin.restore(tensors), inputs).astype(int) for twin in twins)
    assert ours.std() > 5 and np.abs(ours - others).max() <= 1


def squared_differences(config):
    """Mean squared differences of pixels and of features between the first reals and grey, without our own code.

    Features are those of torch's own modules.
    """
    vgg: Any = gan_torch.image_conditions.load_vgg(config)
    layers = []
    for i, block in enumerate(vgg.plan.blocks):
        layers += [torch.nn.MaxPool2d(2)] if i else []
        for place, low, high in block:
            layer = torch.nn.Conv2d(low, high, 3, padding=1)
            layer.load_state_dict(vgg.features[str(place)].state_dict())
            layers += [layer, torch.nn.ReLU()]
    module = torch.nn.Sequential(*layers).double()
    mean, deviation = (np.array(values)[:, None, None] for values in (vgg16_shared.MEAN, vgg16_shared.DEVIATION))
    pictures = runs.real_batch(config, 0).images[0].transpose(0, 3, 1, 2) / 255
    with torch.no_grad():
        real, grey = (module(torch.from_numpy((x - mean) / deviation)) for x in (pictures, np.full_like(pictures, 0.5)))
    return np.square(2 * pictures - 1).mean(), np.square((real - grey).numpy()).mean()


# JAX compiles a step for each pair of weights: one of them is enough there.
WEIGHTS = [("torch", (3.0, 0.0)), ("torch", (0.0, 2.0)), ("torch", (50.0, 1.0)), ("jax", (50.0, 1.0))]


@pytest.mark.fast
@pytest.mark.parametrize(("backend", "weights"), WEIGHTS, ids=lambda part: str(part))
def test_the_reconstruction_error_is_the_weighted_sum_of_mean_squared_differences(backend, weights):
    """Of a generator whose last layer is zero, so that it makes grey."""
    config = CONFIGS["vgg-inversion"].with_options(pixel_weight=weights[0], feature_weight=weights[1])
    pixels, features = squared_differences(config)
    twin = runs.backend(backend, config)
    tensors = twin.export(twin.init())
    tensors["generator/image.weight"] = np.zeros_like(tensors["generator/image.weight"])
    _, (line,) = run(twin, twin.restore(tensors), 0, 1)
    assert_close(line["reconstruction_loss"], weights[0] * pixels + weights[1] * features, 1e-12, backend)


@pytest.mark.parametrize("name", BACKENDS)
def test_bfloat16_features_are_close_to_float32(name):
    """Colours are normalised in float32: rounded before, they would be off by half a percent in all that follows."""
    package = {"torch": gan_torch, "jax": gan_jax}[name]
    twins = [CONFIGS["vgg-inversion"].with_options(precision=precision) for precision in ("float32", "bfloat16")]
    found = []
    for config in twins:
        vgg, pictures = package.image_conditions.load_vgg(config), photographs(32)
        if name == "torch":
            images = package.examples.to_float(config, torch.from_numpy(pictures), torch.float32)
            with torch.no_grad():
                found.append(package.image_conditions.vgg_features(config, vgg, images).numpy())
        else:
            images = package.examples.to_float(config, jnp.asarray(pictures), jnp.float32)
            found.append(np.asarray(package.image_conditions.vgg_features(config, vgg, images)))
    # Ten layers, each rounded to 8 bits: errors of a few times 2^-9 of the largest value.
    assert_close(found[1], found[0], 10 * 2**-9, name)
    assert not np.array_equal(*found)
