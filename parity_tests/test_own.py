"""A loss and optimisers of one's own, written once in each framework, train the twins alike in float64."""

from typing import Any

import jax
import numpy as np
import optax
import pytest
import torch

import gan_jax
import gan_torch

IMAGES = np.random.default_rng(0).integers(0, 256, (24, 16, 16), np.uint8)
LABELS = np.arange(24) % 3


def relativistic_average(softplus: Any) -> Any:
    """Each logit against the other side's mean (Jolicoeur-Martineau 2018), which no named loss is."""
    return (
        lambda real, fake: softplus(fake.mean() - real) + softplus(fake - real.mean()),
        lambda real, fake: softplus(real.mean() - fake) + softplus(real - fake.mean()),
    )


LOSSES = {
    "torch": relativistic_average(lambda x: -torch.nn.functional.logsigmoid(-x)),
    "jax": relativistic_average(jax.nn.softplus),
}
OPTIMIZERS = {
    "torch": lambda parameters: torch.optim.Adagrad(parameters, 0.01, eps=0.0, initial_accumulator_value=0.1),
    "jax": optax.chain(optax.scale_by_rss(0.1, 0.0), optax.scale(-0.01)),
}
CLASSES = {"torch": gan_torch.GAN, "jax": gan_jax.GAN}


def trained(name: str, **options: Any) -> Any:
    gan: Any = CLASSES[name](
        loss=LOSSES[name],
        resolution=16,
        width=0.125,
        latent_size=8,
        batch_size=8,
        precision="float64",
        penalties=("r1", "r2"),
        gamma=0.5,
        class_conditional=True,
        num_classes=3,
        device="cpu",
        **options,
    )
    return gan.fit(IMAGES, LABELS, steps=5, progress=False)


@pytest.mark.parametrize("optimizer", ["named", "own"])
def test_the_twins_train_alike(optimizer):
    ours, theirs = (
        trained(name, **({} if optimizer == "named" else {"optimizer": OPTIMIZERS[name]})) for name in CLASSES
    )
    ends = [gan.backend.export(gan.state) for gan in (ours, theirs)]
    names = [{name for name in end if not name.startswith("optimizer/") or optimizer == "named"} for end in ends]
    assert names[0] == names[1]
    begun = ours.backend.export(ours.backend.init())
    for name in names[0]:
        mine, other = (end[name].astype(np.float64) for end in ends)
        # Adam divides by the size of a gradient: what is rounding of a gradient of zero is amplified.
        scale = max(1e-3, np.abs(mine).max())
        assert np.abs(mine - other).max() <= 1e-9 * scale, name
    moved = [name for name in names[0] if name.endswith("weight") and (ends[0][name] != begun[name]).any()]
    assert any(name.startswith("generator/") for name in moved) and any(
        name.startswith("discriminator/") for name in moved
    )
    lines = [gan.history[-1] for gan in (ours, theirs)]
    assert lines[0].keys() == lines[1].keys()
    for key, value in lines[0].items():
        assert abs(value - lines[1][key]) <= 1e-10 * max(1.0, abs(value)), key
