"""Signals that end a process as requests: the step in hand is finished and saved first."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

# Ctrl-C, a scheduler's request, and that of a terminal or an SSH session that closes, where there is such a signal.
HANG_UP = getattr(signal, "SIGHUP", None)
# Seconds until a signal is sent again whose exception was lost.
AGAIN_AFTER = 0.05
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([] if HANG_UP is None else [HANG_UP]))


class Stopped(KeyboardInterrupt):
    """A signal ended what was under way.

    Args:
        signal_number: which.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__()
        self.signal_number = signal_number


def status_of(stop: KeyboardInterrupt | int) -> int:
    """Return the exit status that shells and schedulers know: 128 and the number of the signal that ended a process.

    Args:
        stop: what was raised, or the signal's number.
    """
    return 128 + (stop if isinstance(stop, int) else getattr(stop, "signal_number", signal.SIGINT))


@contextmanager
def handling(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Answer the signals that end a process with ``handler`` until the block ends.

    Outside the main thread, where Python takes no signals, it changes nothing. A signal that is ignored stays so, as
    SIGHUP under ``nohup``, but for SIGINT: a shell's background jobs begin with it ignored.

    What a handler raises is lost where Python happens to be in a destructor or in a callback of garbage collection, of
    which JAX has one. There the signal comes again a moment later.
    """
    before: dict[signal.Signals, Any] = {}
    report, again = sys.unraisablehook, list[threading.Timer]()

    def lost(found: Any) -> None:
        if not isinstance(found.exc_value, Stopped):
            report(found)
            return
        again.append(threading.Timer(AGAIN_AFTER, os.kill, (os.getpid(), found.exc_value.signal_number)))
        again[-1].daemon = True
        again[-1].start()

    try:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                    before[number] = signal.signal(number, handler)
            sys.unraisablehook = lost
        yield
    finally:
        if sys.unraisablehook is lost:
            sys.unraisablehook = report
        for timer in again:
            timer.cancel()
        for number, former in before.items():
            signal.signal(number, former)


def stop_at_once(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, so that what is half-written is removed; a handler of signals."""
    del frame
    raise Stopped(number)


class Interrupt:
    """Context that turns the first signal into ``requested`` and the second into KeyboardInterrupt.

    A signal in the middle of a step would leave networks and optimiser at different steps.

    Attributes:
        requested: the number of the first signal; 0 as long as there was none.
    """

    def __init__(self) -> None:
        self.requested = 0
        self._handling = handling(self._handle)

    def __enter__(self) -> "Interrupt":
        self._handling.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._handling.__exit__(None, None, None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == HANG_UP:
            return  # a terminal that closes sends it twice: the system does, and the shell
        if self.requested:
            stop_at_once(number, frame)
        self.requested = number
        with suppress(OSError):
            # Not print: the signal may have come in the middle of one.
            os.write(2, b"\nstopping as soon as what is under way is done; Ctrl-C again stops at once\n")


@contextmanager
def deferred() -> Iterator[None]:
    """Hold signals that end the process back until the block ends.

    An exception in the middle of an import or of XLA's own callbacks is lost there, or crashes the process.
    """
    with Interrupt() as interrupt:
        yield
    if interrupt.requested:
        raise Stopped(interrupt.requested)
