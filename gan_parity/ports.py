"""The half of ``locate`` that runs a port in JAX: what every kind of port can do, and ports that are linen modules."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, traverse_util
from flax.errors import InvalidRngError

from gan_jax.step_trace import record_modules
from gan_parity.names import Path
from gan_parity.original import leaves
from gan_shared.errors import UserError, unexpected

Options = Mapping[str, Any]
# A port's tensors by their paths.
Tensors = Mapping[Path, Any]
# Collections of linen that are no state: what modules store for inspection.
NO_STATE = ("intermediates", "perturbations")


class Outline(NamedTuple):
    """What a port is made of, found without computing a number.

    Attributes:
        tensors: shape and type of each parameter and statistic, by path.
        trained: paths of the parameters.
        activations: shape of what each module gets and makes, by name in a trace, in order of calls.
        modules: those that were called, by path.
        narrow: type of each module that computes in fewer bits than float64, by path.
        outputs: shapes of the outputs.
        failure: what the port raised, where it could not be run to its end.
    """

    tensors: dict[Path, jax.ShapeDtypeStruct]
    trained: frozenset[Path]
    activations: dict[str, tuple[int, ...]]
    modules: dict[Path, object]
    narrow: dict[Path, np.dtype]
    outputs: list[tuple[int, ...]]
    failure: Exception | None


class Traced(NamedTuple):
    """What a port computed, by its own paths.

    Attributes:
        values: activations and their gradients, by name in a trace.
        outputs: what it returned.
        gradients: of its parameters.
        left: its statistics after the call.
    """

    values: dict[str, np.ndarray]
    outputs: list[np.ndarray]
    gradients: Tensors
    left: Tensors


class Port(Protocol):
    """A module of Flax that was made from one of torch."""

    def outline(self, inputs: Sequence[jax.Array]) -> Outline:
        """Return what the port is made of; what it raises is part of that."""
        ...

    def own(self) -> Tensors | None:
        """Return the values that the port is to be run with, where the user has given them."""
        ...

    def run(self, tensors: Tensors, inputs: Sequence[jax.Array], weights: Sequence[np.ndarray | None]) -> Traced:
        """Run the port with some values forwards, then backwards from a weighted sum of its outputs."""
        ...


class Recorder:
    """Records the shapes and types of a port's calls, whichever kind of module it is."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.activations: dict[str, tuple[int, ...]] = {}
        self.modules: dict[Path, object] = {}
        self.narrow: dict[Path, np.dtype] = {}

    def call(self, path: Path, module: object, function: Callable[..., Any], arguments: Any, options: Any) -> Any:
        """Call a module and record what it got and made."""
        self.modules[path] = module
        name = ".".join(path)
        if arguments and is_float(arguments[0]):
            self.activations[f"input/module.0/{name}"] = arguments[0].shape
        made = function(*arguments, **options)
        if is_float(made):
            self.activations[f"forward/module.0/{name}"] = made.shape
            if made.dtype.itemsize < 8:
                self.narrow[path] = np.dtype(made.dtype)
        return made


def is_float(value: Any) -> bool:
    """Whether a value is an array of floats of JAX, or stands for one."""
    return hasattr(value, "dtype") and hasattr(value, "shape") and jnp.issubdtype(value.dtype, jnp.floating)


def weighted_sum(outputs: Sequence[Any], weights: Sequence[np.ndarray | None]) -> Any:
    """Return the number whose gradients are compared: outputs times fixed weights, which hide no error by symmetry."""
    pairs = zip(outputs, weights, strict=True)
    return sum(((output * weight).sum() for output, weight in pairs if weight is not None), jnp.zeros(()))


