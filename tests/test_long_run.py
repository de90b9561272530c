"""The benchmark of long runs: what it reads, and what it takes for growth."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import long_run
from benchmarks.long_run import Reading, is_growing, reading
from tests.frameworks import HERE

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
# A process of three threads, five more open files, and 200 MB, which it has touched.
CHILD = """
import sys, threading, time
files = [open(sys.argv[1]) for _ in range(5)]
for _ in range(2):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
held = bytearray(b"1") * 200_000_000
print("ready", flush=True)
time.sleep(60)
"""


def test_growth_is_a_second_half_above_the_first() -> None:
    assert is_growing([8, 8, 9, 9]) and is_growing([3, 4, 5, 6])
    assert not is_growing([8, 9, 8, 9]) and not is_growing([8, 8, 8, 8]) and not is_growing([9, 9, 8, 8])


@linux
def test_a_process_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "file")], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        found = reading(process.pid, 7)
        files = len(os.listdir(f"/proc/{process.pid}/fd"))
    finally:
        process.kill()
        process.communicate()
    assert found is not None and found.step == 7 and found.threads == 3 and found.files == files >= 8
    assert 200 < found.memory < 260  # the interpreter itself needs some 10 MB
    assert reading(process.pid, 8) is None


@linux
def test_a_run_is_read_at_equal_distances(tmp_path: Path) -> None:
    found = long_run.train(HERE[0], 600, tmp_path)
    assert [each.step for each in found] == sorted(each.step for each in found) and len(found) == long_run.READINGS
    assert min(each.memory for each in found) > 100  # a framework is in it


@linux
def test_a_run_that_fails_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert long_run.main(["--backends", HERE[0], "--steps", "0"]) == 2
    assert f"error: {HERE[0]}: status 2, " in (error := capsys.readouterr().err)
    assert " of 10 readings: error: steps: found 0" in error


@pytest.mark.parametrize(
    "last, status", [((102.1, 3, 8), 1), ((101.9, 3, 8), 0), ((100.0, 4, 8), 1), ((100.0, 3, 9), 1), ((90.0, 3, 8), 0)]
)
def test_status_says_whether_anything_grew(monkeypatch: pytest.MonkeyPatch, last, status) -> None:
    found = [Reading(step, 100.0, 3, 8) for step in range(5)] + [Reading(step, *last) for step in range(5, 10)]
    monkeypatch.setattr(long_run, "train", lambda *given: found)
    assert long_run.main(["--backends", "torch"]) == status
