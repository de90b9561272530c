"""The parent of measured processes: starts the cells of a group, lets them take turns, and writes what they report.

Rounds alternate: in each, every cell of the group in turn runs its steps while the others sleep, blocked on standard
input, so that what slows the machine for a while slows all of them. Only one group of processes exists at a time.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from threading import Lock, Thread, Timer
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

    start_together: bool = False
    """Whether the cells of a group compile at the same time, for which each of them takes longer."""

    start_seconds: float | None = None
    """Time that a cell has to begin; as long as it takes when not given."""


# Why a cell was ended.
LATE = "ended, as its time was used up"
# What a row has of its work where that is not counted.
NOT_COUNTED: dict[str, float | None] = {"flops_per_image": None, "bytes_per_image": None, "operations_per_step": None}


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
        environment: variables beside those that every cell is started with; flags of XLA join those that are set.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self.settings = settings
        self.turns: list[Turn] = []
        self.started_at = time.time()
        own = {**ENVIRONMENT, **CONTENDERS[settings.backend].environment, **environment}
        if "XLA_FLAGS" in own:
            own["XLA_FLAGS"] = " ".join(filter(None, (os.environ.get("XLA_FLAGS"), own["XLA_FLAGS"])))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.cell"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **own},
            start_new_session=True,  # Ctrl-C is for the parent, at whose end they end, with the compilers they started
        )
        self._timer: Timer | None = None
        self._late = False

    def __enter__(self) -> "CellProcess":
        return self

    def __exit__(self, *exception: object) -> None:
        self.end_at(None)
        self._kill()
        self._process.communicate()

    def end_at(self, moment: float | None) -> None:
        """End it at a moment of ``time.monotonic``, whatever it does then; at no moment when not given."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if moment is None else Timer(max(0.0, moment - time.monotonic()), self._end)
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()

    def _end(self) -> None:
        """End it, as it is late."""
        self._late = True
        self._kill()

    def _kill(self) -> None:
        """End it and what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def ask(self, line: str) -> dict[str, Any]:
        """Send one line and return the answer to it.

        Raises:
            CellFailed: the process reports an error, or has ended.
        """
        self.send(line)
        return self.answer()

    def send(self, line: str) -> None:
        """Send one line."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # its last line may still be in the pipe
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Return the answer to a line that was sent; see ``ask``."""
        assert self._process.stdout is not None
        reply = self._process.stdout.readline()
        if not reply:
            status = self._process.wait()
            raise CellFailed(LATE if self._late else f"the process ended with status {status}")
        answer = json.loads(reply)
        if "error" in answer:
            raise CellFailed(answer["error"])
        return answer

    def do(self, command: str, **values: object) -> dict[str, Any]:
        """Send one command; see ``cell.py``."""
        return self.ask(json.dumps({"do": command, **values}))

    def begin(self) -> None:
        """Let it build, compile and warm up."""
        self.send(self.settings.to_line())

    def start(self, plan: Plan) -> None:
        """Wait until it has done so, and choose how many steps a turn has."""
        self.ready = self.answer()
        self._fill_turns(plan, self.ready["call_seconds"])

    def calibrate(self, plan: Plan) -> None:
        """Choose again how many steps a turn has, from a turn that does not count."""
        calls = self.steps_per_round / self.ready["steps_per_call"]
        self._fill_turns(plan, self.do("steps", count=self.steps_per_round)["seconds"] / calls)

    def _fill_turns(self, plan: Plan, call_seconds: float) -> None:
        """Let a turn have as many steps as fill its seconds, in whole calls, at least one."""
        calls = max(1, round(plan.seconds_per_round / call_seconds))
        self.steps_per_round = plan.steps_per_round or calls * self.ready["steps_per_call"]
        self.turns.clear()

    def turn(self) -> None:
        """Run the steps of one round."""
        times = self.do("steps", count=self.steps_per_round)
        self.turns.append(Turn(times["seconds"], times["waiting"]))

    def row(self, profiled: bool) -> dict[str, Any]:
        """Return what was measured, by the names of the JSON file; what an ended process cannot tell any more is None.

        Args:
            profiled: whether steps are profiled as well.
        """
        more: dict[str, Any] = {"peak_host_bytes": None, "peak_device_bytes": None, "samples_per_second": None}
        with suppress(CellFailed):
            more |= {**self.do("memory"), **self.do("sample")}
        if profiled and not CONTENDERS[self.settings.backend].naive:
            try:
                more["waits"] = self.do("profile")
            except CellFailed as error:
                more["waits"] = {"error": str(error)}
        images = self.steps_per_round * self.settings.batch_size
        speeds = [images / turn.seconds for turn in self.turns]
        step = median(turn.seconds for turn in self.turns) / self.steps_per_round
        compiling = self.ready["first_call_seconds"] - self.ready["steps_per_call"] * step
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
            **more,
            "steps_per_call": self.ready["steps_per_call"],
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
        self._work: dict[Settings, dict[str, float | None]] = {}
        self._counting = Lock()

    def measure(
        self,
        group: Sequence[Settings],
        extra: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] = {},
        seconds: float | None = None,
        profiled: bool = False,
    ) -> None:
        """Let the cells of one group take turns, add their rows, and write the file after each.

        Args:
            group: what is compared: the same work by several backends.
            extra: what every row has beside what was measured.
            environment: variables that the cells are started with.
            seconds: after which the cells that have not finished are ended; never when not given.
            profiled: whether rows say where the time of a step goes (``gpu/waits.py``).
        """
        ends = None if seconds is None else time.monotonic() + seconds
        with ExitStack() as stack:
            if self.plan.start_together:  # a processor with time for that counts the work meanwhile
                Thread(target=self._count, args=(group[0], seconds), daemon=True).start()
            cells = (stack.enter_context(CellProcess(settings, environment)) for settings in group)
            started = self._start(cells, ends, extra)
            running = [cell for cell in started if self._going(cell, extra, CellProcess.calibrate, self.plan)]
            for _ in range(self.plan.rounds):
                running = [cell for cell in running if self._going(cell, extra, CellProcess.turn)]
            for cell in started:
                if cell.turns:
                    self._finish(cell, extra, profiled, seconds)
        self.write()

    def _start(
        self, cells: Iterable[CellProcess], ends: float | None, extra: Mapping[str, Any] | None
    ) -> list[CellProcess]:
        """Start cells, all at once or one after the other, and return those that are ready to take turns."""

        def begun(cell: CellProcess) -> CellProcess:
            limits = [ends] if self.plan.start_seconds is None else [ends, time.monotonic() + self.plan.start_seconds]
            cell.end_at(min((limit for limit in limits if limit is not None), default=None))
            cell.begin()
            return cell

        started = []
        # A tuple begins all of them, a generator the next one when the one before it is ready.
        for cell in tuple(map(begun, cells)) if self.plan.start_together else map(begun, cells):
            if self._going(cell, extra, CellProcess.start, self.plan):
                cell.end_at(ends)
                started.append(cell)
        return started

    def write(self) -> None:
        """Write everything so far, whole or not at all."""
        if self.out is None:
            devices = [row["device"] for row in self.rows if "device" in row and "error" not in row]
            device = machine.slug(devices[0] if devices else machine.processor())
            self.out = RESULTS / f"{device}-{self.name}.json"
        with replacing(self.out) as temporary:
            temporary.write_text(json.dumps(self.content(), indent=2) + "\n", encoding="utf-8")

    def content(self) -> dict[str, Any]:
        """Return everything so far, as the file has it."""
        for row in self.rows:
            if "flops_per_image" in row:
                row["fraction_of_peak"] = self._fraction(row)
        return {
            "benchmark": self.name,
            "machine": self._machine,
            "versions": machine.versions(),
            "probes": self.probes,
            "rows": self.rows,
        }

    def _going(self, cell: CellProcess, extra: Mapping[str, Any] | None, work: Any, *given: object) -> bool:
        """Do ``work`` with a cell; return False, and write down why where it has measured nothing, if it fails."""
        try:
            work(cell, *given)
        except CellFailed as error:
            if not cell.turns:
                self.rows.append({**asdict(cell.settings), **(extra or {}), "error": str(error)})
            say(f"{title(cell.settings)}: failed: {error}")
            return False
        return True

    def _finish(
        self, cell: CellProcess, extra: Mapping[str, Any] | None, profiled: bool, seconds: float | None
    ) -> None:
        """Add the row of a cell, and its framework's probe where that is still missing."""
        row = {**cell.row(profiled), **(extra or {}), **self._count(cell.settings, seconds), "fraction_of_peak": None}
        self.rows.append(row)
        say(f"{title(cell.settings)}: {row['images_per_second']:.1f} images/s")
        key = CONTENDERS[cell.settings.backend].framework, cell.settings.precision
        if key not in {(each["framework"], each["precision"]) for each in self.probes}:
            try:
                sizes = {"size": self.plan.probe_size, "conv_batch": self.plan.probe_conv_batch}
                self.probes.append({**cell.do("probe", **sizes), "device": row["device"]})
            except CellFailed as error:  # the row stands without it
                say(f"{title(cell.settings)}: its probe failed: {error}")
        self.write()

    def _count(self, settings: Settings, seconds: float | None) -> dict[str, float | None]:
        """Return the work of a step, counted once per network, batch and precision; None where it cannot be counted."""
        key = replace(settings, backend="torch", device="cpu", steps_per_call=1, data_on="host", data=None)
        with self._counting:
            if key not in self._work:
                command = [sys.executable, "-m", "benchmarks.flops"]
                try:
                    done = subprocess.run(
                        command, input=key.to_line(), capture_output=True, text=True, cwd=ROOT, timeout=seconds
                    )
                    self._work[key] = json.loads(done.stdout.splitlines()[-1])
                except (subprocess.TimeoutExpired, IndexError, ValueError) as error:
                    self._work[key] = NOT_COUNTED
                    say(f"{title(settings)}: its work is not counted: {error}")
            return self._work[key]

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
