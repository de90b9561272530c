"""Which faults the tests detect: ``python -m parity_tests.mutants --help``.

Plants the faults of ``parity_tests/faults.py``, one at a time, into a copy of the code, and runs the tests marked
``fast`` of the files that the faulty one is tested in, until one of them fails. Where the fault is in a network, the
locator is asked as well, which must name the module. A fault has one core, as many at a time as there are cores.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import tyro
from tqdm import tqdm
from tyro.conf import Positional

from gan_shared.atomic import replacing
from gan_shared.command import guarded
from gan_shared.errors import UserError, unexpected
from gan_shared.machine import processor
from parity_tests.faults import AREAS, FAULTS, Fault

ROOT = Path(__file__).resolve().parents[1]
COPIED = (
    "gan_shared",
    "gan_torch",
    "gan_jax",
    "gan_parity",
    "parity_tests",
    "tests",
    "benchmarks",
    "conftest.py",
    "pyproject.toml",
)
# Seconds after which a fault has made its tests run for ever.
TIMEOUT = 900
# What share of the faults the tests must detect, and how often the locator must be right.
KILLED, LOCATED = 0.95, 0.9
# Fast tests compile more than they run: without XLA's optimisations they take half the time.
XLA_FLAGS = "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "XLA_FLAGS": XLA_FLAGS}

# File or folder of a fault -> the test files that it can reach, the nearest first.
STEP = "parity_tests/test_step.py"
REACHED: dict[str, tuple[str, ...]] = {
    "layers.py": (
        "parity_tests/test_layers.py",
        "parity_tests/test_convolution.py",
        "parity_tests/test_networks.py",
        STEP,
    ),
    "resampling.py": ("parity_tests/test_convolution.py", "parity_tests/test_networks.py", STEP),
    "convolution.py": ("parity_tests/test_convolution.py", "parity_tests/test_layers.py", STEP),
    "losses.py": ("parity_tests/test_losses.py", STEP),
    "augment.py": ("parity_tests/test_augment.py", STEP),
    "optimizers.py": ("parity_tests/test_optimizers.py", "parity_tests/test_compilation.py", STEP),
    "step.py": (STEP, "parity_tests/test_vgg.py", "parity_tests/test_models.py"),
    "examples.py": (STEP, "parity_tests/test_models.py", "parity_tests/test_vgg.py"),
    "reconstruction.py": ("parity_tests/test_vgg.py", STEP),
    "interop.py": ("parity_tests/test_models.py", "parity_tests/test_networks.py", STEP),
    "state.py": ("parity_tests/test_models.py", STEP, "parity_tests/test_trajectories.py"),
    "models": ("parity_tests/test_networks.py", "parity_tests/test_vgg.py", STEP),
    "features": ("parity_tests/test_feature_networks.py", "parity_tests/test_evaluation.py"),
    "feature_weights.py": ("parity_tests/test_feature_networks.py",),
    "resize.py": ("tests/test_feature_inputs.py",),
    "metrics.py": ("tests/test_metrics.py",),
    "schedules.py": ("tests/test_schedules.py",),
    "draws.py": ("tests/test_draws.py",),
    "initial.py": ("tests/test_initial.py",),
}


class Outcome(NamedTuple):
    """What became of a fault.

    Attributes:
        fault: which.
        killer: the first test that failed, or an empty string.
        seconds: how long the tests took.
        named: the module that the locator named; empty where it named none, None where it was not asked.
        error: why the tests could not be run, where they could not.
    """

    fault: Fault
    killer: str
    seconds: float
    named: str | None
    error: str = ""

    def located(self) -> bool:
        """Whether the locator was right."""
        return any(fnmatch(self.named or "", pattern) for pattern in self.fault.modules)


@dataclass(frozen=True)
class Options:
    """Plant faults into a copy of the code, and count which of them the fast tests and the locator find."""

    faults: Positional[tuple[str, ...]] = ()
    """Their names, or parts of them; all of them where none is given."""

    out: Path | None = None
    """Markdown file: docs/mutants.md for all faults, else none."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 1 where too little is found."""
    options = tyro.cli(Options, args=argv)
    problems: list[str] = []

    def work() -> None:
        chosen = [fault for name, fault in FAULTS.items() if any(part in name for part in options.faults or ("",))]
        if not chosen:
            raise unexpected("faults", " ".join(options.faults), "a name, or a part of one", FAULTS)
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="twin-gan-mutants-") as folder:
            cache, right = Path(folder) / "cache", Path(folder) / "right"
            fast = healthy(right, cache)
            print(f"the fast tests pass in {fast:.0f} s", flush=True)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                places = [Path(folder) / str(i) for i in range(len(chosen))]
                results = pool.map(lambda fault, place: examine(fault, right, place, cache), chosen, places)
                outcomes = list(tqdm(results, total=len(chosen), desc="faults", mininterval=10))
        seconds = time.perf_counter() - begun
        problems.extend(found(outcomes))
        print(f"{summary(outcomes)}\nin {seconds / 60:.0f} minutes")
        out = options.out or (None if options.faults else Path("docs/mutants.md"))
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            with replacing(out) as temporary:
                temporary.write_text(page(outcomes, fast, seconds), encoding="utf-8")
            print(f"wrote {out}")
        for problem in problems:
            print(problem, file=sys.stderr)

    return guarded(work) or int(bool(problems))


