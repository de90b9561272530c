"""Everything that training changes, and its canonical names (``gan_shared/checkpoint.py``)."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jax import Array
from jax.typing import DTypeLike

from gan_jax import interop, own_optimizer
from gan_jax.components import Components
from gan_jax.models import Networks
from gan_jax.network import Network, call_kwargs
from gan_jax.optimizers import Optimizer, OptimizerState, Parameters
from gan_shared import checkpoint, initial, manifest
from gan_shared.config import Config
from gan_shared.errors import unexpected
from gan_shared.image_conditions import image_condition
from gan_shared.own import without_state as without_own_state

# jax.Device: jaxlib, which defines it, comes without types.
Device: TypeAlias = Any


class State(NamedTuple):
    """One point of a run.

    Attributes:
        generator: the generator in training.
        discriminator: the discriminator in training.
        generator_ema: decaying average of the generator's parameters and floating buffers.
        image_condition_network: computes the image condition, or None; it never changes and no checkpoint holds it.
        generator_optimizer_state: averages and counters of the generator's optimiser.
        discriminator_optimizer_state: averages and counters of the discriminator's optimiser.
        augment_probability: what adaptation has added to the scheduled probability of augmentation.
        augment_signs: sum of the mean signs of the reals' logits since the probability last moved.
        step: generator updates done.
        first_non_finite_step: the first step with a loss that was not finite; 0 while there is none.
    """

    generator: Network
    discriminator: Network
    generator_ema: Network
    image_condition_network: Network | None
    generator_optimizer_state: OptimizerState
    discriminator_optimizer_state: OptimizerState
    augment_probability: Array
    augment_signs: Array
    step: Array
    first_non_finite_step: Array


def create(config: Config, networks: Networks, components: Components, device: Device) -> State:
    """Return the state at step 0 on ``device``.

    Declared weights are drawn from the seed; those of a user's own module are as the module holds them.
    """
    drawn = {name: _draw(config, name, variables) for name, variables in _initial_variables(config, networks).items()}
    tensors = {f"{name}/{key}": value for name in drawn for key, value in drawn[name].items()}
    tensors |= {f"generator_ema/{key}": value for key, value in drawn["generator"].items()}
    return _place(config, networks, components, device, tensors)


def export(state: State) -> dict[str, np.ndarray]:
    """Copy the state to NumPy, by canonical name, in torch's layouts."""
    tensors = {}
    for name in manifest.ROLES:
        network: Network = getattr(state, name)
        for tree in (network.parameters, *network.buffers.values()):
            tensors |= {f"{name}/{key}": value for key, value in interop.to_torch(tree).items()}
    for name in manifest.TRAINED:
        optimizer_state = getattr(state, f"{name}_optimizer_state")
        if own_optimizer.is_own_state(optimizer_state):
            tensors |= own_optimizer.export(name, optimizer_state)
            continue
        for key, tree in optimizer_state.items():
            if key == "step":  # one for all parameters here, one for each in torch
                parameters = interop.to_torch(getattr(state, name).parameters)
                by_name = {each: np.array(tree, np.float32) for each in parameters}
            else:
                by_name = interop.to_torch(tree)
            tensors |= {checkpoint.optimizer_state_name(name, each, key): value for each, value in by_name.items()}
    for name in manifest.TRAINER:
        value = np.array(getattr(state, name))
        tensors[f"trainer/{name}"] = value.astype(np.int64) if name == "step" else value
    return tensors


def restore(
    config: Config, networks: Networks, components: Components, device: Device, tensors: Mapping[str, np.ndarray]
) -> State:
    """Rebuild the state that ``export`` described.

    Raises:
        UserError: names, shapes or types differ from what ``config`` needs; every one is listed.
    """
    checkpoint.check_layout(layout(config, networks, components), without_own_state(tensors, config))
    return _place(config, networks, components, device, tensors)


def layout(config: Config, networks: Networks, components: Components) -> dict[str, np.ndarray]:
    """Return name, shape and type of every tensor that ``export`` gives, as arrays that take no memory.

    What optimisers of the user's own keep is left out: each compares its state itself.
    """
    shapes = _shapes(config, networks)
    tensors = {}
    for network, role in manifest.ROLES.items():
        for tree in shapes[role].values():
            tensors |= {f"{network}/{name}": value for name, value in _shaped(tree).items()}
    for network in manifest.TRAINED:
        optimizer = components.optimizer(network)
        if own_optimizer.own_optimizer(optimizer) is not None:
            continue
        parameters = shapes[network].get("params", {})
        for key, tree in jax.eval_shape(optimizer.init, parameters).items():
            # One step for all parameters here, one for each in torch.
            by_name = dict.fromkeys(_shaped(parameters), np.zeros((), np.float32)) if key == "step" else _shaped(tree)
            tensors |= {checkpoint.optimizer_state_name(network, name, key): each for name, each in by_name.items()}
    kinds = {name: np.int64 if name == "step" else dtype(config) for name in manifest.TRAINER}
    return tensors | {f"trainer/{name}": np.zeros((), kind) for name, kind in kinds.items()}


def dtype(config: Config) -> DTypeLike:
    """Return the floating-point type of weights, losses and everything else that outlives a forward pass."""
    return jnp.float64 if config.training.precision == "float64" else jnp.float32


