"""One table of cases that both backends evaluate: arrays in, arrays out, the framework in between.

A case names a function by where it is found in either backend, gives its inputs as arrays, and says what comes out.
``TWINS`` evaluate it: images are (batch, height, width, channel) outside, and channels-first inside of torch.
"""

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

# A function of one backend's arrays, and one that finds it in the backend's package.
Function = Callable[..., Any]
Arrays = Sequence[np.ndarray]


class Twin(Protocol):
    """A backend that evaluates functions of arrays."""

    name: str

    def module(self, name: str) -> ModuleType:
        """Return a module of the backend's package: ``losses``, say."""
        ...

    def array(self, value: np.ndarray) -> Any:
        """Return an array of the framework; images in the backend's order of axes."""
        ...

    def value(self, function: Function, *inputs: np.ndarray) -> np.ndarray:
        """Return what a function makes of some inputs; JAX compiles it."""
        ...

    def gradients(self, function: Function, *inputs: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return a function's value and the gradients of its sum with respect to each input."""
        ...

    def second_gradients(self, function: Function, image: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
        """Return a function's value, the gradient of the sum of (value + 1/2)^3 with respect to the image, and the
        gradient of that gradient's squared norm, which a penalty needs.
        """
        ...


class TorchTwin:
    """PyTorch."""

    name = "torch"

    def module(self, name: str) -> ModuleType:
        """See ``Twin.module``."""
        return importlib.import_module(f"gan_torch.{name}")

    def array(self, value: np.ndarray) -> torch.Tensor:
        """See ``Twin.array``."""
        tensor = torch.tensor(np.asarray(value))
        return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor

    def _back(self, value: torch.Tensor) -> np.ndarray:
        """Return an array in the order of axes that is used outside."""
        value = value.detach()
        return (value.permute(0, 2, 3, 1) if value.ndim == 4 else value).numpy()

    def value(self, function: Function, *inputs: np.ndarray) -> np.ndarray:
        """See ``Twin.value``."""
        return self._back(function(*map(self.array, inputs)))

    def gradients(self, function: Function, *inputs: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """See ``Twin.gradients``."""
        given = [self.array(value).requires_grad_() for value in inputs]
        made = function(*given)
        return self._back(made), [self._back(slope) for slope in torch.autograd.grad(made.sum(), given)]

    def second_gradients(self, function: Function, image: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
        """See ``Twin.second_gradients``."""
        x = self.array(image).requires_grad_()
        y = function(x, *map(self.array, others))
        (slope,) = torch.autograd.grad(((y + 0.5) ** 3).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((slope**2).sum(), x)
        return [self._back(each) for each in (y, slope, second)]


class JaxTwin:
    """JAX."""

    name = "jax"

    def module(self, name: str) -> ModuleType:
        """See ``Twin.module``."""
        return importlib.import_module(f"gan_jax.{name}")

    def array(self, value: np.ndarray) -> jax.Array:
        """See ``Twin.array``."""
        return jnp.asarray(value)

    def value(self, function: Function, *inputs: np.ndarray) -> np.ndarray:
        """See ``Twin.value``."""
        return np.asarray(jax.jit(function)(*inputs))

    def gradients(self, function: Function, *inputs: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """See ``Twin.gradients``."""
        given = [self.array(value) for value in inputs]
        slopes = jax.grad(lambda *each: function(*each).sum(), tuple(range(len(given))))(*given)
        return np.asarray(function(*given)), [np.asarray(slope) for slope in slopes]

    def second_gradients(self, function: Function, image: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
        """See ``Twin.second_gradients``."""

        def loss(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            y = function(x, *others)
            return ((y + 0.5) ** 3).sum(), y

        def penalty(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            slope, y = jax.grad(loss, has_aux=True)(x)
            return (slope**2).sum(), (y, slope)

        second, (y, slope) = jax.jit(jax.grad(penalty, has_aux=True))(self.array(image))
        return [np.asarray(each) for each in (y, slope, second)]


TWINS: dict[str, Twin] = {"torch": TorchTwin(), "jax": JaxTwin()}
in_both = pytest.mark.parametrize("twin", TWINS.values(), ids=TWINS)


class Case(NamedTuple):
    """A function of either backend, its inputs, and what must come out.

    Attributes:
        name: of the case.
        function: finds it: twin -> a function of the twin's arrays.
        inputs: of the function, each of which has a gradient.
        value: what it must make of them.
        gradients: those of the sum of its value, one per input.
        rtol: by which part each number may be off: elements are not scaled by a larger neighbour.
        gradient_atol: how far off each number of a gradient may be beyond that.
    """

    name: str
    function: Callable[[Twin], Function]
    inputs: Arrays
    value: np.ndarray
    gradients: Arrays
    rtol: float
    gradient_atol: float = 0.0

    def check(self, twin: Twin) -> None:
        """Assert that a backend gives the value and the gradients."""
        value, gradients = twin.gradients(self.function(twin), *self.inputs)
        pairs = [(value, self.value, 0.0)]
        pairs += [(*each, self.gradient_atol) for each in zip(gradients, self.gradients, strict=True)]
        for found, expected, atol in pairs:
            assert found.shape == expected.shape and np.isfinite(found).all()
            np.testing.assert_allclose(found, expected, rtol=self.rtol, atol=atol)


def all_of(cases: Sequence[Case]) -> pytest.MarkDecorator:
    """Return the mark that runs a test with each case of a table."""
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])
