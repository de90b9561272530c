"""The parity report on a fast subset: what it writes, what it claims, and that a fault makes it fail."""

import json

import numpy as np
import pytest

import gan_jax.layers
from gan_parity import report, runs, study
from gan_parity.compare import PARTS, distances
from gan_parity.configurations import SMALL


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    assert report.main(["dcgan", "lapgan", "--steps", "4", "--out", str(folder)]) == 0
    return folder


def test_the_report_is_numbers_a_summary_a_page_and_a_plot(written):
    content = json.loads((written / "parity-full.json").read_text())
    assert [each["preset"] for each in content["studies"]] == ["dcgan", "lapgan"]
    assert {"date", "machine", "torch", "jax", "flax"} <= set(content["about"])
    for each in content["studies"]:
        assert each["marks"] == [1, 2, 4]
        assert set(each["distances"]) == set(report.CURVES)
        assert all(len(values) == 3 and np.isfinite(values).all() for values in each["distances"].values())
        assert set(each["float32"]) == set(PARTS) and len(each["float32"]["generator/"]["jax"]) == 2
        assert len(each["tensors"]) > 20
        assert max(each["one_step"].values()) <= 1e-11 and len(each["one_step"]) > 20
        assert each["distances"]["float32"][0] > 1e-9 > each["distances"]["float64"][0]
    summary = json.loads((written / "parity.json").read_text())
    assert summary["about"] == content["about"]
    for short, full in zip(summary["studies"], content["studies"], strict=True):
        assert short["tensors"] == {} and set(short["one_step"]) < set(full["one_step"])
        assert short["float32"] == full["float32"] and short["distances"] == full["distances"]
        assert max(short["one_step"].values()) == max(full["one_step"].values())
    assert len((written / "parity.json").read_text().splitlines()) < 60
    page = (written / "parity.md").read_text()
    assert "| dcgan |" in page and "| lapgan |" in page
    assert (written / "parity.png").stat().st_size > 1000


def test_the_pages_can_be_made_again_from_the_summary(written, tmp_path):
    summary = json.loads((written / "parity.json").read_text())
    studies = [study.Study(**each) for each in summary["studies"]]
    # 1.4504 rounds to 1.5, and 1.450, which the summary has, to 1.4.
    first = studies[0].float32["generator/"]["torch"]
    studies[0].float32["generator/"]["torch"] = [1.4504e-7] * len(first)
    report.write(tmp_path, summary["about"], studies)
    again = json.loads((tmp_path / "parity.json").read_text())
    read = [study.Study(**each) for each in again["studies"]]
    assert (tmp_path / "parity.md").read_text() == report.page(summary["about"], read)


def test_a_wrong_constant_fails_the_report(monkeypatch, tmp_path):
    blend = gan_jax.layers._blend
    monkeypatch.setattr(gan_jax.layers, "_blend", lambda old, new, momentum: blend(old, new, momentum * (1 + 1e-6)))
    runs.backend.cache_clear()
    try:
        assert report.main(["dcgan", "--steps", "3", "--out", str(tmp_path)]) == 1
    finally:
        runs.backend.cache_clear()


def test_an_unknown_preset_is_refused(capsys, tmp_path):
    assert report.main(["gan9000", "--out", str(tmp_path)]) == 2
    assert "presets: found gan9000, expected a known preset" in capsys.readouterr().err
    assert report.main(["vgg16"]) == 2
    assert "preset: found 'vgg16', which was renamed, expected 'vgg-inversion'" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert report.main(["dcgan", "--out", str(tmp_path / "file")]) == 2
    assert f"out: found the file {tmp_path / 'file'}, expected a folder, which may be new" in capsys.readouterr().err


def test_a_perturbed_state_has_one_weight_changed_by_one_unit_in_the_last_place():
    tensors = {"generator/a.weight": np.ones((2, 2)), "generator/b": np.ones(2)}
    changed = study.perturbed(tensors, 2.0**-53)
    assert changed["generator/a.weight"][0, 0] == np.nextafter(1.0, 2.0)
    assert (changed["generator/a.weight"].ravel()[1:] == 1).all() and tensors["generator/a.weight"][0, 0] == 1


def test_an_alternating_run_changes_backend_at_the_planned_steps(monkeypatch):
    asked = []
    real = runs.backend
    monkeypatch.setattr(runs, "backend", lambda name, config: asked.append(name) or real(name, config))
    begin = real("torch", SMALL).export(real("torch", SMALL).init())
    marks = [mark for mark, _ in study.states_of(SMALL, {0: "torch", 1: "jax", 2: "torch"}, begin, (1, 3))]
    assert asked == ["torch", "jax", "torch"] and marks == [1, 3]


def test_a_selection_of_presets_writes_nothing_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert report.main(["dcgan", "--steps", "3"]) == 0
    assert not list(tmp_path.iterdir())


def test_fewer_steps_than_an_alternating_run_has_parts_are_refused(capsys):
    assert report.main(["dcgan", "--steps", "2"]) == 2
    assert "steps: found 2, expected at least 3" in capsys.readouterr().err


def test_a_number_that_is_not_finite_or_should_be_zero_is_infinitely_far_off():
    theirs = {"generator/a": np.zeros(3), "generator/b": np.ones(2)}
    ours = {"generator/a": np.array([0.0, np.nan, 0.0]), "generator/b": np.ones(2)}
    assert study.differences(ours, theirs, SMALL) == {"generator/a": np.inf, "generator/b": 0.0}
    assert study.differences(theirs, theirs, SMALL) == {"generator/a": 0.0, "generator/b": 0.0}


def test_runs_with_another_counter_or_with_nan_are_infinitely_far_apart():
    begin = {f"{part}a": np.zeros(2) for part in PARTS} | {"optimizer/generator.state.a.step": np.array(0.0)}
    theirs = {name: value + 1 for name, value in begin.items()}
    assert set(distances(theirs, theirs, begin).values()) == {0.0}
    for name, value in (("optimizer/generator.state.a.step", np.array(2.0)), ("generator/a", np.array([1.0, np.nan]))):
        found = distances({**theirs, name: value}, theirs, begin)
        assert [part for part, ratio in found.items() if ratio == np.inf] == [
            name[: len(next(p for p in PARTS if name.startswith(p)))]
        ]
