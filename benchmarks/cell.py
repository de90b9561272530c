"""One measured process: ``python -m benchmarks.cell``, started by ``harness.py``, commanded in lines of JSON.

The first line of standard input is the settings. The process builds, compiles, warms up and answers with what it has
measured so far; then it executes one command per line and waits, idle, for the next:

- ``{"do": "steps", "count": n}`` runs n steps -> ``{"seconds", "waiting"}``,
- ``{"do": "memory"}`` -> ``{"peak_host_bytes", "peak_device_bytes"}``,
- ``{"do": "sample"}`` -> ``{"samples_per_second"}``, None where there is nothing to sample with,
- ``{"do": "profile"}`` -> what ``gpu/waits.py`` reports of some steps,
- ``{"do": "probe", "size": n, "conv_batch": b}`` -> what ``probes.py`` reports.

The device is synchronised at the end of every timed chunk and nowhere inside (``torch.cuda.synchronize``, or
``jax.block_until_ready`` of state and scalars). What goes wrong is answered as ``{"error": one line}``.
"""

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from statistics import median
from typing import Any

from benchmarks import settings as read
from benchmarks.contenders import StepRunner
from benchmarks.probes import probe
from benchmarks.settings import Settings
from gan_shared.backend import Batch
from gan_shared.config import Config
from gan_shared.data.batches import batches, check_batch_size
from gan_shared.errors import one_line
from gan_shared.machine import processor

# Calls after the first before anything counts, then calls that estimate a step's length.
WARM_UP, ESTIMATED = 2, 5
# Characters of an error that are passed on.
SHOWN = 300
# An estimate of slow steps is cut short after so many seconds.
ESTIMATE_SECONDS = 3.0


def main() -> int:
    """Serve until standard input ends."""
    # Whatever a framework prints goes to standard error: standard output carries the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        settings = read.read_settings()
        config, dataset = read.prepare(settings)
        runner = StepRunner(settings, config)
        check_batch_size(dataset, config)
        runner.hold(dataset)
        with closing(batches(dataset, config, 0)) as stream:
            answer(_warm(runner, stream, config))
            for line in sys.stdin:
                answer(_execute(json.loads(line), runner, stream, settings))
    except Exception as error:  # whatever it is, the others go on
        answer({"error": summary(error)})
        return 1
    return 0


def summary(error: Exception) -> str:
    """Return an error as one line of no more than so many characters."""
    return f"{type(error).__name__}: {one_line(error)}"[:SHOWN]


def _warm(runner: StepRunner, stream: Iterator[tuple[int, Batch]], config: Config) -> dict[str, Any]:
    """Run the first steps and return their times, the device and the sizes."""
    call = config.execution.steps_per_call
    first = runner.run(stream, call).seconds
    first_at = time.time()
    runner.run(stream, WARM_UP * call)
    times: list[float] = []
    while len(times) < ESTIMATED and sum(times) < ESTIMATE_SECONDS:
        times.append(runner.run(stream, call).seconds)
    versions = {"python": platform.python_version(), **runner.versions()}
    device = versions.pop("device")
    return {
        "steps_per_call": call,
        "first_call_seconds": first,
        "first_step_at": first_at,
        "call_seconds": median(times),
        "device": processor() if device == "cpu" else device,
        "versions": versions,
        "resolution": config.data.resolution,
        "channels": config.data.channels,
        "width": config.networks.width,
    }


def _execute(
    command: dict[str, Any], runner: StepRunner, stream: Iterator[tuple[int, Batch]], settings: Settings
) -> dict[str, Any]:
    """Execute one command and return the answer."""
    if command["do"] == "steps":
        return runner.run(stream, command["count"])._asdict()
    if command["do"] == "memory":
        # Linux counts in kilobytes, macOS in bytes.
        unit = 1 if sys.platform == "darwin" else 1024
        host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return {"peak_host_bytes": host, "peak_device_bytes": runner.peak_device_bytes()}
    if command["do"] == "sample":
        return {"samples_per_second": runner.samples_per_second()}
    if command["do"] == "profile":
        return runner.profile(stream)
    with runner.in_precision():
        sizes = command["size"], command["conv_batch"]
        return probe(runner.framework, settings.precision, settings.device, *sizes)


if __name__ == "__main__":
    sys.exit(main())
