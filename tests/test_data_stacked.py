"""Stacked digits: three of mnist-5k as the red, green and blue of one image, composed as they are drawn."""

from pathlib import Path

import numpy as np
import pooch
import pytest

from gan_shared.config import Config
from gan_shared.data import Dataset, load
from gan_shared.data import named as named_sets
from gan_shared.data.batches import batch_at, batches, check_batch_size, stack_indices
from gan_shared.errors import UserError
from tests.image_files import refused

CONFIG = Config().with_options(
    data="stacked-mnist", class_conditional=True, batch_size=6, steps=5, discriminator_updates=2, seed=3
)
COUNT = 5000


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("mnist-5k", 32, None)


@pytest.fixture(scope="module")
def stacked() -> Dataset:
    return load("stacked-mnist", 32, None)


def test_the_set_is_the_grey_digits_and_says_how_many_make_an_image(digits: Dataset, stacked: Dataset):
    assert stacked.name == "stacked-mnist" and stacked.stacked == 3 and stacked.channels == 3
    assert digits.stacked == 1 and digits.channels == 1
    assert stacked.images.shape == (COUNT, 32, 32, 1)
    np.testing.assert_array_equal(stacked.labels, digits.labels)
    assert len(stacked.class_names) == 1000
    assert all(int(name) == number and len(name) == 3 for number, name in enumerate(stacked.class_names))


def test_it_shares_the_cache_entry_of_the_digits(digits: Dataset, cache: Path):
    entries = set((cache / "decoded").iterdir())
    stacked = load("stacked-mnist", 32, 3)
    assert set((cache / "decoded").iterdir()) == entries
    assert isinstance(digits.images, np.memmap) and isinstance(stacked.images, np.memmap)
    assert stacked.images.filename == digits.images.filename


def test_its_fingerprint_is_its_own_and_follows_from_the_digits(digits: Dataset, stacked: Dataset):
    assert stacked.fingerprint != digits.fingerprint
    assert len(stacked.fingerprint) == 64 and set(stacked.fingerprint) <= set("0123456789abcdef")
    assert load("stacked-mnist", 32, 3).fingerprint == stacked.fingerprint
    assert load("stacked-mnist", 28, None).fingerprint != stacked.fingerprint


def test_each_channel_is_the_drawn_digit_and_the_class_is_the_number_that_they_write(digits: Dataset, stacked: Dataset):
    indices = stack_indices(CONFIG, 4, COUNT, 3)
    batch = batch_at(stacked, CONFIG, 4)
    assert batch.images.shape == (2, 6, 32, 32, 3) and batch.images.dtype == np.uint8
    assert batch.images.flags.c_contiguous and batch.images.flags.writeable
    assert batch.labels is not None and digits.labels is not None
    assert batch.labels.shape == (2, 6) and batch.labels.dtype == np.int64
    for row, image in np.ndindex(2, 6):
        members = indices[row, image]
        for channel in range(3):
            np.testing.assert_array_equal(
                batch.images[row, image, :, :, channel], digits.images[members[channel], ..., 0]
            )
        written = "".join(digits.class_names[digits.labels[member]] for member in members)
        assert stacked.class_names[batch.labels[row, image]] == written


def test_digits_without_a_border_are_stacked_at_28_pixels():
    grey, stacked = load("mnist-5k", 28, None), load("stacked-mnist", 28, None)
    members = stack_indices(CONFIG, 0, COUNT, 3)[1, 2]
    image = batch_at(stacked, CONFIG, 0).images[1, 2]
    np.testing.assert_array_equal(image, np.stack([grey.images[member, :, :, 0] for member in members], axis=2))


