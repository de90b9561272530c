"""Name the first value in which two implementations differ: ``python -m parity_tests.locate --help``.

    python -m parity_tests.locate dcgan                   # one step of a preset in both backends, in float64
    python -m parity_tests.locate runs/a runs/b           # the newest checkpoints of two runs, or two checkpoints

As a library for one's own port, see ``locate`` and ``examples/locate_a_port.py``. Values are compared in the order in
which torch met them: what modules got and made, the gradients that came back to them and that they gave back, those of
the parameters, updates, what the step reports and what is left. Each is held to rounding on its own scale; the first
that is further off is where to look. Where a module got something else already, that is what its parent does before it.
"""

import copy
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import tyro
from flax import linen, traverse_util
from torch import nn
from tyro.conf import Positional

import gan_jax.trace
import gan_torch.models
import gan_torch.trace
from benchmarks.command import guarded
from gan_jax import interop
from gan_shared import checkpoint
from gan_shared.backend import StepValues
from gan_shared.checkpoint import TRAINED
from gan_shared.config import Config
from gan_shared.draws import draw
from gan_shared.errors import unexpected
from gan_shared.schedules import knobs
from parity_tests import pair
from parity_tests.pair import CONFIGS
from parity_tests.traps import Trap, likely

# Rounding of a few thousand operations, as a part of a value's own largest number, and as a part of the largest of all
# values of its kind in one network: a gradient that is truly 0 holds rounding alone.
FLOORS = {np.dtype(np.float64): (1e-11, 1e-13), np.dtype(np.float32): (1e-5, 1e-7)}
# Adam divides a gradient by its own size, and so the rounding of small ones, and of those that are truly 0, by 1e-8.
UPDATES = (1e-9, 1e-7)
# Steps before the one that is compared: in the first, biases and the last kernels of R3GAN's blocks are zero.
BEGUN = 3
# Names that are listed of what only one side has.
SHOWN = 5
# Kind of the value that differs -> what its module does there; the braces hold whose value it is.
LOOK = {
    "input": "what it does before {}",
    "forward": "what it makes",
    "backward": "the derivative of what it does after {}",
    "returned": "its derivative",
    "gradient": "the derivative for its parameters",
    "state": "what it is left with",
}
# And where the value is of no network.
OUTSIDE = {
    "input": "what the step gives to the network",
    "backward": "the loss or penalty",
    "update": "the optimiser",
    "scalar": "the loss or penalty",
}


class Difference(NamedTuple):
    """The first value that differs.

    Attributes:
        key: its name in a trace.
        error: the largest difference; infinite where the shapes differ or a number is none.
        scale: the largest number of torch's.
        ratio: how many times as far off as rounding explains.
        module: whose code is at fault, as ``network/path``; empty where it is of no network.
        flax: the same module by its path in Flax.
        kind: class of that module in torch; empty where there is none.
        position: how many values before it agree.
        traps: what it may come of, likeliest first.
        unmatched: names that only one of the two has.
    """

    key: str
    error: float
    scale: float
    ratio: float
    module: str
    flax: str
    kind: str
    position: int
    traps: tuple[Trap, ...]
    unmatched: tuple[str, ...]


