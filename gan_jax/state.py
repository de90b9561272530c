"""Everything that training changes, and its canonical names (``gan_shared/checkpoint.py``)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jax import Array

from gan_jax import interop, optimizers
from gan_jax.models import Networks
from gan_jax.network import Network, told_arguments
from gan_jax.optimizers import Moments
from gan_shared import checkpoint, initial
from gan_shared.architecture import condition_shape
from gan_shared.config import Config
from gan_shared.errors import unexpected


class State(NamedTuple):
    """One point of a run.

    Attributes:
        generator: the generator in training.
        discriminator: the discriminator in training.
        generator_ema: decaying average of the generator's parameters and floating buffers.
        vgg: what tells the generator of pictures, or None; it never changes and no checkpoint holds it.
        generator_moments: what the generator's optimiser remembers.
        discriminator_moments: what the discriminator's optimiser remembers.
        augment_probability: what adaptation has added to the scheduled probability of augmentation.
        augment_signs: sum of the mean signs of the reals' logits since the probability last moved.
        step: generator updates done.
        first_non_finite_step: the first step with a loss that was not finite; 0 while there is none.
    """

    generator: Network
    discriminator: Network
    generator_ema: Network
    vgg: Network | None
    generator_moments: Moments
    discriminator_moments: Moments
    augment_probability: Array
    augment_signs: Array
    step: Array
    first_non_finite_step: Array


def create(config: Config, networks: Networks, device: Any) -> State:
    """Return the state at step 0 on ``device``.

    Declared weights are drawn from the seed; those of a user's own module are as the module holds them.
    """
    drawn = {name: _draw(config, name, variables) for name, variables in _initial_variables(config, networks).items()}
    tensors = {f"{name}/{key}": value for name in drawn for key, value in drawn[name].items()}
    tensors |= {f"generator_ema/{key}": value for key, value in drawn["generator"].items()}
    return _place(config, networks, device, tensors)


def export(state: State) -> dict[str, np.ndarray]:
    """Copy the state to NumPy, by canonical name, in torch's layouts."""
    tensors = {}
    for name in checkpoint.ROLES:
        network: Network = getattr(state, name)
        for tree in (network.parameters, *network.buffers.values()):
            tensors |= {f"{name}/{key}": value for key, value in interop.to_torch(tree).items()}
    for name in checkpoint.TRAINED:
        for key, tree in getattr(state, f"{name}_moments").items():
            if key == "step":  # one for all parameters here, one for each in torch
                parameters = interop.to_torch(getattr(state, name).parameters)
                by_name = {each: np.array(tree, np.float32) for each in parameters}
            else:
                by_name = interop.to_torch(tree)
            tensors |= {checkpoint.moment_name(name, each, key): value for each, value in by_name.items()}
    for name in checkpoint.GAME:
        value = np.array(getattr(state, name))
        tensors[f"game/{name}"] = value.astype(np.int64) if name == "step" else value
    return tensors


def restore(config: Config, networks: Networks, device: Any, tensors: Mapping[str, np.ndarray]) -> State:
    """Rebuild the state that ``export`` described.

    Raises:
        UserError: names, shapes or types differ from what ``config`` needs; every one is listed.
    """
    # Without the VGG16, which is no part of what is compared.
    expected = export(create(config, networks._replace(vgg=None), jax.devices("cpu")[0]))
    checkpoint.check_layout(expected, tensors)
    return _place(config, networks, device, tensors)


def dtype(config: Config) -> Any:
    """Return the floating-point type of weights, losses and everything else that outlives a forward."""
    return jnp.float64 if config.precision == "float64" else jnp.float32


def compute_dtype(config: Config) -> Any:
    """Return the floating-point type that the networks compute in."""
    return jnp.bfloat16 if config.precision == "bfloat16" else dtype(config)


