"""The command that audits a set, what it writes, and the benchmark that plants poison."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import poison
from gan_shared import audit, audit_report
from gan_shared.audit_report import Audited
from gan_shared.data import load
from gan_shared.data.audit import KINDS, Audit, Finding
from gan_shared.data.audit.sizes import enlarged_pictures, picture_sizes
from gan_shared.data.dataset import Dataset
from gan_shared.data.sources import find_source
from tests.image_files import saved
from tests.test_audit_checks import as_jpeg, drawn
from tests.test_data_archives import zipped


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty pictures of 24 pixels in three classes; one is there twice, in two classes, and one is small."""
    images, labels = drawn(60)
    images[31] = images[9]  # of class 1; 9 is of class 0
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "set" / ("lying", "slanting", "standing")[label] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(path)
    Image.fromarray(images[6, :, :, 0]).resize((11, 40)).save(tmp_path / "set" / "lying" / "06.png")
    return tmp_path / "set"


def audited(*arguments: object, out: Path) -> dict[str, Any]:
    """Run the command and return its JSON."""
    assert audit.main([*map(str, arguments), "--features", "pixels", "--out", str(out)]) == 0
    return json.loads((out / "audit.json").read_text())


def test_a_folder_is_audited_by_the_names_of_its_files(folder: Path, tmp_path: Path, capsys):
    found = audited(folder, "--resolution", 24, "--channels", 1, out=tmp_path / "out")
    assert found["images"] == 60 and found["classes"] == {"lying": 20, "slanting": 20, "standing": 20}
    assert list(found["kinds"]) == list(KINDS) and found["features"] == "pixels"
    assert found["sizes"] == {"shorter_side": [11, 24, 24], "longer_side": [24, 24, 40]}
    dataset = load(str(folder), 24, 1)
    assert dataset.keys is not None and found["fingerprint"] == dataset.fingerprint
    names = [each["name"] for each in found["findings"] if each["kind"] == "contradicting-labels"]
    assert names == ["lying/09.png", "slanting/31.png"]
    (copy,) = [each for each in found["findings"] if each["kind"] == "duplicate"]
    assert copy["name"] == "slanting/31.png" and copy["class"] == "slanting"
    assert copy["related_name"] == "lying/09.png" and copy["related_class"] == "lying"
    assert copy["key"] == copy["related_key"] == f"{int(dataset.keys[copy['index']]):016x}"
    (small,) = [each for each in found["findings"] if each["kind"] == "enlarged"]
    assert small["name"] == "lying/06.png" and small["note"] == "11 x 40 pixels"
    assert copy["score"] == 1 and small["score"] == round(11 / 24, 5)
    for kind, entry in found["kinds"].items():
        assert entry["count"] == sum(each["kind"] == kind for each in found["findings"])
    shown = capsys.readouterr().out
    assert "60 images of 24 x 24 x 1 in 3 classes of 20 to 20" in shown
    assert "shorter sides of the files: 11 to 24 pixels, median 24" in shown
    assert "has the pixels of an earlier image: slanting/31.png" in shown
    with Image.open(tmp_path / "out" / "audit.png") as page:
        assert page.size[0] > 100 and page.size[1] > 100


def test_an_archive_is_audited_by_the_names_in_it(tmp_path: Path):
    images, _ = drawn(20)
    images[13] = images[2]
    files = {}
    for number, image in enumerate(images):
        stream = BytesIO()
        Image.fromarray(image[:, :, 0]).save(stream, "PNG")
        files[f"{number:02}.png"] = stream.getvalue()
    found = audited(zipped(tmp_path / "a.zip", files), "--resolution", 24, out=tmp_path / "out")
    (copy,) = [each for each in found["findings"] if each["kind"] == "duplicate"]
    assert (copy["name"], copy["related_name"]) == ("13.png", "02.png")
    assert found["classes"] == {} and "class" not in copy and found["sizes"] is None