def compute_dtype(config: Config) -> DTypeLike:
    """Return the floating-point type that the networks compute in."""
    return jnp.bfloat16 if config.training.precision == "bfloat16" else dtype(config)


def _initial_variables(config: Config, networks: Networks) -> dict[str, dict[str, Any]]:
    """Return each network's variables: shapes and declarations of ours, values of a user's own module."""
    key = jax.random.key(config.training.seed)  # linen asks for one; our layers draw nothing from it
    labels = jnp.zeros(2, jnp.int32) if config.data.class_conditional else None
    shape = image_condition(config).shape(config)
    condition = None if shape is None else jnp.zeros((2, *shape), jnp.float32)
    examples = {
        "generator": (jnp.zeros((2, config.networks.latent_size), jnp.float32), condition),
        "discriminator": (jnp.zeros((2, *config.image_shape), jnp.float32), None),
    }
    variables = {}
    for name, (x, condition) in examples.items():
        module = getattr(networks, name)
        kwargs = call_kwargs(module, labels, condition, train=False)
        variables[name] = jax.eval_shape(lambda module=module, x=x, kwargs=kwargs: module.init(key, x, **kwargs))
        leaves = jax.tree.leaves(variables[name], is_leaf=lambda leaf: isinstance(leaf, interop.Declared))
        if not all(isinstance(leaf, interop.Declared) for leaf in leaves):
            variables[name] = module.init(key, x, **kwargs)
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
    return initial.tensors(config.training.seed, network, declared) | own


def _place(
    config: Config, networks: Networks, components: Components, device: Device, tensors: Mapping[str, np.ndarray]
) -> State:
    """Fill the variables and put them on ``device``; optimiser state and adaptation that are absent begin at 0."""
    shapes = _shapes(config, networks)
    parts: dict[str, Network] = {}
    for network, role in manifest.ROLES.items():
        prefix = f"{network}/"
        values = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        trees = {name: interop.from_torch(values, tree) for name, tree in shapes[role].items()}
        parts[network] = Network(getattr(networks, role), trees.pop("params", {}), trees)
    optimizer_states = {
        name: _begin_optimizer(components.optimizer(name), name, parts[name].parameters, tensors)
        for name in manifest.TRAINED
    }
    floats = {
        name: jnp.asarray(tensors.get(f"trainer/{name}", 0.0), dtype(config))
        for name in ("augment_probability", "augment_signs")
    }
    step = jnp.asarray(tensors.get("trainer/step", 0), jnp.int32)
    state = State(
        generator=parts["generator"],
        discriminator=parts["discriminator"],
        generator_ema=parts["generator_ema"],
        image_condition_network=jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype(config)), networks.image_condition),
        generator_optimizer_state=optimizer_states["generator"],
        discriminator_optimizer_state=optimizer_states["discriminator"],
        **floats,
        step=step,
        first_non_finite_step=jnp.zeros_like(step),
    )
    # Copied, as a donated state must own its buffers; and committed to the device by device_put, as the step's
    # results are, so that one compilation serves both.
    return jax.device_put(jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), state), device)


def _shapes(config: Config, networks: Networks) -> dict[str, dict[str, Any]]:
    """Return shape and type of each network's variables."""
    return jax.tree.map(lambda leaf: _typed(leaf, config), nn.meta.unbox(_initial_variables(config, networks)))


def _shaped(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return arrays of the shapes and types of a tree, in torch's names and layouts, that take no memory."""
    arrays = {}
    leaves: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(tree)
    for path, leaf in leaves.items():
        kind = np.int64 if jnp.issubdtype(leaf.dtype, jnp.integer) else leaf.dtype
        arrays[interop.torch_name(path)] = np.broadcast_to(np.zeros((), kind), interop.torch_shape(path, leaf.shape))
    return arrays


def _typed(leaf: Array | jax.ShapeDtypeStruct, config: Config) -> jax.ShapeDtypeStruct:
    """Give a floating tensor the type of the weights; counters stay integers."""
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return jax.ShapeDtypeStruct(leaf.shape, dtype(config) if floating else leaf.dtype)


def _begin_optimizer(
    optimizer: Optimizer, network: str, parameters: Parameters, tensors: Mapping[str, np.ndarray]
) -> OptimizerState:
    """Return the optimiser state of a network before its first update, filled with what ``tensors`` holds of it."""
    if own := own_optimizer.own_optimizer(optimizer):
        return own.restore(parameters, tensors)
    optimizer_state = optimizer.init(parameters)
    names = list(interop.to_torch(parameters))
    keys = list(optimizer_state)
    if not keys or not names or checkpoint.optimizer_state_name(network, names[0], keys[0]) not in tensors:
        return optimizer_state
    saved = {
        key: {name: tensors[checkpoint.optimizer_state_name(network, name, key)] for name in names} for key in keys
    }
    steps = {int(step) for step in saved.pop("step", {}).values()}
    if len(steps) > 1:
        found = f"the steps {sorted(steps)} among the parameters of the {network}"
        raise unexpected("optimizer", found, "one step for all of them, which is all that this backend holds")
    trees: OptimizerState = {key: interop.from_torch(values, parameters) for key, values in saved.items()}
    if steps:
        trees["step"] = jnp.asarray(steps.pop(), jnp.int32)
    return trees