def test_members_are_drawn_uniformly_and_channels_independently(stacked: Dataset):
    indices = stack_indices(CONFIG.with_options(batch_size=25_000), 0, 10, 3).reshape(-1, 3)
    assert indices.dtype == np.int64 and indices.min() == 0 and indices.max() == 9
    # 1,000 triples, 50 of each expected: chi-squared has 999 degrees of freedom and a standard deviation of 45.
    counts = np.bincount(indices @ np.array([100, 10, 1]), minlength=1000)
    assert abs(((counts - 50.0) ** 2 / 50).sum() - 999) < 5 * (2 * 999) ** 0.5
    labels = batch_at(stacked, CONFIG.with_options(batch_size=100), 0).labels
    assert labels is not None
    for place in (100, 10, 1):
        # A digit is missing among 200 with a probability of 7e-10.
        assert set((labels // place % 10).ravel()) == set(range(10))


@pytest.mark.parametrize(("loss", "rows"), [("bce", 2), ("relativistic", 3)])
def test_there_is_one_row_per_update_that_takes_reals(stacked: Dataset, loss: str, rows: int):
    batch = batch_at(stacked, CONFIG.with_options(loss=loss), 0)
    assert batch.images.shape[:2] == (rows, 6)
    assert len({image.tobytes() for image in batch.images.reshape(-1, 32 * 32 * 3)}) == rows * 6


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_rows_of_all_processes_are_the_global_batch(stacked: Dataset, processes: int):
    each = CONFIG.training.batch_size // processes
    whole = batch_at(stacked, CONFIG, 1)
    assert whole.labels is not None
    for rank in range(processes):
        rows = slice(rank * each, (rank + 1) * each)
        part = batch_at(stacked, CONFIG, 1, rows)
        np.testing.assert_array_equal(part.images, whole.images[:, rows])
        np.testing.assert_array_equal(part.labels, whole.labels[:, rows])


def test_a_batch_follows_from_seed_and_step(stacked: Dataset):
    here = stack_indices(CONFIG, 2, COUNT, 3)
    np.testing.assert_array_equal(here, stack_indices(CONFIG, 2, COUNT, 3))
    others = [stack_indices(CONFIG, 3, COUNT, 3), stack_indices(CONFIG.with_options(seed=4), 2, COUNT, 3)]
    assert len({indices.tobytes() for indices in (here, *others)}) == 3
    np.testing.assert_array_equal(batch_at(stacked, CONFIG, 2).images, batch_at(stacked, CONFIG, 2).images)


def test_members_are_the_documented_counters_integers():
    """The position in the counter is a promise: a run that is resumed years later must draw the same."""
    bits = np.random.Philox(key=3, counter=[0, 0, 17, 5])
    expected = np.random.Generator(bits).integers(COUNT, size=(2, 6, 3))
    np.testing.assert_array_equal(stack_indices(CONFIG, 17, COUNT, 3), expected)


@pytest.mark.parametrize("start", [1, 3])
def test_batches_of_a_resumed_run_are_those_of_the_whole_run(stacked: Dataset, start: int):
    whole = dict(batches(stacked, CONFIG, 0))
    rest = dict(batches(stacked, CONFIG, start))
    assert list(whole) == list(range(5)) and list(rest) == list(range(start, 5))
    for step, batch in rest.items():
        np.testing.assert_array_equal(batch.images, whole[step].images)
        np.testing.assert_array_equal(batch.labels, whole[step].labels)


def test_a_batch_may_be_larger_than_the_digits(digits: Dataset, stacked: Dataset):
    few = CONFIG.with_options(batch_size=9)
    assert digits.labels is not None
    cut = {"images": digits.images[:4], "labels": digits.labels[:4]}
    check_batch_size(stacked._replace(**cut), few)
    assert batch_at(stacked._replace(**cut), few, 0).images.shape[:2] == (2, 9)
    with pytest.raises(UserError, match="batch_size"):
        check_batch_size(digits._replace(**cut), few)


@pytest.mark.parametrize("name", ["stacked-mnist", "stacked-mnist-60k"])
def test_grey_is_refused_before_anything_is_fetched(fresh: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setattr(pooch, "retrieve", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(UserError, match=rf"^channels: found 1, expected 3 \(RGB\), as data {name} .*$"):
        load(name, 32, 1)
    assert not fresh.exists()


def test_60k_is_made_of_mnist_and_says_what_to_put_where(fresh: Path, monkeypatch: pytest.MonkeyPatch):
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(pooch, "retrieve", offline)
    file = "train-images-idx3-ubyte.gz"
    url = named_sets.MNIST.url + file
    refused("stacked-mnist-60k", file, url, f"put into {fresh / 'downloads' / 'mnist'}", "no route to host")
    assert not fresh.exists()


def test_an_unknown_name_lists_the_stacked_sets_too():
    message = refused("stacked-minst", "'stacked-minst'", "no file or folder")
    assert message.endswith("choices: mnist-5k, mnist, fashion-mnist, cifar10, stacked-mnist, stacked-mnist-60k")
