"""A trace of a few steps: what ran when, on the host and on the device."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gan_shared.backend import Backend, MakeBackend, State, StepValues
from gan_shared.config import Config

# Calls before the trace, which compile and warm caches, and calls in it.
WARM_UP, TRACED = 3, 3


class Profiled:
    """A backend that writes a trace of its fourth to sixth call; in all else the one that it is given.

    Args:
        backend: who computes.
        folder: where the trace is written.
    """

    def __init__(self, backend: Backend, folder: Path) -> None:
        self._backend, self._folder, self._calls = backend, folder, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def steps(self, state: State, values: Sequence[StepValues]) -> tuple[State, Mapping[str, Any]]:
        """Play; see ``Backend``."""
        if self._calls == WARM_UP:
            self._trace = self._backend.profile(self._folder)
            self._trace.__enter__()
        state, scalars = self._backend.steps(state, values)
        self._calls += 1
        if self._calls == WARM_UP + TRACED:
            float(scalars["generator_loss"])  # waits for the device
            self._trace.__exit__(None, None, None)
        return state, scalars


def profiling(make_backend: MakeBackend, folder: Path) -> MakeBackend:
    """Return a maker of backends that write a trace into ``folder``."""

    def make(config: Config) -> Any:
        return Profiled(make_backend(config), folder)

    return make
