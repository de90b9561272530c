"""Everything that training changes, and its canonical names (``gan_shared/checkpoint.py``)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jax import Array

from gan_jax import interop, models
from gan_jax.optimizers import Adam, Moments
from gan_shared import checkpoint, initial
from gan_shared.config import Config
from gan_shared.errors import unexpected


class State(NamedTuple):
    """One point of a run.

    Attributes:
        generator: the generator in training.
        discriminator: the discriminator in training.
        generator_ema: decaying average of the generator's parameters and floating buffers.
        generator_moments: what the generator's optimiser remembers.
        discriminator_moments: what the discriminator's optimiser remembers.
        step: generator updates done.
        first_non_finite_step: the first step with a loss that was not finite; 0 while there is none.
    """

    generator: dict[str, Any]
    discriminator: dict[str, Any]
    generator_ema: dict[str, Any]
    generator_moments: Moments
    discriminator_moments: Moments
    step: Array
    first_non_finite_step: Array


def create(config: Config, device: Any) -> State:
    """Return the state at step 0 on ``device``, its weights drawn from the seed."""
    declared = _declared(config)
    drawn = {name: _draw(config, name, variables) for name, variables in declared.items()}
    tensors = {f"{name}/{key}": value for name in drawn for key, value in drawn[name].items()}
    tensors |= {f"generator_ema/{key}": value for key, value in drawn["generator"].items()}
    return _place(config, device, tensors)


def export(state: State) -> dict[str, np.ndarray]:
    """Copy the state to NumPy, by canonical name, in torch's layouts."""
    tensors = {}
    for network in checkpoint.ROLES:
        for collection in getattr(state, network).values():
            for name, value in interop.to_torch(collection).items():
                tensors[f"{network}/{name}"] = value
    for network in checkpoint.TRAINED:
        moments: Moments = getattr(state, f"{network}_moments")
        step = np.array(moments.step, np.float32)
        for key in ("exp_avg", "exp_avg_sq"):
            for name, value in interop.to_torch(getattr(moments, key)).items():
                tensors[checkpoint.moment_name(network, name, key)] = value
                tensors[checkpoint.moment_name(network, name, "step")] = step
    return tensors | {"game/step": np.array(state.step, np.int64)}


def restore(config: Config, device: Any, tensors: Mapping[str, np.ndarray]) -> State:
    """Rebuild the state that ``export`` described.

    Raises:
        UserError: names, shapes or types differ from what ``config`` needs; every one is listed.
    """
    expected = export(create(config, jax.devices("cpu")[0]))
    checkpoint.check_layout(expected, tensors)
    return _place(config, device, tensors)


def dtype(config: Config) -> Any:
    """Return the floating-point type that ``config`` computes in."""
    return {"float32": jnp.float32, "float64": jnp.float64}[config.precision]


def _declared(config: Config) -> dict[str, dict[str, Any]]:
    """Return each network's variables as shapes and declarations, without computing anything."""
    key = jax.random.key(0)  # linen asks for one; the layers draw nothing from it
    latents = jax.ShapeDtypeStruct((2, config.latent_size), jnp.float32)
    images = jax.ShapeDtypeStruct((2, *config.image_shape), jnp.float32)
    generator, discriminator = models.generator(config), models.discriminator(config)
    return {
        "generator": jax.eval_shape(lambda x: generator.init(key, x, train=False), latents),
        "discriminator": jax.eval_shape(lambda x: discriminator.init(key, x, train=False), images),
    }


def _draw(config: Config, network: str, variables: dict[str, Any]) -> dict[str, np.ndarray]:
    """Draw the initial values of a network's parameters and buffers."""
    declared = {}
    for (_, *path), leaf in traverse_util.flatten_dict(variables).items():
        assert isinstance(leaf, interop.Declared), "a layer left a tensor undeclared"
        shape = interop.torch_shape(tuple(path), leaf.value.shape)
        declared[interop.torch_name(tuple(path))] = (shape, leaf.initial)
    return initial.tensors(config.seed, network, declared)


def _place(config: Config, device: Any, tensors: Mapping[str, np.ndarray]) -> State:
    """Fill the variables and put them on ``device``; moments that are absent begin at zero."""
    shapes = jax.tree.map(lambda leaf: _typed(leaf, config), nn.meta.unbox(_declared(config)))
    shapes["generator_ema"] = shapes["generator"]
    parts = {}
    for network in checkpoint.ROLES:
        prefix = f"{network}/"
        values = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        parts[network] = {name: interop.from_torch(values, tree) for name, tree in shapes[network].items()}
    moments = {name: _moments(config, name, parts[name]["params"], tensors) for name in checkpoint.TRAINED}
    step = jnp.asarray(tensors.get("game/step", 0), jnp.int32)
    state = State(
        generator=parts["generator"],
        discriminator=parts["discriminator"],
        generator_ema=parts["generator_ema"],
        generator_moments=moments["generator"],
        discriminator_moments=moments["discriminator"],
        step=step,
        first_non_finite_step=jnp.zeros_like(step),
    )
    # Copied, as a donated state must own its buffers; and committed to the device by device_put, as the step's
    # results are, so that both meet one compilation.
    return jax.device_put(jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), state), device)


def _typed(leaf: jax.ShapeDtypeStruct, config: Config) -> jax.ShapeDtypeStruct:
    """Give a floating tensor the computing type; counters stay integers."""
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return jax.ShapeDtypeStruct(leaf.shape, dtype(config) if floating else leaf.dtype)


def _moments(config: Config, network: str, parameters: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> Moments:
    """Begin a network's moments at zero and overwrite them with what ``tensors`` holds."""
    names = list(interop.to_torch(parameters))
    if checkpoint.moment_name(network, names[0], "step") not in tensors:
        return Adam(config.beta1).init(parameters)

    def saved(key: str) -> dict[str, np.ndarray]:
        return {name: tensors[checkpoint.moment_name(network, name, key)] for name in names}

    steps = {int(step) for step in saved("step").values()}
    if len(steps) > 1:
        found = f"the steps {sorted(steps)} among the parameters of the {network}"
        raise unexpected("optimizer", found, "one step for all of them, which is all that this backend holds")
    return Moments(
        exp_avg=interop.from_torch(saved("exp_avg"), parameters),
        exp_avg_sq=interop.from_torch(saved("exp_avg_sq"), parameters),
        step=jnp.asarray(steps.pop(), jnp.int32),
    )
