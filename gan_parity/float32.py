"""How far a float32 step is from the float64 one, in each backend, from states along a float64 run.

Errors are parts of how far the step moves a tensor: they measure gradients and updates, not how large weights are. One
state is not enough: where a rounding puts a number on the other side of a rectifier or makes another one the largest of
a pool, a gradient jumps, in float64 too when weights are moved by as much. A backend that is worse is so at most
states, and the median over them shows it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gan_parity import runs
from gan_parity.compare import PARTS, Tensors
from gan_parity.runs import run
from gan_shared.backend import Backend
from gan_shared.config import Config

# A backend's float32 step may be so many times as far from float64 as the other's.
WORSE = 3.0
# Errors below this part of a move count as that. A float32 sum of some thousand numbers in order is off by as much, and
# torch's batch normalisation sums in order where channels come last on a CPU: see ``gan_torch/layers.py``.
FLOOR = 1e-6
# A tensor that moves by less than this part of the furthest move holds rounding alone.
ROUNDING = 4 * 2.0**-24


def step_errors(exact: Config, single: Config, state: Tensors, step: int) -> dict[str, dict[str, float]]:
    """Return per backend and tensor how far one float32 step is from torch's float64 one; see ``errors``.

    Args:
        exact: the run, in float64.
        single: the same in float32.
        state: what a run exported before ``step``.
        step: which step is run.
    """
    expected = exact_step(runs.backend("torch", exact), state, step)
    return {name: errors(runs.backend(name, single), expected, state, step) for name in runs.BACKENDS}


def exact_step(reference: Backend, state: Tensors, step: int) -> dict[str, np.ndarray]:
    """Return the state after one float64 step of ``reference`` from a state that was rounded to float32."""
    # The float32 state, exactly, in both precisions: the step is compared, not the rounding of where it begins.
    after, _ = run(reference, reference.restore(in_type(in_type(state, np.float32), np.float64)), step, 1)
    return reference.export(after)


def errors(backend: Backend, expected: Tensors, state: Tensors, step: int) -> dict[str, float]:
    """Return per tensor how far one step of ``backend`` is from the float64 one.

    The root mean square over the numbers of a tensor, as a part of the furthest that any of them moves in the step; of
    a tensor that truly stays where it is, as a part of the furthest move in its part of the state (in an optimizer's
    state, of the tensors with its last name).

    Args:
        backend: in float32, or with networks in a type of fewer digits.
        expected: what ``exact_step`` returned.
        state: what a run exported before ``step``.
        step: which step is run.
    """
    rounded = in_type(state, np.float32)
    lengths = moves({name: value - rounded[name] for name, value in expected.items()})
    after, _ = run(backend, backend.restore(rounded), step, 1)
    found = backend.export(after)
    return {name: root_mean_square(found[name] - expected[name]) / length for name, length in lengths.items()}


def moves(differences: Tensors) -> dict[str, float]:
    """Return how far a step moves every tensor but the counters; see ``step_errors``."""
    own = {
        name: float(np.abs(value).max())
        for name, value in differences.items()
        if name.startswith(PARTS) and value.ndim and value.dtype.kind == "f"
    }
    furthest: dict[tuple[str, str], float] = {}
    for name, move in own.items():
        furthest[_alike(name)] = max(move, furthest.get(_alike(name), 0.0))
    limits = {name: ROUNDING * furthest[_alike(name)] for name in own}
    return {name: move if move > limits[name] else furthest[_alike(name)] or 1.0 for name, move in own.items()}


def _alike(name: str) -> tuple[str, str]:
    """Return what a tensor shares with those that move alike: the part of the state, in an optimizer the last name."""
    part = next(part for part in PARTS if name.startswith(part))
    return part, name.rpartition(".")[2] if part.startswith("optimizer/") else ""


def of_part(errors: Mapping[str, float], tensors: Tensors, part: str) -> float:
    """Return the root mean square of the errors of all numbers of a part of the state."""
    names = [name for name in errors if name.startswith(part)]
    return root_mean_square([errors[name] for name in names], [tensors[name].size for name in names])


def multiple(errors: Mapping[str, Sequence[float]], floor: float = FLOOR) -> float:
    """Return the worse backend's error as a multiple of the other's, by medians over states.

    Args:
        errors: backend -> error at each state.
        floor: what smaller errors count as.
    """
    low, high = sorted(float(np.median(of_states)) for of_states in errors.values())
    sound = all(np.isfinite(of_states).all() for of_states in errors.values())
    return max(high, floor) / max(low, floor) if sound else float("inf")


def in_type(tensors: Tensors, dtype: Any) -> dict[str, np.ndarray]:
    """Return a state in another floating-point type; the optimisers' counts of steps are float32 in every one."""
    return {
        name: value.astype(dtype) if value.dtype.kind == "f" and not name.endswith(".step") else value
        for name, value in tensors.items()
    }


def root_mean_square(values: Any, weights: Any = None) -> float:
    """Return the root of the mean, or weighted mean, of the squares."""
    return float(np.sqrt(np.average(np.square(values), weights=weights)))
