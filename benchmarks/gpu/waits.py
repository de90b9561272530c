"""Where the time of a step goes: synchronisations and transfers that nobody asked for, and kernels by time."""

import gzip
import json
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, NamedTuple

from benchmarks.cell import summary
from gan_shared.backend import Backend

# Steps that are profiled, kernels that are listed, characters of a kernel's name.
PROFILED, LISTED, SHOWN_NAME = 5, 12, 90
# Calls that are run in all: one that must not wait, some that are timed, and those that are profiled.
STEPS = 1 + 2 * PROFILED + PROFILED

# Runs this many calls of the step, without waiting for the device.
Run = Callable[[int], object]
# Returns when the device has finished.
Wait = Callable[[], object]


class Kernels(NamedTuple):
    """What ran on the device.

    Attributes:
        seconds: by name.
        calls: by name.
    """

    seconds: "Counter[str]"
    calls: "Counter[str]"


def profile(framework: str, backend: Backend, run: Run, wait: Wait, on_gpu: bool) -> dict[str, Any]:
    """Run steps that are warm and return what waits in them and which kernels take how long.

    Args:
        framework: torch or jax.
        backend: what computes.
        run: runs calls of the step; see ``Run``.
        wait: waits for them; see ``Wait``.
        on_gpu: whether the device is a GPU. On a CPU there is nothing that a step could wait for.

    Returns:
        ``found``: the synchronisation (PyTorch) or implicit transfer (JAX) that a step asks for, or None where none
        was detected; ``step_seconds`` without a profiler; ``kernel_seconds`` and ``kernels`` of a step; ``busy``, the
        kernels' time as a part of the step's; ``longest``: name, share and calls of the kernels that take longest.

    Raises:
        RuntimeError: the profiler has seen no kernel.
    """
    found = (_synchronisation if framework == "torch" else _transfer)(run) if on_gpu or framework == "jax" else None
    wait()
    begun = perf_counter()
    run(2 * PROFILED)
    wait()
    seconds = (perf_counter() - begun) / (2 * PROFILED)

    def profiled() -> None:
        run(PROFILED)
        wait()

    kernels = _torch_kernels(profiled, on_gpu) if framework == "torch" else _jax_kernels(backend, profiled, on_gpu)
    total = sum(kernels.seconds.values())
    if not total:
        raise RuntimeError("the profiler has seen no kernel")
    return {
        "found": found,
        "step_seconds": seconds,
        "kernel_seconds": total / PROFILED,
        "kernels": sum(kernels.calls.values()) / PROFILED,
        "busy": total / PROFILED / seconds,
        "longest": [
            {"name": name[:SHOWN_NAME], "share": spent / total, "calls": kernels.calls[name] / PROFILED}
            for name, spent in kernels.seconds.most_common(LISTED)
        ],
    }


def _synchronisation(run: Run) -> str | None:
    """Return what PyTorch says of the first synchronisation inside a step."""
    import torch

    torch.cuda.set_sync_debug_mode("error")
    try:
        run(1)
    except RuntimeError as error:
        return summary(error)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return None


def _transfer(run: Run) -> str | None:
    """Return what JAX says of the first implicit transfer inside a step."""
    import jax

    try:
        with jax.transfer_guard("disallow"):
            run(1)
    except Exception as error:  # of jaxlib, whose class has no public name
        return summary(error)
    return None


def _torch_kernels(steps: Wait, on_gpu: bool) -> Kernels:
    """Return the kernels that PyTorch's profiler sees."""
    from torch.autograd import DeviceType  # pyright: ignore[reportPrivateImportUsage]
    from torch.profiler import ProfilerActivity, profile

    wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the profiler's own, of versions to come
        with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiled:
            steps()
    kernels = Kernels(Counter(), Counter())
    for event in profiled.key_averages():
        if event.device_type == wanted:
            kernels.seconds[event.key] += (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6
            kernels.calls[event.key] += event.count
    return kernels


def _jax_kernels(backend: Backend, steps: Wait, on_gpu: bool) -> Kernels:
    """Return the kernels in the trace that JAX's profiler writes."""
    with TemporaryDirectory() as folder:
        with backend.profile(Path(folder)):
            steps()
        return read_trace(Path(folder), on_gpu)


def read_trace(folder: Path, on_gpu: bool) -> Kernels:
    """Return the kernels in the Perfetto trace below a folder.

    Raises:
        ValueError: there is none, or more than one.
    """
    (file,) = folder.rglob("perfetto_trace.json.gz")
    with gzip.open(file) as stream:
        events = json.load(stream)["traceEvents"]
    processes = {each["pid"]: each["args"]["name"] for each in events if each.get("name") == "process_name"}
    threads = {(each["pid"], each["tid"]): each["args"]["name"] for each in events if each.get("name") == "thread_name"}
    kernels = Kernels(Counter(), Counter())
    for event in events:
        if event.get("ph") != "X":
            continue
        thread = threads.get((event["pid"], event["tid"]), "")
        # A GPU's kernels are on its streams; its other lines repeat them by module and operation.
        on_stream = "GPU" in processes.get(event["pid"], "") and "Stream" in thread
        if on_stream if on_gpu else "XLA" in thread:
            kernels.seconds[event["name"]] += event.get("dur", 0) / 1e6
            kernels.calls[event["name"]] += 1
    return kernels
