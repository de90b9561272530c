"""Images that are left out by a list, and the list that an audit writes."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_shared import audit
from gan_shared.data import load, load_held_out
from gan_shared.data.exclusion import line_of
from gan_shared.errors import UserError
from gan_shared.manifest import read_config
from tests.fixtures import ANY, TRAIN_MAINS
from tests.image_files import saved


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Eight grey pictures of one value each, in two classes; the odd ones are of class b."""
    for number in range(8):
        path = tmp_path / "set" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 30 * number).save(path)
    return tmp_path / "set"


def listing(tmp_path: Path, *lines: str, end: str = "\n") -> Path:
    path = tmp_path / "left-out.txt"
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def values(data: object, exclude: Path | None) -> list[int]:
    return [int(image[0, 0, 0]) // 30 for image in load(str(data), 16, 1, exclude=exclude).images]


def refusal(data: object, exclude: Path) -> str:
    with pytest.raises(UserError) as raised:
        load(str(data), 16, 1, exclude=exclude)
    return str(raised.value)


def test_named_pictures_are_left_out_with_their_labels(pictures: Path, tmp_path: Path):
    exclude = listing(tmp_path, "# of my own", "", "a/2.png", "./b/7.png", "a/2.png")
    assert values(pictures, None) == [0, 2, 4, 6, 1, 3, 5, 7]
    assert values(pictures, exclude) == [0, 4, 6, 1, 3, 5]
    found = load(str(pictures), 16, 1, exclude=exclude)
    assert found.labels is not None and found.labels.tolist() == [0, 0, 0, 1, 1, 1] and found.class_names == ("a", "b")
    assert found.about.endswith(f"; 2 left out by {exclude}")
    # Another list is another set, and none is the whole set.
    assert values(pictures, listing(tmp_path, "a/0.png")) == [2, 4, 6, 1, 3, 5, 7]
    assert values(pictures, None) == [0, 2, 4, 6, 1, 3, 5, 7]


def test_lines_may_end_as_windows_ends_them(pictures: Path, tmp_path: Path):
    assert values(pictures, listing(tmp_path, "\ufeff# of an editor", "a/2.png", "b/7.png", end="\r\n")) == [
        0,
        4,
        6,
        1,
        3,
        5,
    ]


def test_images_of_an_array_are_left_out_by_number_and_key(tmp_path: Path):
    array = np.arange(5, dtype=np.uint8)[:, None, None] * np.full((16, 16), 30, np.uint8)
    data = saved(tmp_path / "a.npy", array)
    keys = load(str(data), 16, 1).keys
    assert keys is not None
    assert values(data, listing(tmp_path, line_of(3, "", int(keys[3])), "0")) == [1, 2, 4]
    exclude = listing(tmp_path, "0", f"3\t{int(keys[4]):016x}")
    expected = (
        f"{exclude}: found line 2: 3 with the key {int(keys[4]):016x}, expected {int(keys[3]):016x}: it is another"
    )
    assert refusal(data, exclude).startswith(expected)


def test_a_picture_that_was_changed_is_not_the_one_that_was_listed(pictures: Path, tmp_path: Path):
    keys = load(str(pictures), 16, 1).keys
    assert keys is not None
    exclude = listing(tmp_path, line_of(1, "a/2.png", int(keys[1])))
    assert values(pictures, exclude) == [0, 4, 6, 1, 3, 5, 7]
    Image.new("L", (16, 16), 99).save(pictures / "a" / "2.png")
    assert "line 1: a/2.png with the key" in refusal(pictures, exclude)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a/2.png", "c/2.png"], "found line 2: 'c/2.png', expected the name of a picture, or a number from 0 to 7 in"),
        (["8"], "found line 1: '8', expected the name of a picture, or a number from 0 to 7 in the set"),
        ([*"01234567"], "found all of the 8 images, expected a list that leaves some"),
    ],
)
def test_what_no_image_is_named_by_is_refused(pictures: Path, tmp_path: Path, lines: list[str], message: str):
    exclude = listing(tmp_path, *lines)
    assert refusal(pictures, exclude).startswith(f"{exclude}: {message}")
    missing = tmp_path / "missing.txt"
    expected = f"{missing}: found an unreadable file (No such file or directory), expected a list of images"
    assert refusal(pictures, missing) == expected


