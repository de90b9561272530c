"""Canonical names, shapes and types of a state's tensors: those of torch, pinned."""

import numpy as np
import pytest

from gan_shared.config import Config
from tests.fixtures import EACH, backend_class


def norm(prefix: str, channels: int) -> dict[str, tuple[int, ...]]:
    vectors = ("weight", "bias", "running_mean", "running_var")
    return {f"{prefix}.{name}": (channels,) for name in vectors} | {f"{prefix}.num_batches_tracked": ()}


# torch's names and shapes of the dcgan preset at 16 pixels, in grey; latents of 100, 64 and 128 channels.
GENERATOR = {
    "stem.conv.weight": (100, 128, 4, 4),
    **norm("stem.norm", 128),
    "stages.0.conv.weight": (128, 64, 4, 4),
    **norm("stages.0.norm", 64),
    "image.weight": (64, 1, 4, 4),
}
DISCRIMINATOR = {
    "stem.weight": (64, 1, 4, 4),
    "stages.0.conv.weight": (128, 64, 4, 4),
    **norm("stages.0.norm", 128),
    "head.weight": (1, 128, 4, 4),
}


def pinned() -> dict[str, tuple[int, ...]]:
    networks = {"generator": GENERATOR, "discriminator": DISCRIMINATOR, "generator_ema": GENERATOR}
    keys = {f"{network}/{name}": shape for network in networks for name, shape in networks[network].items()}
    for network in ("generator", "discriminator"):
        for name, shape in networks[network].items():
            if "running" not in name and "num_batches" not in name:
                prefix = f"optimizer/{network}.state.{name}"
                keys |= {f"{prefix}.exp_avg": shape, f"{prefix}.exp_avg_sq": shape, f"{prefix}.step": ()}
    return keys | {"trainer/step": (), "trainer/augment_probability": (), "trainer/augment_signs": ()}


@pytest.mark.parametrize("name", EACH)
def test_names_shapes_and_types_are_pinned(name):
    backend = backend_class(name)(Config().with_options(resolution=16, channels=1, device="cpu"))
    tensors = backend.export(backend.init())
    assert {key: value.shape for key, value in tensors.items()} == pinned()
    for key, value in tensors.items():
        counts = key.endswith("num_batches_tracked") or key == "trainer/step"
        assert value.dtype == (np.int64 if counts else np.float32), key
