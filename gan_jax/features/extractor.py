"""A feature network on a device, from arrays to arrays."""

from collections.abc import Mapping

import jax
import numpy as np

from gan_jax.features import FEATURE_NETWORKS
from gan_jax.precision import precision_scope
from gan_jax.state import Device
from gan_shared.backend import FeatureExtractor


def feature_extractor(network: str, tensors: Mapping[str, np.ndarray], device: Device) -> FeatureExtractor:
    """Return a function of images (N, height, width, channel) that gives features (N, feature) and logits (N, class).

    Args:
        network: a name in ``FEATURE_NETWORKS``.
        tensors: its tensors by name.
        device: where it is computed.
    """
    compute = jax.jit(FEATURE_NETWORKS[network])
    held = jax.device_put(dict(tensors), device)

    def extract(images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        with precision_scope("float32"):
            features, logits = compute(held, jax.device_put(images, device))
            return np.asarray(features), None if logits is None else np.asarray(logits)

    return extract
