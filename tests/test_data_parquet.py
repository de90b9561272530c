"""Parquet files with a column of pictures, as Hugging Face's hub has them."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_shared.data import load
from gan_shared.errors import UserError
from tests.image_files import refused

pyarrow: Any = pytest.importorskip("pyarrow")
parquet: Any = pytest.importorskip("pyarrow.parquet")


def png(value: int) -> bytes:
    """A picture of one grey."""
    stream = io.BytesIO()
    Image.new("L", (16, 16), value).save(stream, "PNG")
    return stream.getvalue()


def write(path: Path, shades: list[int], labels: list[int] | None = None, names: list[str] | None = None) -> None:
    """Write a file as ``datasets`` does."""
    pictures = [{"bytes": png(shade), "path": f"{shade}.png"} for shade in shades]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    columns: dict[str, Any] = {"image": pyarrow.array(pictures, kind)}
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if labels is not None:
        columns["label"] = pyarrow.array(labels, pyarrow.int64())
        features["label"] = {"_type": "ClassLabel", "names": names}
    table = pyarrow.table(columns)
    if names is not None or labels is None:
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)


def test_the_training_split_is_read_with_the_names_of_its_classes(tmp_path: Path):
    write(tmp_path / "data" / "train-00000-of-00002.parquet", [10, 20, 30], [1, 0, 1], ["cat", "dog"])
    write(tmp_path / "data" / "train-00001-of-00002.parquet", [40], [0], ["cat", "dog"])
    write(tmp_path / "data" / "test-00000-of-00001.parquet", [99], [0], ["cat", "dog"])
    (tmp_path / "README.md").write_text("a card")
    dataset = load(str(tmp_path), 16, 1)
    np.testing.assert_array_equal(dataset.images[:, 0, 0, 0], [10, 20, 30, 40])
    np.testing.assert_array_equal(dataset.labels, [1, 0, 1, 0])
    assert dataset.class_names == ("cat", "dog")
    assert dataset.about == "4 pictures in 2 classes: cat, dog; test left out"
    one = load(str(tmp_path / "data" / "test-00000-of-00001.parquet"), 16, 1)
    assert one.images[:, 0, 0, 0].tolist() == [99] and one.class_names == ("cat", "dog")


def test_without_metadata_a_column_called_label_holds_the_classes(tmp_path: Path):
    write(tmp_path / "a.parquet", [10, 20], [2, 0])
    dataset = load(str(tmp_path), 16, 1)
    assert dataset.class_names == ("0", "1", "2") and dataset.labels is not None
    np.testing.assert_array_equal(dataset.labels, [2, 0])


def test_without_labels_there_are_no_classes(tmp_path: Path):
    write(tmp_path / "a.parquet", [10, 20])
    dataset = load(str(tmp_path), 16, 1)
    assert dataset.labels is None and dataset.no_labels == "no column of class labels"


def test_files_that_do_not_fit_are_refused(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.parquet").write_bytes(b"PAR1" + bytes(40) + b"PAR1")
    refused(tmp_path / "a", "a.parquet", "unreadable file")
    parquet.write_table(pyarrow.table({"text": ["x"]}), tmp_path / "b.parquet")
    refused(tmp_path / "b.parquet", "0 columns of pictures among text")
    write(tmp_path / "c.parquet", [1, 2], [0, -1], ["cat"])
    refused(tmp_path / "c.parquet", "c.parquet", "labels from -1 to 0")
    write(tmp_path / "d" / "test-0.parquet", [1])
    write(tmp_path / "d" / "validation-0.parquet", [1])
    refused(tmp_path / "d", "the splits test, validation", "one that is called train")


def test_splits_may_be_folders_and_names_may_end_in_capitals(tmp_path: Path):
    write(tmp_path / "default" / "train" / "0000.parquet", [10])
    write(tmp_path / "default" / "test" / "0000.parquet", [99])
    assert load(str(tmp_path), 16, 1).images[:, 0, 0, 0].tolist() == [10]
    write(tmp_path / "latest.parquet", [20])
    assert load(str(tmp_path / "latest.parquet"), 16, 1).about == "1 picture"
    (tmp_path / "latest.parquet").rename(tmp_path / "X.PARQUET")
    assert load(str(tmp_path / "X.PARQUET"), 16, 1).images[:, 0, 0, 0].tolist() == [20]


@pytest.mark.parametrize("names", [None, 5, "cat", [1, 2]])
def test_names_of_classes_that_are_none_are_left_to_the_numbers(tmp_path: Path, names: Any):
    write(tmp_path / "a.parquet", [10, 20], [1, 0], names=names if names is not None else [])
    table = parquet.read_table(tmp_path / "a.parquet")
    features = {"label": {"_type": "ClassLabel", "names": names}, "gone": {"_type": "ClassLabel"}, "image": "x"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    assert load(str(tmp_path), 16, 1).class_names == ("0", "1")


def test_a_file_without_rows_and_two_classes_of_one_name_are_refused(tmp_path: Path):
    write(tmp_path / "a" / "a.parquet", [])
    refused(tmp_path / "a", "a: found no rows, expected pictures")
    write(tmp_path / "b" / "b.parquet", [10, 20], [0, 1], ["cat", "cat"])
    refused(tmp_path / "b", "one name for two classes")


def test_files_of_other_columns_are_refused(tmp_path: Path):
    write(tmp_path / "train-0.parquet", [10], [0], ["cat"])
    write(tmp_path / "train-1.parquet", [20])
    refused(tmp_path, "train-1.parquet: found the columns image, expected those of train-0.parquet: image, label")


def test_a_damaged_picture_in_a_file_is_refused(tmp_path: Path):
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    pictures = [{"bytes": png(1), "path": "a"}, {"bytes": png(2)[:40], "path": "b"}]
    parquet.write_table(pyarrow.table({"image": pyarrow.array(pictures, kind)}), tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", "1 of 2 pictures cannot be used", "000000001")


def test_without_pyarrow_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "a.parquet", [10])
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    refused(tmp_path, "Parquet files, which the package pyarrow reads", "pip install -e '.[parquet]'")


def claim(path: Path, rows: int) -> None:
    """Let a file of three rows say that it has another number of them."""
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    # The number of rows is followed by a list; its sign is in its last bit.
    number = b"\x16%c\x19"
    at = content.index(number % 6, footer)
    path.write_bytes(content[:at] + number % (2 * rows if rows >= 0 else -2 * rows - 1) + content[at + 3 :])


@pytest.mark.parametrize("labels", [None, [0, 1, 0]])
@pytest.mark.parametrize("rows", [2, 5, -3])
def test_a_number_of_rows_that_is_not_that_of_the_parts_is_refused(tmp_path: Path, rows: int, labels):
    path = tmp_path / "a.parquet"
    write(path, [10, 20, 30], labels, labels and ["cat", "dog"])
    claim(path, rows)
    assert parquet.read_metadata(path).num_rows == rows
    expected = rf"a\.parquet: found an unreadable file \({rows} rows, of which its parts have 3"
    with pytest.raises(UserError, match=expected):
        load(str(path), 16, 1)


def test_files_whose_numbers_stand_for_other_classes_are_refused(tmp_path: Path):
    write(tmp_path / "train-0.parquet", [10, 20], [0, 1], ["cat", "dog"])
    write(tmp_path / "train-1.parquet", [30, 40], [0, 1], ["dog", "cat"])
    refused(tmp_path, "train-1.parquet: found dog for class 0, expected cat as in train-0.parquet")


def test_files_in_several_folders_are_several_sets(tmp_path: Path):
    for folder in ("small", "large"):
        write(tmp_path / folder / "train-0.parquet", [10])
    choices = f"choices: --data {tmp_path / 'large'}, --data {tmp_path / 'small'}"
    refused(tmp_path, "Parquet files in 2 folders", choices)
