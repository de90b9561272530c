"""The parent of measured processes: starts the cells of a group, lets them take turns, and writes what they report.

Rounds alternate: in each, every cell of the group in turn runs its steps while the others sleep, blocked on standard
input, so that what slows the machine for a while slows all of them. Only one group of processes exists at a time.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks import machine
from benchmarks.settings import CONTENDERS, Settings
from gan_shared.atomic import replacing
from gan_shared.errors import unexpected

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]

# What cells are started with: every compilation is a first one, and frameworks share a GPU's memory.
ENVIRONMENT = {
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}


@dataclass(frozen=True)
class Plan:
    """How long and how often to measure."""

    rounds: int = 7
    """Turns of every cell."""

    seconds_per_round: float = 2.0
    """Length of a turn; at least one step is run."""

    steps_per_round: int | None = None
    """Steps of a turn; as many as fill its seconds when not given."""

    probe_size: int = 2048
    """Rows of the matrices by which the device's limit is measured."""

    probe_conv_batch: int = 64
    """Images of the convolution by which it is measured."""


class CellFailed(Exception):
    """A measured process could not go on; the message is one line."""


class Turn(NamedTuple):
    """What one cell did in one round.

    Attributes:
        seconds: wall time of its steps.
        waiting: the part of it that was spent waiting for batches.
    """

    seconds: float
    waiting: float


class CellProcess:
    """A running cell; use it as a context.

    Args:
        settings: what it measures.
        environment: variables beside those that every cell is started with.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self.settings = settings
        self.turns: list[Turn] = []
        self.started_at = time.time()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.cell"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT, **environment},
            start_new_session=True,  # Ctrl-C is for the parent, at whose end they end
        )

    def __enter__(self) -> "CellProcess":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, line: str) -> dict[str, Any]:
        """Send one line and return the answer to it.

        Raises:
            CellFailed: the process reports an error, or has ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its last line may still be in the pipe
        reply = self._process.stdout.readline()
        if not reply:
            raise CellFailed(f"the process ended with status {self._process.wait()}")
        answer = json.loads(reply)
        if "error" in answer:
            raise CellFailed(answer["error"])
        return answer

    def do(self, command: str, **values: object) -> dict[str, Any]:
        """Send one command; see ``cell.py``."""
        return self.ask(json.dumps({"do": command, **values}))

    def start(self, plan: Plan) -> None:
        """Let it build, compile and warm up, and choose how many steps a turn has."""
        self.ready = self.ask(self.settings.to_line())
        call = self.settings.steps_per_call
        calls = max(1, round(plan.seconds_per_round / self.ready["call_seconds"]))
        self.steps_per_round = plan.steps_per_round or calls * call

    def turn(self) -> None:
        """Run the steps of one round."""
        times = self.do("steps", count=self.steps_per_round)
        self.turns.append(Turn(times["seconds"], times["waiting"]))

    def row(self) -> dict[str, Any]:
        """Return what was measured, by the names of the JSON file."""
        memory = self.do("memory")
        images = self.steps_per_round * self.settings.batch_size
        speeds = [images / turn.seconds for turn in self.turns]
        step = median(turn.seconds for turn in self.turns) / self.steps_per_round
        compiling = self.ready["first_call_seconds"] - self.settings.steps_per_call * step
        return {
            **asdict(self.settings),
            **{name: self.ready[name] for name in ("resolution", "channels", "width", "device", "versions")},
            "images_per_second": median(speeds),
            "images_per_second_min": min(speeds),
            "images_per_second_max": max(speeds),
            "images_per_second_quartiles": list(np.quantile(speeds, (0.25, 0.75)).tolist()),
            "images_per_second_rounds": speeds,
            "share_waiting": median(turn.waiting / turn.seconds for turn in self.turns),
            "share_waiting_rounds": [turn.waiting / turn.seconds for turn in self.turns],
            "rounds": len(speeds),
            "steps_per_round": self.steps_per_round,
            # Where nothing is compiled, the difference of two noisy numbers may be below zero.
            "compile_seconds": max(0.0, compiling),
            "first_step_seconds": self.ready["first_step_at"] - self.started_at,
            **memory,
            "tf32": self.settings.precision == "tf32",
        }


