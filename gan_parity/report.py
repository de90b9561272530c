"""Measure how equal the backends are: ``python -m gan_parity.report --help``.

Every preset at a reduced size (``gan_parity/configurations.py``), from one initial state:

- one step in float64: the largest difference of every tensor, as a part of its largest number;
- one step in float32 from states along the float64 run: how far each backend is from float64, tensor by tensor, and the
  worse of the two as a multiple of the other (``gan_parity/float32.py``);
- a run in float64: how far the backends are apart, as a part of the distance travelled, beside two runs of torch alone
  whose first weight differs in its last bit, and beside an alternating run, which changes backend on the way;
- a run in float32 likewise, which is predictable only as far as that second curve stays low.

Writes ``parity.json`` (a summary), ``parity.md``, ``parity.png``, and ``parity-full.json`` with every tensor's numbers,
which Git ignores.
"""

import json
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import flax
import jax
import numpy as np
import torch
import tyro
from tyro.conf import Positional

from gan_parity import float32, runs
from gan_parity.configurations import PRESET_CONFIGS, SHORTENED
from gan_parity.study import ALTERNATING, Study, study
from gan_shared import legacy
from gan_shared.atomic import replacing
from gan_shared.command import guarded
from gan_shared.errors import unexpected
from gan_shared.machine import processor
from gan_shared.markdown import table, with_section

# Steps after which runs are compared.
MARKS = (1, 2, 4, 8, 16, 34, 68, 102)
BEGIN, END = "<!-- parity: begin -->", "<!-- parity: end -->"
VERSIONS = {"torch": torch.__version__, "jax": jax.__version__, "flax": flax.__version__, "numpy": np.__version__}
HEADER = (
    "preset",
    "one step, float64",
    "run, float64",
    "one bit changed",
    "alternating run",
    "float32 step",
    "seconds",
)
# Kind of run -> colour, style and label of its curve.
CURVES = {
    "float64": ("tab:blue", "-", "float64, JAX to torch"),
    "float64_perturbed": ("tab:blue", ":", "float64, torch to itself, one bit changed"),
    "alternating": ("tab:green", "--", "float64, alternating run to torch"),
    "float32": ("tab:red", "-", "float32, JAX to torch"),
    "float32_perturbed": ("tab:red", ":", "float32, torch to itself, one bit changed"),
}


@dataclass(frozen=True)
class Options:
    """Measure how equal the backends are."""

    presets: Positional[tuple[str, ...]] = tuple(PRESET_CONFIGS)
    """Presets, run at reduced sizes."""

    steps: int = MARKS[-1]
    """Length of the runs."""

    out: Path | None = None
    """Folder of the JSON files, the page and the plots: docs/parity for all presets over the whole run, else none."""

    readme: Path | None = None
    """File whose text between the two parity marks is replaced by the main table."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 1 where a claim does not hold."""
    options = tyro.cli(Options, args=argv)
    studies: list[Study] = []

    def work() -> None:
        check(options)
        whole = options.presets == Options().presets and options.steps == MARKS[-1]
        out = options.out or (Path("docs/parity") if whole else None)
        jax.config.update("jax_enable_x64", True)
        for name in options.presets:
            config = PRESET_CONFIGS[name].with_options(**SHORTENED.get(name, {}))
            studies.append(study(name, config, options.steps, MARKS))
            print(" | ".join(row(studies[-1])), flush=True)
        about = {"date": str(date.today()), "machine": processor(), "python": platform.python_version(), **VERSIONS}
        if out is not None:
            write(out, about, studies)
            print(f"wrote {out}")
        if options.readme is not None:
            text = with_section(options.readme, headline(about, as_written(about, studies)), BEGIN, END)
            with replacing(options.readme) as temporary:
                temporary.write_text(text, encoding="utf-8")
        for each in studies:
            if not each.good():
                print(f"not equal: {each.preset}", file=sys.stderr)

    return guarded(work) or int(not all(each.good() for each in studies))


def check(options: Options) -> None:
    """Raise a UserError for an option that would fail after minutes of measuring."""
    for name in options.presets:
        legacy.check_preset(name)
        if name not in PRESET_CONFIGS:
            raise unexpected("presets", name, "a known preset", PRESET_CONFIGS)
    if options.steps < len(ALTERNATING):
        raise unexpected("steps", options.steps, f"at least {len(ALTERNATING)}: an alternating run has so many parts")
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise unexpected("out", f"the file {options.out}", "a folder, which may be new")
    if options.readme is not None:
        with_section(options.readme, "", BEGIN, END)


def row(each: Study) -> tuple[str, ...]:
    """Return the cells of the headline table."""
    return (
        each.preset,
        f"{np.max(list(each.one_step.values())):.0e}",
        f"{each.distances['float64'][-1]:.0e}",
        f"{each.distances['float64_perturbed'][-1]:.0e}",
        f"{each.distances['alternating'][-1]:.0e}",
        f"{np.max(list(each.ratios().values())):.2f} times",
        f"{each.seconds:.0f}",
    )


