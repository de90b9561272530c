"""Compare a port of your own, a linen or an nnx module, with its original in PyTorch."""

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from torch import nn

from gan_parity.difference import SHOWN, Context, Difference, first_difference
from gan_parity.layer_settings import compare_settings
from gan_parity.names import Names, Path, pair_names, to_flax, to_torch
from gan_parity.original import Original, run_original, state_names, summary
from gan_parity.ports import LinenPort, Outline, Port, Tensors, Traced, is_float
from gan_parity.ports_nnx import NnxPort
from gan_parity.shapes import first_misfit, fit_of
from gan_shared.errors import UserError, unexpected

# Name of the gradient with respect to the input of the whole network.
RETURNED = "returned/module.0.0/"


def locate(
    torch_module: nn.Module,
    flax_module: linen.Module | nnx.Module,
    inputs: np.ndarray | tuple[np.ndarray, ...],
    variables: Mapping[str, Any] | nnx.State | None = None,
    names: Mapping[str, str] | None = None,
    **options: Any,
) -> Difference | None:
    """Compare a port of your own: forward passes, then gradients of a weighted sum of the outputs, in float64.

    Modules are paired by their paths (``blocks_0`` and ``layers_0`` are torch's ``blocks.0`` and ``0``), or in the
    order of calls where no path is alike. First names and shapes are compared, then numbers. Both are run in the mode
    they are in; ``options`` are given to the call of the Flax module (``train=True``, say), whose changed statistics
    are compared with torch's buffers. Neither module is changed.

    Args:
        torch_module: the original, with its values.
        flax_module: the port.
        inputs: one, or a tuple; images (batch, height, width, channel), whole numbers for an embedding.
        variables: of the port, where it is to be run with values of its own; ``nnx.state(module)`` for nnx. torch's
            values, by this project's names and layouts, where not given.
        names: path in the port -> path in torch, of modules that are not paired by themselves.
        options: of the port's call.

    Returns:
        The first difference, or None.

    Raises:
        UserError: the modules cannot be compared: what they are, their names, or an error that one of them raises.
    """
    given = tuple(_array(each) for each in (inputs if isinstance(inputs, tuple) else (inputs,)))
    port = _port(torch_module, flax_module, variables, options)
    original = run_original(torch_module, given)
    with jax.enable_x64(True):
        values = [jnp.asarray(value, np.float64 if value.dtype.kind == "f" else value.dtype) for value in given]
        outline = port.outline(values)
        paired = _pair(original, outline, names or {})
        context = _context(original, outline, paired)
        own = port.own()
        misfit = first_misfit(fit_of(original, outline, paired, own is not None), context)
        if misfit is not None:
            return misfit
        _refuse(outline)
        tensors = _arranged(original, outline, paired) if own is None else _wide(own)
        weights = [_turned(weight, shape) for weight, shape in zip(original.weights, outline.outputs, strict=True)]
        try:
            traced = port.run(tensors, values, weights)
        except UserError:
            raise
        except Exception as error:
            raise unexpected("port", summary(error), "a module that takes these inputs and options") from error
        return first_difference(*_traces(original, traced, tensors, paired, own is not None), context)


def _array(value: Any) -> np.ndarray:
    """Return an input as an array.

    Raises:
        UserError: it is none, or has nothing that could differ.
    """
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # lists of different lengths, tensors that need gradients
        raise unexpected("inputs", summary(error), "an array of numbers, or a tuple of arrays") from error
    if not array.size or array.dtype.kind not in "fiub":
        raise unexpected("inputs", f"shape {array.shape} of type {array.dtype}", "real numbers, one example or more")
    return array


def _port(original: object, port: object, variables: Any, options: Mapping[str, Any]) -> Port:
    """Return what runs the port.

    Raises:
        UserError: one of the two is no module.
    """
    if not isinstance(original, nn.Module):
        raise unexpected("original", _described(original), "a torch.nn.Module with its values")
    if isinstance(port, linen.Module):
        return LinenPort(port, variables, options)
    if isinstance(port, nnx.Module):
        module = port if variables is None else nnx.merge(nnx.graphdef(port), variables)
        return NnxPort(module, variables is not None, options)
    raise unexpected("port", _described(port), "an instance of flax.linen.Module or flax.nnx.Module")


def _described(thing: object) -> str:
    return f"the class {thing.__name__}" if isinstance(thing, type) else f"a {type(thing).__name__}"


def _refuse(outline: Outline) -> None:
    """Raise a UserError where the port cannot be run or hides mistakes by rounding; warn where it rounds to float32."""
    failure = outline.failure
    if failure is not None:
        raise unexpected("port", summary(failure), "a module that takes these inputs and options") from failure
    for path, dtype in outline.narrow.items():
        place = "/".join(path) or "the module itself"
        if dtype.itemsize < 4:
            raise unexpected(
                "port", f"{dtype} in {place}", "float64 or float32: build it with dtype=None to compare it"
            )
    if outline.narrow:
        places = ", ".join("/".join(path) or "the module itself" for path in [*outline.narrow][:SHOWN])
        warnings.warn(
            f"the port computes in float32 ({places}): values from there on are held to the rounding of float32; "
            "build it with dtype=None to compare it in float64",
            stacklevel=3,
        )


