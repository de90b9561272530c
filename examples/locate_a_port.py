"""A small port with a mistake, and what the locator reports: ``python examples/locate_a_port.py``.

The original is a discriminator in PyTorch. The port looks the same in Flax, has the same number of parameters, makes
outputs of the same shape, and trains. Needs both frameworks: ``pip install "twin-gan[parity]"``.
"""

import numpy as np
from flax import linen
from torch import nn

from gan_parity.locate import locate, report


class Original(nn.Module):
    """Images (batch, height, width, 3) of 16 pixels to logits."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Conv2d(8, 16, 4, stride=2, padding=1)
        self.head = nn.Linear(16 * 4 * 4, 1)

    def forward(self, x):
        x = nn.functional.leaky_relu(self.norm(self.stem(x)), 0.2)
        x = nn.functional.leaky_relu(self.body(x), 0.2)
        return self.head(x.flatten(1))


class Port(linen.Module):
    """The same in Flax. Or is it?"""

    padding: str | tuple[tuple[int, int], ...] = "SAME"
    in_torchs_order: bool = False

    @linen.compact
    def __call__(self, x):
        x = linen.Conv(8, (3, 3), strides=2, padding=self.padding, name="stem", param_dtype=x.dtype)(x)
        x = linen.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5, name="norm", param_dtype=x.dtype)(x)
        x = linen.leaky_relu(x, 0.2)
        x = linen.Conv(16, (4, 4), strides=2, padding=((1, 1), (1, 1)), name="body", param_dtype=x.dtype)(x)
        x = linen.leaky_relu(x, 0.2)
        x = x.transpose(0, 3, 1, 2) if self.in_torchs_order else x
        return linen.Dense(1, name="head", param_dtype=x.dtype)(x.reshape(x.shape[0], -1))


def main():
    """Correct the port one mistake at a time, as the locator names them."""
    images = np.random.default_rng(0).standard_normal((4, 16, 16, 3))
    attempts = {
        "as it was written": Port(),
        "with padding on both sides": Port(padding=((1, 1), (1, 1))),
        "and the map flattened in torch's order": Port(padding=((1, 1), (1, 1)), in_torchs_order=True),
    }
    for what, port in attempts.items():
        print(report(locate(Original(), port, images), what), end="\n\n")


if __name__ == "__main__":
    main()
