"""This project's half of every trap, and the table that was generated of both."""

from pathlib import Path

import pytest

from parity_tests.traps import TRAPS, apart, likely

PAGE = Path(__file__).resolve().parents[1] / "docs" / "porting.md"


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_our_half_is_equal_to_torch(trap):
    expected, _, ours = trap.pair()
    assert apart(ours, expected) <= trap.equal < trap.at_least


def test_the_table_is_of_these_traps():
    """Written anew by ``python -m parity_tests.traps``."""
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert [row[0].removeprefix("| ") for row in rows[2:]] == [trap.name for trap in TRAPS]
    assert [tuple(row[1:3]) for row in rows[2:]] == [(trap.torch, trap.naive) for trap in TRAPS]


def test_what_is_not_a_number_is_infinitely_far_off():
    assert apart([float("nan")], [1.0]) == apart([1.0], [[1.0]]) == float("inf")
    assert apart([1.0, 2.5], [1.0, 2.0]) == 0.25


def test_a_difference_leads_to_the_traps_of_its_module_and_kind():
    names = [trap.name for trap in likely("state", "BatchNorm")]
    assert "variance that batch normalisation keeps" in names and "momentum of batch normalisation" in names
    assert all("batch normalisation" not in trap.name for trap in likely("forward", "Linear"))