def _pair(original: Original, outline: Outline, given: Mapping[str, str]) -> Names:
    """Return which module of the port is which in torch."""
    if not isinstance(given, Mapping) or not all(isinstance(each, str) for pair in given.items() for each in pair):
        raise unexpected("names", repr(given), "{'path in the port': 'path in torch'}")
    called = [key.split("/", 2)[2] for key in original.values if key.startswith("forward/")]
    own = state_names(original.modules)
    theirs = list(dict.fromkeys(path for path in (*called, *own) if path and own.get(path)))
    holders = {path[:-1] for path in outline.tensors} - {()}
    ours = [path for path in outline.modules if path in holders]
    ours += sorted(holders - set(ours))
    there = {".".join(path[:end]) for path in (*ours, *outline.modules) for end in range(1, len(path) + 1)}
    for port in given:
        if port.replace("/", ".") not in there:
            raise unexpected("names", port, "a module of the port's", sorted(there))
    every = Names({}, frozenset(original.modules), frozenset(original.tensors))
    return pair_names(theirs, ours, every, given)


def _context(original: Original, outline: Outline, paired: Names) -> Context:
    """Return what is known of the modules of both sides."""
    kinds = {f"module/{path}": type(module).__name__ for path, module in original.modules.items()}
    flax_paths, settings = {}, {}
    for path, module in outline.modules.items():
        name = paired.module(path) if path else ""
        flax_paths[f"module/{name}"] = "/".join(("module", *path))
        if name in original.modules:
            got = outline.activations.get(f"input/module.0/{'.'.join(path)}", ())
            sizes = got[1:-1]
            settings[f"module/{name}"] = compare_settings(original.modules[name], module, sizes)
    tied = {name.rpartition(".")[0]: ", ".join(sorted(group)) for name, group in original.tied.items()}
    for name in original.modules:
        known = settings.setdefault(f"module/{name}", {})
        known["tied"] = f"tied: one parameter in torch is {tied[name]}" if name in tied else ""
        if ".".join(filter(None, [name, "weight_u"])) not in original.tensors:
            known["spectral"] = ""
    return Context(kinds, flax_paths, settings, spreads=True)


def _arranged(original: Original, outline: Outline, paired: Names) -> Tensors:
    """Return torch's values as the port's; what Flax alone has is 1."""
    found = {}
    for path, leaf in outline.tensors.items():
        dtype = np.float64 if np.dtype(leaf.dtype).kind == "f" else leaf.dtype
        name = paired.tensor(path)
        if name in original.tensors:
            found[path] = jnp.asarray(to_flax(original.tensors[name], path), dtype)
        else:
            found[path] = jnp.ones(leaf.shape, dtype)
    return found


def _wide(tensors: Tensors) -> Tensors:
    """Return values of the user's own in float64."""
    return {path: jnp.asarray(leaf, jnp.float64) if is_float(leaf) else leaf for path, leaf in tensors.items()}


def _turned(weight: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the weights of an output in the port's order of axes."""
    turned = weight is not None and weight.ndim == 4 and weight.transpose(0, 2, 3, 1).shape == shape
    return weight.transpose(0, 2, 3, 1) if weight is not None and turned else weight


def _traces(
    original: Original, traced: Traced, tensors: Tensors, paired: Names, own: bool
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the traces of both by torch's names and in one order of axes.

    The gradient of a parameter that the user's values have in a layout of their own is left out. That both have the
    same tensors has been checked before.
    """
    left = {f"state/module/{paired.tensor(path)}": (path, leaf) for path, leaf in traced.left.items()}
    theirs = {key: value for key, value in original.values.items() if not key.startswith("state/") or key in left}
    ours = {paired.key(key): value for key, value in traced.values.items()}
    # A network that cuts the gradient of its input returns none, which is one of 0.
    for mine, other in ((theirs, ours), (ours, theirs)):
        mine |= {key: np.zeros_like(value) for key, value in other.items() if key == RETURNED and key not in mine}
    ours |= {f"output/module/{i}": value for i, value in enumerate(traced.outputs)}
    for key, value in ours.items():
        if key in theirs and value.ndim == 4 and value.shape != theirs[key].shape:
            ours[key] = value.transpose(0, 2, 3, 1)  # the port has torch's order of axes there
    ours = {key: value for key, value in ours.items() if key in theirs or not key.startswith("output/")}
    for path, leaf in traced.gradients.items():
        name = paired.tensor(path)
        if not own or _same_layout(original.tensors.get(name), tensors[path], path):
            ours[f"gradient/module.0/{name}"] = to_torch(np.array(leaf), path)
    ours |= {key: to_torch(np.array(leaf), path) for key, (path, leaf) in left.items() if key in theirs}
    return theirs, ours


def _same_layout(theirs: np.ndarray | None, ours: Any, path: Path) -> bool:
    """Whether a parameter of the user's own is torch's, by this project's rule."""
    turned = to_torch(np.array(ours), path)
    return theirs is not None and turned.shape == theirs.shape and np.allclose(turned, theirs, rtol=1e-6, atol=0)
