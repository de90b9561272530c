"""Images as feature networks are given them: resized like Pillow and TensorFlow 1, scaled, with borders."""

import numpy as np
import pytest
from PIL import Image

from gan_shared.feature_networks import FEATURE_NETWORKS, default_networks, join, prepare
from gan_shared.resize import resize
from tests.frameworks import needs

pytestmark = pytest.mark.fast

SIZES = [(32, 128), (28, 128), (256, 128), (200, 299), (64, 32), (37, 32), (128, 128)]


def noise(size: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(size).integers(0, 256, (2, size, size, channels), dtype=np.uint8)


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_bicubic_is_that_of_pillow(before, after) -> None:
    images = noise(before)
    planes = images.astype(np.float32).transpose(0, 3, 1, 2).reshape(-1, before, before)
    pictures = (Image.fromarray(plane).resize((after, after), Image.Resampling.BICUBIC) for plane in planes)
    expected = np.stack([np.asarray(picture) for picture in pictures]).reshape(2, 3, after, after).clip(0, 255)
    # Grey levels; float32 sums in another order, 5e-5 is measured.
    assert np.abs(resize(images, after, "bicubic") - expected.transpose(0, 2, 3, 1)).max() < 2e-4


@pytest.mark.parametrize(("before", "after"), SIZES)
@pytest.mark.parametrize("_", [pytest.param(None, marks=needs("torch"))])
def test_bilinear_is_that_of_tensorflow_1(before, after, _) -> None:
    torch = pytest.importorskip("torch")
    module = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    images = noise(before)
    planes = torch.tensor(images).permute(0, 3, 1, 2).float()
    expected = module.interpolate_bilinear_2d_like_tensorflow1x(planes, size=(after, after), align_corners=False)
    # As above.
    assert np.abs(resize(images, after, "bilinear-tf1") - expected.permute(0, 2, 3, 1).numpy()).max() < 2e-4


def test_grey_images_become_three_equal_colours_and_are_scaled() -> None:
    grey = noise(128, 1)
    found = prepare(FEATURE_NETWORKS["efficientnet-lite0"], grey)
    assert found.shape == (2, 128, 128, 3) and found.dtype == np.float32
    assert (found == (grey.astype(np.float32) - 127) / 128).all()


def test_digits_of_28_pixels_get_a_border_and_channels_are_images_of_their_own() -> None:
    images = noise(28)
    found = prepare(FEATURE_NETWORKS["digits"], images)
    assert found.shape == (6, 32, 32, 1)
    # The channels of an image one after the other.
    inner = found[:, 2:30, 2:30, 0].reshape(2, 3, 28, 28).transpose(0, 2, 3, 1)
    assert (inner == images.astype(np.float32) / 255).all()
    assert not found[:, [0, 1, 30, 31]].any() and not found[:, :, [0, 1, 30, 31]].any()


def test_vgg16_is_given_the_colours_of_torchvision() -> None:
    images = noise(224)
    found = prepare(FEATURE_NETWORKS["vgg16"], images)
    expected = (images / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    assert np.abs(found - expected).max() < 1e-5  # float32


def test_digits_of_the_channels_write_a_number_with_the_least_confidence_of_them() -> None:
    logits = np.full((6, 10), -20.0)
    for row, (digit, height) in enumerate(((4, 20), (0, 1), (7, 20), (9, 20), (9, 20), (9, 20))):
        logits[row, digit] = -20 + height
    found = join(FEATURE_NETWORKS["digits"], np.arange(12.0).reshape(6, 2), logits, 3)
    assert found.classes.tolist() == [407, 999] and found.features.tolist() == [
        [0, 1, 2, 3, 4, 5],
        [6, 7, 8, 9, 10, 11],
    ]
    assert found.confidence == pytest.approx([np.e / (np.e + 9), 1], rel=1e-6)


@pytest.mark.parametrize(
    ("data", "channels", "first"),
    [
        ("mnist", 1, "digits"),
        ("mnist", 3, "efficientnet-lite0"),
        ("stacked-mnist", 3, "digits"),
        ("fashion-mnist", 1, "efficientnet-lite0"),
        ("some/folder", 3, "efficientnet-lite0"),
    ],
)
def test_digits_are_counted_where_every_channel_has_one(data, channels, first) -> None:
    assert default_networks(data, channels)[0] == first