class LinenPort:
    """A linen module."""

    def __init__(self, module: linen.Module, variables: Mapping[str, Any] | None, options: Options) -> None:
        """Take the module, its variables where the user gives them, and options of its call."""
        self.module, self.options = module, options
        self.variables = None if variables is None else linen.meta.unbox(variables)
        self.collections: dict[Path, str] = {}

    def outline(self, inputs: Sequence[jax.Array]) -> Outline:
        """See ``Port.outline``."""
        recorder, outputs, failure = Recorder(), [], None
        tree: Any = self.variables or {}

        def intercept(call: Any, arguments: Any, options: Any, context: Any) -> Any:
            if context.method_name != "__call__":
                return call(*arguments, **options)
            return recorder.call(context.module.path, context.module, call, arguments, options)

        def begin(*given: Any) -> Any:
            return self.module.init(jax.random.key(0), *given, **self.options)

        def apply(variables: Any, *given: Any) -> Any:
            return self.module.apply(variables, *given, mutable=list(variables), **self.options)[0]

        try:
            with linen.intercept_methods(intercept):
                if self.variables is None:
                    tree = linen.meta.unbox(jax.eval_shape(begin, *inputs))
                recorder = Recorder()  # again, as a new parameter is float32 whatever it will be
                outputs = [leaf.shape for leaf in leaves(jax.eval_shape(apply, widened(tree), *inputs))]
        except InvalidRngError as error:
            raise random_port() from error
        except Exception as error:
            failure = error
        tensors = {}
        for collection, inside in tree.items():
            flat: dict[Path, Any] = traverse_util.flatten_dict(inside)
            for path, leaf in flat.items():
                if collection not in NO_STATE:
                    self.collections[path] = collection
                    tensors[path] = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        found = recorder.activations, recorder.modules, recorder.narrow
        trained = frozenset(path for path, collection in self.collections.items() if collection == "params")
        return Outline(tensors, trained, *found, outputs, failure)

    def own(self) -> Tensors | None:
        """See ``Port.own``."""
        if self.variables is None:
            return None
        trees = (tree for collection, tree in self.variables.items() if collection not in NO_STATE)
        return {path: leaf for tree in trees for path, leaf in traverse_util.flatten_dict(tree).items()}

    def run(self, tensors: Tensors, inputs: Sequence[jax.Array], weights: Sequence[np.ndarray | None]) -> Traced:
        """See ``Port.run``."""
        parameters = {path: leaf for path, leaf in tensors.items() if self.collections[path] == "params"}
        rest: dict[str, Any] = {}
        for path, leaf in tensors.items():
            if path not in parameters:
                rest.setdefault(self.collections[path], {})[path] = leaf
        values: dict[str, np.ndarray] = {}

        def total(differentiable: Any) -> Any:
            own, floats = differentiable
            variables = {name: traverse_util.unflatten_dict(tree) for name, tree in {**rest, "params": own}.items()}
            given = with_floats(inputs, floats)
            made, left = self.module.apply(variables, *given, mutable=list(rest), **self.options)
            return weighted_sum(leaves(made), weights), (made, left)

        with record_modules({"module": self.module}, values):
            gradient, (made, left) = jax.grad(total, has_aux=True)((parameters, only_floats(inputs)))
        kept = {path: leaf for tree in left.values() for path, leaf in traverse_util.flatten_dict(tree).items()}
        return Traced(values, [np.array(leaf) for leaf in leaves(made)], gradient[0], kept)


def only_floats(inputs: Sequence[jax.Array]) -> list[jax.Array]:
    """Return the inputs that have derivatives."""
    return [value for value in inputs if is_float(value)]


def with_floats(inputs: Sequence[jax.Array], floats: Sequence[jax.Array]) -> list[jax.Array]:
    """Return the inputs with others in place of those that have derivatives."""
    rest = iter(floats)
    return [next(rest) if is_float(value) else value for value in inputs]


def widened(tree: Any) -> Any:
    """Return the shapes of the arrays of a tree with float64 in place of other floats."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float64 if is_float(leaf) else leaf.dtype), tree
    )


def random_port() -> UserError:
    """Return the error of a port that draws random numbers."""
    return unexpected(
        "port",
        "random numbers (Dropout, say), which no seed makes those of torch",
        "evaluation mode: deterministic=True or train=False for linen, module.eval() for nnx",
    )
