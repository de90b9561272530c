"""The contenders of the benchmarks, our backends and the plain implementations, behind one interface."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from benchmarks.settings import CONTENDERS, Settings
from gan_shared.backend import Backend, Batch, MakeBackend, StepValues
from gan_shared.config import Config
from gan_shared.data import Dataset
from gan_shared.draws import Draws, draw
from gan_shared.gan_api import inputs
from gan_shared.image_conditions import is_image_conditional
from gan_shared.schedules import schedule_values

# Images that are sampled at once, and how often.
SAMPLED, SAMPLINGS = 64, 5


class Naive(Protocol):
    """The interface of the two plain implementations."""

    def __init__(self, config: Config) -> None:
        """Build networks and optimisers on the device."""
        ...

    def step(self, batch: Batch, draws: Draws) -> dict[str, Any]:
        """Run one step: the discriminator updates, the generator update. Return the scalars."""
        ...

    def wait(self) -> None:
        """Return when the device has finished what it was given."""
        ...

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that compute, and the device."""
        ...


class Times(NamedTuple):
    """How long a chunk of steps took.

    Attributes:
        seconds: wall time until the device had finished.
        waiting: the part of it that was spent inside ``next`` of the stream of batches.
    """

    seconds: float
    waiting: float


class StepRunner:
    """Runs the training steps of one contender on batches of a stream.

    The device is waited for once, at the end of a chunk of steps, as in training between two lines of the log.

    Args:
        settings: what is measured.
        config: the run that follows from them.
    """

    def __init__(self, settings: Settings, config: Config) -> None:
        self.config, self._name = config, settings.backend
        self.framework = CONTENDERS[settings.backend].framework
        self._naive: Naive | None = None
        self._backend: Backend | None = None
        if CONTENDERS[settings.backend].cudnn_benchmark:
            import torch

            torch.backends.cudnn.benchmark = True
        if CONTENDERS[settings.backend].naive:
            self._naive = _naive(self.framework)(config)
        else:
            backend: Backend = import_backend(self.framework)(config)
            self._backend, self._state = backend, backend.init()

    def hold(self, dataset: Dataset) -> None:
        """Copy the images to the device where ``data_on`` is ``device``."""
        if self.config.execution.data_on == "device" and self._backend is not None:
            self._backend.hold(dataset.images)

    def run(self, stream: Iterator[tuple[int, Batch]], count: int) -> Times:
        """Run ``count`` steps of ``stream`` and wait for the last one."""
        start, waiting, scalars = perf_counter(), 0.0, {}
        remaining = count
        while remaining:
            before = perf_counter()
            ahead = list(islice(stream, min(self.config.execution.steps_per_call, remaining)))
            waiting += perf_counter() - before
            remaining -= len(ahead)
            scalars = self._steps(ahead)
        self._wait(scalars)
        return Times(perf_counter() - start, waiting)

    def profile(self, stream: Iterator[tuple[int, Batch]]) -> dict[str, Any]:
        """Return where the time of a step goes; see ``waits.profile``."""
        from benchmarks.gpu import waits

        assert self._backend is not None, "a plain implementation is not profiled"
        call = self.config.execution.steps_per_call
        ready = list(islice(stream, waits.STEPS * call))  # so that no batch is waited for

        def run(count: int) -> None:
            for _ in range(count):
                self._steps(ready[:call])
                del ready[:call]

        return waits.profile(self.framework, self._backend, run, self._block, self._on_gpu())

    def samples_per_second(self) -> float | None:
        """Return how many images are made from latents in a second; None for what has no sampler of its own."""
        contender, levels = CONTENDERS[self._name], self.config.image_condition.pyramid_levels
        # The options of a contender change its steps alone.
        if self._backend is None or contender.options or is_image_conditional(self.config) or levels:
            return None
        given = inputs(self.config, SAMPLED, 0, None)
        times = []
        for _ in range(SAMPLINGS + 1):
            start = perf_counter()
            self._backend.sample(self._state, given)  # NumPy's: it has waited for the device
            times.append(perf_counter() - start)
        return SAMPLED / median(times[1:])

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that compute, and the device."""
        return (self._backend or self._naive).versions()  # pyright: ignore[reportOptionalMemberAccess]

    def peak_device_bytes(self) -> int | None:
        """Return the most memory that tensors took on the device so far; None on a CPU."""
        if self.framework == "torch":
            import torch

            return torch.cuda.max_memory_allocated() if self._on_gpu() else None
        import jax

        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use") if self._on_gpu() else None

    def in_precision(self) -> AbstractContextManager[Any]:
        """Return the context in which the framework multiplies in the run's precision; for probes."""
        rounded = self.config.training.precision == "tf32"
        if self.framework == "torch":
            import torch

            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = rounded
            return nullcontext()
        import jax

        return jax.default_matmul_precision("tensorfloat32" if rounded else "highest")

    def _on_gpu(self) -> bool:
        return self.versions()["device"] != "cpu"

    def _steps(self, ahead: list[tuple[int, Batch]]) -> dict[str, Any]:
        """Run the steps of one call and return the last one's scalars."""
        scalars: Any = {}
        if self._naive is not None:
            for step, batch in ahead:
                scalars = self._naive.step(batch, draw(self.config, step))
        elif self._backend is not None:
            values = [
                StepValues(batch, draw(self.config, step), schedule_values(self.config, step)) for step, batch in ahead
            ]
            self._state, scalars = self._backend.steps(self._state, values)
        return scalars

    def _wait(self, scalars: dict[str, Any]) -> None:
        """Return when the device has finished and the scalars are read."""
        self._block()
        for value in scalars.values():
            float(value)

    def _block(self) -> None:
        """Return when the device has finished: all of the state, not only the scalars."""
        if self._naive is not None:
            self._naive.wait()
        elif self.framework == "torch":
            import torch

            if self._on_gpu():
                torch.cuda.synchronize()
        else:
            import jax

            jax.block_until_ready(self._state)


def import_backend(framework: str) -> MakeBackend:
    """Import one of the twins and return its Backend."""
    if framework == "torch":
        from gan_torch.backend import Backend as TorchBackend

        return TorchBackend
    from gan_jax.backend import Backend as JaxBackend

    return JaxBackend


def _naive(framework: str) -> type[Naive]:
    """Import one of the plain implementations and return its class."""
    if framework == "torch":
        from benchmarks.naive_torch import Naive as TorchNaive

        return TorchNaive
    from benchmarks.naive_jax import Naive as JaxNaive

    return JaxNaive