def compare(
    theirs: Mapping[str, np.ndarray],
    ours: Mapping[str, np.ndarray],
    kinds: Mapping[str, str],
    paths: Mapping[str, str] | None = None,
) -> Difference | None:
    """Return the first value of torch's trace that the other one has not within rounding, or None.

    Of activations and their gradients each side may have some that the other one lacks: what is a module in torch may
    be a function in Flax. A tensor of the state must be there on both sides.

    Args:
        theirs: torch's trace, in execution order.
        ours: the other one.
        kinds: class of each module, by ``network/path``.
        paths: path in Flax of each module, by ``network/path``, where it is known.

    Raises:
        UserError: they have no name in common.
    """
    common = [key for key in theirs if key in ours]
    unmatched = tuple(key for key in (*theirs, *ours) if key not in theirs or key not in ours)
    if not common:
        raise unexpected("modules", ", ".join(unmatched[: 2 * SHOWN]), "at least one name that both have")
    modules = {_module(key) for key in common if key.startswith("forward/")}

    def difference(key: str, error: float, scale: float, floor: float, position: int) -> Difference:
        ratio = error / floor if floor and np.isfinite(error) else float("inf")
        traps = tuple(likely(_kind(key), kinds.get(_module(key), ""), _module(key).partition("/")[0]))
        module = at_fault(key, modules)
        flax = (paths or {}).get(module, module)
        return Difference(key, error, scale, ratio, module, flax, kinds.get(module, ""), position, traps, unmatched)

    largest: dict[str, float] = {}
    for key in common:
        if theirs[key].ndim and np.isfinite(theirs[key]).all():  # counters are no scale of anything
            largest[_group(key)] = max(largest.get(_group(key), 0.0), float(np.abs(theirs[key]).max(initial=0.0)))
    for position, key in enumerate(common):
        expected, found = theirs[key], ours[key]
        if expected.shape != found.shape or not (np.isfinite(expected).all() and np.isfinite(found).all()):
            return difference(key, float("inf"), float(np.abs(expected).max(initial=0.0)), 0.0, position)
        scale = float(np.abs(expected).max(initial=0.0))
        own, of_all = UPDATES if _kind(key) == "update" else FLOORS.get(expected.dtype, (0.0, 0.0))
        floor = own * scale + of_all * largest.get(_group(key), 0.0)
        error = float(np.abs(found - expected).max(initial=0.0))
        if not error <= floor:
            return difference(key, error, scale, floor, position)
    missing = [key for key in unmatched if _kind(key) == "state"]
    return difference(missing[0], float("inf"), float("nan"), 0.0, len(common)) if missing else None


def report(found: Difference | None, what: str) -> str:
    """Return a text that can be pasted into an issue."""
    versions = f"torch {torch.__version__}, jax {jax.__version__}, numpy {np.__version__}"
    if found is None:
        return f"{what}: no value differs beyond rounding ({versions})"
    network, _, path = found.module.partition("/")
    lines = [
        f"{what}: the first value that differs is {found.key}",
        f"  difference   {found.error:.3g} of numbers up to {found.scale:.3g}: {found.ratio:.3g} times rounding"
        if found.key not in found.unmatched
        else "  difference   one side has no such tensor",
        f"  before it    {found.position} values agree",
    ]
    if network:
        lines += [
            f"  in torch     {network}.{path or '(the network itself)'}" + (f" ({found.kind})" if found.kind else ""),
            f"  in Flax      {found.flax if path else network + '/(the network itself)'}",
            f"  look at      {LOOK[_kind(found.key)].format(_module(found.key).partition('/')[2])}",
        ]
    else:
        lines.append(f"  look at      {OUTSIDE.get(_kind(found.key), 'what the step does with the networks')}")
    lines += [f"  likely       {trap.name}: {trap.naive}; instead: {trap.fix}" for trap in found.traps[:SHOWN]]
    if found.unmatched:
        more = f" and {len(found.unmatched) - SHOWN} more" if len(found.unmatched) > SHOWN else ""
        lines.append(f"  on one side  {', '.join(found.unmatched[:SHOWN])}{more}")
    return "\n".join([*lines, f"  versions     {versions}"])