def headline(about: Mapping[str, str], studies: Sequence[Study]) -> str:
    """Return the main table as Markdown, with what was measured where."""
    where = ", ".join(f"{name} {value}" for name, value in about.items())
    return (
        f"Written by `python -m gan_parity.report` ({where}); presets at reduced sizes. *One step*: the largest "
        "difference of any tensor, as a part of its largest number. *Run*: that of the states after "
        f"{studies[0].marks[-1]} steps, as a part of the distance that each network has travelled; *one bit changed*: "
        "of two runs of torch alone, the last bit of one weight changed at the start; *alternating run*: of a run that "
        "goes from torch to JAX and back. *float32 step*: how many times as far from float64 the worse backend is as "
        "the other, in weights or optimizer state, by medians along the run.\n\n" + table(HEADER, map(row, studies))
    )


def write(folder: Path, about: Mapping[str, str], studies: Sequence[Study]) -> None:
    """Write the summary, the full numbers, the page and the plots."""
    summaries = as_written(about, studies)
    texts = {
        "parity.json": to_json(about, summaries),
        "parity-full.json": to_json(about, studies),
        "parity.md": page(about, summaries),
    }
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    draw(folder / "parity.png", summaries)


def as_written(about: Mapping[str, str], studies: Sequence[Study]) -> list[Study]:
    """Return studies as the summary has them.

    The pages are written from these, so that a number of theirs is that of the summary, rounded once more.
    """
    summary = json.loads(to_json(about, [each.summary() for each in studies]))
    return [Study(**each) for each in summary["studies"]]


def to_json(about: Mapping[str, str], studies: Sequence[Study]) -> str:
    """Return studies as JSON: a line per part of the state and per kind of run; numbers to four digits."""
    parts = []
    for each in studies:
        fields = []
        for name, value in each._asdict().items():
            text = json.dumps(_short(value))
            if isinstance(value, dict):
                entries = [f"    {json.dumps(key)}: {json.dumps(_short(inner))}" for key, inner in value.items()]
                text = "{\n" + ",\n".join(entries) + "\n   }" if entries else "{}"
            fields.append(f"   {json.dumps(name)}: {text}")
        parts.append("  {\n" + ",\n".join(fields) + "\n  }")
    return f'{{\n "about": {json.dumps(dict(about))},\n "studies": [\n' + ",\n".join(parts) + "\n ]\n}\n"


def _short(value: object) -> object:
    """Return numbers inside lists and mappings to four digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _short(inner) for name, inner in value.items()}
    return [_short(inner) for inner in value] if isinstance(value, list) else value


def page(about: Mapping[str, str], studies: Sequence[Study]) -> str:
    """Return the whole report as Markdown."""
    worst = [(each.preset, name, f"{value:.1e}") for each in studies for name, value in each.worst().items()]
    return (
        f"# Parity\n\n{headline(about, studies)}\n\n![error over steps](parity.png)\n\n"
        "## The three tensors of one float64 step that differ most\n\n"
        f"{table(('preset', 'tensor', 'difference, of its largest number'), worst)}\n\n"
        "## Errors of one float32 step to float64\n\n"
        "Root mean squares, as a part of how far the step moves each tensor: the median over states along the run, of "
        f"which the ratio is taken (below {float32.FLOOR:.0e} they count as that), and the worst state. Where that "
        "is far off, a rounding has put a number on the other side of a rectifier, in one backend or in both; "
        f"gradients jump in float64 too when weights move by as much.\n\n{singles(studies)}\n"
    )


def singles(studies: Sequence[Study]) -> str:
    """Return a table of the float32 errors of every part of the state."""
    header = ("preset", "part of the state", "torch", "JAX", "ratio", "at its worst state: torch", "JAX")
    return table(header, (cells for each in studies for cells in _single(each)))


def _single(each: Study) -> Iterator[tuple[str, ...]]:
    """Yield the cells of one preset's float32 errors."""
    for part, errors in each.float32.items():
        medians = (f"{np.median(errors[backend]):.1e}" for backend in runs.BACKENDS)
        pairs = list(zip(errors["torch"], errors["jax"], strict=True))
        there = (f"{error:.1e}" for error in max(pairs, key=max))
        yield each.preset, part.rstrip("/."), *medians, f"{each.ratios()[part]:.2f}", *there


def draw(path: Path, studies: Sequence[Study]) -> None:
    """Plot the error over steps of every preset, float64 below and float32 above."""
    from matplotlib.figure import Figure

    columns = min(4, max(1, len(studies)))
    rows = -(-len(studies) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, each in zip(grid.flat, studies, strict=False):
        for kind, (color, style, label) in CURVES.items():
            values = np.maximum(each.distances[kind], 1e-18)
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
