"""The work of a training step, counted as torch hands it out, operation by operation."""

from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from gan_shared.config import Config
from gan_shared.manifest import TRAINED
from gan_shared.option_groups import AUGMENTATIONS
from gan_shared.schedules import schedule_values
from gan_torch import models, optimizers
from gan_torch.backend import build_networks
from gan_torch.examples import StepInputs
from gan_torch.state import State, compute_dtype
from gan_torch.step import make_step


class Work(NamedTuple):
    """What one step asks of a device.

    Attributes:
        flops: of convolutions and matrix products, derivatives of every order included; a multiplication and an
            addition are two.
        bytes: read and written if every operation goes to memory for itself: an upper bound, which fusing lowers.
        operations: calls of a kernel, views not counted.
    """

    flops: int
    bytes: int
    operations: int


class Counter(TorchDispatchMode):
    """Add up torch's own formulas, and the sizes of what goes in and out.

    ``FlopCounterMode`` adds up the formulas too, but hooks every module beside, which fails under ``autograd.grad`` at
    an image.
    """

    def __init__(self) -> None:
        super().__init__()
        self.work = Work(0, 0, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if not func.is_view:
            formula = flop_registry.get(func._overloadpacket)
            flops = formula(*args, **kwargs, out_val=output) if formula is not None else 0
            tensors = [leaf for leaf in tree_leaves((args, kwargs, output)) if isinstance(leaf, Tensor)]
            moved = sum(prod(tensor.shape) * tensor.element_size() for tensor in tensors)
            flops_before, bytes_before, operations = self.work
            self.work = Work(flops_before + int(flops), bytes_before + moved, operations + 1)
        return output


def count(config: Config) -> Work:
    """Count one step of ``gan_torch``, on tensors without values, at the size that ``config`` names.

    Where not every step takes penalties it is the mean of those from one that does to the next.
    """
    every, whole = config.objective.penalty_every, _count_step(config)
    if every == 1:
        return whole
    pairs = zip(whole, _count_step(config.without_penalties()), strict=True)
    return Work(*(round((taken + (every - 1) * without) / every) for taken, without in pairs))


def _count_step(config: Config) -> Work:
    """Count one step with the penalties of ``config``."""
    updates, batch, size = (
        config.objective.discriminator_updates,
        config.training.batch_size,
        (config.data_resolution,) * 2,
    )
    numbers = sum(AUGMENTATIONS.values()) if config.augmentation.augment else 0
    with FakeTensorMode():
        labels = torch.empty((config.real_rows, batch), dtype=torch.int64) if config.data.class_conditional else None
        inputs = StepInputs(
            images=torch.empty((config.real_rows, batch, *size, config.image_shape[2]), dtype=torch.uint8),
            labels=labels,
            latents=torch.empty((updates + int(config.objective.fresh_latents), batch, config.networks.latent_size)),
            interpolation=torch.empty((updates, batch)),
            augment=torch.empty((updates + 1, 3, batch, numbers)),
        )
        networks = models.generator(config), models.discriminator(config)
        optimizer_states = {
            f"{name}_optimizer_state": optimizers.build_optimizer(config, name).init(dict(network.named_parameters()))
            for name, network in zip(TRAINED, networks, strict=True)
        }
        number, steps = torch.zeros(()), torch.zeros((), dtype=torch.int64)
        state = State(
            *networks,
            generator_ema=models.generator(config),
            image_condition_network=build_networks(config).image_condition,
            **optimizer_states,
            augment_probability=number,
            augment_signs=number,
            step=steps,
            first_non_finite_step=steps,
        )
        with Counter() as counter:
            make_step(config)(state, inputs, schedule_values(config, 0))
    return counter.work


def bytes_in_precision(config: Config, counted: Work) -> int:
    """Return the bytes of a step that was counted in float32, if its activations were of the run's own type."""
    return counted.bytes * compute_dtype(config).itemsize // 4
