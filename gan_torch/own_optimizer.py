"""Optimisers of the user's own, of any package, behind the contract of ``optimizers.Optimizer``.

Learning rate and decay of a run's schedule do not reach them. What they keep is saved under names of their framework.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gan_shared import own
from gan_shared.errors import unexpected
from gan_torch.optimizers import Clipped, Optimizer, Parameters

_FRAMEWORK = "torch"
_KIND = "a function from a list of parameters to their torch.optim.Optimizer, whose step() needs no closure"
# Where hyperparameters that the optimiser itself has changed are in a checkpoint: param_groups/<number>/<name>.
_GROUPS = "param_groups"


class _OwnState(NamedTuple):
    """An optimiser with its parameters, and the hyperparameters that it was made with.

    Attributes:
        optimizer: it holds the parameters and what it keeps of them.
        names: of the parameters by their identity.
        groups: numbers by name of each of its groups of parameters.
    """

    optimizer: torch.optim.Optimizer
    names: dict[int, str]
    groups: list[dict[str, Any]]


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
        learning = _learning(parameters)
        option = f"{self.network}_optimizer"
        if not learning:
            return {}
        if not callable(self.given):
            raise unexpected(option, " ".join(repr(self.given).split()), f"a name, or {_KIND}")
        with own.applying(option, "a function", _KIND):
            optimizer = self.given(list(learning.values()))
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise unexpected(option, f"a function that returns {type(optimizer).__name__}", _KIND)
        held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
        if sorted(held) != sorted(map(id, learning.values())):
            expected = f"the {len(learning)} that it is given, each once: requires_grad_(False) leaves one out"
            raise unexpected(option, f"an optimiser of {len(held)} parameters", expected)
        names = {id(parameter): name for name, parameter in learning.items()}
        return _OwnState(optimizer, names, [_numbers(group) for group in optimizer.param_groups])

    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        optimizer_state: Any,
        learning_rate: Tensor | float,
        square_decay_complement: Tensor | float,
    ) -> tuple[Parameters, Any]:
        """Take one step; see ``optimizers.Optimizer``. Neither of the scheduled numbers is used."""
        del learning_rate, square_decay_complement
        for name, parameter in parameters.items():
            # In the parameter's memory order, which fused rules take for granted.
            parameter.grad = torch.empty_like(parameter).copy_(gradients[name])
        optimizer_state.optimizer.step()
        for parameter in parameters.values():
            parameter.grad = None
        return parameters, optimizer_state

    def check(self, parameters: Parameters) -> None:
        """Refuse an optimiser that cannot take a step, or whose state a checkpoint cannot hold.

        Raises:
            UserError: it cannot take a step, or its state cannot be saved, or is another one when it is given back.
        """
        if not _learning(parameters):
            return
        copies, trial = self._trial(parameters)
        kept = _content(self.network, trial)
        again = _content(self.network, self._filled(copies, trial, kept))
        if {name: value.tobytes() for name, value in again.items()} != {
            name: value.tobytes() for name, value in kept.items()
        }:
            found = "an optimiser whose load_state_dict() changes its state"
            raise unexpected(f"{self.network}_optimizer", found, "one that goes on with the state that it is given")

    def restore(self, parameters: Parameters, tensors: Mapping[str, np.ndarray]) -> Any:
        """Return the state that ``export`` described; that before the first update where there is none.

        Args:
            parameters: tensors of the network.
            tensors: of a whole state, by canonical name.

        Raises:
            UserError: it is the state of another optimiser.
        """
        saved = own.own_state(f"{self.network}_optimizer", self.network, _FRAMEWORK, tensors)
        if not saved or not _learning(parameters):
            return self.init(parameters)
        _, trial = self._trial(parameters)
        return self._filled(parameters, trial, saved)

    def _trial(self, parameters: Parameters) -> tuple[Parameters, _OwnState]:
        """Return copies of the parameters that learn, and an optimiser of them that has taken a step."""
        copies = {name: nn.Parameter(each.detach().clone()) for name, each in _learning(parameters).items()}
        trial = self.init(copies)
        gradients = {name: torch.full_like(parameter, 1e-3) for name, parameter in copies.items()}
        with own.applying(f"{self.network}_optimizer", "an optimiser", _KIND):
            self.update(copies, gradients, trial, 0.0, 0.0)
        further = trial.optimizer.state_dict().keys() - {"state", _GROUPS}
        if further:
            found = f"an optimiser whose state_dict() has {', '.join(sorted(further))} as well"
            raise unexpected(f"{self.network}_optimizer", found, f"state and {_GROUPS} alone, which are saved")
        return copies, trial

    def _filled(self, parameters: Parameters, trial: _OwnState, saved: Mapping[str, np.ndarray]) -> _OwnState:
        """Return the state of tensors by name, which must be shaped like that of the trial."""
        made = self.init(parameters)
        content = made.optimizer.state_dict()
        kept = dict(saved)
        for number, group in enumerate(content["param_groups"]):
            prefix = f"{_GROUPS}/{number}/"
            for name in [name for name in kept if name.startswith(prefix) and name != f"{prefix}params"]:
                group[name.removeprefix(prefix)] = kept.pop(name).item()
        if kept:
            like = {
                name: each for name, each in _content(self.network, trial).items() if not name.startswith(f"{_GROUPS}/")
            }
            own.check_state(f"{self.network}_optimizer", like, kept)
            content["state"] = {
                index: {key: _like(each, kept.get(f"{name}/{key}")) for key, each in values.items()}
                for index, name, values in _values(trial)
            }
        made.optimizer.load_state_dict(content)
        return made


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
    content = _content(network, optimizer_state)
    return {own.own_state_name(network, _FRAMEWORK, name): value for name, value in content.items()}


def _content(network: str, optimizer_state: _OwnState) -> dict[str, np.ndarray]:
    """Return what an optimiser keeps of each parameter, PARAMETER/KEY, and the hyperparameters that it has changed."""
    named = {
        f"{name}/{key}": value
        for _, name, values in _values(optimizer_state)
        for key, value in values.items()
        if value is not None
    }
    groups = zip(optimizer_state.groups, optimizer_state.optimizer.param_groups, strict=True)
    for number, (before, group) in enumerate(groups):
        changed = {key: value for key, value in _numbers(group).items() if before.get(key) != value}
        named |= {f"{_GROUPS}/{number}/{key}": value for key, value in changed.items()}
    return {name: _array(f"{network}_optimizer", name, each) for name, each in named.items()}


def _learning(parameters: Parameters) -> dict[str, Tensor]:
    """Return the parameters that an optimiser moves."""
    return {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}


def _values(optimizer_state: _OwnState) -> Iterable[tuple[int, str, dict[str, Any]]]:
    """Yield torch's number, the name and the values of each parameter of which something is kept."""
    held = [each for group in optimizer_state.optimizer.param_groups for each in group["params"]]
    for index, values in optimizer_state.optimizer.state_dict()["state"].items():
        yield index, optimizer_state.names[id(held[index])], values


def _numbers(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters of a group that are numbers."""
    return {key: value for key, value in group.items() if isinstance(value, (bool, int, float))}


def _array(option: str, name: str, value: Any) -> np.ndarray:
    """Copy a tensor or a number to NumPy.

    Raises:
        UserError: it is neither, or of a type that NumPy has not.
    """
    if isinstance(value, (bool, int, float)):
        return np.asarray(value)
    if isinstance(value, Tensor) and value.dtype not in (torch.bfloat16, torch.complex64, torch.complex128):
        return np.array(value.detach().cpu().numpy(), order="C", copy=True)
    kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
    raise unexpected(option, f"state {name} of type {kind}", "tensors of NumPy's types, and numbers")


def _like(value: Any, saved: np.ndarray | None) -> Any:
    """Return what was saved as the type, in the memory order and on the device of what an optimiser keeps."""
    if saved is None:
        return None
    if isinstance(value, Tensor):
        return torch.empty_like(value).copy_(torch.tensor(saved))
    return type(value)(saved.item())
