"""The run folder: what a run writes while it trains.

runs/<name>/config.json      the run's configuration
runs/<name>/scalars.jsonl    one JSON object per logged step
runs/<name>/metrics.jsonl    one JSON object per evaluation
runs/<name>/rollbacks.jsonl  one JSON object each time that the run went back to a checkpoint
runs/<name>/best/            the checkpoint that was best in an evaluation while the run trained
runs/<name>/tensorboard/     the same scalars, and the sample grids
runs/<name>/samples/         one grid per sampled step
runs/<name>/checkpoints/     see checkpoint.py
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from filelock import FileLock, Timeout

from gan_shared import checkpoint
from gan_shared.atomic import check_parents, clear_leftovers, replacing
from gan_shared.backend import Inputs
from gan_shared.config import Config
from gan_shared.errors import NotFinite, UserError, printable, unexpected
from gan_shared.hooks import Event, Every, ScalarLog
from gan_shared.manifest import write_config
from gan_shared.pictures import save_png
from gan_shared.progress import Progress
from gan_shared.sample import make_sample_grid
from gan_shared.segments import begun_at, images_seen
from gan_shared.tensorboard_log import TensorBoardLog

# Held by the process that trains there.
LOCK = ".lock"
SCALARS_FILE, METRICS, ROLLBACKS = "scalars.jsonl", "metrics.jsonl", "rollbacks.jsonl"
# The first columns of a line of scalars.jsonl. What else is logged follows by name: the order of the twins' reports
# differs, as JAX sorts them.
SCALARS = ("discriminator_loss", "generator_loss", "penalty", "real_logit", "fake_logit", "augment_probability")


def check_unused(run_dir: Path) -> None:
    """Refuse to begin a run in a folder that holds something, or whose name TensorBoard could not write.

    Raises:
        UserError: naming the two ways on.
    """
    try:
        str(run_dir).encode()
    except UnicodeEncodeError as error:
        raise unexpected("run_dir", ascii(str(run_dir)), "a name that is valid UTF-8") from error
    check_parents("run_dir", run_dir)
    # Hidden files are the lock and what a process that was killed has left.
    if run_dir.exists() and (not run_dir.is_dir() or any(not path.name.startswith(".") for path in run_dir.iterdir())):
        choices = ["--run-dir DIR for another folder"]
        found = "a file"
        if (run_dir / "config.json").is_file():
            found, choices = "not empty", ["--resume to go on with the run there", *choices]
        elif run_dir.is_dir():
            found = "not empty and holds no run"
        raise unexpected("run_dir", f"{run_dir}, which is {found}", "a new folder", choices)


class RunLog:
    """Writer of a run folder; use it as a context.

    Args:
        run_dir: the folder; made when missing.
        config: the run.
        start: steps done before by the run that is resumed, whose later lines of scalars.jsonl, which an interruption
            left, are dropped; None for a run that begins, in a folder that must still be unused.
        written_by: backend and versions, for the manifests of its checkpoints.
        data: name, fingerprint and class names of the training images, likewise.

    Attributes:
        rollbacks: how often the run has gone back to a checkpoint.

    Raises:
        UserError: another process trains in the folder, or has done so meanwhile.
    """

    def __init__(
        self, run_dir: Path, config: Config, start: int | None, written_by: Mapping[str, str], data: Mapping[str, Any]
    ) -> None:
        self.run_dir, self.config = run_dir, config
        self.written_by, self.data = written_by, data
        run_dir.mkdir(parents=True, exist_ok=True)
        self._lock = lock_run(run_dir)
        # Again, now that the folder is this process's: data were decoded and networks built since the first check.
        if start is None:
            check_unused(run_dir)
        elif checkpoint.newest_step(run_dir) != start:
            raise UserError(f"run_dir: another process has trained in {run_dir} meanwhile; --resume goes on from there")
        start = start or 0
        # First of all: a folder with anything else in it and no configuration could neither be begun in nor resumed.
        write_config(run_dir, config)
        for name in ("samples", checkpoint.CHECKPOINTS):
            (run_dir / name).mkdir(exist_ok=True)
        for name in (".", "samples", checkpoint.CHECKPOINTS, checkpoint.BEST):
            clear_leftovers(run_dir / name)
        self._progress = Progress(run_dir.name, config.execution.steps, start)
        self._begin_at(start)
        self._tensorboard = TensorBoardLog(run_dir / "tensorboard", self._progress.print_line)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._scalars.close()
            self._tensorboard.close()
        finally:
            # Before the terminal, where a write may block.
            self._lock.release()
            self._progress.close()

    def hooks(self, inputs: Inputs, further: Sequence[Every] = ()) -> list[Every]:
        """Return what is logged, drawn and saved, and when.

        Args:
            inputs: what the sample grids are made from.
            further: entries of the caller's own, which run first; numbers that their actions return are logged.
        """
        config = self.config
        return [
            Every(None, self._progress.advance),
            # The step of a checkpoint is logged as well.
            *ScalarLog(self._log).hooks((config.execution.log_every, config.execution.save_every), further),
            Every(config.execution.sample_every, partial(self._draw, inputs), at_end=True),
            Every(config.execution.save_every, self._save, at_end=True),
        ]

    def roll_back(self, error: NotFinite) -> checkpoint.Checkpoint | None:
        """Go back to the newest checkpoint that reads whole, and say so.

        Args:
            error: what happened.

        Returns:
            The checkpoint, or None for the run's beginning.

        Raises:
            NotFinite: ``error``, where the run may not go back (any more).
        """
        if self.rollbacks >= self.config.execution.rollbacks:
            raise error
        saved = checkpoint.load_newest_good(self.run_dir)
        step = saved.step if saved else 0
        with self.writing(ROLLBACKS):
            append_line(self.run_dir / ROLLBACKS, {"step": step, "because": str(error)})
        self.print_line(f"{error}; going back to step {step}, with other random numbers")
        self._scalars.close()
        if (config := begun_at(self.config, step)) != self.config:
            self.config = config
            write_config(self.run_dir, config)
        self._begin_at(step)
        self._progress.restart(step)
        return saved

    def _begin_at(self, start: int) -> None:
        """Drop what was logged after a step, and log from there on."""
        for name in (SCALARS_FILE, METRICS, ROLLBACKS):
            keep_lines(self.run_dir / name, start, self.print_line)
        file = self.run_dir / ROLLBACKS
        self.rollbacks = len(_lines(file, self.print_line)) if file.exists() else 0
        self._scalars = (self.run_dir / SCALARS_FILE).open("a", encoding="utf-8")
        self._logged_step, self._logged_at = start, perf_counter()

    def print_line(self, line: str) -> None:
        """Print a line of its own beside the progress."""
        self._progress.print_line(printable(line))

    def remedy(self) -> str:
        """Name the last good checkpoint."""
        return checkpoint.last_good(self.run_dir)

    def _log(self, event: Event, numbers: dict[str, float]) -> None:
        """Write the numbers of a step.

        ``images_per_second`` is wall time since the line before: compilation, samples and saving count.
        """
        now = perf_counter()
        trained = images_seen(self.config, event.step) - images_seen(self.config, self._logged_step)
        numbers = {name: numbers[name] for name in sorted(numbers, key=_column)}
        numbers["images_per_second"] = trained / (now - self._logged_at)
        self._logged_step, self._logged_at = event.step, now
        line = {"step": event.step, "images_seen": images_seen(self.config, event.step), **numbers}
        with self.writing(SCALARS_FILE):
            self._scalars.write(json.dumps(line) + "\n")
            self._scalars.flush()
        self._tensorboard.scalars(event.step, numbers)
        self._progress.show(
            f"D {numbers['discriminator_loss']:.3f} G {numbers['generator_loss']:.3f} "
            f"{numbers['images_per_second']:.0f} images/s"
        )

    def _draw(self, inputs: Inputs, event: Event) -> None:
        """Write the sample grid of a step."""
        name = f"samples/step-{event.step:07d}.png"
        with self.writing(name):
            grid = make_sample_grid(event.backend, event.state, inputs, self.data["class_names"])
            save_png(self.run_dir / name, grid)
            png = (self.run_dir / name).read_bytes()
        self._tensorboard.picture(event.step, "samples", png, grid.shape)

    def _save(self, event: Event) -> None:
        """Write a checkpoint."""
        checkpoint.save(self.run_dir, self.config, event.backend.export(event.state), self.written_by, self.data)

    def save_best(self, event: Event) -> None:
        """Write the checkpoint that an evaluation has found best, in the place of the one before."""
        tensors = event.backend.export(event.state)
        checkpoint.save_best(self.run_dir, self.config, tensors, self.written_by, self.data)

    @contextmanager
    def writing(self, name: str) -> Iterator[None]:
        """Name the file of the run that could not be written, and what is left to go on from."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self.run_dir / name}: could not be written: {error.strerror}; {self.remedy()}"
            ) from error


