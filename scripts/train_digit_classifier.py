"""Train the classifier that counts modes of digits: ``python scripts/train_digit_classifier.py``.

A classifier of clean digits counts a few dozen modes in images of all 1,000 that are slightly grey, noisy and blurred:
it answers anything. This one is trained on digits that are disturbed in those ways and keeps its answers. The script
prints its accuracies on MNIST's 10,000 test images, none of which it was trained on; about four minutes on two cores.
``--out`` writes the weights, batch normalisation folded into the convolutions: how ``gan_shared/weights`` was made.
Other versions and other numbers of threads give other bits, and numbers by other weights are not comparable.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import environment

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gan_shared.data import Dataset

NEEDED = ("gan_shared", "torch", "torchvision")
EPOCHS, BATCH, LEARNING_RATE, SMOOTHING, SEED = 2, 128, 3e-3, 0.05, 0


def main(argv: list[str] | None = None) -> int:
    """Enter an environment that has torch, train, print the table, write the file, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="safetensors file to write the weights to")
    arguments = parser.parse_args(argv)
    if not all(find_spec(name) for name in NEEDED):
        python = environment.ensure("torch", "vgg")
        return environment.run([str(python), __file__, *(sys.argv[1:] if argv is None else argv)])
    from gan_shared.errors import UserError, one_line

    try:
        train(arguments.out)
    except (UserError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def train(out: Path | None) -> None:
    """Train on MNIST's 60,000 images, print the accuracies on its test images, write the weights where asked.

    Raises:
        UserError: MNIST cannot be had.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from gan_shared import data
    from gan_shared.atomic import replacing

    images, labels = _tensors(data.load("mnist", 32, 1))
    held_out = _tensors(data.load_held_out("mnist", 32, 1))
    torch.manual_seed(SEED)
    network = classifier()
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    steps = EPOCHS * len(_batches(len(images)))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    loss = torch.zeros(())
    for epoch in range(EPOCHS):
        for rows in _batches(len(images)):
            loss = cross_entropy(network(disturbed(images[rows])), labels[rows], label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}", flush=True)
    print(_table(network.eval(), *held_out))
    if out is None:
        return
    from safetensors.torch import save_file

    with replacing(out) as temporary:
        save_file(folded(network), temporary, metadata={"format": "pt"})
        temporary.chmod(out.parent.stat().st_mode & 0o666)
    print(f"wrote {out}")


def classifier() -> "nn.Sequential":
    """Return the network in training mode: (batch, 1, 32, 32) from 0 to 1 -> (batch, 10)."""
    from torch import nn

    from gan_shared.feature_plans import DIGITS, DIGITS_CLASSIFIER, DIGITS_HIDDEN

    layers: list[nn.Module] = []
    for each, pooled in DIGITS:
        layers += [nn.Conv2d(each.inputs, each.outputs, each.kernel, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(each.outputs), nn.ReLU(), *([nn.MaxPool2d(2)] if pooled else [])]
    hidden, last = (nn.Linear(each.inputs, each.outputs) for each in (DIGITS_HIDDEN, DIGITS_CLASSIFIER))
    return nn.Sequential(*layers, nn.Flatten(), hidden, nn.ReLU(), last)


def folded(network: "nn.Sequential") -> dict[str, "Tensor"]:
    """Return the weights by the names of ``gan_shared/feature_plans.py``: batch normalisation is part of a convolution.

    With y = (w * x - mean) scale / sqrt(variance + eps) + shift, both factors belong to the kernel; in float64.
    """
    from torch import nn

    from gan_shared.feature_plans import DIGITS, DIGITS_CLASSIFIER, DIGITS_HIDDEN

    state = {name: value.double() for name, value in network.state_dict().items()}
    tensors = {}
    convolutions = [place for place, each in enumerate(network) if isinstance(each, nn.Conv2d)]
    for (convolution, _), place in zip(DIGITS, convolutions, strict=True):
        scale, shift, mean, variance = (
            state[f"{place + 1}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = scale / (variance + nn.BatchNorm2d(1).eps).sqrt()
        tensors[f"{convolution.name}.weight"] = state[f"{place}.weight"] * factor[:, None, None, None]
        tensors[f"{convolution.name}.bias"] = shift - mean * factor
    linears = [place for place, each in enumerate(network) if isinstance(each, nn.Linear)]
    for each, place in zip((DIGITS_HIDDEN, DIGITS_CLASSIFIER), linears, strict=True):
        tensors |= {f"{each.name}.{part}": state[f"{place}.{part}"] for part in ("weight", "bias")}
    return {name: value.float().contiguous() for name, value in tensors.items()}


def disturbed(images: "Tensor") -> "Tensor":
    """Move, blur, grey and spoil a batch (batch, 1, 32, 32) as generators do; half of the images by each."""
    import torch

    images = moved(images)
    if torch.rand(()) < 0.5:
        images = blurred(images, float(torch.empty(()).uniform_(0.3, 1.2)))
    background = _some(images, 0.5) * _uniform(images, 0.0, 0.4)
    ceiling = 1 - _some(images, 0.5) * _uniform(images, 0.0, 0.4)
    images = background + images * (ceiling - background).clamp(min=0.2)
    coarse = torch.rand(len(images), 1, 4, 4) * _uniform(images, 0.0, 0.3) * _some(images, 0.4)
    images = images + torch.nn.functional.interpolate(coarse, images.shape[2:], mode="bicubic").clamp(min=0)
    images = images + torch.randn_like(images) * _uniform(images, 0.0, 0.15) * _some(images, 0.6)
    return images.clamp(0, 1)


def moved(images: "Tensor") -> "Tensor":
    """Rotate by up to 0.2 rad, scale by 15%, shear by 0.15 and shift by 18% of half the width, each image its own."""
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    angle, shear = _uniform(images, -0.2, 0.2).flatten(), _uniform(images, -0.15, 0.15).flatten()
    sizes = [_uniform(images, 0.85, 1.15).flatten() for _ in range(2)]
    shifts = [_uniform(images, -0.18, 0.18).flatten() for _ in range(2)]
    cosine, sine = angle.cos(), angle.sin()
    rows = [
        torch.stack([cosine * sizes[0], (shear - sine) * sizes[1], shifts[0]], 1),
        torch.stack([sine * sizes[0], cosine * sizes[1], shifts[1]], 1),
    ]
    grid = affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return grid_sample(images, grid, align_corners=False)


def blurred(images: "Tensor", deviation: float) -> "Tensor":
    """Blur by a Gaussian of a deviation in pixels."""
    from torchvision.transforms.functional import gaussian_blur

    return gaussian_blur(images, [7, 7], [deviation, deviation])


# Disturbances that the accuracies are printed of; none but the blur is drawn exactly so in training.
DISTURBANCES: dict[str, Callable[["Tensor"], "Tensor"]] = {
    "clean": lambda x: x,
    "grey .1": lambda x: x.clamp(min=0.1),
    "grey .2": lambda x: x.clamp(min=0.2),
    "grey .3": lambda x: x.clamp(min=0.3),
    "noise .2": lambda x: _noisy(x, 0.2),
    "blur 1.2": lambda x: blurred(x, 1.2),
    "contrast .5": lambda x: 0.5 * x,
    "grey .1, noise .1, blur .7": lambda x: _noisy(blurred(x, 0.7).clamp(min=0.1), 0.1),
}


def _table(network: "nn.Module", images: "Tensor", labels: "Tensor") -> str:
    """Return the accuracies in percent, a line each."""
    import torch

    lines = []
    for name, disturb in DISTURBANCES.items():
        torch.manual_seed(1)
        with torch.no_grad():
            right = sum(
                int((network(disturb(images[rows])).argmax(1) == labels[rows]).sum()) for rows in _batches(len(images))
            )
        lines.append(f"{name:28} {100 * right / len(images):.2f}")
    return "\n".join(lines)


def _noisy(images: "Tensor", deviation: float) -> "Tensor":
    """Add Gaussian noise."""
    import torch

    return (images + deviation * torch.randn_like(images)).clamp(0, 1)


def _tensors(dataset: "Dataset") -> tuple["Tensor", "Tensor"]:
    """Return images (N, 1, 32, 32) from 0 to 1 and labels (N,)."""
    import torch

    images = torch.tensor(dataset.images[:, :, :, 0]).float() / 255
    return images[:, None], torch.tensor(dataset.labels)


def _batches(count: int) -> "Sequence[Tensor]":
    """Return the rows of one epoch in a random order."""
    import torch

    return torch.randperm(count).split(BATCH)


def _uniform(images: "Tensor", low: float, high: float) -> "Tensor":
    """Draw a number for each image, (batch, 1, 1, 1)."""
    import torch

    return torch.empty(len(images), 1, 1, 1).uniform_(low, high)


def _some(images: "Tensor", share: float) -> "Tensor":
    """Draw 1 for a share of the images and 0 for the others, (batch, 1, 1, 1)."""
    return (_uniform(images, 0.0, 1.0) < share).float()


if __name__ == "__main__":
    sys.exit(main())