def healthy(place: Path, cache: Path) -> float:
    """Copy the code as it is, run all fast tests on it and return their seconds; they fill the cache of compiled steps.

    Raises:
        UserError: one fails.
    """
    copy(place)
    begun = time.perf_counter()
    killer = killed(place, cache, ("-n", str(os.cpu_count()), "--dist", "worksteal"))
    if killer:
        raise UserError(f"tests: found a failure without any fault, {killer}; expected that all fast tests pass")
    return time.perf_counter() - begun


def copy(place: Path) -> None:
    """Copy the code to an empty folder."""
    place.mkdir(parents=True)
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
        else:
            shutil.copy(ROOT / name, place / name)


def examine(fault: Fault, right: Path, place: Path, cache: Path) -> Outcome:
    """Plant one fault into a copy of the right code and look for it.

    Raises:
        UserError: the fault does not fit the code.
    """
    shutil.copytree(right, place)
    path = place / fault.file
    text = path.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise UserError(f"{fault.file}: found {text.count(fault.old)} times {fault.old!r}, expected it once")
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    begun, killer, error = time.perf_counter(), "", ""
    try:
        killer = killed(place, cache, ("-x", *reached(fault)))
    except UserError as failure:
        error = str(failure)
    seconds = time.perf_counter() - begun
    named = locate(place, cache, fault.preset) if fault.modules else None
    shutil.rmtree(place)
    return Outcome(fault, killer, seconds, named, error)


def reached(fault: Fault) -> tuple[str, ...]:
    """Return the test files that may detect a fault, the nearest first."""
    path = Path(fault.file)
    key = next(each for each in (path.parent.name, path.name) if each in REACHED)
    return REACHED[key]


def killed(place: Path, cache: Path, options: Sequence[str]) -> str:
    """Run fast tests in ``place`` and return the name of the first that fails, or an empty string.

    Raises:
        UserError: they could not be run.
    """
    report = place / "report.xml"
    command = ["pytest", "-m", "fast", "-q", "--tb=no", "-o", f"cache_dir={cache}", f"--junitxml={report}", *options]
    # Plugins that are installed cost a second of every start, and xdist is the only one that is needed, if any.
    plugins = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command += ["-p", "xdist"] if "-n" in options else []
    try:
        done = run(place, cache, command, plugins)
    except subprocess.TimeoutExpired:
        return f"no end within {TIMEOUT} s"
    last = " ".join((done.stdout + done.stderr).strip().splitlines()[-1:])
    ended = UserError(f"tests: pytest ended with {done.returncode}: {last}")
    if done.returncode not in (0, 1, 2):  # 2: the last of the files cannot be collected
        raise ended
    for case in ElementTree.parse(report).iter("testcase"):
        if any(case.find(kind) is not None for kind in ("failure", "error")):
            if not case.get("classname"):
                raise UserError(f"tests: {case.get('name')} cannot be collected")
            return f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
    if done.returncode == 2:
        raise ended
    return ""


