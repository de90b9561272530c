"""Hooks of the training loop: when entries run, what they may read, what is logged, shown and printed."""

import errno
import json
import os
import signal
import sys
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray

from gan_shared import checkpoint, cli, progress, runlog, tensorboard_log
from gan_shared import train as training
from gan_shared.config import Config
from gan_shared.data import Dataset
from gan_shared.errors import UserError
from gan_shared.hooks import Event, Every, ScalarLog
from gan_shared.progress_bar import progress_bar
from tests.fixtures import ANY, EACH, backend_class
from tests.test_train import SIZE, begin, digits, errors, resume

__all__ = ["digits"]
NAMES = pytest.mark.parametrize("name", EACH)
TINY = Config().with_options(steps=6, batch_size=2, resolution=8, channels=1, latent_size=2)
NOISE = Dataset("noise", np.zeros((4, 8, 8, 1), np.uint8), None, (), "noise")
CURVES = ["discriminator_loss", "generator_loss", "penalty", "real_logit", "fake_logit", "augment_probability"]


class Number:
    """A scalar on a device, which records when it is read."""

    def __init__(self, value: float, name: str, events: list[str]) -> None:
        self.value, self.name, self.events = value, name, events

    def item(self) -> float:
        self.events.append(f"read {self.name}")
        return self.value


class Counting:
    """A backend whose state is the number of steps done, and which breaks after step ``bad``."""

    def __init__(self, events: list[str], bad: int = 0) -> None:
        self.events, self.bad = events, bad

    def steps(self, state: int, values: list[Any]) -> tuple[int, dict[str, Number]]:
        state += len(values)
        self.events.append(f"steps to {state}")
        first = self.bad if self.bad and state >= self.bad else 0
        losses = {"generator_loss": 0.5 * state, "reconstruction_loss": 0.0, "first_non_finite_step": first}
        return state, {name: Number(value, name, self.events) for name, value in losses.items()}


def hooked_run(hooks: list[Every], events: list[str], config: Config = TINY, bad: int = 0) -> training.Played:
    backend: Any = Counting(events, bad)
    return training.play(backend, config, 0, NOISE, 0, hooks, remedy=lambda: "begin again")


def recording(events: list[str], name: str, n: int | None, at_end: bool = False) -> Every:
    return Every(n, lambda event: events.append(f"{name} {event.step}{' last' * event.last}"), at_end)


def test_entries_run_in_their_order_and_the_device_is_waited_for_where_one_of_them_reads():
    events = []
    hooks = [recording(events, "bar", None), recording(events, "log", 2), recording(events, "save", 4, at_end=True)]
    assert hooked_run(hooks, events, TINY.with_options(steps_per_call=8)) == (6, 6, 0)
    read = "read first_non_finite_step"
    assert events == [
        *("steps to 2", "bar 2", read, "log 2"),
        *("steps to 4", "bar 4", read, "log 4", read, "save 4"),
        *("steps to 6", "bar 6 last", read, "log 6 last", read, "save 6 last"),
    ]


def test_entries_of_every_call_wait_for_nothing_and_one_that_is_not_due_at_the_end_does_not_run():
    events = []
    assert hooked_run([recording(events, "bar", None), recording(events, "late", 4)], events) == (6, 6, 0)
    assert [line for line in events if line.startswith(("read", "late"))] == ["read first_non_finite_step", "late 4"]
    assert [line for line in events if line.startswith("bar")] == [
        *(f"bar {step}" for step in range(1, 6)),
        "bar 6 last",
    ]


def test_no_entry_reads_from_a_state_that_is_broken():
    events = []
    with pytest.raises(UserError, match=r"^step 3: the losses are no longer finite; begin again; a lower learning"):
        hooked_run([recording(events, "bar", None), recording(events, "log", 4)], events, bad=3)
    assert events[-2:] == ["bar 4", "read first_non_finite_step"] and not any(line.startswith("log") for line in events)


