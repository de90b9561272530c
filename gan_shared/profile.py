"""A profile of a few steps: what ran when, on the host and on the device."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gan_shared.backend import Backend, State, StepValues
from gan_shared.errors import unexpected

# Calls before the profile, which compile and warm caches, and calls in it.
WARM_UP, PROFILED = 3, 3


class Profiled:
    """A backend that profiles its fourth to sixth call; in all else it is the one that it is given.

    Args:
        backend: what computes.
        folder: where the profile is written.
        stack: a context that closes the profile if the run ends before its sixth call.

    Raises:
        UserError: the folder is something else.
    """

    def __init__(self, backend: Backend, folder: Path, stack: ExitStack) -> None:
        if folder.exists() and not folder.is_dir():
            raise unexpected("profile", f"the file {folder}", "a folder, or nothing there yet")
        self._backend, self._folder, self._stack = backend, folder, stack
        self._calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def steps(self, state: State, values: Sequence[StepValues]) -> tuple[State, Mapping[str, Any]]:
        """Take training steps; see ``Backend``."""
        if self._calls == WARM_UP:
            self._stack.enter_context(self._backend.profile(self._folder))
        state, scalars = self._backend.steps(state, values)
        self._calls += 1
        if self._calls == WARM_UP + PROFILED:
            float(scalars["generator_loss"])  # waits for the device
            self._stack.close()
        return state, scalars