class Bench:
    """One run of a benchmark: its rows, its probes, and the file they are written to after every group.

    Args:
        name: of the benchmark: ``throughput``, ``scaling``, ``input`` or ``startup``.
        out: the file; one in ``benchmarks/results`` that is named after the device when not given.
        plan: how long and how often to measure.
    """

    def __init__(self, name: str, out: Path | None, plan: Plan | None = None) -> None:
        self.name, self.out, self.plan = name, out, plan or Plan()
        if min(self.plan.rounds, self.plan.probe_size, self.plan.probe_conv_batch) < 1:
            raise unexpected("rounds", self.plan.rounds, "at least 1")
        self.rows: list[dict[str, Any]] = []
        self.probes: list[dict[str, Any]] = []
        self._machine = machine.describe()
        self._flops: dict[Settings, float | None] = {}

    def measure(
        self, group: Sequence[Settings], extra: Mapping[str, Any] | None = None, environment: Mapping[str, str] = {}
    ) -> None:
        """Let the cells of one group take turns, add their rows, and write the file.

        Args:
            group: what is compared: the same work by several backends.
            extra: what every row has beside what was measured.
            environment: variables that the cells are started with.
        """
        with ExitStack() as stack:
            running: list[CellProcess] = []
            for settings in group:
                cell = stack.enter_context(CellProcess(settings, environment))
                if self._going(cell, lambda cell: cell.start(self.plan), extra):
                    running.append(cell)
            for _ in range(self.plan.rounds):
                running = [cell for cell in running if self._going(cell, CellProcess.turn, extra)]
            for cell in running:
                self._going(cell, lambda cell: self._finish(cell, extra), extra)
        self.write()

    def write(self) -> None:
        """Write everything so far, whole or not at all."""
        if self.out is None:
            devices = [row["device"] for row in self.rows if "device" in row and "error" not in row]
            device = machine.slug(devices[0] if devices else machine.processor())
            self.out = RESULTS / f"{device}-{self.name}.json"
        for row in self.rows:
            if "flops_per_image" in row:
                row["fraction_of_peak"] = self._fraction(row)
        content = {
            "benchmark": self.name,
            "machine": self._machine,
            "versions": machine.versions(),
            "probes": self.probes,
            "rows": self.rows,
        }
        with replacing(self.out) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def _going(self, cell: CellProcess, work: Any, extra: Mapping[str, Any] | None) -> bool:
        """Do ``work`` with a cell; return False, and write down why, where it fails."""
        try:
            work(cell)
        except CellFailed as error:
            self.rows.append({**asdict(cell.settings), **(extra or {}), "error": str(error)})
            say(f"{title(cell.settings)}: failed: {error}")
            return False
        return True

    def _finish(self, cell: CellProcess, extra: Mapping[str, Any] | None) -> None:
        """Add the row of a cell, and its framework's probe where that is still missing."""
        row = {**cell.row(), **(extra or {}), "flops_per_image": self._count(cell.settings), "fraction_of_peak": None}
        self.rows.append(row)
        say(f"{title(cell.settings)}: {row['images_per_second']:.1f} images/s")
        key = CONTENDERS[cell.settings.backend].framework, cell.settings.precision
        if key not in {(each["framework"], each["precision"]) for each in self.probes}:
            try:
                sizes = {"size": self.plan.probe_size, "conv_batch": self.plan.probe_conv_batch}
                self.probes.append({**cell.do("probe", **sizes), "device": row["device"]})
            except CellFailed as error:  # the row stands without it
                say(f"{title(cell.settings)}: its probe failed: {error}")

    def _count(self, settings: Settings) -> float | None:
        """Return the FLOP of one image, counted once per network and size; None without torch."""
        key = replace(settings, backend="torch", batch_size=1, precision="float32", device="cpu", steps_per_call=1)
        key = replace(key, data_on="host", data=None)
        if key not in self._flops:
            command = [sys.executable, "-m", "benchmarks.flops"]
            done = subprocess.run(command, input=key.to_line(), capture_output=True, text=True, cwd=ROOT)
            counted = done.returncode == 0
            self._flops[key] = json.loads(done.stdout.splitlines()[-1]) if counted else None
            if not counted:
                say(f"{title(settings)}: its FLOP are not counted: {(done.stderr.splitlines() or ['no reason'])[-1]}")
        return self._flops[key]

    def _fraction(self, row: Mapping[str, Any]) -> float | None:
        """Return the part of the best probe of this run, in the row's precision and on its device, that it reached."""
        fitting = [p for p in self.probes if (p["precision"], p["device"]) == (row["precision"], row["device"])]
        if row["flops_per_image"] is None or not fitting:
            return None
        peak = max(max(probe["matmul_flops_per_second"], probe["conv_flops_per_second"]) for probe in fitting)
        return row["images_per_second"] * row["flops_per_image"] / peak


def title(settings: Settings) -> str:
    """Return a cell in a few words."""
    sizes = [f"batch {settings.batch_size}", settings.precision]
    sizes += [f"{settings.resolution} pixels"] if settings.resolution else []
    sizes += [f"width {settings.width:g}"] if settings.width else []
    sizes += [f"data on the {settings.data_on}"] if settings.data_on != "host" else []
    return f"{settings.preset}, {settings.backend}, {', '.join(sizes)}"


def say(message: str) -> None:
    """Print a line of progress on standard error."""
    print(message, file=sys.stderr, flush=True)
