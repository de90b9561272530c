"""Batches: which images a step gets, and the thread that reads them."""

import threading
from contextlib import closing
from queue import Queue
from threading import Thread

import numpy as np
import pytest

from gan_shared.config import Config
from gan_shared.data.batches import AHEAD, batch_at, batch_indices, batches, check_batch_size
from gan_shared.data.dataset import Dataset
from gan_shared.errors import UserError

COUNT = 10
CONFIG = Config().with_options(batch_size=4, steps=15, seed=0, resolution=16, channels=1)


def numbered(count: int = COUNT) -> Dataset:
    """Images whose every pixel is their number, labelled with a hundred more."""
    images = np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2)
    return Dataset("numbers", images, np.arange(count, dtype=np.int64) + 100, (), "0")


def taken(config: Config, count: int = COUNT, steps: int = 15) -> np.ndarray:
    """The stream of image numbers that the steps of a run take, one behind the other."""
    return np.concatenate([batch_indices(config, step, count).ravel() for step in range(steps)])


def readers() -> list[Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "batches"]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 7, COUNT])
@pytest.mark.parametrize("updates", [1, 3])
def test_every_image_comes_once_in_every_epoch(batch_size, updates):
    config = CONFIG.with_options(batch_size=batch_size, discriminator_updates=updates)
    stream = taken(config, steps=2 * COUNT)
    assert len(stream) == 2 * COUNT * batch_size * updates
    whole = stream[: len(stream) // COUNT * COUNT].reshape(-1, COUNT)
    assert (np.sort(whole, axis=1) == np.arange(COUNT)).all()


def test_a_batch_that_an_epochs_end_cuts_short_is_filled_up_from_the_next():
    stream = taken(CONFIG)
    across = batch_indices(CONFIG, 2, COUNT).ravel()  # images 8 to 11 of the stream
    np.testing.assert_array_equal(across, stream[8:12])
    assert sorted(stream[:COUNT]) == list(range(COUNT)) and across[2] == stream[COUNT]


def test_the_order_differs_between_epochs_and_between_seeds():
    epochs = taken(CONFIG.with_options(batch_size=100), 100, steps=3).reshape(3, 100)
    other = batch_indices(CONFIG.with_options(batch_size=100, seed=1), 0, 100).ravel()
    orders = [*epochs, other, np.arange(100)]
    assert len({order.tobytes() for order in orders}) == 5


def test_the_order_depends_on_the_epoch_and_not_on_the_size_of_the_batches():
    np.testing.assert_array_equal(taken(CONFIG), taken(CONFIG.with_options(batch_size=2), steps=30))


def test_images_and_labels_come_together_in_one_row_per_update():
    config = CONFIG.with_options(discriminator_updates=3)
    batch = batch_at(numbered(), config, 4)
    assert batch.images.shape == (3, 4, 4, 4, 1) and batch.images.dtype == np.uint8
    assert batch.labels is not None and batch.labels.shape == (3, 4) and batch.labels.dtype == np.int64
    np.testing.assert_array_equal(batch.images[..., 0, 0, 0] + 100, batch.labels)
    np.testing.assert_array_equal(batch.images[..., 0, 0, 0], batch_indices(config, 4, COUNT))


@pytest.mark.parametrize(("loss", "updates", "rows"), [("bce", 1, 1), ("relativistic", 1, 2), ("relativistic", 3, 4)])
def test_a_generator_whose_loss_needs_reals_has_a_row_of_its_own(loss, updates, rows):
    config = CONFIG.with_options(loss=loss, discriminator_updates=updates, batch_size=5)
    batch = batch_at(numbered(), config, 0)
    assert batch.images.shape == (rows, 5, 4, 4, 1)
    assert batch.labels is not None and batch.labels.shape == (rows, 5)
    # The rows go on in the same stream: two epochs of 10 images are the first 20 of it.
    stream = taken(config, steps=4)
    assert len(stream) == 4 * rows * 5
    assert (np.sort(stream[:20].reshape(2, COUNT), axis=1) == np.arange(COUNT)).all()
    np.testing.assert_array_equal(stream, taken(config.with_options(loss="bce", discriminator_updates=rows), steps=4))


def test_data_without_labels_gives_batches_without_labels():
    assert batch_at(numbered()._replace(labels=None), CONFIG, 0).labels is None


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_rows_of_all_processes_are_the_global_batch(processes):
    each = CONFIG.training.batch_size // processes
    for step in range(4):
        whole = batch_at(numbered(), CONFIG, step)
        parts = [batch_at(numbered(), CONFIG, step, slice(rank * each, (rank + 1) * each)) for rank in range(processes)]
        np.testing.assert_array_equal(np.concatenate([part.images for part in parts], 1), whole.images)
        labels = [part.labels for part in parts if part.labels is not None]
        np.testing.assert_array_equal(np.concatenate(labels, 1), whole.labels)


def test_a_process_reads_its_own_rows_only():
    read = []

    class Recording(np.ndarray):
        def __getitem__(self, index):
            if isinstance(index, np.ndarray):
                read.append(index)
            return super().__getitem__(index)

    dataset = numbered()
    batch_at(dataset._replace(images=dataset.images.view(Recording)), CONFIG, 0, slice(1, 3))
    np.testing.assert_array_equal(np.concatenate(read), batch_indices(CONFIG, 0, COUNT)[:, 1:3])


@pytest.mark.parametrize("start", [0, 1, 2, 3, 7, 14])
def test_batches_from_any_step_on_are_those_of_the_whole_run(start):
    whole = {step: batch.images for step, batch in batches(numbered(), CONFIG, 0)}
    rest = {step: batch.images for step, batch in batches(numbered(), CONFIG, start)}
    assert list(whole) == list(range(15)) and list(rest) == list(range(start, 15))
    for step, images in rest.items():
        np.testing.assert_array_equal(images, whole[step])
        np.testing.assert_array_equal(images, batch_at(numbered(), CONFIG, step).images)


def test_the_thread_takes_the_rows_too():
    for step, batch in batches(numbered(), CONFIG, 0, slice(2, 4)):
        np.testing.assert_array_equal(batch.images, batch_at(numbered(), CONFIG, step).images[:, 2:4])


class Breaking:
    """Images whose file breaks at the fifth reading."""

    def __init__(self) -> None:
        self.readings = 0

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        self.readings += 1
        if self.readings == 5:
            raise OSError("the disk is gone")
        return np.zeros((*index.shape, 4, 4, 1), np.uint8)


def test_what_breaks_in_the_thread_is_raised_where_the_batches_are_used():
    steps, raised = [], Queue()

    def consume():
        try:
            for step, _ in batches(numbered()._replace(images=Breaking()), CONFIG, 0):
                steps.append(step)
        except Exception as error:
            raised.put(error)

    # In a thread, so that an error that is lost fails the test instead of keeping it waiting for ever.
    Thread(target=consume, daemon=True).start()
    error = raised.get(timeout=60)
    assert isinstance(error, OSError) and str(error) == "the disk is gone"
    assert steps == [0, 1, 2, 3] and not readers()


@pytest.mark.parametrize("taken", [1, 2, 5])
def test_closing_early_ends_the_thread(taken):
    images = Breaking()
    images.readings = -(10**6)
    with closing(batches(numbered()._replace(images=images), CONFIG.with_options(steps=10**9), 0)) as stream:
        for _ in range(taken):
            next(stream)
        assert len(readers()) == 1
    assert not readers()
    # Read ahead, but no further than stated: those taken, those that wait, and the one in hand.
    assert images.readings + 10**6 <= taken + AHEAD + 1


def test_a_stream_read_to_its_end_leaves_no_thread():
    assert len(list(batches(numbered(), CONFIG, 0))) == 15
    assert not readers()


def test_an_error_of_the_consumer_ends_the_thread():
    with pytest.raises(ZeroDivisionError), closing(batches(numbered(), CONFIG, 0)) as stream:
        for step, _ in stream:
            _ = 1 // (3 - step)
    assert not readers()


def test_memory_mapped_images_give_batches_in_memory(tmp_path):
    np.save(tmp_path / "images.npy", numbered().images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    for step, batch in batches(numbered()._replace(images=mapped), CONFIG, 0):
        np.testing.assert_array_equal(batch.images, batch_at(numbered(), CONFIG, step).images)
        assert batch.images.flags.c_contiguous and batch.images.flags.writeable
        assert not np.shares_memory(batch.images, mapped)


def test_a_batch_larger_than_the_data_is_refused_with_both_sizes():
    check_batch_size(numbered(), CONFIG.with_options(batch_size=COUNT))
    with pytest.raises(UserError, match=r"^batch_size: found 11, .* 10 images of numbers that are trained on$"):
        check_batch_size(numbered(), CONFIG.with_options(batch_size=COUNT + 1))