def test_ctrl_c_makes_the_call_in_hand_the_last_one():
    events = []

    def interrupting(event: Event) -> None:
        if event.step == 3:
            signal.raise_signal(signal.SIGINT)

    hooks = [recording(events, "log", 5), recording(events, "save", 5, at_end=True), Every(None, interrupting)]
    assert hooked_run(hooks, events) == (4, 4, signal.SIGINT)
    assert [line for line in events if not line.startswith(("steps", "read"))] == ["save 4 last"]


@pytest.mark.parametrize("n", [0, -1, 2.5, "3"])
def test_an_entry_of_no_number_of_steps_is_refused(n):
    with pytest.raises(UserError, match=f"Every: found {n}, expected a number of steps from 1, or None"):
        Every(n, print)


def test_an_entry_without_an_action_is_refused():
    with pytest.raises(UserError, match="Every: found 'save', expected a function of the event"):
        Every(1, "save")  # pyright: ignore[reportArgumentType]


def test_a_step_is_logged_once_with_what_actions_return():
    """At 2, 4 (by both cadences), 6 (the end), and at 3 and 5 for what is returned there; nothing is returned at 1."""
    lines, events = [], []

    def squared(event: Event) -> dict[str, float]:
        return {"square": event.step**2}

    further = [Every(3, squared), Every(5, lambda event: {"five": np.float32(0.25), "square": -1.0}), Every(1, repr)]
    log = ScalarLog(lambda event, numbers: lines.append((event.step, numbers)))
    hooked_run(log.hooks((2, 4), further), events)
    assert lines == [
        (2, {"generator_loss": 1.0}),
        (3, {"generator_loss": 1.5, "square": 9.0}),
        (4, {"generator_loss": 2.0}),
        (5, {"generator_loss": 2.5, "five": 0.25, "square": -1.0}),
        (6, {"generator_loss": 3.0, "square": 36.0}),
    ]


def test_what_is_not_due_at_all_reads_nothing():
    events = []
    hooked_run(ScalarLog(lambda event, numbers: None).hooks((4,), [Every(4, lambda event: None)]), events)
    reads = [line for line in events if line.startswith(("read", "steps"))]
    assert reads[:4] == ["steps to 1", "steps to 2", "steps to 3", "steps to 4"] and reads[4].startswith("read")


def test_the_reconstruction_loss_is_a_curve_where_the_generator_has_one():
    scalars: Any = {
        name: torch.tensor(value) for name, value in (("reconstruction_loss", 2.0), ("count", 3), ("penalty", 0.5))
    }
    event = Event(1, False, None, scalars, backend_class(ANY), TINY)  # pyright: ignore[reportArgumentType]
    assert event.numbers() == {"penalty": 0.5}
    assert event._replace(config=TINY.with_options(pixel_weight=1.0)).numbers() == {
        "reconstruction_loss": 2.0,
        "penalty": 0.5,
    }


# In a run folder.


def events(run: Path) -> list[Any]:
    """The values in the event files of a run, in the order of the files."""
    files = sorted((run / "tensorboard").iterdir())
    found = [event for file in files for event in EventFileLoader(str(file)).Load()]
    return [(event.step, value) for event in found for value in event.summary.value]


def curves(run: Path) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for step, value in events(run):
        if value.metadata.plugin_data.plugin_name == "scalars":
            found.setdefault(value.tag, {})[step] = make_ndarray(value.tensor).item()
    return found


@NAMES
def test_tensorboard_has_the_scalars_and_the_grids_of_the_run(name, digits, tmp_path):
    run = tmp_path / "run"
    every = ["--log-every", "2", "--sample-every", "3", "--save-every", "5"]
    assert begin(name, run, digits, 4, *every) == 0
    assert resume(name, run, "--steps", "5", *every) == 0
    lines = runlog.read_scalars(run)
    assert [line["step"] for line in lines] == [2, 4, 5]
    # Today's columns, in the same order in both backends.
    assert list(lines[0]) == ["step", "images_seen", *CURVES, "images_per_second"]
    written = curves(run)
    assert list(written) == [*CURVES, "images_per_second"]
    for column, by_step in written.items():
        assert by_step == {line["step"]: float(np.float32(line[column])) for line in lines}
    pictures = [(step, value) for step, value in events(run) if value.metadata.plugin_data.plugin_name == "images"]
    assert [step for step, _ in pictures] == [3, 4, 5]
    for step, value in pictures:
        width, height, png = make_ndarray(value.tensor)
        file = run / "samples" / f"step-{step:07d}.png"
        assert value.tag == "samples" and png == file.read_bytes()
        with Image.open(file) as image:
            assert (int(width), int(height)) == image.size


