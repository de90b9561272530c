"""What a process computes of one backend for the comparisons of ``checks.py``; states are written as safetensors.

Configurations are those of ``gan_parity/configurations.py``, at reduced sizes, on real digits.
"""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from gan_parity import float32, runs
from gan_parity.compare import PARTS
from gan_parity.configurations import CONFIGS, SHORTENED
from gan_parity.study import furthest
from gan_shared.backend import StepValues
from gan_shared.config import Config
from gan_shared.gan_api import inputs

# Images that are drawn to compare samples.
SAMPLED = 32


def configuration(name: str, device: str, **changes: Any) -> Config:
    """Return a reduced configuration on a device."""
    return CONFIGS[name].with_options(**SHORTENED.get(name, {}), device=device, **changes)


def states(
    backend: str,
    name: str,
    device: str,
    marks: list[int],
    folder: str,
    *,
    first: int = 0,
    begin: str | None = None,
    precision: str = "float64",
    deterministic: bool = False,
) -> dict[str, str]:
    """Run a configuration and write its states.

    Args:
        backend: torch or jax.
        name: of the configuration.
        device: cpu or gpu.
        marks: steps, in order, after which the state is written; 0 is the initial state.
        folder: of the files, which is made for them.
        first: steps done in the state that the run begins with.
        begin: file of that state; the initial state when not given.
        precision: of the run.
        deterministic: whether PyTorch is asked for deterministic algorithms; XLA is asked by a variable of the process.

    Returns:
        File of each mark, by the mark as text.
    """
    if deterministic and backend == "torch":
        import torch

        torch.use_deterministic_algorithms(True)
    twin = runs.backend(backend, configuration(name, device, precision=precision))
    state = twin.init() if begin is None else twin.restore(load_file(begin))
    Path(folder).mkdir(parents=True, exist_ok=True)
    files, done = {}, first
    for mark in marks:
        state, _ = runs.run(twin, state, done, mark - done)
        done, path = mark, Path(folder) / f"step-{mark}.safetensors"
        save_file(twin.export(state), path)
        files[str(mark)] = str(path)
    return files


def precisions(backend: str, name: str, device: str, marks: list[int]) -> dict[str, dict[str, list[float]]]:
    """Return how far one step in each precision of fewer digits is from the float64 one, of this backend.

    Args:
        backend: torch or jax.
        name: of the configuration.
        device: cpu or gpu.
        marks: steps of the float64 run from whose states single steps are taken.

    Returns:
        Precision -> part of the state -> root mean square error per mark, as parts of how far the step moves; see
        ``gan_parity/float32.py``.
    """
    exact = runs.backend(backend, configuration(name, device))
    state, done = exact.init(), 0
    found: dict[str, dict[str, list[float]]] = {}
    for mark in marks:
        state, _ = runs.run(exact, state, done, mark - done)
        done, tensors = mark, exact.export(state)
        expected = float32.exact_step(exact, tensors, mark)
        for precision in ("float32", "tf32", "bfloat16"):
            rounded = runs.backend(backend, configuration(name, device, precision=precision))
            errors = float32.errors(rounded, expected, tensors, mark)
            for part in PARTS:
                error = float32.of_part(errors, tensors, part)
                found.setdefault(precision, {}).setdefault(part, []).append(error)
    return found


def variant(backend: str, name: str, device: str, options: dict[str, Any], steps: int) -> dict[str, Any]:
    """Compare a run with other execution options, which must not change it, with the run without them.

    Args:
        backend: torch or jax.
        name: of the configuration.
        device: cpu or gpu.
        options: execution options by name.
        steps: length of both runs, a multiple of ``steps_per_call``.

    Returns:
        ``same_bits``, and ``distance``: how far the networks are apart, as a part of the distance travelled.
    """
    plain = runs.backend(backend, configuration(name, device))
    begin = plain.export(plain.init())
    expected = plain.export(runs.run(plain, plain.init(), 0, steps)[0])
    changed = runs.backend(backend, configuration(name, device, **options))
    state, call = changed.init(), changed.config.execution.steps_per_call
    values = [runs.step_values(changed.config, step) for step in range(steps)]
    if changed.config.execution.data_on == "device":
        changed.hold(
            np.concatenate([value.batch.images.reshape(-1, *value.batch.images.shape[2:]) for value in values])
        )
        values = [_by_index(value, step) for step, value in enumerate(values)]
    for at in range(0, steps, call):
        state, _ = changed.steps(state, values[at : at + call])
    found = changed.export(state)
    same = all(np.array_equal(found[key], value) for key, value in expected.items())
    return {"same_bits": same, "distance": furthest(found, expected, begin)}


def _by_index(value: StepValues, step: int) -> StepValues:
    """Return a step's values with the indices of its images, among those of all steps in order, in their place."""
    rows, batch = value.batch.images.shape[:2]
    indices = np.arange(rows * batch, dtype=np.int64).reshape(rows, batch) + step * rows * batch
    return value._replace(batch=value.batch._replace(images=indices))


def samples(backend: str, name: str, device: str, begin: str, out: str) -> str:
    """Write the images that the averaged generator of a float32 state makes, uint8 (32, height, width, channel)."""
    config = configuration(name, device, precision="float32")
    twin = runs.backend(backend, config)
    np.save(out, twin.sample(twin.restore(load_file(begin)), inputs(config, SAMPLED, 0, None)))
    return out
