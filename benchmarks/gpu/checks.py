"""What is compared on a device: each check runs its work in processes, compares, and returns one row.

A row has ``found``, ``limit`` and ``holds``; see ``gan_parity`` for what the numbers are parts of. Every check raises
``JobFailed`` where a process of it fails, and ``OutOfTime`` where there is no time left for one.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from benchmarks.gpu.equality import configuration
from benchmarks.gpu.job import WITHOUT_GPU, Deadline, Job, run, run_all
from gan_parity import float32
from gan_parity.compare import ONE_STEP, TRAJECTORY, Tensors
from gan_parity.study import differences, furthest

Row = dict[str, Any]
BACKENDS = ("torch", "jax")
# Steps of the runs whose states are compared, and those from whose states single steps are taken.
STEPS, MARKS = 20, (1, 4, 16)
# Steps of a run that is carried, repeated or resumed half-way, and of one with other execution options.
SHORT = 8
# Errors below count as that: half a unit in the last place of what a precision multiplies, which it may or may not
# round to. (A library that picks a tf32 kernel for one layer is as right as one that does not.)
FLOORS = {"float32": float32.FLOOR, "tf32": 2.0**-11, "bfloat16": 2.0**-9}
# Execution options that must not change a run but for the order of sums, by backend.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "torch": {
        "--cuda-graph": {"cuda_graph": True},
        "--compile": {"compile": True},
        "--data-on device": {"data_on": "device"},
    },
    "jax": {"--steps-per-call 4": {"steps_per_call": 4}, "--data-on device": {"data_on": "device"}},
}
# Variables by which a framework is asked for results that do not depend on the order of threads.
DETERMINISTIC = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "XLA_FLAGS": "--xla_gpu_deterministic_ops=true"}


def check_float64(name: str, device: str, deadline: Deadline) -> Row:
    """Compare one step and twenty in float64: the backends on the device, and each with its own run on the CPU."""
    places = tuple(dict.fromkeys(("cpu", device)))
    runs = [(backend, place) for backend in BACKENDS for place in places]
    pairs = {f"jax to torch, {place}": (("jax", place), ("torch", place)) for place in places}
    if len(places) > 1:
        pairs |= {f"{backend}, gpu to cpu": ((backend, "gpu"), (backend, "cpu")) for backend in BACKENDS}
    with TemporaryDirectory() as folder:
        jobs = [_states(*run, name, (0, 1, STEPS), f"{folder}/{'-'.join(run)}") for run in runs]
        loaded = [{int(mark): load_file(file) for mark, file in files.items()} for files in run_all(jobs, deadline)]
    states, config = dict(zip(runs, loaded, strict=True)), configuration(name, device)
    found = {
        what: {
            "one step": float(np.max(list(differences(states[ours][1], states[theirs][1], config).values()))),
            f"{STEPS} steps": _apart(states[ours][STEPS], states[theirs][STEPS], states[theirs][0]),
        }
        for what, (ours, theirs) in pairs.items()
    }
    holds = all(each["one step"] <= ONE_STEP and each[f"{STEPS} steps"] <= TRAJECTORY for each in found.values())
    return {"found": found, "limit": {"one step": ONE_STEP, f"{STEPS} steps": TRAJECTORY}, "holds": holds}


def check_precisions(name: str, device: str, deadline: Deadline) -> Row:
    """Compare how far one float32, tf32 or bfloat16 step of each backend is from the float64 one."""
    common = {"name": name, "marks": list(MARKS)}
    jobs = [_job("equality.precisions", backend, device, common) for backend in BACKENDS]
    errors = dict(zip(BACKENDS, run_all(jobs, deadline), strict=True))
    found = {
        precision: max(
            float32.multiple({backend: errors[backend][precision][part] for backend in BACKENDS}, floor)
            for part in errors["torch"][precision]
        )
        for precision, floor in FLOORS.items()
    }
    holds = all(ratio <= float32.WORSE for ratio in found.values())
    return {"found": found, "limit": float32.WORSE, "holds": holds, "errors": errors}


def check_variants(name: str, device: str, deadline: Deadline) -> Row:
    """Compare runs with execution options that must not change them with the plain run of the same backend."""
    asked = [
        (backend, typed, options)
        for backend, variants in VARIANTS.items()
        for typed, options in variants.items()
        if device == "gpu" or "cuda_graph" not in options
    ]
    jobs = [
        _job("equality.variant", backend, device, {"name": name, "steps": SHORT, "options": options})
        for backend, _, options in asked
    ]
    results = run_all(jobs, deadline)
    found = {f"{backend} {typed}": result for (backend, typed, _), result in zip(asked, results, strict=True)}
    holds = all(each["distance"] <= TRAJECTORY for each in found.values())
    return {"found": found, "limit": TRAJECTORY, "holds": holds}


def check_carried(name: str, device: str, deadline: Deadline) -> Row:
    """Compare a run that goes from PyTorch on the CPU to JAX on the device and back with PyTorch's run on the CPU."""
    with TemporaryDirectory() as folder:
        whole = run(_states("torch", "cpu", name, (0, SHORT, 3 * SHORT), f"{folder}/whole"), deadline)
        file = whole[str(SHORT)]
        for part, backend in enumerate(("jax", "torch"), start=1):
            last = (part + 1) * SHORT
            job = _states(backend, device, name, (last,), f"{folder}/{part}", first=part * SHORT, begin=file)
            file = run(job, deadline)[str(last)]
        apart = _apart(*(load_file(each) for each in (file, whole[str(3 * SHORT)], whole["0"])))
    return {"found": apart, "limit": TRAJECTORY, "holds": apart <= TRAJECTORY}