@NAMES
def test_what_a_step_reports_is_logged_whatever_its_name(name, digits, tmp_path, monkeypatch):
    step = backend_class(name).steps

    def reporting(self, *given):
        state, scalars = step(self, *given)
        more = {"a_new_loss": scalars["penalty"] + 0.25, "a_check": scalars["first_non_finite_step"]}
        return state, {**more, **scalars}

    monkeypatch.setattr(backend_class(name), "steps", reporting)
    assert begin(name, tmp_path / "run", digits, 1) == 0
    (line,) = runlog.read_scalars(tmp_path / "run")
    assert list(line) == ["step", "images_seen", *CURVES, "a_new_loss", "images_per_second"]
    assert line["a_new_loss"] == 0.25 == curves(tmp_path / "run")["a_new_loss"][1]


def test_a_number_of_ones_own_is_one_entry_of_a_run(digits, tmp_path):
    """Whatever is logged beside it stays as it is."""

    def brightness(event: Event) -> dict[str, float]:
        inputs = runlog.Inputs(np.zeros((1, 8), np.float32))
        return {"brightness": event.backend.sample(event.state, inputs).mean()}

    argv = ["--data", str(digits), *SIZE, "--steps", "5", "--log-every", "2"]
    runs = {}
    for name, further in (("plain", []), ("more", [Every(3, brightness)])):
        config, run, *_ = cli.parse_train([*argv, "--run-dir", str(tmp_path / name)])
        training.train(backend_class(ANY), config, run, False, further)
        runs[name] = {int(line.pop("step")): line for line in runlog.read_scalars(run)}
    assert list(runs["plain"]) == [2, 4, 5] and list(runs["more"]) == [2, 3, 4, 5]
    assert 0 < runs["more"][3].pop("brightness") < 255 and "brightness" in curves(tmp_path / "more")
    assert runs["more"][3].keys() == runs["plain"][2].keys()
    for step, line in runs["plain"].items():
        assert [line[name] for name in CURVES] == [runs["more"][step][name] for name in CURVES]
    weights = [checkpoint.load_newest(tmp_path / name).tensors for name in runs]
    assert all(np.array_equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_a_run_goes_on_without_tensorboard_where_its_folder_cannot_be_made(capsys, digits, tmp_path):
    run = tmp_path / "run"
    assert begin("torch", run, digits, 2) == 0
    for file in (run / "tensorboard").iterdir():
        file.unlink()
    (run / "tensorboard").rmdir()
    (run / "tensorboard").write_text("mine")
    assert resume("torch", run, "--steps", "8") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "TensorBoard" in line]
    assert lines == [f"{run / 'tensorboard'}: could not be written: File exists; the run goes on without TensorBoard"]
    assert [line["step"] for line in runlog.read_scalars(run)] == [2, 4, 8]
    assert (run / "tensorboard").read_text() == "mine"


def test_a_run_goes_on_without_tensorboard_where_its_file_cannot_be_written(capsys, digits, tmp_path, monkeypatch):
    """The disk is full from the third record on, which is that of the second line."""
    write, written = tensorboard_log.RecordWriter.write, []

    def full(self, record):
        written.append(record)
        if len(written) >= 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, record)

    monkeypatch.setattr(tensorboard_log.RecordWriter, "write", full)
    run = tmp_path / "run"
    assert begin("torch", run, digits, 8, "--log-every", "2") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "TensorBoard" in line]
    assert len(lines) == 1 and "No space left on device; the run goes on" in lines[0] and len(written) == 3
    assert list(curves(run)["penalty"]) == [2]
    assert [line["step"] for line in runlog.read_scalars(run)] == [2, 4, 6, 8]


