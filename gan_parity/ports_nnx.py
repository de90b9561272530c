"""Ports that are nnx modules."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gan_parity.names import Path
from gan_parity.original import leaves
from gan_parity.ports import (
    Options,
    Outline,
    Recorder,
    Tensors,
    Traced,
    is_float,
    only_floats,
    random_port,
    weighted_sum,
    widened,
    with_floats,
)

Method = Callable[..., Any]
# (path, module, its method, arguments, options) -> what the call returns
Around = Callable[[Path, nnx.Module, Method, Any, Any], Any]


class NnxPort:
    """An nnx module, in the mode in which it is."""

    def __init__(self, module: nnx.Module, own: bool, options: Options) -> None:
        """Take the module, whether it is run with its own values, and options of its call."""
        self.options = options
        self.graph, self.parameters, self.randomness, self.rest = nnx.split(module, nnx.Param, nnx.RngState, ...)
        self.is_own = own

    def outline(self, inputs: Sequence[jax.Array]) -> Outline:
        """See ``Port.outline``."""
        recorder, outputs, failure = Recorder(), [], None
        tensors = {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in self._tensors().items()}

        def call(values: Any, *given: Any) -> Any:
            module = self._module(values)
            with calls_through(module, recorder.call):
                return leaves(module(*given, **self.options))  # type: ignore[operator]

        try:
            outputs = [leaf.shape for leaf in jax.eval_shape(call, widened(tensors), *inputs)]
        except Exception as error:
            failure = error
        found = recorder.activations, recorder.modules, recorder.narrow
        return Outline(tensors, frozenset(_flat(self.parameters)), *found, outputs, failure)

    def own(self) -> Tensors | None:
        """See ``Port.own``."""
        return self._tensors() if self.is_own else None

    def run(self, tensors: Tensors, inputs: Sequence[jax.Array], weights: Sequence[np.ndarray | None]) -> Traced:
        """See ``Port.run``."""
        trained = set(_flat(self.parameters))
        parameters = {path: leaf for path, leaf in tensors.items() if path in trained}
        rest = {path: leaf for path, leaf in tensors.items() if path not in trained}
        values: dict[str, np.ndarray] = {}

        def total(differentiable: Any) -> Any:
            own, floats = differentiable
            module = self._module({**own, **rest})
            with calls_through(module, partial(_recorded, values)):
                made = leaves(module(*with_floats(inputs, floats), **self.options))  # type: ignore[operator]
            left = _flat(nnx.state(module, nnx.Not(nnx.Any(nnx.Param, nnx.RngState))))
            return weighted_sum(made, weights), (made, left, _flat(nnx.state(module, nnx.RngState)))

        gradient, (made, left, drawn) = jax.grad(total, has_aux=True)((parameters, only_floats(inputs)))
        before = _flat(self.randomness)
        if any(not np.array_equal(_plain(drawn[path]), _plain(before[path])) for path in before):
            raise random_port()
        return Traced(values, [np.array(leaf) for leaf in made], gradient[0], left)

    def _tensors(self) -> dict[Path, Any]:
        """Return the module's own values by path."""
        return _flat(self.parameters) | _flat(self.rest)

    def _module(self, values: Mapping[Path, Any]) -> nnx.Module:
        """Return a copy of the module with other values."""
        # Variables of their own, as none may be changed inside of a transformation that it was made outside of.
        parameters, randomness, rest = (jax.tree.map(_same, each) for each in self._states())
        for state in (parameters, rest):
            for path, variable in nnx.to_flat_state(state):
                variable.set_value(values[_named(path)])
        return nnx.merge(self.graph, parameters, randomness, rest)

    def _states(self) -> tuple[nnx.State, nnx.State, nnx.State]:
        """Return parameters, the state of random numbers, and the rest."""
        return self.parameters, self.randomness, self.rest


def _same(leaf: Any) -> Any:
    return leaf


def _named(path: Sequence[Any]) -> Path:
    """Return a path of nnx, which has numbers in it, as names."""
    return tuple(str(part) for part in path)


def _flat(state: Any) -> dict[Path, Any]:
    """Return the values of a state by path."""
    return {_named(path): variable.get_value() for path, variable in nnx.to_flat_state(state)}


def _plain(value: Any) -> Any:
    """Return a key or a count as numbers."""
    return np.asarray(jax.random.key_data(value) if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) else value)


@contextmanager
def calls_through(root: nnx.Module, around: Around) -> Iterator[None]:
    """Let the calls of a module and of those in it go through ``around`` while the block runs.

    Python looks a call up on the class: each class gets another ``__call__`` meanwhile, which lets the calls of
    modules that are not in ``root`` through.
    """
    paths = {id(module): _named(path) for path, module in nnx.iter_modules(root)}
    active: set[int] = set()  # a method of a base class that is called by its subclass is no call of its own
    saved: list[tuple[type, Any]] = []

    def replaced(method: Method) -> Method:
        def call(self: nnx.Module, *arguments: Any, **options: Any) -> Any:
            if id(self) not in paths or id(self) in active:
                return method(self, *arguments, **options)
            active.add(id(self))
            try:
                return around(paths[id(self)], self, partial(method, self), arguments, options)
            finally:
                active.discard(id(self))

        return call

    kinds = {type(module) for _, module in nnx.iter_modules(root)}
    try:
        for kind in kinds:
            if hasattr(kind, "__call__"):  # noqa: B004 (whether instances can be called)
                saved.append((kind, kind.__dict__.get("__call__")))
                kind.__call__ = replaced(kind.__call__)  # type: ignore[attr-defined]
        yield
    finally:
        for kind, method in saved:
            if method is None:
                del kind.__call__  # type: ignore[attr-defined]
            else:
                kind.__call__ = method  # type: ignore[attr-defined]


def _recorded(
    values: dict[str, np.ndarray],
    path: Path,
    module: nnx.Module,
    function: Callable[..., Any],
    given: Any,
    options: Any,
) -> Any:
    """Call a module and record what it gets and makes, and the gradients of both."""
    del module
    name = ".".join(path)
    if given:
        given = (_tapped(values, ("input", "returned"), name, given[0]), *given[1:])
    return _tapped(values, ("forward", "backward"), name, function(*given, **options))


def _tapped(values: dict[str, np.ndarray], kinds: tuple[str, str], name: str, value: Any) -> Any:
    """Record an array and its gradient; the result is to be used in its place."""
    if not is_float(value):
        return value
    ahead, back = f"{kinds[0]}/module.0/{name}", f"{kinds[1]}/module.0.0/{name}"

    @jax.custom_vjp
    def tap(value: Any) -> Any:
        jax.debug.callback(lambda each: values.update({ahead: np.array(each)}), value)
        return value

    def forwards(value: Any) -> Any:
        return tap(value), None

    def backwards(saved: Any, gradient: Any) -> Any:
        del saved
        jax.debug.callback(lambda each: values.update({back: np.array(each)}), gradient)
        return (gradient,)

    tap.defvjp(forwards, backwards)
    return tap(value)
