"""Signals whose exception Python loses."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gan_shared import audit, data_manifest
from gan_shared.interrupt import AGAIN_AFTER, SIGNALS, Interrupt, Stopped, handling, stop_at_once

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


@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_that_reads_data_ends_in_one_line(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A suite that runs under nohup hands an ignored SIGHUP on.
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)
    for command, reading in ((audit, "load"), (data_manifest, "find_source")):
        monkeypatch.setattr(command, reading, lambda *of: os.kill(os.getpid(), number))
    for command, argv in (
        (audit, ["mnist-5k", "--out", str(tmp_path / "audit")]),
        (data_manifest, ["mnist-5k", str(tmp_path / "list.json")]),
    ):
        assert command.main(argv) == 128 + number
        assert capsys.readouterr().err == "stopped: nothing was written\n"
    assert not list(tmp_path.iterdir())


def test_a_name_that_the_terminal_has_no_characters_for_is_spelled_out() -> None:
    program = "from gan_shared.command import guarded; guarded(lambda: print('caf\u00e9'))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "caf\\xe9\n" and not done.stderr
