"""Every preset at full size, also those beyond two cores: steps are built, traced and lowered, and compute nothing."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
import torch
from flax import linen as nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import gan_jax.backend
import gan_jax.examples
import gan_jax.models
import gan_jax.optimizers
import gan_jax.state
import gan_jax.step
import gan_torch.backend
import gan_torch.cuda_graph
import gan_torch.examples
import gan_torch.image_conditions
import gan_torch.models
import gan_torch.optimizers
import gan_torch.state
import gan_torch.step
from gan_jax.network import Network
from gan_shared.manifest import TRAINED
from gan_shared.option_groups import AUGMENTATIONS, RANDOM
from gan_shared.presets import PRESETS
from gan_shared.schedules import ScheduleValues, constant_values, schedule_values


def full_size(preset):
    config = PRESETS[preset].with_options(channels=3, device="cpu")
    if config.image_condition.vgg_layer is not None:
        config = config.with_options(vgg_weights=RANDOM)
    if config.image_condition.pyramid_levels:
        config = config.with_options(
            resolution=config.image_condition.pyramid_levels[-1]
        )  # the lowest is a dcgan like any other
    return config.with_options(num_classes=10) if config.data.class_conditional else config


def shapes(config):
    """Shapes of a step's inputs, by name."""
    updates, batch = config.objective.discriminator_updates, config.training.batch_size
    numbers = sum(AUGMENTATIONS.values()) if config.augmentation.augment else 0
    return {
        "images": (config.real_rows, batch, *config.image_shape),
        "labels": (config.real_rows, batch) if config.data.class_conditional else None,
        "latents": (updates + int(config.objective.fresh_latents), batch, config.networks.latent_size),
        "interpolation": (updates, batch),
        "augment": (updates + 1, 3, batch, numbers),
    }


class Elsewhere(Exception):
    """An operation got a tensor that is not on the device of the run."""


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


def run_on_meta(config, captured=False):
    """Run one step of torch, or what a CUDA graph captures of it, on tensors without values; return its scalars."""
    kinds = {"images": torch.uint8, "labels": torch.int64}
    with torch.device("meta"):
        inputs: Any = {
            name: None if shape is None else torch.empty(shape, dtype=kinds.get(name, torch.float32))
            for name, shape in shapes(config).items()
        }
        networks = gan_torch.models.Networks(gan_torch.models.generator(config), gan_torch.models.discriminator(config))
        average, vgg = gan_torch.models.generator(config), gan_torch.backend.build_networks(config).image_condition
        optimizer_states = {
            name: gan_torch.optimizers.build_optimizer(config, name).init(
                dict(getattr(networks, name).named_parameters())
            )
            for name in TRAINED
        }
        number, count = torch.zeros(()), torch.zeros((), dtype=torch.int64)
    state = gan_torch.state.State(
        generator=networks.generator,
        discriminator=networks.discriminator,
        generator_ema=average,
        image_condition_network=None if vgg is None else vgg.to("meta"),
        generator_optimizer_state=optimizer_states["generator"],
        discriminator_optimizer_state=optimizer_states["discriminator"],
        augment_probability=number,
        augment_signs=number,
        step=count,
        first_non_finite_step=count,
    )
    step, given = gan_torch.step.make_step(config), gan_torch.examples.StepInputs(**inputs)
    floats = torch.zeros(len(ScheduleValues._fields), device="meta")
    with OnMeta():
        if captured:
            return gan_torch.cuda_graph.step_in_place(step, state, given, floats, constant_values(config))
        _, scalars = step(state, given, schedule_values(config, 0))
    return scalars


@pytest.mark.parametrize("preset", PRESETS)
def test_the_torch_step_runs_on_one_device_and_reads_nothing_back(preset):
    scalars = run_on_meta(full_size(preset))
    assert {value.shape for value in scalars.values()} == {()}
    assert scalars["discriminator_loss"].dtype == scalars["generator_loss"].dtype == torch.float32


@pytest.mark.parametrize("preset", ["dcgan-64", "sngan", "r3gan-tiny", "lapgan"])
def test_a_cuda_graph_captures_nothing_from_the_host(preset):
    scalars = run_on_meta(full_size(preset), captured=True)
    assert {value.shape for value in scalars.values()} == {()}


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (lambda sign: sign + float(sign), RuntimeError),  # waits for the device
        (lambda sign: sign + torch.zeros(()), Elsewhere),
        (lambda sign: F.conv2d(torch.ones_like(sign).expand(1, 1, 1, 1), torch.ones(1, 1, 1, 1)), Elsewhere),
    ],
    ids=["read back", "made elsewhere", "made elsewhere for a convolution"],
)
def test_reading_a_tensor_back_or_making_it_elsewhere_raises(monkeypatch, fault, raised):
    adapt = gan_torch.step.adapt_augment
    monkeypatch.setattr(gan_torch.step, "adapt_augment", lambda config, state, sign: adapt(config, state, fault(sign)))
    with pytest.raises(raised):
        run_on_meta(full_size("r3gan-tiny"))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_jax_step_lowers_for_a_gpu(preset):
    config = full_size(preset)
    networks = gan_jax.backend.build_networks(config)
    variables = nn.meta.unbox(gan_jax.state._initial_variables(config, networks))

    def network(role):
        trees = dict(variables[role])
        return Network(getattr(networks, role), trees.pop("params"), trees)

    initial = {role: network(role) for role in ("generator", "discriminator")}
    optimizer_states = {
        role: jax.eval_shape(gan_jax.optimizers.build_optimizer(config, role).init, each.parameters)
        for role, each in initial.items()
    }
    number: Any = jax.ShapeDtypeStruct((), jnp.float32)
    count: Any = jax.ShapeDtypeStruct((), jnp.int32)
    kinds = {"images": jnp.uint8, "labels": jnp.int32}
    inputs: Any = {
        name: None if shape is None else jax.ShapeDtypeStruct(shape, kinds.get(name, jnp.float32))
        for name, shape in shapes(config).items()
    }
    state = gan_jax.state.State(
        generator=initial["generator"],
        discriminator=initial["discriminator"],
        generator_ema=initial["generator"],
        image_condition_network=jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), networks.image_condition
        ),
        generator_optimizer_state=optimizer_states["generator"],
        discriminator_optimizer_state=optimizer_states["discriminator"],
        augment_probability=number,
        augment_signs=number,
        step=count,
        first_non_finite_step=count,
    )
    floats = jax.tree.map(lambda _: number, schedule_values(config, 0))
    step = jax.jit(gan_jax.step.make_step(config), donate_argnums=0)
    traced = step.trace(state, gan_jax.examples.StepInputs(**inputs), floats)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), traced.out_info[0]) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    # The library's grouped convolution, not the CPU's form of one convolution per group.
    grouped = PRESETS[preset].networks.generator == "r3gan"
    assert ("feature_group_count = 96" in text) == grouped