def test_an_array_has_numbers_for_names_and_equal_runs_give_equal_files(tmp_path: Path):
    images, _ = drawn(20)
    images[13] = images[2]
    path = saved(tmp_path / "a.npy", images)
    one, other = (audited(path, "--resolution", 24, out=tmp_path / name) for name in ("one", "other"))
    (copy,) = [each for each in one["findings"] if each["kind"] == "duplicate"]
    assert (copy["index"], copy["related_index"]) == (13, 2) and "name" not in copy
    assert one | {"seconds": 0} == other | {"seconds": 0}
    assert (tmp_path / "one" / "audit.png").read_bytes() == (tmp_path / "other" / "audit.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--resolution", "7"], "resolution: found 7, expected at least 8 pixels"),
        (["--channels", "2"], "channels: found 2"),
        (["--features", "resnet"], "features: found 'resnet'"),
        (["--backend", "mxnet"], "backend: found 'mxnet'"),
        (["--out", "{file}/audit"], "out: found"),
    ],
)
def test_a_wrong_option_is_one_line_and_nothing_is_decoded(tmp_path: Path, capsys, monkeypatch, arguments, words):
    path = saved(tmp_path / "a.npy", drawn(5)[0])
    monkeypatch.setattr(audit, "load", lambda *of: pytest.fail("decoded"))
    assert audit.main([str(path), *(each.format(file=path) for each in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and words in error


def test_a_set_that_is_not_there_is_one_line(tmp_path: Path, capsys):
    assert audit.main([str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert "where there is no file or folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_network_is_asked_for_without_a_framework(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    path = saved(tmp_path / "a.npy", drawn(5)[0])
    monkeypatch.setattr(audit, "installed_backends", tuple)
    assert audit.main([str(path), "--features", "efficientnet-lite0", "--out", str(tmp_path / "out")]) == 2
    assert "backend: found no framework, expected a framework that is installed" in capsys.readouterr().err


def test_auto_is_the_network_for_small_sets_where_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    images, _ = drawn(70)
    path, weights = saved(tmp_path / "a.npy", images), tmp_path / "weights"
    given = []

    def extract(batch: np.ndarray) -> tuple[np.ndarray, None]:
        given.append(batch.shape)
        return np.repeat(batch.mean((1, 2, 3))[:, None], audit.NETWORK.features, 1), None

    monkeypatch.setattr(audit, "find_extractor", lambda backend, tensors: extract)
    monkeypatch.setattr(audit, "load_weights", lambda network, file: ({}, ""))
    monkeypatch.setattr(audit, "installed_backends", lambda: ("jax",))
    monkeypatch.setattr(audit.feature_weights, "default_path", lambda network: weights)
    options = audit.Options(str(path), resolution=24)
    dataset = load(str(path), 24, None)
    assert audit._features(dataset, options) == (None, "pixels")  # no weights
    weights.touch()
    features, named = audit._features(dataset, options)
    assert named == "efficientnet-lite0 (jax)" and given == [(64, 128, 128, 3)] * 2
    assert features is not None
    means = images.mean((1, 2, 3))
    np.testing.assert_allclose(features[:, 0] * 128 + 127, means, atol=1)
    monkeypatch.setattr(audit, "MAX_AUTO", 69)
    assert audit._features(dataset, options) == (None, "pixels")


def test_sizes_are_those_of_the_files_however_long_their_heads_are(tmp_path: Path):
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("comment", "x" * 100_000)
    tmp_path.joinpath("set").mkdir()
    Image.new("L", (30, 12)).save(tmp_path / "set" / "a.png", pnginfo=text)
    Image.new("L", (9, 50)).save(tmp_path / "set" / "b.jpg")
    sizes = picture_sizes(find_source(str(tmp_path / "set")))
    assert sizes is not None and sizes.tolist() == [[30, 12], [9, 50]]
    assert [(each.image, each.score) for each in enlarged_pictures(sizes, 24)] == [(1, 9 / 24)]
    assert picture_sizes(find_source(str(saved(tmp_path / "a.npy", drawn(2)[0])))) is None


def of_findings(findings: list[Finding], images: np.ndarray) -> Audited:
    """Return a set with findings."""
    dataset = Dataset("set", images, None, (), "")
    return Audited(dataset, Audit(findings, [], [], {}), (), None, "pixels")


def test_the_page_shows_the_strongest_first_and_copies_beside_their_originals():
    images = np.arange(10, dtype=np.uint8).repeat(64).reshape(10, 8, 8, 1) + np.uint8(140)
    findings = [Finding("outlier", 1, 3.0), Finding("outlier", 2, 9.0), Finding("duplicate", 7, 1.0, 4)]
    findings += [Finding("constant", 5, 1.5), Finding("constant", 6, 0.0)]
    shown = of_findings(findings, images)
    assert [each.image for each in shown.strongest("outlier", 5)] == [2, 1]
    assert [each.image for each in shown.strongest("constant", 1)] == [6]
    column = audit_report.page(shown)[:, :, 0]
    height = audit_report.SIDE // 8 * 8
    seen = [value for value in dict.fromkeys(column[:, 2 + height // 2].tolist()) if value >= 140]
    assert seen == [147, 142, 146]  # the first of each kind, in the order of the kinds
    beside = column[:, 2 + height + 2 + height // 2].tolist()
    assert [value for value in dict.fromkeys(beside) if value >= 140] == [144, 141, 145]
    assert audit_report.page(of_findings([], images)).shape[2] == 1


def test_poison_is_planted_where_it_is_said():
    images, labels = drawn(200)
    others = np.full((20, 24, 24, 1), 77, np.uint8)
    for kind in poison.POISONS:
        planted = poison.plant(images, labels, others, (kind, 0.1, 5))
        places = np.sort(np.concatenate(list(planted.groups.values())))
        assert len(np.unique(places)) == len(places) and 18 <= len(places) <= 20
        changed = (planted.images != images).any((1, 2, 3)) | (planted.labels != labels)
        assert set(np.flatnonzero(changed)) <= set(places.tolist())
        again = poison.plant(images, labels, others, (kind, 0.1, 5))
        np.testing.assert_array_equal(planted.images, again.images)
        if kind == "flips":
            np.testing.assert_array_equal(planted.images, images)
            assert (planted.labels[places] != labels[places]).all() and planted.labels.max() == 2
        if kind == "patches":
            assert (planted.labels[places] == poison.TARGET).all()
            stamped = planted.images[places][:, (planted.images[places] != images[places]).any((0, 3))]
            assert (stamped == stamped[0]).all() and set(np.unique(stamped)) <= {0, 255}
        if kind == "others":
            assert (planted.images[places] == 77).all()
        if kind == "duplicates":
            for name, saved_anew in (("duplicates, exact", False), ("duplicates, saved as JPEG", True)):
                for place in planted.groups[name]:
                    earlier = (
                        images[:place] if not saved_anew else [poison.saved_as_jpeg(each) for each in images[:place]]
                    )
                    assert any((planted.images[place] == each).all() for each in earlier)


def test_jpeg_copies_differ_and_resemble():
    image = drawn(1)[0][0]
    copy = poison.saved_as_jpeg(image)
    assert copy.shape == image.shape and (copy != image).any()
    assert np.corrcoef(copy.ravel(), image.ravel())[0, 1] > 0.98
    assert np.corrcoef(as_jpeg(image).ravel(), image.ravel())[0, 1] > 0.98


def test_the_benchmark_measures_and_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    arguments = ["--data", "mnist-5k", "--images", "300", "--kinds", "duplicates", "--share", "0.1", "--seeds", "3"]
    arguments += ["--out", str(tmp_path / "a.json"), "--page", str(tmp_path / "a.md")]
    assert poison.main(arguments) == 0
    rows = json.loads((tmp_path / "a.json").read_text())
    assert list(rows) == ["mnist-5k-300-clean-0-0", "mnist-5k-300-duplicates-0.1-3"]
    row = rows["mnist-5k-300-duplicates-0.1-3"]
    assert row["groups"]["duplicates, exact"] == {"planted": 15, "own": 1.0, "any": 1.0}
    assert row["machine"]["processor"] and row["versions"]["numpy"] and row["seconds"] > 0
    text = (tmp_path / "a.md").read_text()
    assert "| duplicates, exact | 10% | 1 | 15 | 100.0% | 100.0% |" in text
    assert "In the set as it is, " in text and "300 images" in text
    monkeypatch.setattr(poison, "audit", lambda *of: pytest.fail("measured again"))
    assert poison.main(arguments) == 0
    capsys.readouterr()
    assert poison.main(["--kinds", "smoke", *arguments[:2]]) == 2
    assert poison.main(["--share", "0.6"]) == 2
    assert poison.main(["--images", "5"]) == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_a_share_counts_the_images_that_were_found():
    found = Audit([Finding("noise", 1, 1.0), Finding("outlier", 2, 1.0), Finding("noise", 9, 1.0)], [], [], {})
    assert poison.share_of(np.array([1, 2, 3, 4]), found, "noise") == 0.25
    assert poison.share_of(np.array([1, 2, 3, 4]), found) == 0.5
    assert poison.percent([0.5, 0.25]) == "37.5% (25.0% to 50.0%)" and poison.percent([0.5]) == "50.0%"


def test_nothing_is_written_into_the_set(folder: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    assert audit.main([str(folder)]) == 2
    assert "out: found audit, expected a place outside of" in capsys.readouterr().err
    assert not (folder / "audit").exists()
