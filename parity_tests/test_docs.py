"""Committed pages that commands wrote: they have a row for every preset, trap and fault, and agree with each other.

Nothing is measured here: ``test_report.py``, ``test_traps.py`` and ``test_mutants.py`` run the commands.
"""

import json
import re
from pathlib import Path

import pytest

from gan_parity import float32, report
from gan_parity.compare import ONE_STEP, PARTS, TRAJECTORY
from gan_parity.configurations import PRESET_CONFIGS
from gan_parity.study import WORST, Study
from gan_parity.trap_table import TRAPS
from gan_shared.presets import PRESETS
from parity_tests import mutants
from parity_tests.faults import FAULTS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def parity():
    return json.loads((ROOT / "docs" / "parity" / "parity.json").read_text())


@pytest.fixture(scope="module")
def studies(parity):
    return {each["preset"]: Study(**each) for each in parity["studies"]}


def test_the_committed_report_has_every_preset_and_says_where_it_was_measured(parity, studies):
    assert list(studies) == list(PRESETS) == list(PRESET_CONFIGS), (
        "presets have changed: run python -m gan_parity.report --readme docs/parity.md"
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", parity["about"]["date"])
    assert {"torch", "jax", "machine"} <= set(parity["about"])


@pytest.mark.parametrize("name", PRESETS)
def test_the_claims_hold_for_the_committed_numbers(studies, name):
    each = studies[name]
    assert each.good() and len(each.one_step) == WORST
    assert max(each.one_step.values()) <= ONE_STEP and each.distances["alternating"][-1] <= TRAJECTORY
    assert each.marks == list(report.MARKS) and len(each.distances["float64"]) == len(report.MARKS)
    assert set(each.float32) == set(PARTS) and max(each.ratios().values()) <= float32.WORSE


def test_the_committed_summary_is_short():
    assert len((ROOT / "docs" / "parity" / "parity.json").read_text().splitlines()) < 28 * len(PRESETS)


def test_the_committed_pages_show_the_committed_numbers(parity, studies):
    table = report.headline(parity["about"], list(studies.values()))
    assert (ROOT / "docs" / "parity" / "parity.md").read_text() == report.page(parity["about"], list(studies.values()))
    assert table in (ROOT / "docs" / "parity.md").read_text()


@pytest.mark.parametrize(("file", "names"), [("porting", [trap.name for trap in TRAPS]), ("mutants", FAULTS)])
def test_the_committed_pages_have_a_row_for_every_trap_and_every_fault(file, names):
    text = (ROOT / "docs" / f"{file}.md").read_text()
    rows = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| ")]
    assert [row for row in rows if row not in ("fault", "what", "---")] == list(names), (
        f"they have changed: run python -m {'gan_parity.traps' if file == 'porting' else 'parity_tests.mutants'}"
    )
    assert re.search(r"\d{4}-\d\d-\d\d: .*torch \d.*, jax \d", text)


def test_the_committed_matrix_of_faults_passed():
    text = (ROOT / "docs" / "mutants.md").read_text()
    assert "**no test**" not in text
    (line,) = re.findall(r"all +(\d+) of (\d+) .*, (\d+) of (\d+) ", text)
    killed, faults, named, asked = map(int, line)
    assert killed >= mutants.KILLED * faults and faults == len(FAULTS) and named >= mutants.LOCATED * asked