def check_samples(name: str, device: str, deadline: Deadline) -> Row:
    """Compare, in grey levels, the images that one float32 state makes in both backends on both devices."""
    runs = [(backend, place) for place in dict.fromkeys(("cpu", device)) for backend in BACKENDS]
    with TemporaryDirectory() as folder:
        job = _states("torch", device, name, (STEPS,), f"{folder}/state", precision="float32")
        common = {"name": name, "begin": run(job, deadline)[str(STEPS)]}
        jobs = [
            _job("equality.samples", backend, place, {**common, "out": f"{folder}/{backend}-{place}.npy"})
            for backend, place in runs
        ]
        first, *others = (np.load(file).astype(int) for file in run_all(jobs, deadline))
    found = {
        f"{backend}, {place}": {"grey levels": int(np.abs(made - first).max()), "share": float((made != first).mean())}
        for (backend, place), made in zip(runs[1:], others, strict=True)
    }
    return {"found": found, "limit": 1, "holds": all(each["grey levels"] <= 1 for each in found.values())}


def check_resumed(name: str, device: str, deadline: Deadline, deterministic: bool) -> Row:
    """Say whether float32 runs repeat in another process, and resume in another one, bit for bit.

    That is what is found out and no claim, so that every answer holds.
    """
    environment = DETERMINISTIC if deterministic else {}
    more = {"precision": "float32", "deterministic": deterministic, "environment": environment}
    found = {}
    with TemporaryDirectory() as folder:
        begun = [_states(each, device, name, (SHORT, 2 * SHORT), f"{folder}/{each}", **more) for each in BACKENDS]
        first = run_all(begun, deadline)
        again = [_states(each, device, name, (2 * SHORT,), f"{folder}/{each}-again", **more) for each in BACKENDS]
        resumed = [
            _states(
                each, device, name, (2 * SHORT,), f"{folder}/{each}-on", first=SHORT, begin=files[str(SHORT)], **more
            )
            for each, files in zip(BACKENDS, first, strict=True)
        ]
        others = run_all([*again, *resumed], deadline)
        for number, backend in enumerate(BACKENDS):
            whole = load_file(first[number][str(2 * SHORT)])
            for word, files in zip(("repeated", "resumed"), others[number :: len(BACKENDS)], strict=True):
                other = load_file(files[str(2 * SHORT)])
                same = all(np.array_equal(other[key], value) for key, value in whole.items())
                found[f"{backend}, {word}"] = "the same bits" if same else "other bits"
    return {"found": found, "limit": "none", "holds": True}


CHECKS: Mapping[str, Callable[[str, str, Deadline], Row]] = {
    "float64": check_float64,
    "precisions": check_precisions,
    "variants": check_variants,
    "carried": check_carried,
    "samples": check_samples,
    "resumed": partial(check_resumed, deterministic=False),
    "resumed, deterministic": partial(check_resumed, deterministic=True),
}


def _states(
    backend: str,
    device: str,
    name: str,
    marks: tuple[int, ...],
    folder: str | Path,
    *,
    environment: Mapping[str, str] = {},
    **more: Any,
) -> Job:
    """Return the job that writes a run's states; see ``equality.states``."""
    arguments = {"name": name, "marks": list(marks), "folder": str(folder), **more}
    return _job("equality.states", backend, device, arguments, environment)


def _job(
    work: str, backend: str, device: str, arguments: Mapping[str, Any], environment: Mapping[str, str] = {}
) -> Job:
    """Return a job of one backend on one device."""
    own = WITHOUT_GPU if device == "cpu" else {}
    return Job(work, {"backend": backend, "device": device, **arguments}, {**own, **environment})


def _apart(ours: Tensors, theirs: Tensors, begin: Tensors) -> float:
    """Return how far two states' networks are apart, as a part of the distance travelled."""
    return float(furthest(ours, theirs, begin))
