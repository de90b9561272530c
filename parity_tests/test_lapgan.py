"""Laplacian pyramids: decomposing and composing, and the levels of one LAPGAN trained in different backends."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gan_jax.image_conditions
import gan_jax.sample
import gan_jax.train
import gan_torch.image_conditions
import gan_torch.sample
import gan_torch.train
from gan_parity import runs
from gan_parity.configurations import CONFIGS
from gan_parity.runs import BACKENDS
from parity_tests.pair import assert_close

MAINS = {"torch": gan_torch.train.main, "jax": gan_jax.train.main}
SAMPLES = {"torch": gan_torch.sample.main, "jax": gan_jax.sample.main}
LEVELS = (8, 16, 32)


@pytest.mark.parametrize("backend", BACKENDS)
def test_decomposing_then_composing_gives_the_image(backend):
    """A real image, taken apart into its lowest level and the details above, and put together again."""
    package = {"torch": gan_torch.image_conditions, "jax": gan_jax.image_conditions}[backend]
    digits = runs.real_batch(CONFIGS["lapgan"].with_options(batch_size=64), 0).images[0] / 127.5 - 1
    digits = digits * (1 + 1e-3 * digits)  # no longer multiples of 1 / 255
    image: Any = jnp.asarray(digits) if backend == "jax" else torch.from_numpy(digits).permute(0, 3, 1, 2)

    def nhwc(found):
        return np.asarray(found) if backend == "jax" else found.permute(0, 2, 3, 1).numpy()

    images = [package.downsample(image, size) for size in LEVELS]
    below = [
        package.lower_pyramid_level(CONFIGS["lapgan"].with_options(resolution=size), None, image) for size in LEVELS[1:]
    ]
    for size, found in zip((32, 16, 8), reversed(images), strict=True):
        blocks = digits.reshape(64, size, 32 // size, size, 32 // size, 1)
        assert_close(nhwc(found), blocks.mean((2, 4)), 1e-14, f"level {size}")
    for low, found in zip(images, below, strict=False):
        assert_close(nhwc(found), nhwc(low).repeat(2, 1).repeat(2, 2), 0.0, "enlarged")
    details = [whole - low for whole, low in zip(images[1:], below, strict=True)]
    assert min(float(abs(detail).max()) for detail in details) > 0.1
    made = images[0]
    for size, detail in zip(LEVELS[1:], details, strict=True):
        # What the level below made, enlarged; sampling rounds it to bytes between.
        made = package.lower_pyramid_level(CONFIGS["lapgan"].with_options(resolution=size), None, made) + detail
    assert_close(made, images[-1], 1e-15, "the image")


@pytest.fixture(scope="module")
def lapgans(tmp_path_factory):
    """Two LAPGANs whose levels are trained in one backend and in the other; the middle one changes it halfway."""
    size = ["lapgan", "--width", "0.125", "--batch-size", "8", "--device", "cpu", "--precision", "float64"]
    size += ["--latent-size", "8", "--log-every", "4", "--ema-half-life-nimg", "10"]
    size += ["--generator-learning-rate", "0.01"]  # contrast within six steps
    folders = {}
    for name, (lowest, first, second, highest) in {
        "a": ("torch", "jax", "torch", "jax"),
        "b": ("jax", "torch", "jax", "torch"),
    }.items():
        folder = folders[name] = tmp_path_factory.mktemp(name)

        def train(backend, level, steps, *more, folder=folder):
            argv = [*more, "--run-dir", str(folder / f"level-{level}"), "--steps", str(steps)]
            assert MAINS[backend](argv) == 0

        train(highest, 32, 6, *size, "--resolution", "32")
        train(first, 16, 3, *size, "--resolution", "16")
        train(lowest, 8, 6, *size, "--resolution", "8")
        train(second, 16, 6, "--resume")
    return folders


def images(backend, folder, out, *more):
    assert SAMPLES[backend]([str(folder), "--num-images", "6", "--device", "cpu", "--out", str(out), *more]) == 0
    with np.load(out) as archive:
        return archive["images"].astype(int)


def test_lapgans_trained_in_both_backends_make_the_same_images(lapgans, tmp_path):
    """In float64 every pixel is equal, whichever backend trained which level and whichever samples."""
    made = [
        images(backend, folder, tmp_path / f"{name}-{backend}.npz")
        for name, folder in lapgans.items()
        for backend in BACKENDS
    ]
    assert made[0].shape == (6, 32, 32, 1) and made[0].std() > 5
    for other in made[1:]:
        assert np.array_equal(other, made[0])


def test_each_level_adds_to_the_one_below(lapgans, tmp_path):
    """Stopped at a level the sample is that level's; the next one begins with it."""
    low, high = (images("torch", lapgans["a"], tmp_path / f"{n}.npz", "--resolution", n) for n in ("8", "16"))
    assert low.shape[1] == 8 and high.shape[1] == 16
    again = high.reshape(6, 8, 2, 8, 2, 1).mean((2, 4))
    # After six steps the detail is small: the level below still dominates.
    assert np.corrcoef(again.ravel(), low.ravel())[0, 1] > 0.5
