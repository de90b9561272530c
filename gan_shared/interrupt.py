"""Ctrl-C as a request: the step in hand is finished and saved first."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any


class Interrupt:
    """Context that turns the first SIGINT or SIGTERM into ``requested`` and the second into KeyboardInterrupt.

    A signal in the middle of a step would leave networks and optimiser at different steps. Outside the main
    thread, where Python takes no signals, it changes nothing.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in self.SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        with suppress(OSError):
            # Not print: the signal may have come in the middle of one.
            os.write(2, b"\nstopping as soon as what is under way is done; Ctrl-C again stops at once\n")


@contextmanager
def deferred() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends.

    An exception in the middle of an import or of XLA's own callbacks is lost there, or crashes the process.
    """
    with Interrupt() as interrupt:
        yield
    if interrupt.requested:
        raise KeyboardInterrupt