def test_odd_names_come_back_from_their_lines(tmp_path: Path):
    names = ["# one.png", "two\tthree.png", "four\nfive.png", "six\tabcdefabcdefabcd.png", "plain.png"]
    for number, name in enumerate(names):
        (tmp_path / "set").mkdir(exist_ok=True)
        Image.new("L", (16, 16), 30 * number).save(tmp_path / "set" / name)
    order = sorted(names)
    keys = load(str(tmp_path / "set"), 16, 1).keys
    assert keys is not None
    for row, name in enumerate(order):
        for key in (int(keys[row]), None):
            kept = values(tmp_path / "set", listing(tmp_path, line_of(row, name, key)))
            assert kept == [names.index(other) for other in order if other != name]


def test_a_holdout_divides_what_is_left_as_before(pictures: Path, tmp_path: Path):
    exclude = listing(tmp_path, "a/2.png", "b/5.png")
    for read in (load, load_held_out):
        whole = [int(image[0, 0, 0]) // 30 for image in read(str(pictures), 16, 1, 0.5).images]
        left = [int(image[0, 0, 0]) // 30 for image in read(str(pictures), 16, 1, 0.5, exclude=exclude).images]
        assert left == [value for value in whole if value not in (2, 5)]


def test_stacked_digits_are_left_out_as_their_digits_are(tmp_path: Path):
    exclude = listing(tmp_path, *map(str, range(4998)))
    found = load("stacked-mnist", 28, 3, exclude=exclude)
    np.testing.assert_array_equal(found.images, load("mnist-5k", 28, 1).images[4998:])


def test_an_audit_writes_the_list_of_what_it_finds(pictures: Path, tmp_path: Path, capsys):
    Image.new("L", (16, 16), 30).save(pictures / "a" / "copy.png")  # the pixels of b/1.png
    out = tmp_path / "out"
    assert audit.main([str(pictures), "--resolution", "16", "--features", "pixels", "--out", str(out)]) == 0
    assert f"wrote audit.json, audit.png and exclude.txt in {out}" in capsys.readouterr().out
    found = {each["name"] for each in json.loads((out / "audit.json").read_text())["findings"]}
    lines = (out / "exclude.txt").read_text().splitlines()
    listed = [line.split("\t")[0] for line in lines if not line.startswith("#")]
    assert sorted(listed) == sorted(found)  # each once
    kept = [line for line in lines if not line.startswith(("a/4.png", "b/1.png"))]
    assert values(pictures, listing(tmp_path, *kept)) == [4, 1]


def test_a_run_goes_on_without_what_it_began_without(pictures: Path, tmp_path: Path, capsys):
    exclude, run = listing(tmp_path, "a/2.png"), tmp_path / "run"
    size = ["--resolution", "16", "--channels", "1", "--width", "0.05", "--batch-size", "2", "--device", "cpu"]
    begin = ["dcgan", *size, "--data", str(pictures), "--steps", "1", "--exclude", str(exclude), "--run-dir", str(run)]
    assert TRAIN_MAINS[ANY](begin) == 0
    assert f"1 left out by {exclude}" in capsys.readouterr().err
    assert read_config(run).exclusion == exclude
    resume = ["--resume", "--run-dir", str(run), "--steps"]
    assert TRAIN_MAINS[ANY]([*resume, "2"]) == 0
    exclude.write_text("a/4.png\n")
    assert TRAIN_MAINS[ANY]([*resume, "3"]) == 2
    assert "found other images in" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_is_not_waited_for(pictures: Path, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: found an unreadable file"):
        load(str(pictures), 16, 1, exclude=tmp_path / "pipe")
