"""The right half of every trap, and the committed table that was generated of both."""

from pathlib import Path

import pytest

from gan_parity.trap_table import TRAPS, likely
from gan_parity.traps import relative_error

PAGE = Path(__file__).resolve().parents[1] / "docs" / "porting.md"


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_the_right_half_is_equal_to_torch(trap):
    expected, _, right = trap.pair()
    assert relative_error(right, expected) <= trap.equal < trap.at_least


def test_the_committed_table_has_a_row_for_each_trap():
    """Written anew by ``python -m gan_parity.traps``."""
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert [row[0].removeprefix("| ") for row in rows[2:]] == [trap.name for trap in TRAPS]
    assert [tuple(row[1:3]) for row in rows[2:]] == [(trap.torch, trap.naive) for trap in TRAPS]


def test_names_of_traps_are_not_used_twice():
    assert len({trap.name for trap in TRAPS}) == len(TRAPS)


def test_a_number_that_is_not_finite_is_infinitely_far_off():
    assert relative_error([float("nan")], [1.0]) == relative_error([1.0], [[1.0]]) == float("inf")
    assert relative_error([1.0, 2.5], [1.0, 2.0]) == 0.25


def test_the_traps_of_a_module_and_of_a_kind_of_value_are_suspected():
    names = [trap.name for trap in likely("state", "BatchNorm")]
    assert "variance that batch normalisation keeps" in names and "momentum of batch normalisation" in names
    assert all("batch normalisation" not in trap.name for trap in likely("forward", "Linear"))


def test_a_setting_that_is_the_same_is_not_suspected_and_one_that_differs_comes_first():
    names = [
        trap.name for trap in likely("forward", "ConvTranspose2d", settings={"transpose_kernel": "", "padding": "x"})
    ]
    assert names[0] == "padding of a transposed convolution" and "kernel of a transposed convolution" not in names
    assert names != [trap.name for trap in likely("forward", "ConvTranspose2d")]
