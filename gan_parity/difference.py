"""The first value in which two traces differ, whose code it is, and a text about it."""

from collections.abc import Mapping
from typing import NamedTuple

import flax
import jax
import numpy as np
import torch

from gan_parity.trace_keys import at_fault, kind_of, module_of, scale_group
from gan_parity.trap_table import Trap, likely
from gan_shared.errors import unexpected

# Rounding of a few thousand operations, as a part of a value's own largest number, and as a part of the largest of all
# values of its kind in one network: a gradient that is truly 0 holds rounding alone.
FLOORS = {np.dtype(np.float64): (1e-11, 1e-13), np.dtype(np.float32): (1e-5, 1e-7)}
# Adam divides a gradient by its own size, and so the rounding of small ones, and of those that are truly 0, by 1e-8.
UPDATES = (1e-9, 1e-7)
# How many names of values that only one side has are listed, and how many traps.
SHOWN = 5
# Kind of the value that differs -> where to look; the braces hold the path of the value's module.
LOOK = {
    "input": "what it computes before it calls {}",
    "forward": "its forward pass",
    "backward": "the derivative of what it computes after {}",
    "returned": "its derivative with respect to its input",
    "gradient": "its derivative with respect to its parameters",
    "state": "how it updates its buffers",
    "output": "what it returns",
    "tensor": "the names and shapes of its parameters and buffers",
}
# And where no network's code made the value.
OUTSIDE = {
    "input": "what the training step gives to the network",
    "backward": "the loss or penalty",
    "update": "the optimizer",
    "scalar": "the loss or penalty",
}