def _column(name: str) -> tuple[int, str]:
    """Return what the columns of scalars.jsonl are sorted by."""
    return (SCALARS.index(name) if name in SCALARS else len(SCALARS), name)


def read_scalars(run_dir: Path) -> list[dict[str, float]]:
    """Return the logged lines of a run, oldest first; a damaged one is left out, and named on standard error."""
    return [line for _, line in _lines(run_dir / SCALARS_FILE, partial(print, file=sys.stderr))]


def lock_run(run_dir: Path) -> FileLock:
    """Lock a run folder for this process; the operating system unlocks it when the process ends, however it ends.

    Raises:
        UserError: another process trains there.
    """
    lock = FileLock(run_dir / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"run_dir: found {run_dir} in use by another process, expected a folder of its own") from error
    return lock


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line to a file of JSON lines, which a crash may have left without the end of its last one."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            file.write(b"" if file.read(1) == b"\n" else b"\n")
        file.write(json.dumps(line).encode() + b"\n")


def keep_lines(path: Path, start: int, say: Callable[[str], None]) -> None:
    """Drop lines after step ``start``, and damaged ones.

    Args:
        path: a file of JSON lines with a step each; nothing is done where there is none.
        start: the last step to keep.
        say: called with one line for each damaged one.
    """
    if path.exists():
        kept = [text for text, line in _lines(path, say) if line["step"] <= start]
        with replacing(path) as temporary:
            temporary.write_bytes(b"".join(kept))


def _lines(path: Path, say: Callable[[str], None]) -> list[tuple[bytes, dict[str, Any]]]:
    """Return the whole lines of a file of JSON lines, as bytes and as objects that have a step.

    Args:
        path: the file.
        say: called with one line for each that is damaged; a last one without its end was cut short by a crash.

    Raises:
        UserError: it is no plain file: a pipe would be waited for.
    """
    if path.exists() and not path.is_file():
        raise unexpected(str(path), "no plain file", "a file of JSON lines")
    found = []
    for number, text in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        try:
            line = json.loads(text)
            if not text.endswith(b"\n") or type(line["step"]) is not int:
                raise ValueError
            found.append((text, line))
        except (ValueError, KeyError, TypeError, RecursionError):
            state = "damaged" if text.endswith(b"\n") else "cut short"
            say(printable(f"{path}: line {number} is {state} and was left out"))
    return found
