"""Generated files describe this code: every preset, trap and fault, and the README's table is that of the JSON."""

import json
import re
from pathlib import Path

import pytest

from gan_shared.presets import PRESETS
from parity_tests import float32, mutants, report
from parity_tests.faults import FAULTS
from parity_tests.pair import ONE_STEP, PARTS, PRESET_CONFIGS, TRAJECTORY
from parity_tests.traps import TRAPS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def parity():
    return json.loads((ROOT / "docs" / "parity" / "parity.json").read_text())


@pytest.fixture(scope="module")
def studies(parity):
    return {each["preset"]: report.Study(**each) for each in parity["studies"]}


def test_the_report_is_of_all_presets_over_the_whole_run(parity, studies):
    assert list(studies) == list(PRESETS) == list(PRESET_CONFIGS), (
        "presets have changed: run python -m parity_tests.report --readme README.md"
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", parity["about"]["date"])
    assert {"torch", "jax", "machine"} <= set(parity["about"])


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_reported_holds(studies, name):
    each = studies[name]
    assert each.good()
    assert max(each.one_step.values()) <= ONE_STEP and each.apart["braid"][-1] <= TRAJECTORY
    assert each.marks == list(report.MARKS) and len(each.apart["float64"]) == len(report.MARKS)
    assert set(each.float32) == set(PARTS) and max(each.worse().values()) <= float32.WORSE


def test_the_page_and_the_readme_show_the_same_numbers(parity, studies):
    table = report.headline(parity["about"], list(studies.values()))
    assert table in (ROOT / "docs" / "parity" / "parity.md").read_text()
    assert table in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(("file", "names"), [("porting", [trap.name for trap in TRAPS]), ("mutants", FAULTS)])
def test_every_trap_and_every_fault_has_its_row(file, names):
    text = (ROOT / "docs" / f"{file}.md").read_text()
    rows = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| ")]
    assert [row for row in rows if row not in ("fault", "what", "---")] == list(names), (
        f"they have changed: run python -m parity_tests.{'traps' if file == 'porting' else file}"
    )
    assert re.search(r"\d{4}-\d\d-\d\d: .*torch \d.*, jax \d", text)


def test_the_matrix_that_is_shown_was_passed():
    text = (ROOT / "docs" / "mutants.md").read_text()
    assert "**nobody**" not in text
    (line,) = re.findall(r"all +(\d+) of (\d+) .*, (\d+) of (\d+) ", text)
    seen, faults, named, asked = map(int, line)
    assert seen >= mutants.KILLED * faults and faults == len(FAULTS) and named >= mutants.LOCATED * asked
