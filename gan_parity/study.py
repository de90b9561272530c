"""What is measured of one preset: one step, whole runs, and float32 steps beside float64 ones."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gan_parity import float32, runs
from gan_parity.compare import ONE_STEP, PARTS, TRAJECTORY, Tensors, amplified, distances
from gan_parity.float32 import in_type
from gan_shared.config import Config

# An alternating run changes backend after each third: torch, JAX, torch.
ALTERNATING = ("torch", "jax", "torch")
# How many tensors of the float64 step, those that differ most, a summary keeps.
WORST = 3


class Study(NamedTuple):
    """What was measured of one preset.

    Attributes:
        preset: its name.
        seconds: how long it took.
        marks: steps after which runs were compared.
        one_step: tensor -> largest difference of one float64 step, as a part of its largest number.
        float32: part of the state -> backend -> error of its float32 step, per mark but the last.
        tensors: the same of every tensor -> backend -> the median over the marks.
        distances: kind of run -> per mark, how far apart, as a part of the distance travelled. ``float64``,
            ``alternating`` and ``float32`` are JAX, or a run that changes backend, beside torch; those that end in
            ``_perturbed``, torch beside itself with the last bit of one weight changed at the start.
    """

    preset: str
    seconds: float
    marks: list[int]
    one_step: dict[str, float]
    float32: dict[str, dict[str, list[float]]]
    tensors: dict[str, dict[str, float]]
    distances: dict[str, list[float]]

    def good(self) -> bool:
        """Whether the claims hold; a number that is not finite fails each of them."""
        step = all(error <= ONE_STEP for error in self.one_step.values())
        run = all(error <= TRAJECTORY for kind in ("float64", "alternating") for error in self.distances[kind])
        return step and run and all(ratio <= float32.WORSE for ratio in self.ratios().values())

    def ratios(self) -> dict[str, float]:
        """Return per part of the state the worse backend's float32 error as a multiple of the other's."""
        return {part: float32.multiple(errors) for part, errors in self.float32.items()}

    def worst(self) -> dict[str, float]:
        """Return the tensors of the float64 step that differ most, the worst first."""
        ordered = sorted(self.one_step.items(), key=lambda item: -np.nan_to_num(item[1], nan=np.inf))
        return dict(ordered[:WORST])

    def summary(self) -> "Study":
        """Return the study without what is of single tensors, but for the worst ones."""
        return self._replace(one_step=self.worst(), tensors={}, seconds=round(self.seconds, 1))


def study(name: str, config: Config, steps: int, marks: Sequence[int]) -> Study:
    """Measure one preset.

    Args:
        name: of the preset.
        config: at a reduced size.
        steps: length of the runs.
        marks: steps after which runs are compared, as far as they are before the end.
    """
    start = time.perf_counter()
    marks = [*(mark for mark in marks if mark < steps), steps]
    exact, single = config.with_options(precision="float64"), config.with_options(precision="float32")
    begin = runs.backend("torch", exact).export(runs.backend("torch", exact).init())
    alternating = {i * steps // len(ALTERNATING): name for i, name in enumerate(ALTERNATING)}
    plans = {"torch": {0: "torch"}, "jax": {0: "jax"}, "alternating": alternating}
    states = {kind: dict(states_of(exact, plan, begin, marks)) for kind, plan in plans.items()}
    states["perturbed"] = dict(states_of(exact, {0: "torch"}, perturbed(begin, 2.0**-53), marks))
    rounded = in_type(begin, np.float32)
    singles = {kind: dict(states_of(single, {0: kind}, rounded, marks)) for kind in runs.BACKENDS}
    singles["perturbed"] = dict(states_of(single, {0: "torch"}, perturbed(rounded, 2.0**-24), marks))

    def beside_torch(of: Mapping[str, Mapping[int, Tensors]], kind: str, at: Tensors) -> list[float]:
        return [furthest(of[kind][mark], of["torch"][mark], at) for mark in marks]

    errors = [float32.step_errors(exact, single, states["torch"][mark], mark) for mark in marks[:-1]]
    return Study(
        preset=name,
        seconds=time.perf_counter() - start,
        marks=marks,
        one_step=differences(states["jax"][1], states["torch"][1], config),
        float32={
            part: {
                backend: [float32.of_part(each[backend], begin, part) for each in errors] for backend in runs.BACKENDS
            }
            for part in PARTS
        },
        tensors={
            name: {backend: float(np.median([each[backend][name] for each in errors])) for backend in runs.BACKENDS}
            for name in errors[0]["torch"]
        },
        distances={
            "float64": beside_torch(states, "jax", begin),
            "float64_perturbed": beside_torch(states, "perturbed", begin),
            "alternating": beside_torch(states, "alternating", begin),
            "float32": beside_torch(singles, "jax", rounded),
            "float32_perturbed": beside_torch(singles, "perturbed", rounded),
        },
    )


def states_of(
    config: Config, plan: Mapping[int, str], begin: Tensors, marks: Sequence[int]
) -> Iterator[tuple[int, Tensors]]:
    """Yield the exported state after each of ``marks`` steps of a run.

    Args:
        config: of the run.
        plan: first step -> which backend runs from there on.
        begin: the initial state.
        marks: steps, in order.
    """
    tensors, done = begin, 0
    ends = sorted({*marks, *(first for first in plan if 0 < first < marks[-1])})
    for end in ends:
        backend = runs.backend(plan[max(first for first in plan if first <= done)], config)
        state, _ = runs.run(backend, backend.restore(tensors), done, end - done)
        tensors, done = backend.export(state), end
        if end in marks:
            yield end, tensors


def differences(ours: Tensors, theirs: Tensors, config: Config) -> dict[str, float]:
    """Return per tensor the largest difference as a part of its largest number, infinite where that is 0.

    Of weights, what Adam makes of the difference of their optimizer state is left out: see ``compare.amplified``.
    """
    result = {}
    for name, value in theirs.items():
        if value.shape:
            extra = amplified(ours, theirs, name, config)
            error = float((np.abs(ours[name] - value) - extra).max().clip(0))
            scale = float(np.abs(value).max())
            result[name] = error / scale if scale else (np.inf if error else 0.0)
    return result


def perturbed(tensors: Tensors, by: float) -> Tensors:
    """Return a state whose generator's first weight is larger by this part of itself: a unit in the last place."""
    name = next(key for key in tensors if key.startswith("generator/") and key.endswith("weight"))
    value = tensors[name].copy()
    value.flat[0] *= 1 + 2 * by
    return {**tensors, name: value}


def furthest(ours: Tensors, theirs: Tensors, begin: Tensors) -> float:
    """Return the largest of the networks' distances; the optimizer's state, which travels nowhere, is left out."""
    parts = distances(ours, theirs, begin)
    return max(value for network, value in parts.items() if not network.startswith("optimizer/"))
