"""Whether a long run needs ever more: what the benchmark takes for growth."""

import sys

import pytest

from benchmarks import long_run
from benchmarks.long_run import Held, is_growing
from tests.frameworks import HERE


def test_growth_is_a_second_half_above_the_first() -> None:
    assert is_growing([8, 8, 9, 9]) and is_growing([3, 4, 5, 6])
    assert not is_growing([8, 9, 8, 9]) and not is_growing([8, 8, 8, 8]) and not is_growing([9, 9, 8, 8])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_run_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert long_run.main(["--backends", HERE[0], "--steps", "60"]) in (0, 1)  # so short a run is all warm-up
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == long_run.READINGS
    steps, memory, threads, files = zip(
        *([each.strip() for each in row.strip("|").split("|")] for row in rows), strict=True
    )
    assert list(map(int, steps)) == sorted(map(int, steps)) and int(steps[0]) >= 60 / 11
    assert min(map(float, memory)) > 50 and min(map(int, threads)) >= 1 and min(map(int, files)) >= 3


@pytest.mark.parametrize(
    "last, status", [((102.1, 3, 8), 1), ((101.9, 3, 8), 0), ((100.0, 4, 8), 1), ((100.0, 3, 9), 1), ((90.0, 3, 8), 0)]
)
def test_status_says_whether_anything_grew(monkeypatch: pytest.MonkeyPatch, last, status) -> None:
    found = [Held(step, 100.0, 3, 8) for step in range(5)] + [Held(step, *last) for step in range(5, 10)]
    monkeypatch.setattr(long_run, "train", lambda *given: found)
    assert long_run.main(["--backends", "torch"]) == status
