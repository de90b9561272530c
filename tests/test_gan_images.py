"""What ``GAN.fit`` takes as images, the names of classes that it keeps, and how it shows how far it is."""

import sys
import warnings
from collections.abc import Iterator
from io import StringIO
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tqdm import tqdm

from gan_shared import checkpoint, progress_bar
from gan_shared.progress import Progress
from tests.fixtures import ANY, SAMPLE_MAINS, gan_class
from tests.test_data_in_memory import ClassLabel, Items, Table
from tests.test_gan import IMAGES, LABELS, NAMES, SIZE, fresh, refusal, tensors

DIGITS = ("null", "one", "two")
CONDITIONAL: dict[str, Any] = {**SIZE, "class_conditional": True, "num_classes": 3}


@NAMES
def test_images_at_a_path_and_of_a_data_set_train_as_the_array_does(name, tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    whole = tensors(fresh(name).fit(IMAGES, steps=2))
    for images in (tmp_path / "images.npy", str(tmp_path / "images.npy"), Items(list(IMAGES))):
        assert tensors(fresh(name).fit(images, steps=2)) == whole
    assert refusal(lambda: fresh(name).fit(tmp_path / "none.npy")).startswith("images: found '")
    assert refusal(lambda: fresh(name).fit("mnist-5k", LABELS)).startswith("labels: found an argument, expected none")


@NAMES
def test_classes_keep_their_names(name, tmp_path, capsys):
    rows = Table(image=(None, list(IMAGES)), label=(ClassLabel([*DIGITS]), LABELS))
    labelled = Items(list(zip(IMAGES, LABELS, strict=True)), classes=DIGITS)
    rows.features["image"] = type("Image", (), {})()
    gan = gan_class(name)(resolution=16, **CONDITIONAL)
    assert gan.class_names == ()
    first = gan.fit(rows, steps=1)
    assert first.class_names == DIGITS
    again = gan_class(name)(resolution=16, **CONDITIONAL).fit(labelled, steps=1)
    plain = gan_class(name)(resolution=16, **CONDITIONAL).fit(IMAGES, LABELS, steps=1)
    assert tensors(again) == tensors(first) == tensors(plain)
    assert (again.class_names, plain.class_names) == (DIGITS, ("0", "1", "2"))
    first.save(tmp_path / "gan")
    assert checkpoint.load(tmp_path / "gan").class_names == DIGITS
    loaded = gan_class(name).load(tmp_path / "gan")
    assert loaded.class_names == DIGITS
    argv = [
        str(tmp_path / "gan"),
        "--num-images",
        "2",
        "--seed",
        "1",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "x.npz"),
    ]
    assert SAMPLE_MAINS[name]([*argv, "--classes", "two", "null"]) == 0
    with np.load(tmp_path / "x.npz") as archive:
        np.testing.assert_array_equal(archive["images"], loaded.sample(2, seed=1, labels=np.array([2, 0])))
    assert SAMPLE_MAINS[name]([*argv, "--classes", "three"]) == 2
    assert "choices: null, one, two" in capsys.readouterr().err
    # Arrays name nothing; other names for the same classes would mean others.
    assert loaded.fit(IMAGES, LABELS, steps=1).class_names == DIGITS
    other = Items(labelled.items, classes=("null", "ace", "two"))
    message = refusal(lambda: loaded.fit(other, steps=1))
    assert message.startswith("images: found the name 'ace' for class 1, expected 'one'")


def test_a_gan_without_classes_keeps_no_names(tmp_path):
    gan = fresh(ANY).fit(Items(list(zip(IMAGES, LABELS, strict=True)), classes=DIGITS), steps=1)
    gan.save(tmp_path / "gan")
    assert gan.class_names == checkpoint.load(tmp_path / "gan").class_names == ()


@NAMES
def test_a_fit_may_be_silent(name, capsys):
    fresh(name).fit(Items(list(IMAGES)), steps=3, progress=False)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    fresh(name).fit(Items(list(IMAGES)), steps=3)
    assert capsys.readouterr().err.startswith("step 3 of 3, ")


class Terminal(StringIO):
    """A stream that passes for a terminal."""

    def isatty(self) -> bool:
        return True


def test_in_a_terminal_there_is_a_bar_of_the_reading_and_one_of_the_steps(monkeypatch):
    monkeypatch.setattr(progress_bar.progress_bar, "__defaults__", (0.0,))
    for shown in (True, False):
        stream = Terminal()
        monkeypatch.setattr(sys, "stderr", stream)
        fresh(ANY).fit(Items(list(IMAGES)), steps=3, progress=shown)
        text = stream.getvalue()
        assert ("20/20" in text and "3/3" in text) if shown else text == ""


class Widget(tqdm):
    """Stands for the bar of a notebook."""

    made: list[Any] = []  # noqa: RUF012

    def __init__(self, *given: Any, **options: Any) -> None:
        self.made.append(options)
        super().__init__(*given, **options | {"file": StringIO()})


@pytest.fixture
def notebook(monkeypatch) -> Iterator[list[Any]]:
    """A kernel of Jupyter, as tqdm knows one, whose standard error is no terminal."""
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    Widget.made.clear()
    yield Widget.made


def test_in_a_notebook_there_is_a_widget(notebook, monkeypatch, capsys):
    import tqdm.auto
    import tqdm.notebook

    monkeypatch.setattr(tqdm.notebook, "tqdm_notebook", Widget)
    monkeypatch.setattr(tqdm.auto, "tqdm", Widget)
    fresh(ANY).fit(IMAGES, steps=3)
    assert [(each["total"], each["initial"], "file" in each) for each in notebook] == [(3, 0, False)]
    assert capsys.readouterr().err == ""
    fresh(ANY).fit(IMAGES, steps=3, progress=False)
    assert len(notebook) == 1


def test_in_a_notebook_that_shows_no_widgets_a_line_is_printed(notebook, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = Progress("", 10, 0)
        shown.advance(SimpleNamespace(step=5))  # pyright: ignore[reportArgumentType]
        shown.close()
    assert notebook == []
    assert capsys.readouterr().err.startswith("step 5 of 10, ")
