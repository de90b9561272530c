"""How equal the backends are, measured: ``python -m parity_tests.report --help``.

Every preset at the tests' reduced sizes, from one initial state:

- one step in float64: the largest difference of every tensor, as a part of its largest number;
- one step in float32 from states along the float64 run: how far each backend is from float64, tensor by tensor, and the
  worse of the two as a multiple of the other (``parity_tests/float32.py``);
- a run in float64: how far the backends are apart, as a part of the distance travelled, beside two runs of torch alone
  whose first weight differs in its last bit, and beside a run that changes backend on the way (the braid);
- a run in float32 likewise, which is predictable only as far as that second curve stays low.
"""

import json
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

import flax
import jax
import numpy as np
import torch
import tyro
from tyro.conf import Positional

from benchmarks.command import guarded
from benchmarks.machine import processor
from benchmarks.report import with_tables
from gan_shared.atomic import replacing
from gan_shared.config import Config
from gan_shared.errors import unexpected
from parity_tests import float32, pair
from parity_tests.float32 import Tensors, in_type
from parity_tests.pair import ONE_STEP, PARTS, PRESET_CONFIGS, SHORTENED, TRAJECTORY, amplified, distances, run

# Steps after which runs are compared.
MARKS = (1, 2, 4, 8, 16, 34, 68, 102)
# A braid's strands: torch, JAX, torch.
STRANDS = 3
BEGIN, END = "<!-- parity: begin -->", "<!-- parity: end -->"


class Study(NamedTuple):
    """What was measured of one preset.

    Attributes:
        preset: its name.
        seconds: how long it took.
        marks: steps after which runs were compared.
        one_step: tensor -> largest difference of one float64 step, as a part of its largest number.
        float32: part of the state -> backend -> error of its float32 step, per mark but the last.
        tensors: the same of every tensor -> backend -> the median over the marks.
        apart: kind of run (float64, ulp64, braid, float32, ulp32) -> per mark, the part of the distance travelled.
    """

    preset: str
    seconds: float
    marks: list[int]
    one_step: dict[str, float]
    float32: dict[str, dict[str, list[float]]]
    tensors: dict[str, dict[str, float]]
    apart: dict[str, list[float]]

    def good(self) -> bool:
        """Whether the claims hold; a number that is none holds nothing."""
        step = all(error <= ONE_STEP for error in self.one_step.values())
        run = all(error <= TRAJECTORY for kind in ("float64", "braid") for error in self.apart[kind])
        return step and run and all(worse <= float32.WORSE for worse in self.worse().values())

    def worse(self) -> dict[str, float]:
        """Return per part of the state the worse backend's float32 error as a multiple of the other's."""
        return {part: float32.multiple(errors) for part, errors in self.float32.items()}


@dataclass(frozen=True)
class Options:
    """Measure how equal the backends are."""

    presets: Positional[tuple[str, ...]] = tuple(PRESET_CONFIGS)
    """Recipes, at the tests' reduced sizes."""

    steps: int = MARKS[-1]
    """Length of the runs."""

    out: Path | None = None
    """Folder of the JSON, the page and the plots: docs/parity for all presets over the whole run, else none."""

    readme: Path | None = None
    """File whose text between the two parity marks is replaced by the main table."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 1 where a claim does not hold."""
    options = tyro.cli(Options, args=argv)
    studies: list[Study] = []

    def work() -> None:
        for name in options.presets:
            if name not in PRESET_CONFIGS:
                raise unexpected("presets", name, "a known preset", PRESET_CONFIGS)
        if options.steps < STRANDS:
            raise unexpected("steps", options.steps, f"at least {STRANDS}: a braid of so many strands")
        whole = options.presets == Options().presets and options.steps == MARKS[-1]
        out = options.out or (Path("docs/parity") if whole else None)
        if options.readme is not None:
            with_tables(options.readme, "", BEGIN, END)  # so that a README without marks is told first
        jax.config.update("jax_enable_x64", True)
        for name in options.presets:
            studies.append(study(name, replace(PRESET_CONFIGS[name], **SHORTENED.get(name, {})), options.steps))
            print(" | ".join(line(studies[-1])), flush=True)
        about = {"date": str(date.today()), "machine": processor(), "python": platform.python_version(), **VERSIONS}
        if out is not None:
            write(out, about, studies)
            print(f"wrote {out}")
        if options.readme is not None:
            text = with_tables(options.readme, headline(about, studies), BEGIN, END)
            with replacing(options.readme) as temporary:
                temporary.write_text(text, encoding="utf-8")
        for each in studies:
            if not each.good():
                print(f"not equal: {each.preset}", file=sys.stderr)

    return guarded(work) or int(not all(each.good() for each in studies))


