"""A folder of Parquet files with a column of pictures, as Hugging Face's ``datasets`` has them on its hub.

A picture is a struct of ``bytes`` and ``path``; a column of integers whose feature is a ClassLabel holds the classes,
with their names in the files' metadata. Of files that are named for splits (``train-00000-of-00002.parquet``) those of
the training split are read.
"""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from gan_shared.data.collection import MAX_FILE_BYTES, Classes, about_pictures, decoded
from gan_shared.data.source import Check, Contents, File, Held, Source, check_labels, reading
from gan_shared.errors import optional_module, unexpected

SUFFIX = ".parquet"
SPLIT = re.compile(r"(?:^|[-_./])(train|test|validation|valid|val|dev)(?=[-_./]|$)")
# Rows that are read at a time.
ROWS = 64
EXPECTED = "a Parquet file with a column of pictures"


def is_parquet(names: Iterable[str]) -> bool:
    """Return whether a folder's files are Parquet files."""
    return any(name.lower().endswith(SUFFIX) for name in names)


def source(root: Path, found: Iterable[str]) -> Source:
    """Describe the training split in a folder of Parquet files from their headers and labels.

    Args:
        root: the folder.
        found: names of all files below it.

    Raises:
        UserError: pyarrow is not installed, a file is damaged, or it is not clear which column holds the pictures.
    """
    parquet = optional_module("pyarrow.parquet", str(root), "Parquet files, which the package pyarrow reads", "parquet")
    files = sorted(name for name in found if is_parquet([name]))
    splits = {name: match[1] if (match := SPLIT.search(name)) else "" for name in files}
    chosen = tuple(name for name in files if splits[name] == "train") or tuple(files)
    if len({splits[name] for name in chosen}) > 1:
        raise unexpected(str(root), f"the splits {', '.join(sorted(set(splits.values())))}", "one that is called train")
    folders = sorted({str(PurePosixPath(name).parent) for name in chosen})
    if len(folders) > 1:
        choices = [f"--data {root / folder}" for folder in folders]
        raise unexpected(str(root), f"Parquet files in {len(folders)} folders", "one set, in one folder", choices)
    with reading(root / chosen[0], EXPECTED):
        schema = parquet.read_schema(root / chosen[0])
    image, label = _columns(str(root / chosen[0]), schema)
    parts = [_part(root / name, parquet, schema, label, chosen[0]) for name in chosen]
    count = sum(rows for rows, _ in parts)
    if not count:
        raise unexpected(str(root), "no rows", "pictures")
    names = tuple(f"{index:09d}" for index in range(count))
    classes = (
        Classes()
        if label is None
        else _classes(f"{root / chosen[0]}: {label}", np.concatenate([labels for _, labels in parts]), schema, label)
    )

    def pictures() -> Iterator[File]:
        index = 0
        for name in chosen:
            with reading(root / name, EXPECTED), parquet.ParquetFile(root / name) as file:
                first, end = index, index + file.metadata.num_rows
                for batch in file.iter_batches(ROWS, columns=[image]):
                    for row in batch.column(0):
                        content = row["bytes"].as_py()
                        if index == end:
                            raise unexpected(str(root / name), f"more pictures than its {end - first} rows", EXPECTED)
                        if content is None or len(content) > MAX_FILE_BYTES:
                            raise unexpected(str(root / name), f"no picture in row {index - first}", EXPECTED)
                        yield names[index], Held(content)
                        index += 1
                if index < end:
                    raise unexpected(str(root / name), f"{index - first} pictures in {end - first} rows", EXPECTED)

    def read(resolution: int, channels: int, check: Check | None = None) -> Contents:
        return Contents(
            count, decoded(str(root), pictures(), resolution, channels, check), classes.labels, classes.names
        )

    left_out = sorted({splits[name] for name in files if name not in chosen})
    text = about_pictures(count, classes) + (f"; {', '.join(left_out)} left out" if left_out else "")
    missing = "" if classes.names else "no column of class labels"
    return Source("parquet", root, chosen, 3, read, text, missing, names, pictures, classes.of_each())


