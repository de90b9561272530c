"""The half of ``locate`` that runs the original, in PyTorch and float64."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gan_parity.names import canonical
from gan_shared.errors import UserError, one_line, unexpected
from gan_torch.step_trace import record_modules, to_nhwc

# Where a copy of an error's text is cut.
LONGEST = 200


class Original(NamedTuple):
    """What a module in torch is made of and what it computed.

    Attributes:
        values: its trace: activations, their gradients, those of its parameters, and what it leaves in its buffers.
        tensors: its parameters and buffers as they were before, by canonical name (``names.canonical``).
        modules: by path.
        buffers: names of those of the tensors that are buffers.
        tied: name of each parameter that has more than one -> all its names.
        outputs: shapes of what it returned, in torch's order of axes.
        weights: per output, the numbers that its gradients are weighted by; None where it is not a float.
    """

    values: dict[str, np.ndarray]
    tensors: dict[str, np.ndarray]
    modules: dict[str, nn.Module]
    buffers: frozenset[str]
    tied: dict[str, frozenset[str]]
    outputs: list[tuple[int, ...]]
    weights: list[np.ndarray | None]


def run_original(module: nn.Module, inputs: Sequence[np.ndarray]) -> Original:
    """Run a copy of a module forwards, then backwards from a weighted sum of its outputs.

    Args:
        module: the original, with its values, in the mode that is compared.
        inputs: (batch, height, width, channel), or of any other rank in the order that torch takes.

    Raises:
        UserError: it draws random numbers, or it fails on these inputs.
    """
    try:
        _refuse_randomness(module, inputs)
        return _run(copy.deepcopy(module).cpu().double(), inputs)
    except UserError:
        raise
    except Exception as error:
        expected = "a module that takes these inputs (four axes are turned to torch's order, others are not)"
        raise unexpected("original", summary(error), expected) from error


def _run(module: nn.Module, inputs: Sequence[np.ndarray]) -> Original:
    """See ``run_original``; the module is changed."""
    begun = {canonical(name): value.detach().numpy().copy() for name, value in _tensors(module).items()}
    given = [tensor_of(value) for value in inputs]
    floats = [each.requires_grad_() for each in given if each.is_floating_point()]
    values: dict[str, np.ndarray] = {}
    with record_modules({"module": module}, values):
        made = leaves(module(*(each.clone() for each in given)))  # an operation in place must not change a leaf
        if len(made) != 1 or not made[0].is_floating_point():
            values |= {f"output/module/{i}": to_nhwc(each) for i, each in enumerate(made)}
        rng = np.random.default_rng(0)
        weights = [rng.standard_normal(each.shape) if each.is_floating_point() else None for each in made]
        named = dict(module.named_parameters(remove_duplicate=False))
        trained = {name: each for name, each in named.items() if each.requires_grad}
        weighted = [(y * torch.from_numpy(w)).sum() for y, w in zip(made, weights, strict=True) if w is not None]
        total = sum(weighted, torch.zeros((), dtype=torch.float64))
        sources = [*floats, *trained.values()]
        found: Sequence[Tensor] = ()
        if sources and total.requires_grad:
            found = torch.autograd.grad(total, sources, materialize_grads=True)[len(floats) :]
    gradients = zip(trained, found, strict=False)
    values |= {f"gradient/module.0/{canonical(name)}": slope.numpy() for name, slope in gradients}
    values |= {f"state/module/{canonical(name)}": each.numpy().copy() for name, each in module.named_buffers()}
    outputs = [tuple(each.shape) for each in made]
    buffers = frozenset(canonical(name) for name, _ in module.named_buffers())
    return Original(values, begun, dict(module.named_modules()), buffers, _tied(named), outputs, weights)


def _tied(named: Mapping[str, Tensor]) -> dict[str, frozenset[str]]:
    """Return all names of each parameter that has more than one."""
    groups: dict[int, set[str]] = {}
    for name, parameter in named.items():
        groups.setdefault(id(parameter), set()).add(canonical(name))
    return {name: frozenset(group) for group in groups.values() if len(group) > 1 for name in group}


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return every parameter and buffer, those that are not saved among them."""
    return {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers())}


def _refuse_randomness(module: nn.Module, inputs: Sequence[np.ndarray]) -> None:
    """Raise a UserError where two calls with the same inputs give different numbers."""
    made = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            made.append(leaves(copy.deepcopy(module).cpu().double()(*map(tensor_of, inputs))))
    if any(not torch.equal(a, b) and not (a.isnan() & b.isnan()).any() for a, b in zip(*made, strict=True)):
        drops = [path or "(itself)" for path, each in module.named_modules() if "Dropout" in type(each).__name__]
        raise unexpected(
            "original",
            f"random numbers, which differ from call to call ({', '.join(drops) or 'no Dropout module'})",
            "a module that computes the same each time: call .eval(), and run the port in evaluation mode too",
        )


def tensor_of(value: np.ndarray) -> Tensor:
    """Return an input for torch: images as (batch, channel, height, width), floats in float64, integers in int64."""
    array = np.asarray(value)
    turned = array.transpose(0, 3, 1, 2) if array.ndim == 4 else array
    wide = np.float64 if array.dtype.kind == "f" else np.bool_ if array.dtype.kind == "b" else np.int64
    return torch.from_numpy(np.array(turned, wide, order="C"))


def leaves(value: Any) -> list[Any]:
    """Return the arrays of an output in one order: a single one, or those of a tuple, list, mapping or data class."""
    if isinstance(value, Mapping):
        return [leaf for name in sorted(value) for leaf in leaves(value[name])]
    if isinstance(value, tuple | list):
        return [leaf for each in value for leaf in leaves(each)]
    if hasattr(value, "__dataclass_fields__"):
        return [leaf for name in value.__dataclass_fields__ for leaf in leaves(getattr(value, name))]
    return [value] if hasattr(value, "shape") else []


def summary(error: BaseException) -> str:
    """Return an error's type and the beginning of its text in one line."""
    text = one_line(error)
    return f"{type(error).__name__}: {text[:LONGEST]}{'...' if len(text) > LONGEST else ''}"


def own_tensors(module: nn.Module) -> list[str]:
    """Return the last names of the tensors that a module holds itself, those of its parametrizations among them."""
    own = [name for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))]
    held: Mapping[str, Any] = getattr(module, "parametrizations", {})
    return own + [name for weight in held for name in (weight, f"{weight}_u", f"{weight}_v")]


def state_names(modules: Mapping[str, nn.Module]) -> dict[str, list[str]]:
    """Return per path of a module the canonical names of its own tensors; a parametrization's are its layer's."""
    found = {}
    for path, module in modules.items():
        if ".parametrizations" in f".{path}":
            continue
        found[path] = [canonical(".".join(filter(None, [path, name]))) for name in own_tensors(module)]
    return found
