"""The parity report on a fast subset: what it writes, what it claims, and that a fault makes it fail."""

import json

import numpy as np
import pytest

import gan_jax.layers
from parity_tests import float32, report
from parity_tests.pair import SMALL


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    assert report.main(["dcgan", "pyramid", "--steps", "4", "--out", str(folder)]) == 0
    return folder


def test_it_writes_numbers_a_page_and_a_plot(written):
    content = json.loads((written / "parity.json").read_text())
    assert [each["preset"] for each in content["studies"]] == ["dcgan", "pyramid"] and content["marks"] == [1, 2, 4]
    assert {"date", "machine", "torch", "jax", "flax"} <= set(content["about"])
    for each in content["studies"]:
        assert set(each["apart"]) == {"float64", "ulp64", "braid", "float32", "ulp32"}
        assert all(len(values) == 3 and np.isfinite(values).all() for values in each["apart"].values())
        assert set(each["float32"]) == set(float32.PARTS) and len(each["float32"]["generator/"]["jax"]) == 2
        assert len(each["tensors"]) > 20
        assert max(each["one_step"].values()) <= 1e-11 and len(each["one_step"]) > 20
        assert each["apart"]["float32"][0] > 1e-9 > each["apart"]["float64"][0]
    page = (written / "parity.md").read_text()
    assert "| dcgan |" in page and "| pyramid |" in page
    assert (written / "parity.png").stat().st_size > 1000


def test_a_wrong_constant_fails(monkeypatch, tmp_path):
    blend = gan_jax.layers._blend
    monkeypatch.setattr(gan_jax.layers, "_blend", lambda old, new, momentum: blend(old, new, momentum * (1 + 1e-6)))
    report.pair.backend.cache_clear()
    assert report.main(["dcgan", "--steps", "1", "--out", str(tmp_path)]) == 1
    report.pair.backend.cache_clear()


def test_an_unknown_preset_is_refused(capsys, tmp_path):
    assert report.main(["gan9000", "--out", str(tmp_path)]) == 2
    assert "presets: found gan9000, expected a known preset" in capsys.readouterr().err


def test_one_unit_in_the_last_place():
    tensors = {"generator/a.weight": np.ones((2, 2)), "generator/b": np.ones(2)}
    changed = report.moved(tensors, 2.0**-53)
    assert changed["generator/a.weight"][0, 0] == np.nextafter(1.0, 2.0)
    assert (changed["generator/a.weight"].ravel()[1:] == 1).all() and tensors["generator/a.weight"][0, 0] == 1


def test_a_braid_changes_backend_where_it_says(monkeypatch):
    asked = []
    real = report.pair.backend
    monkeypatch.setattr(report.pair, "backend", lambda name, config: asked.append(name) or real(name, config))
    begin = real("torch", SMALL).export(real("torch", SMALL).init())
    marks = [mark for mark, _ in report.states_of(SMALL, {0: "torch", 1: "jax", 2: "torch"}, begin, (1, 3))]
    assert asked == ["torch", "jax", "torch"] and marks == [1, 3]
