"""The mutation matrix: its faults fit the code, the tests detect a planted one, too few are an error."""

from pathlib import Path

import pytest

from gan_parity.configurations import CONFIGS
from parity_tests import mutants
from parity_tests.faults import AREAS, FAULTS, Fault
from parity_tests.mutants import ROOT, Outcome

# Its tests need neither framework, and so begin at once.
DETECTED = FAULTS["schedules a step ahead"]
IN_NETWORK = next(fault for fault in FAULTS.values() if fault.modules)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_every_fault_still_fits_the_code(fault):
    assert (ROOT / fault.file).read_text().count(fault.old) == 1
    assert fault.new != fault.old and fault.preset in CONFIGS
    assert all((ROOT / file).exists() for file in mutants.reached(fault))


def test_there_are_at_least_40_different_faults_in_both_backends():
    assert sum(map(len, AREAS.values())) == len(FAULTS) >= 40  # no name twice
    assert {"gan_torch", "gan_jax"} <= {Path(fault.file).parts[0] for fault in FAULTS.values()}
    places = [(fault.file, fault.new) for fault in FAULTS.values()]
    assert len(set(places)) == len(places)


def test_a_planted_fault_is_detected_and_the_right_code_passes(tmp_path):
    mutants.copy(tmp_path / "right")
    outcome = mutants.examine(DETECTED, tmp_path / "right", tmp_path / "fault", tmp_path / "cache")
    assert outcome.killer.startswith("test_schedules::") and outcome.named is None and not (tmp_path / "fault").exists()
    assert mutants.killed(tmp_path / "right", tmp_path / "cache", ("tests/test_schedules.py",)) == ""


def test_a_fault_that_cannot_be_planted_or_run_is_an_error(tmp_path):
    gone = Fault("gone", "gan_shared/schedules.py", "no such text", "")
    mutants.copy(tmp_path / "right")
    nowhere = DETECTED._replace(old="from math import cos, expm1, log, pi\n", new="import nowhere\n")
    outcome = mutants.examine(nowhere, tmp_path / "right", tmp_path / "broken", tmp_path)
    assert not outcome.killer and outcome.error == "tests: tests.test_schedules cannot be collected"
    with pytest.raises(mutants.UserError, match="found 0 times 'no such text', expected it once"):
        mutants.examine(gone, tmp_path / "right", tmp_path / "gone", tmp_path)
    with pytest.raises(mutants.UserError, match=r"tests: .*nowhere\.py"):
        mutants.killed(tmp_path / "right", tmp_path / "cache", ("parity_tests/nowhere.py",))


def test_an_unknown_fault_is_refused(capsys, tmp_path):
    assert mutants.main(["no such fault", "--out", str(tmp_path / "x.md")]) == 2
    assert "faults: found no such fault, expected a name" in capsys.readouterr().err


def test_survivors_and_too_few_are_problems():
    killed = Outcome(DETECTED, "test_schedules::a", 1.0, None)
    assert mutants.found([killed]) == []
    survivor, excused = killed._replace(killer=""), Outcome(DETECTED._replace(equivalent="so it is"), "", 1.0, None)
    assert mutants.found([killed] * 99 + [survivor]) == [f"survived: {DETECTED.name} ({DETECTED.file})"]
    assert mutants.found([killed] * 19 + [excused]) == []
    (problem,) = mutants.found([killed] * 19 + [excused._replace(killer="test_schedules::a")])
    assert problem.startswith("detected by test_schedules::a, though equivalent")
    (problem,) = mutants.found([killed] * 99 + [killed._replace(killer="", error="a crash")])
    assert problem == f"not tested: {DETECTED.name} ({DETECTED.file}): a crash"
    assert mutants.found([killed] * 18 + [excused]) == ["killed: found 95% of the faults, expected at least 95%"]


def test_the_locator_is_right_where_a_pattern_fits():
    right = Outcome(IN_NETWORK, "a", 1.0, "generator/stem.norm")
    wrong = right._replace(named="generator/stem")
    assert right.located() and not wrong.located() and not right._replace(named="").located()
    assert mutants.found([right] * 9 + [wrong]) == []
    assert mutants.found([right] * 8 + [wrong]) == ["named: found 89% of the faults, expected at least 90%"]


def test_the_page_has_the_times_and_a_row_for_each_fault():
    outcomes = [
        Outcome(IN_NETWORK, "test_layers::a", 1.0, "generator/stem.norm"),
        Outcome(IN_NETWORK._replace(equivalent="it cannot be detected"), "", 1.0, "discriminator/"),
    ]
    text = mutants.page(outcomes, 80.0, 600.0)
    assert "All fast tests take 80 s on the right code, the whole matrix 10 minutes" in text
    assert "| `test_layers::a` | `generator/stem.norm` |" in text
