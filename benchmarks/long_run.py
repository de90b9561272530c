"""Whether memory, threads or open files of a long run grow: ``python -m benchmarks.long_run --help``.

A run of small networks trains in a process of its own, logs, draws grids and saves. Linux's /proc says at equal
distances what the process has, the first time after it has warmed up.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tyro

from benchmarks.harness import say
from benchmarks.soak import OPTIONS, PATIENCE, Fault, ended, started, training_images
from gan_shared.command import guarded
from gan_shared.errors import UserError
from gan_shared.markdown import table

# Readings of a run; before the first, and from the last to its end, are as many steps as between two.
READINGS = 10
# How much larger memory may be in the last reading than in the first.
GROWTH = 0.02


@dataclass(frozen=True)
class Options:
    """Train small networks for long and print how much memory and how many threads and files that takes."""

    backends: tuple[str, ...] = ("torch", "jax")
    """Backends: torch, jax, or both."""

    steps: int = 20_000
    """Steps of each run."""


class Reading(NamedTuple):
    """What a process has at one moment.

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
    """Run the command line and return the exit status: 1 where something grew."""
    options = tyro.cli(Options, args=argv)
    growing: list[str] = []
    return guarded(lambda: growing.extend(measured(options))) or int(bool(growing))


def measured(options: Options) -> list[str]:
    """Train in each backend, print a table of each, and return the backends in which something grew.

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
        counts = [each.threads for each in found], [each.files for each in found]
        if growth > GROWTH or any(map(is_growing, counts)):
            growing.append(backend)
    return growing


def is_growing(numbers: Sequence[int]) -> bool:
    """Return whether every number of the second half is above all of the first: a file may be open just then."""
    half = len(numbers) // 2
    return min(numbers[half:]) > max(numbers[:half])


def train(backend: str, steps: int, place: Path) -> list[Reading]:
    """Train, and return what the process has at READINGS equal distances.

    Args:
        backend: torch or jax.
        steps: of the run.
        place: an empty folder.

    Raises:
        UserError: the run failed, or stood still.
    """
    run, cadence = place / "run", max(1, steps // 200)
    cadences = ["--log-every", cadence, "--sample-every", 5 * cadence, "--save-every", 5 * cadence]
    own = ["--data", training_images(place), "--steps", steps, "--run-dir", run]
    process = started([sys.executable, "-m", f"gan_{backend}.train", "dcgan", *OPTIONS, *map(str, (*cadences, *own))])
    found: list[Reading] = []
    logged, moved = 0, time.monotonic()
    try:
        while process.poll() is None and time.monotonic() < moved + PATIENCE:
            before, logged = logged, lines(run / "scalars.jsonl")
            moved = moved if logged == before else time.monotonic()
            is_due = len(found) < READINGS and cadence * logged >= steps * (len(found) + 1) / (READINGS + 1)
            if is_due and (now := reading(process.pid, cadence * logged)):
                found.append(now)
            time.sleep(0.02)
        if process.poll() is None:
            raise UserError(f"{backend}: no step within {PATIENCE} s")
        status, err = ended(process)
    except Fault as fault:
        raise UserError(f"{backend}: {fault}") from fault
    finally:
        process.kill()
    if status or len(found) < READINGS:
        last = (err.strip().splitlines() or [""])[-1]
        raise UserError(f"{backend}: status {status}, {len(found)} of {READINGS} readings: {last}")
    return found


def lines(file: Path) -> int:
    """Return how many lines a file has; 0 where it is not there yet."""
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def reading(pid: int, step: int) -> Reading | None:
    """Return what a process has after so many steps; None where it has ended."""
    folder = Path("/proc") / str(pid)
    try:
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        files = len(os.listdir(folder / "fd"))
    except OSError:
        return None
    if "VmRSS" not in status:  # it has ended, and nobody has asked for its status
        return None
    return Reading(step, int(status["VmRSS"].split()[0]) * 1024 / 1e6, int(status["Threads"]), files)


if __name__ == "__main__":
    sys.exit(main())