def locate(
    torch_module: nn.Module,
    flax_module: linen.Module,
    inputs: np.ndarray,
    variables: Mapping[str, Any] | None = None,
    **options: Any,
) -> Difference | None:
    """Compare a port of one's own: forward passes, then gradients of a weighted sum of the output, in float64.

    Modules are paired by their paths. Both are run in the mode they are in; ``options`` are given to the Flax module
    (``train=True``, say), whose changed collections are compared with torch's buffers.

    Args:
        torch_module: the original, with its values.
        flax_module: the port.
        inputs: (batch, height, width, channel), or (batch, feature).
        variables: of the port; torch's own values, by this project's names and layouts, where not given.

    Returns:
        The first difference, or None.

    Raises:
        UserError: the port has a tensor that torch's state lacks, or no module of it has the name of one of torch's.
    """
    original = copy.deepcopy(torch_module).double()
    x = torch.from_numpy(np.ascontiguousarray(inputs.transpose(0, 3, 1, 2) if inputs.ndim == 4 else inputs)).double()
    theirs: dict[str, np.ndarray] = {}
    begun = {name: value.detach().numpy().copy() for name, value in original.state_dict().items()}
    x.requires_grad_()
    with gan_torch.trace.watched({"module": original}, theirs):
        made = original(x)
        weights = np.random.default_rng(0).standard_normal(made.shape)
        parameters = {name: value for name, value in original.named_parameters() if value.requires_grad}
        total_made = (made * torch.from_numpy(weights)).sum()
        gradients = torch.autograd.grad(total_made, [x, *parameters.values()], materialize_grads=True)[1:]
    theirs |= {f"gradient/module.0/{name}": value.numpy() for name, value in zip(parameters, gradients, strict=True)}
    theirs |= {f"state/module/{name}": value.numpy() for name, value in original.named_buffers()}

    with jax.enable_x64(True):
        value = jnp.asarray(inputs, jnp.float64)
        own: Any = ported(flax_module, value, begun, options) if variables is None else variables
        weighted = weights.transpose(0, 2, 3, 1) if weights.ndim == 4 else weights
        rest = {name: tree for name, tree in own.items() if name != "params"}
        ours: dict[str, np.ndarray] = {}

        def total(params: Any) -> Any:
            y, left = flax_module.apply({"params": params, **rest}, value, mutable=list(rest), **options)
            return (y * weighted).sum() if y.shape == weighted.shape else y.sum(), left

        with gan_jax.trace.watched({"module": flax_module}, ours):
            gradient, left = jax.grad(total, has_aux=True)(own["params"])
        ours |= {f"gradient/module.0/{name}": each for name, each in interop.to_torch(gradient).items()}
        for tree in left.values():
            ours |= {f"state/module/{name}": each for name, each in interop.to_torch(tree).items()}
    kinds = {f"module/{path}": type(each).__name__ for path, each in original.named_modules()}
    modules = {_module(key) for key in theirs if key.startswith("forward/")} - {"module/"}
    named = {_module(key) for key in ours if key.startswith("forward/")} - {"module/"}
    if modules and not modules & named:
        raise unexpected("modules of the port", ", ".join(sorted(named)) or "none", "names of torch's", sorted(modules))
    return compare(theirs, ours, kinds, flax_paths({"module": own["params"]}))


