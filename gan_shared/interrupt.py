"""Ctrl-C as a request: the step in hand is finished and saved first."""

import signal
import threading
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