def test_two_ctrl_c_while_tensorboard_is_written_end_the_run_and_free_its_folder(capsys, digits, tmp_path, monkeypatch):
    write, written = tensorboard_log.RecordWriter.write, []

    def interrupted(self, record):
        written.append(record)
        if len(written) == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        write(self, record)

    def closing(self):
        with FileLock(run / ".lock", timeout=0):
            free.append("before the terminal is written to")

    monkeypatch.setattr(tensorboard_log.RecordWriter, "write", interrupted)
    monkeypatch.setattr(progress.Progress, "close", closing)
    run, free = tmp_path / "run", []
    assert begin("torch", run, digits, 8, "--log-every", "1") == 130
    assert errors(capsys).startswith("stopped at once")
    assert free == ["before the terminal is written to"]
    assert [line["step"] for line in runlog.read_scalars(run)] == [1]


# On standard error.


class Terminal(StringIO):
    """A stream that passes for a terminal."""

    def isatty(self) -> bool:
        return True


class Gone(Terminal):
    """A terminal that was closed."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def at(step: int) -> Event:
    return Event(step, False, None, {}, None, TINY)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Seconds, the last of which is now."""
    seconds = [100.0]
    monkeypatch.setattr(progress, "perf_counter", lambda: seconds[-1])
    return seconds


def test_where_there_is_no_terminal_a_line_is_printed_every_thirty_seconds_and_at_the_end(monkeypatch, clock):
    stream = StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    shown = progress.Progress("digits", 100, 10)
    for step, seconds in ((20, 120.0), (30, 130.0), (40, 140.0), (50, 159.0)):
        clock.append(seconds)
        shown.advance(at(step))
        shown.show(f"D {step / 100}")
    shown.close()
    assert stream.getvalue().splitlines() == [
        "digits: step 30 of 100, D 0.2, 0.667 steps/s, 01:45 left",
        "digits: step 50 of 100, D 0.5, 0.678 steps/s, 01:13 left",
    ]
    shown.close()
    assert stream.getvalue().count("\n") == 2


def test_a_terminal_that_is_gone_keeps_no_lock_from_the_bars_of_other_threads(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Gone())
    shown = progress.Progress("", 100, 10)
    shown.advance(at(30))
    shown.print_line("a line")
    shown.close()
    other = Thread(target=lambda: progress_bar(total=1).close(), daemon=True)
    other.start()
    other.join(timeout=10)
    assert not other.is_alive()


def test_in_a_terminal_there_is_one_bar(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    shown = progress.Progress("", 100, 10)
    shown.advance(at(30))
    shown.show("D 0.5")
    shown.print_line("a line")
    shown.advance(at(60))
    shown.close()
    assert "a line\n" in stream.getvalue() and "60/100" in stream.getvalue().splitlines()[-1]
    assert "D 0.5" in stream.getvalue().splitlines()[-1]


@pytest.mark.parametrize("stream", ["none", "closed", "gone", "a file that is full"])
def test_a_run_goes_on_when_its_progress_cannot_be_written(runs_plain, digits, tmp_path, monkeypatch, stream):
    closed = StringIO()
    closed.close()
    full = Gone()
    full.isatty = lambda: False  # pyright: ignore[reportAttributeAccessIssue]
    streams = {"none": None, "closed": closed, "gone": Gone(), "a file that is full": full}
    monkeypatch.setattr(progress, "LINE_SEC", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", streams[stream])
        assert begin("torch", tmp_path / "run", digits, 3) == 0
    assert json.loads((tmp_path / "run" / "scalars.jsonl").read_text()).keys() == runs_plain.keys()


@pytest.fixture(scope="module")
def runs_plain(digits, tmp_path_factory) -> dict[str, float]:
    """The one line of a run of three steps."""
    run = tmp_path_factory.mktemp("plain") / "run"
    assert begin("torch", run, digits, 3) == 0
    return runlog.read_scalars(run)[0]


def test_a_run_of_the_command_line_prints_lines_where_there_is_no_terminal(capsys, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SEC", 0.0)
    assert begin("torch", tmp_path / "digits", digits, 3, "--log-every", "2") == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"digits: step {step} of 3" for step in (1, 2, 3)]
    assert "images/s" in lines[2] and lines[2].split(", ")[1].startswith("D ")
