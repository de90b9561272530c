"""Optimisers of the user's own, of any package, behind the contract of ``optimizers.Optimizer``.

Learning rate and decay of a run's schedule do not reach them. What they keep is saved under names of their framework.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from gan_jax.optimizers import Clipped, Optimizer, Parameters
from gan_shared import own
from gan_shared.errors import unexpected

_FRAMEWORK = "optax"
_KIND = "an optax.GradientTransformation, such as optax.adam(1e-3)"


class _OwnState(NamedTuple):
    """What a gradient transformation keeps, its own tree.

    Attributes:
        content: the tree.
    """

    content: Any


class OwnOptimizer(NamedTuple):
    """An optimiser that the user gave to ``GAN``.

    Attributes:
        network: whose optimiser it is: "generator" or "discriminator".
        given: in PyTorch a function from a list of parameters to their torch.optim.Optimizer, in JAX an
            optax.GradientTransformation.
    """

    network: str
    given: Any

    def init(self, parameters: Parameters) -> Any:
        """Return the state before the first update.

        Raises:
            UserError: what was given makes no optimiser of these parameters.
        """
        option = f"{self.network}_optimizer"
        if not isinstance(self.given, optax.GradientTransformation):
            raise unexpected(option, repr(self.given), f"a name, or {_KIND}")
        with own.applying(option, "a transformation", _KIND):
            content = self.given.init(parameters)
            for leaf in jax.tree.leaves(content):
                jnp.result_type(leaf)  # raises where that is no number
        return _OwnState(content)

    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        optimizer_state: Any,
        learning_rate: Array | float,
        square_decay_complement: Array | float,
    ) -> tuple[Parameters, Any]:
        """Take one step; see ``optimizers.Optimizer``. Neither of the scheduled numbers is used."""
        del learning_rate, square_decay_complement
        updates, content = self.given.update(gradients, optimizer_state.content, parameters)
        moved: Any = optax.apply_updates(parameters, updates)
        return moved, _OwnState(content)

    def check(self, parameters: Parameters) -> None:
        """Refuse an optimiser that cannot take a step, or whose state a checkpoint cannot hold.

        Raises:
            UserError: it cannot take a step, or its state cannot be saved, or is another one when it is given back.
        """
        with own.applying(f"{self.network}_optimizer", "a transformation", _KIND):
            before = jax.eval_shape(self.init, parameters)
            moved, after = jax.eval_shape(lambda tree, state: self.update(tree, tree, state, 0, 0), parameters, before)
        for name, leaf in _named(before).items():
            # Python's numbers become arrays before the first update.
            if jnp.issubdtype(leaf.dtype, jax.dtypes.extended) or np.dtype(leaf.dtype).kind not in "biuf":
                expected = "arrays of NumPy's types, which a checkpoint can hold"
                raise unexpected(f"{self.network}_optimizer", f"state {name} of type {leaf.dtype}", expected)
        if _shapes((before, parameters)) != _shapes((after, moved)):
            found = "a transformation whose update changes the shapes or types of its state or of the parameters"
            raise unexpected(f"{self.network}_optimizer", found, _KIND)

    def restore(self, parameters: Parameters, tensors: Mapping[str, np.ndarray]) -> Any:
        """Return the state that ``export`` described; that before the first update where there is none.

        Args:
            parameters: tensors of the network.
            tensors: of a whole state, by canonical name.

        Raises:
            UserError: it is the state of another optimiser.
        """
        saved = own.own_state(f"{self.network}_optimizer", self.network, _FRAMEWORK, tensors)
        if not saved:
            return self.init(parameters)
        like = jax.eval_shape(self.init, parameters)
        shapes = {name: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape) for name, leaf in _named(like).items()}
        own.check_state(f"{self.network}_optimizer", shapes, saved)
        return jax.tree.unflatten(jax.tree.structure(like), [jnp.asarray(saved[name]) for name in shapes])


def own_optimizer(optimizer: Optimizer) -> OwnOptimizer | None:
    """Return the user's own optimiser, behind clipping too; None where it is none."""
    inner = optimizer.optimizer if isinstance(optimizer, Clipped) else optimizer
    return inner if isinstance(inner, OwnOptimizer) else None


def is_own_state(optimizer_state: Any) -> bool:
    """Return whether a state is that of an optimiser of the user's own."""
    return isinstance(optimizer_state, _OwnState)


def export(network: str, optimizer_state: Any) -> dict[str, np.ndarray]:
    """Copy the state of an optimiser of the user's own to NumPy, by canonical name.

    Args:
        network: "generator" or "discriminator".
        optimizer_state: of it.

    Raises:
        UserError: it holds what a checkpoint cannot.
    """
    return _canonical(network, {name: np.array(leaf) for name, leaf in _named(optimizer_state).items()})


def _named(optimizer_state: _OwnState) -> dict[str, Any]:
    """Return the leaves of a state by their paths, ``0/mu/stem/conv/kernel`` say."""
    leaves, _ = jax.tree.flatten_with_path(optimizer_state.content)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _canonical(network: str, named: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays by canonical name."""
    return {own.own_state_name(network, _FRAMEWORK, name): value for name, value in named.items()}


def _shapes(tree: Any) -> Any:
    """Return the structure of a tree, with the shapes and types of its leaves."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]
