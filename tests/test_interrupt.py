"""Signals whose exception Python loses."""

import gc
import os
import signal
import sys
import time

import pytest

from gan_shared.interrupt import AGAIN_AFTER, Interrupt, Stopped, handling, stop_at_once

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGINT cannot be sent to one process elsewhere")


class Interrupted:
    """In whose destructor a signal comes, whatever it raises there is lost."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)  # the handler runs here at the latest


def wait() -> None:
    """Wait long enough for a signal that comes again."""
    time.sleep(20 * AGAIN_AFTER)


def test_a_signal_that_a_destructor_has_lost_comes_again(capsys: pytest.CaptureFixture[str]) -> None:
    hook = sys.unraisablehook
    with pytest.raises(Stopped) as stopped, handling(stop_at_once):
        Interrupted()
        wait()
    assert stopped.value.signal_number == signal.SIGINT
    assert sys.unraisablehook is hook and "Traceback" not in capsys.readouterr().err


def test_a_second_signal_that_garbage_collection_has_lost_comes_again(capsys: pytest.CaptureFixture[str]) -> None:
    def collected(phase: str, info: dict[str, int]) -> None:
        del info
        if phase == "stop":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)

    with pytest.raises(Stopped), Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        gc.callbacks.append(collected)
        try:
            gc.collect()
        finally:
            gc.callbacks.remove(collected)
        assert interrupt.requested == signal.SIGTERM
        wait()
    assert "Traceback" not in capsys.readouterr().err


def test_no_signal_comes_after_the_block() -> None:
    with handling(stop_at_once):
        Interrupted()
    wait()


def test_what_else_is_lost_is_reported_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __del__(self) -> None:
            raise ValueError("x")

    found = []
    monkeypatch.setattr(sys, "unraisablehook", lambda each: found.append(each.exc_value))
    with handling(stop_at_once):
        Broken()
    assert [str(each) for each in found] == ["x"]