class Difference(NamedTuple):
    """The first value that differs.

    Attributes:
        key: its name in a trace.
        error: the largest difference; infinite where the shapes differ or a number is not finite.
        scale: the largest number of torch's.
        ratio: the error as a multiple of what rounding explains.
        module: the module whose code is at fault, as ``network/path``; empty where no network's code is.
        flax: the path of the same module in Flax.
        kind: class of that module in torch; empty where there is none.
        position: how many values before it agree.
        traps: what may cause it, likeliest first.
        unmatched: names that only one of the two has.
        detail: what was found, in a sentence, where the numbers do not say it.
        settings: how the settings of the module differ in the two frameworks, a sentence each.
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
    detail: str = ""
    settings: tuple[str, ...] = ()


class Context(NamedTuple):
    """What is known of the modules that a trace is of.

    Attributes:
        kinds: class of each module in torch, by ``network/path``.
        flax_paths: path in Flax of each module, by ``network/path``, where it is known.
        settings: per ``network/path``, how each setting of the module differs; see ``likely``.
        spreads: whether values that come after one in float32 were computed from it, and are no more exact.
    """

    kinds: Mapping[str, str] = {}
    flax_paths: Mapping[str, str] = {}
    settings: Mapping[str, Mapping[str, str]] = {}
    spreads: bool = False

    def difference(
        self, key: str, modules: set[str], position: int, unmatched: tuple[str, ...], about: str = ""
    ) -> Difference:
        """Return a difference without numbers: the module, the traps and the settings that belong to a value.

        Args:
            key: name of the value.
            modules: those that both sides call.
            position: how many values before it agree.
            unmatched: names that only one side has.
            about: ``shape`` or ``tensor`` where no number differs; the kind of the value where not given.
        """
        own, module = module_of(key), at_fault(key, modules)
        settings = dict(self.settings.get(own, {}))
        if not key.endswith("running_var"):
            settings.pop("kept variance", None)
        traps = likely(about or kind_of(key), self.kinds.get(own, ""), own.partition("/")[0], settings)
        return Difference(
            key=key,
            error=float("inf"),
            scale=float("nan"),
            ratio=float("inf"),
            module=module,
            flax=self.flax_paths.get(module, module),
            kind=self.kinds.get(module, ""),
            position=position,
            traps=tuple(traps),
            unmatched=unmatched,
            settings=tuple(sentence for sentence in settings.values() if sentence),
        )


def first_difference(
    theirs: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray], context: Context | None = None
) -> Difference | None:
    """Return the first value of torch's trace that differs from the other one by more than rounding, or None.

    Of activations and their gradients each side may have some that the other one lacks: what is a module in torch may
    be a function in Flax. A tensor of the state must be there on both sides. A value that one side has in float32 is
    held to the rounding of float32.

    Args:
        theirs: torch's trace, in execution order.
        ours: the other one.
        context: what is known of the modules.

    Raises:
        UserError: they have no name in common.
    """
    context = context or Context()
    common = [key for key in theirs if key in ours]
    unmatched = tuple(key for key in (*theirs, *ours) if key not in theirs or key not in ours)
    if not common:
        raise unexpected("modules", ", ".join(unmatched[: 2 * SHOWN]), "at least one name that both have")
    modules = {module_of(key) for key in common if key.startswith("forward/")}
    modules |= {f"{module.partition('/')[0]}/" for module in modules}
    largest: dict[str, float] = {}
    for key in common:
        if theirs[key].ndim and np.isfinite(theirs[key]).all():  # counters are no scale of anything
            group = scale_group(key)
            largest[group] = max(largest.get(group, 0.0), float(np.abs(theirs[key]).max(initial=0.0)))
    narrow = False
    for position, key in enumerate(common):
        expected, found = theirs[key], ours[key]
        single = np.float32 in (expected.dtype, found.dtype)
        wide = np.int64 if expected.dtype.kind in "ub" else expected.dtype
        narrow |= single and context.spreads
        scale = float(np.abs(expected).max(initial=0.0))
        if expected.shape != found.shape:
            found_shapes = f"torch's shape is {expected.shape}, the other one's is {found.shape}"
            return context.difference(key, modules, position, unmatched)._replace(scale=scale, detail=found_shapes)
        if not (np.isfinite(expected).all() and np.isfinite(found).all()):
            return context.difference(key, modules, position, unmatched)._replace(scale=scale)
        own, of_all = UPDATES if kind_of(key) == "update" else _floors(expected.dtype, single or narrow)
        floor = own * scale + of_all * largest.get(scale_group(key), 0.0)
        error = float(np.abs(found.astype(wide) - expected).max(initial=0.0))
        if not error <= floor:
            ratio = error / floor if floor else float("inf")
            return context.difference(key, modules, position, unmatched)._replace(error=error, scale=scale, ratio=ratio)
    missing = [key for key in unmatched if kind_of(key) == "state"]
    if not missing:
        return None
    return context.difference(missing[0], modules, len(common), unmatched)._replace(
        detail="one side has no such tensor"
    )


def _floors(dtype: np.dtype, single: bool) -> tuple[float, float]:
    """Return what rounding explains of a value; whole numbers are not rounded."""
    return FLOORS.get(np.dtype(np.float32) if single and dtype.kind == "f" else dtype, (0.0, 0.0))


def report(found: Difference | None, what: str) -> str:
    """Return a text that can be pasted into an issue.

    Args:
        found: the first difference, if there is one.
        what: was compared.
    """
    versions = f"torch {torch.__version__}, jax {jax.__version__}, flax {flax.__version__}, numpy {np.__version__}"
    if found is None:
        return f"{what}: no value differs by more than rounding ({versions})"
    network, _, path = found.module.partition("/")
    difference = f"{found.error:.3g} of numbers up to {found.scale:.3g}: {found.ratio:.3g} times what rounding explains"
    lines = [
        f"{what}: the first value that differs is {found.key}",
        f"  difference   {found.detail or difference}",
        f"  before it    {found.position} values agree",
    ]
    if network:
        lines += [
            f"  in torch     {network}{'.' if path else ''}{path}" + (f" ({found.kind})" if found.kind else ""),
            f"  in Flax      {found.flax.rstrip('/')}",
            f"  look at      {LOOK[kind_of(found.key)].format(module_of(found.key).partition('/')[2])}",
        ]
    else:
        lines.append(f"  look at      {OUTSIDE.get(kind_of(found.key), 'what the training step does')}")
    lines += [f"  settings     {sentence}" for sentence in found.settings]
    lines += [f"  likely       {trap.name}: {trap.naive}; instead: {trap.fix}" for trap in found.traps[:SHOWN]]
    if found.unmatched:
        more = f" and {len(found.unmatched) - SHOWN} more" if len(found.unmatched) > SHOWN else ""
        lines.append(f"  on one side  {', '.join(found.unmatched[:SHOWN])}{more}")
    return "\n".join([*lines, f"  versions     {versions}"])
