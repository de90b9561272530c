"""Segments: a run that goes on with batches of another size, and repeats itself within each part."""

import json
from pathlib import Path

import numpy as np
import pytest

from gan_shared import checkpoint
from gan_shared.config import Config
from gan_shared.data.batches import batch_indices
from gan_shared.errors import UserError
from gan_shared.manifest import read_config
from gan_shared.schedules import schedule_values
from gan_shared.segments import begun_at, continued, history, images_seen
from gan_shared.validation import check_continuation, validate
from tests.fixtures import ANY, EACH, TRAIN_MAINS, backend_class

THREE = Config().with_options(batch_size=4, earlier_batch_sizes=(10, 64, 30, 16))


@pytest.mark.parametrize(("step", "images"), [(0, 0), (3, 192), (10, 640), (11, 656), (30, 960), (31, 964), (50, 1040)])
def test_images_seen_add_up_over_the_segments(step: int, images: int):
    assert images_seen(THREE, step) == images


def test_the_history_up_to_a_step():
    assert history(THREE, 0) == []
    assert history(THREE, 10) == [(10, 64)]
    assert history(THREE, 12) == [(10, 64), (12, 16)]
    assert history(THREE, 40) == [(10, 64), (30, 16), (40, 4)]


@pytest.mark.parametrize(
    ("step", "earlier"), [(40, (10, 64, 30, 16)), (30, (10, 64, 30, 16)), (20, (10, 64, 20, 16)), (4, (4, 64)), (0, ())]
)
def test_a_run_that_goes_back_begins_its_newest_segment_there(step: int, earlier: tuple[int, ...]):
    assert begun_at(THREE, step).training.earlier_batch_sizes == earlier


@pytest.mark.parametrize(
    ("size", "step", "earlier"),
    [
        (4, 40, (10, 64, 30, 16)),  # nothing changes
        (8, 40, (10, 64, 30, 16, 40, 4)),
        (8, 30, (10, 64, 30, 16)),  # the newest segment has no step yet
        (16, 30, (10, 64)),  # and is none where the size is that before it
        (64, 10, ()),
        (8, 0, ()),
    ],
)
def test_another_batch_size_begins_a_segment(size: int, step: int, earlier: tuple[int, ...]):
    config = continued(THREE, THREE.with_options(batch_size=size), step)
    assert config.training.batch_size == size and config.training.earlier_batch_sizes == earlier
    assert history(config, step) == history(THREE, step)


def test_the_next_segment_takes_the_images_where_the_last_one_ended():
    """Sixty images: an epoch ends within the second segment, and all of them are taken once."""
    config = Config().with_options(batch_size=5, earlier_batch_sizes=(4, 10))
    taken = [batch_indices(config, step, 60).ravel() for step in range(4, 8)]
    before = [
        batch_indices(config.with_options(batch_size=10, earlier_batch_sizes=()), s, 60).ravel() for s in range(4)
    ]
    assert sorted(np.concatenate([*before, *taken])) == list(range(60))
    one = [batch_indices(config.with_options(earlier_batch_sizes=()), step, 60).ravel() for step in range(8, 12)]
    np.testing.assert_array_equal(taken, one)


def test_schedules_go_on_by_images():
    config = Config().with_options(generator_learning_rate=(1.0, 0.0), burn_in_nimg=1000)
    change = config.with_options(batch_size=20, earlier_batch_sizes=(5, 100))
    assert schedule_values(change, 5).generator_learning_rate == pytest.approx(0.5, abs=1e-15)
    now, same = schedule_values(change, 15), schedule_values(config.with_options(batch_size=20), 35)
    assert now == same  # 700 images


@pytest.mark.parametrize("wrong", [(5,), (5, 4, 5, 4), (9, 4, 5, 4)])
def test_what_is_no_history_is_refused(wrong: tuple[int, ...]):
    with pytest.raises(UserError, match=r"earlier_batch_sizes: found .*, expected STEP SIZE, once or more"):
        validate(Config().with_options(earlier_batch_sizes=wrong))


