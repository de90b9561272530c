"""Work in a process of its own: ``python -m benchmarks.gpu.job``, and ``run``, which starts one and waits for it.

Standard input is one line of JSON, the work's module, function and arguments; the answer is the last line of standard
output, also JSON: what the function returned, or ``{"error": one line}``.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import BoundedSemaphore
from typing import Any, NamedTuple

from benchmarks.cell import SHOWN, summary
from benchmarks.harness import ENVIRONMENT, ROOT

# Processes at a time, each of which compiles with some threads.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
AT_ONCE = max(1, min(8, CORES // 2))
# What a process is started with that computes on the CPU alone: it takes no part of the GPU.
WITHOUT_GPU = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
_free = BoundedSemaphore(AT_ONCE)
_live: set[subprocess.Popen[str]] = set()


class JobFailed(Exception):
    """The work could not be done; the message is one line."""


class OutOfTime(JobFailed):
    """The work was ended, or not begun, as the time was used up."""


class Deadline:
    """When to stop.

    Args:
        seconds: from now.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds until then; 0 after it."""
        return max(0.0, self._end - time.monotonic())

    def end(self) -> None:
        """Let it be now."""
        self._end = time.monotonic()


class Job(NamedTuple):
    """Work to be done in a process of its own.

    Attributes:
        work: module of this package and function, such as ``equality.states``.
        arguments: its keyword arguments, as JSON holds them.
        environment: variables of the process, beside those of every measured one.
    """

    work: str
    arguments: Mapping[str, Any]
    environment: Mapping[str, str] = {}


def run_all(jobs: Sequence[Job], deadline: Deadline) -> list[Any]:
    """Run jobs, as many at a time as there are processes free, and return their results in order.

    Raises:
        JobFailed: the first that failed; see ``run``.
    """
    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(lambda job: run(job, deadline), jobs))


def run(job: Job, deadline: Deadline) -> Any:
    """Run a job and return its result.

    Raises:
        JobFailed: it raised an error, or ended without an answer.
        OutOfTime: the deadline came before it had ended.
    """
    with _free:
        if not deadline.left():
            raise OutOfTime("not begun")
        return _answer(job, deadline)


def end_all() -> None:
    """End every process that runs."""
    for process in tuple(_live):
        _kill(process)


def _answer(job: Job, deadline: Deadline) -> Any:
    """Start the process of a job and return its result."""
    threads = {"OMP_NUM_THREADS": str(max(1, CORES // AT_ONCE))}
    started = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gpu.job"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**threads, **os.environ, **ENVIRONMENT, **job.environment},
        start_new_session=True,  # so that the compilers it starts can be ended with it
    )
    with started as process:
        _live.add(process)
        try:
            line = json.dumps({"work": job.work, "arguments": dict(job.arguments)})
            output, errors = process.communicate(line + "\n", timeout=deadline.left())
        except subprocess.TimeoutExpired:
            raise OutOfTime("ended before it was done") from None
        finally:
            _live.discard(process)
            _kill(process)
    try:
        answer = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        last = " ".join(errors.split())[-SHOWN:]
        raise JobFailed(f"ended with status {process.returncode} and no answer: {last}") from None
    if "error" in answer:
        raise JobFailed(answer["error"])
    return answer["result"]


def _kill(process: "subprocess.Popen[str]") -> None:
    """End a process and what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def main() -> int:
    """Do the work that standard input names."""
    # Whatever a framework prints goes to standard error: standard output carries the answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        asked = json.loads(sys.stdin.readline())
        module, _, function = asked["work"].rpartition(".")
        result = getattr(importlib.import_module(f"benchmarks.gpu.{module}"), function)(**asked["arguments"])
        answer = {"result": result}
    except Exception as error:  # whatever it is, the others go on
        answer = {"error": summary(error)}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
    return int("error" in answer)


if __name__ == "__main__":
    sys.exit(main())