def _initial_variables(config: Config, networks: Networks) -> dict[str, dict[str, Any]]:
    """Return each network's variables: shapes and declarations of ours, values of a user's own module."""
    key = jax.random.key(config.seed)  # linen asks for one; our layers draw nothing from it
    labels = jnp.zeros(2, jnp.int32) if config.conditional else None
    shape = condition_shape(config)
    condition = None if shape is None else jnp.zeros((2, *shape), jnp.float32)
    examples = {
        "generator": (jnp.zeros((2, config.latent_size), jnp.float32), condition),
        "discriminator": (jnp.zeros((2, *config.image_shape), jnp.float32), None),
    }
    variables = {}
    for name, (x, condition) in examples.items():
        module = getattr(networks, name)
        told = told_arguments(module, labels, condition, train=False)
        variables[name] = jax.eval_shape(lambda module=module, x=x, told=told: module.init(key, x, **told))
        leaves = jax.tree.leaves(variables[name], is_leaf=lambda leaf: isinstance(leaf, interop.Declared))
        if not all(isinstance(leaf, interop.Declared) for leaf in leaves):
            variables[name] = module.init(key, x, **told)
    return variables


def _draw(config: Config, network: str, variables: dict[str, Any]) -> dict[str, np.ndarray]:
    """Draw the declared parameters and buffers of a network and copy the others."""
    declared, own = {}, {}
    for collection in variables.values():
        for path, leaf in traverse_util.flatten_dict(collection).items():
            if isinstance(leaf, interop.Declared):
                shape = interop.torch_shape(path, leaf.value.shape)
                declared[interop.torch_name(path)] = (shape, leaf.initial)
            else:
                own |= interop.to_torch(traverse_util.unflatten_dict({path: leaf}))
    return initial.tensors(config.seed, network, declared) | own


def _place(config: Config, networks: Networks, device: Any, tensors: Mapping[str, np.ndarray]) -> State:
    """Fill the variables and put them on ``device``; moments and adaptation that are absent begin at zero."""
    shapes = jax.tree.map(lambda leaf: _typed(leaf, config), nn.meta.unbox(_initial_variables(config, networks)))
    parts: dict[str, Network] = {}
    for network, role in checkpoint.ROLES.items():
        prefix = f"{network}/"
        values = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        trees = {name: interop.from_torch(values, tree) for name, tree in shapes[role].items()}
        parts[network] = Network(getattr(networks, role), trees.pop("params", {}), trees)
    moments = {name: _moments(config, name, parts[name].parameters, tensors) for name in checkpoint.TRAINED}
    floats = {
        name: jnp.asarray(tensors.get(f"game/{name}", 0.0), dtype(config))
        for name in ("augment_probability", "augment_signs")
    }
    step = jnp.asarray(tensors.get("game/step", 0), jnp.int32)
    state = State(
        generator=parts["generator"],
        discriminator=parts["discriminator"],
        generator_ema=parts["generator_ema"],
        vgg=jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype(config)), networks.vgg),
        generator_moments=moments["generator"],
        discriminator_moments=moments["discriminator"],
        **floats,
        step=step,
        first_non_finite_step=jnp.zeros_like(step),
    )
    # Copied, as a donated state must own its buffers; and committed to the device by device_put, as the step's
    # results are, so that both meet one compilation.
    return jax.device_put(jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), state), device)


def _typed(leaf: Any, config: Config) -> jax.ShapeDtypeStruct:
    """Give a floating tensor the type of the weights; counters stay integers."""
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return jax.ShapeDtypeStruct(leaf.shape, dtype(config) if floating else leaf.dtype)


def _moments(config: Config, network: str, parameters: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> Moments:
    """Begin a network's moments at zero and overwrite them with what ``tensors`` holds."""
    moments = optimizers.find(config, network).init(parameters)
    names = list(interop.to_torch(parameters))
    if not moments or not names or checkpoint.moment_name(network, names[0], next(iter(moments))) not in tensors:
        return moments
    saved = {key: {name: tensors[checkpoint.moment_name(network, name, key)] for name in names} for key in moments}
    steps = {int(step) for step in saved.pop("step", {}).values()}
    if len(steps) > 1:
        found = f"the steps {sorted(steps)} among the parameters of the {network}"
        raise unexpected("optimizer", found, "one step for all of them, which is all that this backend holds")
    trees: Moments = {key: interop.from_torch(values, parameters) for key, values in saved.items()}
    if steps:
        trees["step"] = jnp.asarray(steps.pop(), jnp.int32)
    return trees