def test_a_checkpoint_of_other_batches_is_no_beginning():
    with pytest.raises(
        UserError, match=r"segments \(saved \[\(40, 64\)\], now \[\(10, 64\), \(30, 16\), \(40, 4\)\]\)"
    ):
        check_continuation(Config(), THREE, "run", 40)
    check_continuation(Config(), THREE, "run", 10)


def run(name: str, *argv: str) -> None:
    assert TRAIN_MAINS[name]([*argv, "--log-every", "1", "--device", "cpu"]) == 0


def tensors(folder: Path) -> dict[str, np.ndarray]:
    return checkpoint.load_newest(folder).tensors


@pytest.mark.parametrize("name", EACH)
def test_a_run_goes_on_with_smaller_batches_and_repeats_itself(name: str, tmp_path: Path):
    """Six steps of 8, then 6 of 4: in one go and in two, the same bits, numbers and images seen."""
    size = ["--data", "mnist-5k", "--width", "0.0625", "--latent-size", "8", "--batch-size", "8", "--steps", "6"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        run(name, *size, "--run-dir", str(folder))
    resume = ["--resume", "--run-dir", str(whole), "--batch-size", "4"]
    run(name, *resume, "--steps", "12")
    run(name, "--resume", "--run-dir", str(parts), "--batch-size", "4", "--steps", "9")
    run(name, "--resume", "--run-dir", str(parts), "--steps", "12")  # now the size is the run's own
    for folder in (whole, parts):
        assert read_config(folder).training.earlier_batch_sizes == (6, 8)
        manifest = json.loads((checkpoint.newest_checkpoint(folder) / "manifest.json").read_text())
        assert manifest["images_seen"] == 6 * 8 + 6 * 4 and manifest["config"]["earlier_batch_sizes"] == [6, 8]
        lines = [json.loads(line) for line in (folder / "scalars.jsonl").read_text().splitlines()]
        assert [line["images_seen"] for line in lines] == [8, 16, 24, 32, 40, 48, 52, 56, 60, 64, 68, 72]
    one, two = tensors(whole), tensors(parts)
    for key, value in one.items():
        np.testing.assert_array_equal(value, two[key], err_msg=key)


def test_a_run_that_goes_back_behind_a_segment_has_its_batches_from_there_on(tmp_path: Path, monkeypatch):
    """The checkpoint that the segment began at is damaged when a loss is no longer finite."""
    folder = tmp_path / "run"
    size = ["--data", "mnist-5k", "--width", "0.0625", "--latent-size", "8", "--batch-size", "8", "--save-every", "3"]
    run(ANY, *size, "--steps", "6", "--run-dir", str(folder))
    backend, calls = backend_class(ANY), []
    step = backend.steps

    def poisoned(self, state, *inputs):
        calls.append(len(calls))
        if len(calls) == 2:
            (folder / "checkpoints" / "step-0000006" / "trainer.safetensors").write_bytes(b"damaged")
            tensors = self.export(state)
            tensors["discriminator/head.weight"][...] = np.inf
            state = self.restore(tensors)
        return step(self, state, *inputs)

    monkeypatch.setattr(backend, "steps", poisoned)
    resume = ["--resume", "--run-dir", str(folder)]
    run(ANY, *resume, "--batch-size", "4", "--rollbacks", "1", "--steps", "9")
    monkeypatch.undo()
    run(ANY, *resume, "--steps", "12")
    config = checkpoint.load_newest(folder).config
    assert read_config(folder) == config and config.training.earlier_batch_sizes == (3, 8)
    lines = [json.loads(line) for line in (folder / "scalars.jsonl").read_text().splitlines()]
    assert [line["images_seen"] for line in lines] == [8, 16, *range(24, 61, 4)]


def test_a_run_that_begins_has_no_earlier_batches(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    argv = ["--run-dir", str(tmp_path / "run"), "--earlier-batch-sizes", "5", "8", "--device", "cpu"]
    assert TRAIN_MAINS[ANY](argv) == 2
    assert capsys.readouterr().err == "error: earlier_batch_sizes: found 5 8, expected none, as the run begins\n"
    assert not (tmp_path / "run").exists()
