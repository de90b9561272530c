"""Damaged inputs: the beginning of what ``python -m tests.fuzz --seconds 3600`` does for an hour."""

from pathlib import Path

import pytest

pytest.importorskip("resource", reason="POSIX signals and limits")

from benchmarks.machine import cache_in
from tests.fuzz import READERS, fuzz, main

# Twelve of each kind take half a minute together.
SEEDS = range(12)


@pytest.mark.parametrize("name", READERS)
def test_undamaged_inputs_are_taken(tmp_path: Path, name: str):
    with cache_in(str(tmp_path / "cache")):
        (tmp_path / "good").mkdir()
        assert READERS[name].make(tmp_path / "good")
        READERS[name].read(tmp_path / "good")


@pytest.mark.parametrize("name", READERS)
def test_damaged_inputs_are_taken_or_refused(tmp_path: Path, name: str):
    outcomes = {}
    for seed in SEEDS:
        (tmp_path / str(seed)).mkdir()
        outcomes[seed] = fuzz(name, seed, tmp_path / str(seed))
    assert {seed: each for seed, each in outcomes.items() if each not in ("taken", "refused")} == {}


def test_what_is_no_user_error_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys):
    def broken(folder: Path) -> None:
        raise KeyError("x")

    monkeypatch.setitem(READERS, "npy", READERS["npy"]._replace(read=broken))
    assert fuzz("npy", 0, tmp_path) == "KeyError: 'x'"
    assert main(["--readers", "npy", "--seconds", "0.5"]) == 1
    assert "npy, seed 0: KeyError" in capsys.readouterr().err


def test_other_content_of_a_format_with_checksums_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    answers = iter([1, 2])
    monkeypatch.setitem(READERS, "cache", READERS["cache"]._replace(read=lambda folder: next(answers)))
    assert fuzz("cache", 0, tmp_path) == "other content was taken"
