"""A feature network on a device, from arrays to arrays."""

from collections.abc import Mapping

import numpy as np
import torch

from gan_shared.backend import FeatureExtractor
from gan_torch.features import FEATURE_NETWORKS
from gan_torch.precision import precision_scope


def feature_extractor(network: str, tensors: Mapping[str, np.ndarray], device: torch.device) -> FeatureExtractor:
    """Return a function of images (N, height, width, channel) that gives features (N, feature) and logits (N, class).

    Args:
        network: a name in ``FEATURE_NETWORKS``.
        tensors: its tensors by name.
        device: where it is computed.
    """
    compute = FEATURE_NETWORKS[network]
    held = {name: torch.tensor(value, device=device) for name, value in tensors.items()}

    def extract(images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        with precision_scope("float32"), torch.no_grad():
            # A view whose memory stays channels-last.
            features, logits = compute(held, torch.from_numpy(images).to(device).permute(0, 3, 1, 2))
            return features.cpu().numpy(), None if logits is None else logits.cpu().numpy()

    return extract