def _part(path: Path, parquet: Any, schema: Any, label: str | None, first: str) -> tuple[int, np.ndarray]:
    """Return the number of rows of a file and the class numbers in it.

    Args:
        path: the file.
        parquet: the module that reads it.
        schema: the columns that it must have.
        label: the column of class labels; without one there are no numbers.
        first: the name of the file that has the schema, for messages.

    Raises:
        UserError: it is damaged, has other columns, or its numbers stand for other classes.
    """
    with reading(path, EXPECTED), parquet.ParquetFile(path) as file:
        rows = [file.metadata.row_group(each).num_rows for each in range(file.metadata.num_row_groups)]
        if min(rows, default=0) < 0 or sum(rows) != file.metadata.num_rows:
            raise ValueError(f"{file.metadata.num_rows} rows, of which its parts have {sum(rows)}")
        if file.schema_arrow.names != schema.names:
            found = f"the columns {', '.join(file.schema_arrow.names)}"
            raise unexpected(str(path), found, f"those of {first}: {', '.join(schema.names)}")
        if label is None:
            return sum(rows), np.empty(0, np.int64)
        for number, (given, wanted) in enumerate(zip_longest(_names(file.schema_arrow, label), _names(schema, label))):
            if given != wanted:
                expected = f"{wanted or 'none'} as in {first}"
                raise unexpected(str(path), f"{given or 'no name'} for class {number}", expected)
        labels = file.read([label]).column(0).to_numpy()
        if len(labels) != sum(rows):
            raise ValueError(f"{len(labels)} labels, {sum(rows)} rows")
        return sum(rows), labels


def _columns(field: str, schema: Any) -> tuple[str, str | None]:
    """Return the names of the columns of pictures and of class labels.

    Raises:
        UserError: there is no column of pictures, or several.
    """
    structs = [each.name for each in schema if _is_picture(each.type)]
    if len(structs) != 1:
        found = f"{len(structs)} columns of pictures among {', '.join(schema.names)}"
        raise unexpected(field, found, "one, a struct of bytes and path")
    features = _features(schema)
    labels = [name for name, each in features.items() if each.get("_type") == "ClassLabel"]
    labels = labels or [name for name in ("label", "labels") if name in schema.names]
    if len(labels) > 1:
        raise unexpected(field, f"the columns of classes {', '.join(labels)}", "one")
    return structs[0], labels[0] if labels else None


def _is_picture(kind: Any) -> bool:
    """Return whether a column's type is a struct with a field of bytes."""
    fields = {kind.field(i).name: str(kind.field(i).type) for i in range(getattr(kind, "num_fields", 0))}
    return str(kind).startswith("struct") and fields.get("bytes") in ("binary", "large_binary")


def _features(schema: Any) -> dict[str, Any]:
    """Return what Hugging Face's metadata says of the columns; nothing where there is none."""
    try:
        features = dict(json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"])
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    return {name: each for name, each in features.items() if isinstance(each, dict) and name in schema.names}


def _names(schema: Any, label: str) -> list[str]:
    """Return the names that the metadata gives the classes in a column; nothing where it gives none."""
    given = _features(schema).get(label, {}).get("names")
    return given if isinstance(given, list) and all(isinstance(name, str) for name in given) else []


def _classes(field: str, numbers: np.ndarray, schema: Any, label: str) -> Classes:
    """Return the classes in a column, with the names that the metadata gives them."""
    labels, names = check_labels(field, numbers, len(numbers))
    given = _names(schema, label)
    if given and len(given) >= len(names):
        if len(set(given)) < len(given):
            raise unexpected(field, "one name for two classes", "names that stand for one class each")
        names = tuple(given)
    return Classes(labels, names)
