"""Generators as functions that other programs compute, and the kinds of file that hold them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import Array, export

from gan_jax.examples import make_images
from gan_shared.export import Signature, Writer
from gan_shared.sample import TrainedGenerator

# What a file of jax.export can be computed on.
_PLATFORMS = ("cpu", "cuda")


def writers() -> Mapping[str, Writer]:
    """Return what writes each kind of file that JAX can write, by the names of ``gan_shared/export.py``."""
    return {"jax-export": _write_jax_export, "stablehlo": _write_stablehlo}


def _exported(
    generators: Sequence[TrainedGenerator], signature: Signature, ema: bool, platforms: Sequence[str]
) -> export.Exported:
    """Trace the generators: latents of each, and labels where there are classes, to uint8 images."""
    configs, states = [each.backend.config for each in generators], [each.state for each in generators]
    networks = [each.generator_ema if ema else each.generator for each in states]

    def images(*given: Array) -> Array:
        latents, labels = given[: len(networks)], given[len(networks) :]
        made = None
        for config, network, own in zip(configs, networks, latents, strict=True):
            made = make_images(config, network, None, own, labels[0] if labels else None, made)
        assert made is not None, "there is no generator"
        return made

    (batch,) = (signature.batch_size,) if signature.batch_size else export.symbolic_shape("batch")
    given = [jax.ShapeDtypeStruct((batch, length), jnp.float32) for _, length in signature.latents]
    given += [jax.ShapeDtypeStruct((batch,), jnp.int32)] if signature.labels else []
    with generators[0].backend.precision_scope():
        return export.export(jax.jit(images), platforms=platforms)(*given)


def _write_jax_export(generators: Sequence[TrainedGenerator], signature: Signature, ema: bool, path: Path) -> None:
    """Write a file of jax.export, for CPUs and GPUs, whose function takes the inputs in the signature's order."""
    path.write_bytes(_exported(generators, signature, ema, _PLATFORMS).serialize())


def _write_stablehlo(generators: Sequence[TrainedGenerator], signature: Signature, ema: bool, path: Path) -> None:
    """Write a StableHLO module as portable bytecode, whose function takes the inputs in the signature's order.

    By the forms that suit a CPU: one for several platforms would be given the platform as a further input.
    """
    path.write_bytes(_exported(generators, signature, ema, _PLATFORMS[:1]).mlir_module_serialized)