def study(name: str, config: Config, steps: int) -> Study:
    """Measure one preset."""
    start, marks = time.perf_counter(), [*(mark for mark in MARKS if mark < steps), steps]
    exact, single = replace(config, precision="float64"), replace(config, precision="float32")
    begin = pair.backend("torch", exact).export(pair.backend("torch", exact).init())
    braid = {i * steps // STRANDS: name for i, name in enumerate(("torch", "jax", "torch"))}
    runs = {"torch": {0: "torch"}, "jax": {0: "jax"}, "braid": braid}
    states = {kind: dict(states_of(exact, players, begin, marks)) for kind, players in runs.items()}
    states["ulp64"] = dict(states_of(exact, {0: "torch"}, moved(begin, 2.0**-53), marks))
    rounded = in_type(begin, np.float32)
    single_states = {kind: dict(states_of(single, {0: kind}, rounded, marks)) for kind in pair.BACKENDS}
    single_states["ulp32"] = dict(states_of(single, {0: "torch"}, moved(rounded, 2.0**-24), marks))
    apart = {
        kind: [_apart(states[kind][mark], states["torch"][mark], begin) for mark in marks]
        for kind in ("jax", "ulp64", "braid")
    }
    apart["float64"] = apart.pop("jax")
    for kind, other in (("float32", "jax"), ("ulp32", "ulp32")):
        apart[kind] = [_apart(single_states[other][mark], single_states["torch"][mark], rounded) for mark in marks]
    errors = [float32.step_errors(exact, single, states["torch"][mark], mark) for mark in marks[:-1]]
    return Study(
        preset=name,
        seconds=time.perf_counter() - start,
        marks=marks,
        one_step=differences(states["jax"][1], states["torch"][1], config),
        float32={
            part: {
                backend: [float32.of_part(each[backend], begin, part) for each in errors] for backend in pair.BACKENDS
            }
            for part in PARTS
        },
        tensors={
            name: {backend: float(np.median([each[backend][name] for each in errors])) for backend in pair.BACKENDS}
            for name in errors[0]["torch"]
        },
        apart=apart,
    )


def states_of(
    config: Config, players: Mapping[int, str], begin: Tensors, marks: Sequence[int]
) -> Iterator[tuple[int, Tensors]]:
    """Yield the exported state after each of ``marks`` steps of a run whose strands ``players`` play."""
    tensors, done = begin, 0
    ends = sorted({*marks, *(first for first in players if 0 < first < marks[-1])})
    for end in ends:
        backend = pair.backend(players[max(first for first in players if first <= done)], config)
        state, _ = run(backend, backend.restore(tensors), done, end - done)
        tensors, done = backend.export(state), end
        if end in marks:
            yield end, tensors


def differences(ours: Tensors, theirs: Tensors, config: Config) -> dict[str, float]:
    """Return per tensor the largest difference as a part of its largest number, infinite where that is 0.

    Of weights, beyond what Adam makes of the difference of their moments: see ``pair.assert_states_close``.
    """
    result = {}
    for name, value in theirs.items():
        if value.shape:
            extra = amplified(dict(ours), dict(theirs), name, config)
            error = float((np.abs(ours[name] - value) - extra).max().clip(0))
            scale = float(np.abs(value).max())
            result[name] = error / scale if scale else (np.inf if error else 0.0)
    return result


def moved(tensors: Tensors, by: float) -> Tensors:
    """Return a state whose generator's first weight is larger by this part of itself: a unit in the last place."""
    name = next(key for key in tensors if key.startswith("generator/") and key.endswith("weight"))
    value = tensors[name].copy()
    value.flat[0] *= 1 + 2 * by
    return {**tensors, name: value}


def _apart(ours: Tensors, theirs: Tensors, begin: Tensors) -> float:
    """Return the largest part of the distance travelled, of the networks; moments travel nowhere."""
    parts = distances(dict(ours), dict(theirs), dict(begin))
    return max(value for network, value in parts.items() if not network.startswith("optimizer/"))


HEADER = ("preset", "one step, float64", "run, float64", "one bit moved", "braid", "float32 step", "seconds")


def line(each: Study) -> tuple[str, ...]:
    """Return the cells of the headline table."""
    return (
        each.preset,
        f"{np.max(list(each.one_step.values())):.0e}",
        f"{each.apart['float64'][-1]:.0e}",
        f"{each.apart['ulp64'][-1]:.0e}",
        f"{each.apart['braid'][-1]:.0e}",
        f"{np.max(list(each.worse().values())):.2f} times",
        f"{each.seconds:.0f}",
    )


VERSIONS = {"torch": torch.__version__, "jax": jax.__version__, "flax": flax.__version__, "numpy": np.__version__}


def headline(about: Mapping[str, str], studies: Sequence[Study]) -> str:
    """Return the main table as Markdown, with what was measured where."""
    said = ", ".join(f"{name} {value}" for name, value in about.items())
    rows = [HEADER, tuple("---" for _ in HEADER), *map(line, studies)]
    return (
        f"Written by `python -m parity_tests.report` ({said}); presets at the tests' reduced sizes. *One step*: the "
        "largest difference of any tensor, as a part of its largest number. *Run*: that of the states after "
        f"{studies[0].marks[-1]} steps, as a part of the distance that each network has travelled; *one bit moved*: "
        "of two runs of torch alone, the last bit of one weight changed at the start; *braid*: of a run that goes from "
        "torch to JAX and back. *float32 step*: how many times as far from float64 the worse backend is as the other, "
        "in weights or moments, by medians along the run.\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)
    )


def write(folder: Path, about: Mapping[str, str], studies: Sequence[Study]) -> None:
    """Write JSON, page and plots."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "parity.json") as temporary:
        content = {"about": about, "studies": [each._asdict() for each in studies]}
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    tensors = "\n".join(worst(each) for each in studies)
    text = (
        f"# Parity\n\n{headline(about, studies)}\n\n![error over steps](parity.png)\n\n"
        "## The three worst tensors of one float64 step\n\n"
        f"| preset | tensor | difference, of its largest number |\n| --- | --- | --- |\n{tensors}\n\n"
        "## Errors of one float32 step to float64\n\n"
        "Root mean squares, as a part of how far the step moves each tensor: the median over states along the run, of "
        f"which the ratio is taken (below {float32.FLOOR:.0e} they count as that), and the worst state. Where that "
        "is far off, a rounding has put a number on the other side of a rectifier, in one backend or in both; "
        f"gradients jump in float64 too when weights move by as much.\n\n{singles(studies)}\n"
    )
    with replacing(folder / "parity.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    draw(folder / "parity.png", studies)


def worst(each: Study) -> str:
    """Return table lines of the three tensors that differ most."""
    top = sorted(each.one_step.items(), key=lambda item: -np.nan_to_num(item[1], nan=np.inf))[:3]
    return "\n".join(f"| {each.preset} | {name} | {value:.1e} |" for name, value in top)


def singles(studies: Sequence[Study]) -> str:
    """Return a table of the float32 errors of every part of the state."""
    header = ("preset", "part of the state", "torch", "JAX", "ratio", "at its worst state: torch", "JAX")
    rows = [header, tuple("---" for _ in header)]
    for each in studies:
        for part, errors in each.float32.items():
            medians = (f"{np.median(errors[backend]):.1e}" for backend in pair.BACKENDS)
            worst = max(range(len(errors["jax"])), key=lambda i, errors=errors: max(of[i] for of in errors.values()))
            there = (f"{errors[backend][worst]:.1e}" for backend in pair.BACKENDS)
            rows.append((each.preset, part.rstrip("/."), *medians, f"{each.worse()[part]:.2f}", *there))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def draw(path: Path, studies: Sequence[Study]) -> None:
    """Plot the error over steps of every preset, float64 below and float32 above."""
    from matplotlib.figure import Figure

    columns = min(4, max(1, len(studies)))
    rows = -(-len(studies) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    styles = {
        "float64": ("tab:blue", "-", "float64, JAX to torch"),
        "ulp64": ("tab:blue", ":", "float64, torch to itself, one bit moved"),
        "braid": ("tab:green", "--", "float64, braid to torch"),
        "float32": ("tab:red", "-", "float32, JAX to torch"),
        "ulp32": ("tab:red", ":", "float32, torch to itself, one bit moved"),
    }
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, each in zip(grid.flat, studies, strict=False):
        for kind, (color, style, label) in styles.items():
            values = np.maximum(each.apart[kind], 1e-18)
            axes.loglog(each.marks, values, color=color, linestyle=style, label=label)
        axes.set_title(each.preset, fontsize=9)
    for axes in list(grid.flat)[len(studies) :]:
        axes.set_visible(False)
    figure.supxlabel("steps")
    figure.supylabel("apart, of the distance travelled")
    figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=80)


if __name__ == "__main__":
    sys.exit(main())
