"""Whether a long run needs ever more: ``python -m benchmarks.long_run --help``.

A run of small networks trains in a process of its own, logs, draws grids and saves. Memory, threads and open files of
that process are read from Linux's /proc at equal distances; the first tenth of the run is its warm-up.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro

from benchmarks.harness import say
from benchmarks.soak import OPTIONS, ended, started
from gan_shared.command import guarded
from gan_shared.errors import UserError
from gan_shared.markdown import table

# Readings of a run, the first of them after the warm-up.
READINGS = 10
# How much larger memory may be at the end than after the warm-up.
GROWTH = 0.02


@dataclass(frozen=True)
class Options:
    """Train small networks for long and print what the process holds meanwhile."""

    backends: tuple[str, ...] = ("torch", "jax")
    """Backends: torch, jax, or both."""

    steps: int = 20_000
    """Steps of each run."""


class Held(NamedTuple):
    """What a process holds.

    Attributes:
        step: steps logged.
        memory: resident, in MB.
        threads: of the process.
        files: open ones.
    """

    step: int
    memory: float
    threads: int
    files: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 1 where a run held more and more."""
    options = tyro.cli(Options, args=argv)
    growing: list[str] = []
    return guarded(lambda: growing.extend(measured(options))) or int(bool(growing))


def measured(options: Options) -> list[str]:
    """Train in each backend, print a table of each, and return the backends whose runs held more and more.

    Raises:
        UserError: there is no /proc, or a run failed.
    """
    if not Path("/proc/self/status").is_file():
        raise UserError("long_run: found no /proc, expected Linux")
    growing = []
    for backend in options.backends:
        with tempfile.TemporaryDirectory(prefix="twin-gan-long-run-") as place:
            found = train(backend, options.steps, Path(place))
        rows = [(f"{each.step:,}", f"{each.memory:.1f}", str(each.threads), str(each.files)) for each in found]
        print(f"{backend}\n\n{table(('step', 'memory, MB', 'threads', 'open files'), rows)}\n")
        first, last = found[0], found[-1]
        growth = last.memory / first.memory - 1
        say(f"{backend}: memory {100 * growth:+.2f}% from step {first.step:,} to {last.step:,}")
        if growth > GROWTH or any(is_growing([each[i] for each in found]) for i in (2, 3)):
            growing.append(backend)
    return growing


def is_growing(numbers: Sequence[float]) -> bool:
    """Return whether every number of the second half is above all of the first: a file may be open just then."""
    half = len(numbers) // 2
    return min(numbers[half:]) > max(numbers[:half])


def train(backend: str, steps: int, place: Path) -> list[Held]:
    """Train and return what the process held after each tenth of the run, but for the last steps.

    Raises:
        UserError: the run failed.
    """
    data, run = place / "images.npy", place / "run"
    np.save(data, np.random.default_rng(0).integers(0, 256, (200, 16, 16), np.uint8))
    cadence = max(1, steps // 200)
    cadences = ["--log-every", cadence, "--sample-every", 5 * cadence, "--save-every", 5 * cadence]
    own = ["--data", data, "--steps", steps, "--run-dir", run]
    module = [sys.executable, "-m", f"gan_{backend}.train", "dcgan"]
    process = started([*module, *OPTIONS, *map(str, (*cadences, *own))])
    found: list[Held] = []
    while process.poll() is None:
        step = cadence * lines(run / "scalars.jsonl")
        is_due = len(found) < READINGS and step >= steps * (len(found) + 1) / (READINGS + 1)
        if is_due and (held := holding(process, step)):
            found.append(held)
        time.sleep(0.05)
    status, err = ended(process)
    if status or len(found) < READINGS:
        raise UserError(f"{backend}: status {status}, {len(found)} of {READINGS} readings: {err.strip()[-300:]}")
    return found


def lines(file: Path) -> int:
    """Return how many lines a file has; 0 where it is not there yet."""
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def holding(process: "subprocess.Popen[str]", step: int) -> Held | None:
    """Return what a process holds; None where it has ended."""
    folder = Path("/proc") / str(process.pid)
    try:
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        files = len(list((folder / "fd").iterdir()))
    except (OSError, ValueError):
        return None
    if "VmRSS" not in status:  # it has ended and was not waited for
        return None
    return Held(step, int(status["VmRSS"].split()[0]) / 1000, int(status["Threads"]), files)


if __name__ == "__main__":
    sys.exit(main())