def locate(place: Path, cache: Path, preset: str) -> str:
    """Return the module that the locator names, as ``network/path``, or an empty string."""
    try:
        done = run(place, cache, ["gan_parity.locate", preset])
    except subprocess.TimeoutExpired:
        return ""
    named = re.search(r"^ +in torch +(\w+)(?:\.(\S+))?", done.stdout, re.MULTILINE)
    return f"{named[1]}/{named[2] or ''}" if named else ""


def run(
    place: Path, cache: Path, command: Sequence[str], variables: Mapping[str, str] = {}
) -> subprocess.CompletedProcess[str]:
    """Run a module of Python on the copy, whose packages come before those that are installed."""
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(cache / "jax"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
    # What Python compiles of the right code is copied with it, and every file that is not the faulty one is read so.
    environment = {**os.environ, **ONE_THREAD, **compiled, **variables, "PYTHONPATH": str(place)}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )


def found(outcomes: Sequence[Outcome]) -> list[str]:
    """Return what falls short, a line each."""
    problems = []
    for each in outcomes:
        if each.error:
            problems.append(f"not tested: {each.fault.name} ({each.fault.file}): {each.error}")
        elif not each.killer and not each.fault.equivalent:
            problems.append(f"survived: {each.fault.name} ({each.fault.file})")
        elif each.killer and each.fault.equivalent:
            problems.append(f"detected by {each.killer}, though equivalent: {each.fault.name} ({each.fault.file})")
    for share, least, what in ((share_killed(outcomes), KILLED, "killed"), (share_located(outcomes), LOCATED, "named")):
        if share < least:
            problems.append(f"{what}: found {share:.0%} of the faults, expected at least {least:.0%}")
    return problems


def share_killed(outcomes: Sequence[Outcome]) -> float:
    """Return the share of the faults that a test detected."""
    return sum(bool(each.killer) for each in outcomes) / len(outcomes)


def share_located(outcomes: Sequence[Outcome]) -> float:
    """Return the share of the faults in networks whose module the locator named."""
    asked = [each for each in outcomes if each.named is not None]
    return sum(each.located() for each in asked) / len(asked) if asked else 1.0


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return what was found, by area."""
    lines = []
    for area, faults in {**AREAS, "all": tuple(FAULTS.values())}.items():
        mine = [each for each in outcomes if each.fault in faults]
        asked = [each for each in mine if each.named is not None]
        if mine:
            line = f"{area:12} {sum(bool(each.killer) for each in mine)} of {len(mine)} detected by a test"
            right = sum(each.located() for each in asked)
            lines.append(line + (f", {right} of {len(asked)} named by the locator" if asked else ""))
    return "\n".join(lines)


def page(outcomes: Sequence[Outcome], fast: float, seconds: float) -> str:
    """Return the tables as Markdown."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "jax", "flax", "optax", "numpy", "pytest"))
    about = f"{processor()}, {os.cpu_count()} cores, {date.today()}: Python {platform.python_version()}, {versions}"
    parts = [
        "# Which faults the tests detect",
        f"Written by `python -m parity_tests.mutants` on {about}. Each row is one wrong line, planted into a copy of "
        "the code: the first of the fast tests that failed of it, and, of a fault in a network, the module that the "
        f"locator named. All fast tests take {fast:.0f} s on the right code, "
        f"the whole matrix {seconds / 60:.0f} minutes.",
        f"```\n{summary(outcomes)}\n```",
    ]
    for area, faults in AREAS.items():
        rows = [row(each) for each in outcomes if each.fault in faults]
        if rows:
            header = ("fault", "in", "detected by", "module named")
            table = [header, tuple("---" for _ in header), *rows]
            parts += [f"## {area.capitalize()}", "\n".join("| " + " | ".join(each) + " |" for each in table)]
    return "\n\n".join(parts) + "\n"


def row(each: Outcome) -> tuple[str, ...]:
    """Return the cells of one line."""
    reason = f"no test: {each.fault.equivalent}" if each.fault.equivalent else "**no test**"
    named = "" if each.named is None else f"`{each.named or 'none'}`" + ("" if each.located() else " (wrong)")
    return each.fault.name, f"`{each.fault.file}`", f"`{each.killer}`" if each.killer else reason, named


if __name__ == "__main__":
    sys.exit(main())
