"""The example notebooks run, from the first cell to the last, in a kernel of their own."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
# Notebook -> what its last cell prints, and how many pictures it shows.
NOTEBOOKS = {
    "train_in_pytorch": ("no pixel differs by more than {} grey level", 3),
    "train_in_jax": ("no pixel differs by more than {} grey level", 3),
    "move_to_jax": ("ten steps of JAX from the same place end", 0),
}


def executed(name: str):
    """Run a notebook in a folder that it may write to and return it with its outputs."""
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    return notebook


def outputs(notebook, kind: str) -> list:
    return [each for cell in notebook.cells for each in cell.get("outputs", ()) if each.output_type == kind]


@pytest.mark.torch
@pytest.mark.jax
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name: str):
    notebook = executed(name)
    said, pictures = NOTEBOOKS[name]
    last = outputs(notebook, "stream")[-1]["text"]
    assert any(said.format(level) in last for level in (0, 1)), last
    shown = [each for each in outputs(notebook, "display_data") if "image/png" in each["data"]]
    assert len(shown) == pictures
    if name == "move_to_jax":
        reports = [each["text"].strip() for each in outputs(notebook, "stream") if "torch" in each["text"].lower()]
        assert any(
            text.startswith("and PyTorch's variance: no value differs by more than rounding") for text in reports
        ), reports
    else:
        (numbers,) = outputs(notebook, "execute_result")
        assert " ".join(numbers["data"]["text/plain"].split()).startswith("(1000, {'step': 1000")


def test_all_notebooks_are_listed():
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == set(NOTEBOOKS)
