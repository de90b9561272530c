"""Every preset at full size, also those beyond two cores: steps are built, traced and lowered, and compute nothing."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import pytest
import torch
from flax import linen as nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import gan_jax.models
import gan_jax.optimizers
import gan_jax.state
import gan_jax.step
import gan_torch.models
import gan_torch.optimizers
import gan_torch.state
import gan_torch.step
from gan_jax.network import Network
from gan_shared.checkpoint import TRAINED
from gan_shared.config import AUGMENTATIONS, RANDOM
from gan_shared.presets import PRESETS
from gan_shared.schedules import knobs


def full_size(preset):
    config = replace(PRESETS[preset], channels=3, device="cpu")
    if config.condition == "vgg16":
        config = replace(config, vgg_weights=RANDOM)
    if config.levels:
        config = replace(config, resolution=config.levels[-1])  # the lowest is a dcgan like any other
    return replace(config, classes=10) if config.conditional else config


def shapes(config):
    """Shapes of a step's inputs, by name."""
    updates, batch = config.discriminator_updates, config.batch_size
    numbers = sum(AUGMENTATIONS.values()) if config.augment else 0
    return {
        "images": (config.real_rows, batch, *config.image_shape),
        "labels": (config.real_rows, batch) if config.conditional else None,
        "latents": (updates + int(config.fresh_latents), batch, config.latent_size),
        "mix": (updates, batch),
        "augment": (updates + 1, 3, batch, numbers),
    }


class Elsewhere(Exception):
    """An operation met a tensor that is not on the device of the run."""


class OnMeta(TorchDispatchMode):
    """Refuse every operation, of derivatives and optimisers too, that takes or makes a tensor on another device.

    The meta device by itself lets a CPU's kernel into a convolution. It stands for a GPU: reading a number raises.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
        if not all(tensor.is_meta for tensor in tensors):
            raise Elsewhere(f"{func} on {[tensor.device.type for tensor in tensors]}")
        return out


def play_on_meta(config):
    """Play one step of torch on tensors without values and return its scalars."""
    kinds = {"images": torch.uint8, "labels": torch.int64}
    with torch.device("meta"):
        inputs: Any = {
            name: None if shape is None else torch.empty(shape, dtype=kinds.get(name, torch.float32))
            for name, shape in shapes(config).items()
        }
        players = gan_torch.models.Networks(gan_torch.models.generator(config), gan_torch.models.discriminator(config))
        average, vgg = gan_torch.models.generator(config), gan_torch.models.load_vgg(config)
        moments = {
            name: gan_torch.optimizers.find(config, name).init(dict(getattr(players, name).named_parameters()))
            for name in TRAINED
        }
        number, count = torch.zeros(()), torch.zeros((), dtype=torch.int64)
    state = gan_torch.state.State(
        generator=players.generator,
        discriminator=players.discriminator,
        generator_ema=average,
        vgg=None if vgg is None else vgg.to("meta"),
        generator_moments=moments["generator"],
        discriminator_moments=moments["discriminator"],
        augment_probability=number,
        augment_signs=number,
        step=count,
        first_non_finite_step=count,
    )
    with OnMeta():
        step = gan_torch.step.make_step(config)
        _, scalars = step(state, gan_torch.step.StepInputs(**inputs), knobs(config, 0))
    return scalars


@pytest.mark.parametrize("preset", PRESETS)
def test_the_torch_step_runs_on_one_device_and_reads_nothing_back(preset):
    scalars = play_on_meta(full_size(preset))
    assert {value.shape for value in scalars.values()} == {()}
    assert scalars["discriminator_loss"].dtype == scalars["generator_loss"].dtype == torch.float32


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (lambda sign: sign + float(sign), RuntimeError),  # waits for the device
        (lambda sign: sign + torch.zeros(()), Elsewhere),
        (lambda sign: F.conv2d(torch.ones_like(sign).expand(1, 1, 1, 1), torch.ones(1, 1, 1, 1)), Elsewhere),
    ],
    ids=["read back", "made elsewhere", "made elsewhere for a convolution"],
)
def test_what_would_wait_for_a_gpu_or_miss_it_raises(monkeypatch, fault, raised):
    adapt = gan_torch.step.adapt_augment
    monkeypatch.setattr(gan_torch.step, "adapt_augment", lambda config, state, sign: adapt(config, state, fault(sign)))
    with pytest.raises(raised):
        play_on_meta(full_size("r3gan-tiny"))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_jax_step_lowers_for_a_gpu(preset):
    config = full_size(preset)
    networks = gan_jax.models.networks(config)
    variables = nn.meta.unbox(gan_jax.state._initial_variables(config, networks))

    def player(role):
        trees = dict(variables[role])
        return Network(getattr(networks, role), trees.pop("params"), trees)

    players = {role: player(role) for role in ("generator", "discriminator")}
    moments = {
        role: jax.eval_shape(gan_jax.optimizers.find(config, role).init, each.parameters)
        for role, each in players.items()
    }
    number: Any = jax.ShapeDtypeStruct((), jnp.float32)
    count: Any = jax.ShapeDtypeStruct((), jnp.int32)
    kinds = {"images": jnp.uint8, "labels": jnp.int32}
    inputs: Any = {
        name: None if shape is None else jax.ShapeDtypeStruct(shape, kinds.get(name, jnp.float32))
        for name, shape in shapes(config).items()
    }
    state = gan_jax.state.State(
        generator=players["generator"],
        discriminator=players["discriminator"],
        generator_ema=players["generator"],
        vgg=jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), networks.vgg),
        generator_moments=moments["generator"],
        discriminator_moments=moments["discriminator"],
        augment_probability=number,
        augment_signs=number,
        step=count,
        first_non_finite_step=count,
    )
    floats = jax.tree.map(lambda _: number, knobs(config, 0))
    step = jax.jit(gan_jax.step.make_step(config), donate_argnums=0)
    traced = step.trace(state, gan_jax.step.StepInputs(**inputs), floats)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), traced.out_info[0]) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    # The library's grouped convolution, not the CPU's form of one convolution per group.
    grouped = PRESETS[preset].generator == "r3gan"
    assert ("feature_group_count = 96" in text) == grouped