def flax_paths(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return the path in Flax of every module that holds parameters, or whose modules do, by ``network/path``."""
    found = {}
    for network, tree in parameters.items():
        for path in traverse_util.flatten_dict(tree):
            for end in range(1, len(path)):
                found[f"{network}/{'.'.join(path[:end])}"] = f"{network}/{'/'.join(path[:end])}"
    return found


def ported(module: linen.Module, x: Any, tensors: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> Any:
    """Return torch's tensors as the variables of a Flax module.

    Raises:
        UserError: one is missing.
    """
    shapes = linen.meta.unbox(jax.eval_shape(lambda: module.init(jax.random.key(0), x, **options)))
    variables = {}
    for collection, tree in shapes.items():
        wide = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.float64) if leaf.dtype.kind == "f" else leaf, tree
        )
        try:
            variables[collection] = interop.from_torch(tensors, wide)
        except KeyError as error:
            raise unexpected(str(error.args[0]), "no such tensor in torch's state", "one", tensors) from error
    return variables


def locate_in_preset(config: Config) -> Difference | None:
    """Play one step of a configuration in both backends, from one state of torch's run, and compare the traces."""
    theirs, ours = traces(config)
    players = gan_torch.models.networks(config)._asdict()
    kinds = {
        f"{name}/{path}": type(module).__name__
        for name, network in players.items()
        if network is not None
        for path, module in network.named_modules()
    }
    state = pair.backend("jax", config).init()
    parameters = {name: network.parameters for name in (*TRAINED, "vgg") if (network := getattr(state, name))}
    return compare(theirs, ours, kinds, flax_paths(parameters))


def traces(config: Config) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the traces of one step in torch and in JAX, from one state of torch's run."""
    config = replace(config, recompute=False)  # the same numbers, without calling modules again
    values = StepValues(pair.real_batch(config, BEGUN), draw(config, BEGUN), knobs(config, BEGUN))
    original = pair.backend("torch", config)
    begin = original.export(pair.run(original, original.init(), 0, BEGUN)[0])
    theirs, ours = (
        twin.trace(twin.restore(begin), values) for twin in (pair.backend(name, config) for name in pair.BACKENDS)
    )
    return theirs, ours


def locate_in_checkpoints(paths: Sequence[Path]) -> Difference | None:
    """Compare the tensors of two checkpoints of any backend, in the order of their names in the first one's files.

    Raises:
        UserError: one cannot be read, or they are of different steps.
    """
    first, second = (checkpoint.load_newest(path) for path in paths)
    if first.step != second.step:
        raise unexpected("step", f"{first.step} and {second.step}", "two checkpoints of one step")
    theirs, ours = ({f"state/{name}": value for name, value in each.tensors.items()} for each in (first, second))
    return compare(theirs, ours, {})


def at_fault(key: str, modules: Collection[str]) -> str:
    """Return ``network/path`` of the module whose code made a value, or an empty string where it is of no network.

    What a module got and the gradient that came back to what it made are its parent's work; for a network itself, the
    step's. Updates are an optimiser's.

    Args:
        key: name of the value.
        modules: those that both sides call; a list of modules is called by nobody.
    """
    kind, module = _kind(key), _module(key)
    network, _, path = module.partition("/")
    if kind in ("input", "backward"):
        parents = [path[:end] for end in range(len(path)) if path[end] == "."]
        return next((each for p in [*parents[::-1], ""] if (each := f"{network}/{p}") in modules), "") if path else ""
    own = kind in ("forward", "returned", "gradient", "state")
    return module if own and network not in ("generator_ema", "optimizer", "game") else ""


def _kind(key: str) -> str:
    return key.split("/")[0]


def _group(key: str) -> str:
    """What a value shares its scale with: values of its kind in one call of one network, or of one moment."""
    kind, network, *rest = key.split("/")
    moment = f"/{rest[0].split('.')[0]}/{key.rpartition('.')[2]}" if network == "optimizer" else ""
    return f"{kind}/{network}{moment}"


def _module(key: str) -> str:
    """Return ``network/path`` of a value; a parameter's or buffer's last name is not part of the path."""
    kind, _, rest = key.partition("/")
    network, _, path = rest.partition("/")
    if kind in ("gradient", "update", "state"):
        path = path.rpartition(".")[0]
    return f"{network.split('.')[0]}/{path}"


@dataclass(frozen=True)
class Options:
    """Name the first value in which both backends differ, or two runs do."""

    what: Positional[tuple[str, ...]]
    """A preset of the parity tests' reduced sizes, or two run or checkpoint folders."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 1 where something differs."""
    options = tyro.cli(Options, args=argv)
    found: list[Difference | None] = []

    def work() -> None:
        jax.config.update("jax_enable_x64", True)
        if len(options.what) == 2:
            found.append(locate_in_checkpoints([Path(path) for path in options.what]))
        elif len(options.what) == 1 and options.what[0] in CONFIGS:
            found.append(locate_in_preset(CONFIGS[options.what[0]]))
        else:
            raise unexpected("what", " ".join(options.what), "a preset, or two folders", CONFIGS)
        print(report(found[0], " and ".join(options.what)))

    return guarded(work) or int(found[0] is not None)


if __name__ == "__main__":
    sys.exit(main())
