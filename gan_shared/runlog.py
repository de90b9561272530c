"""The run folder and the terminal: what a run tells while it trains.

runs/<name>/config.json      the run's configuration
runs/<name>/scalars.jsonl    one JSON object per logged step
runs/<name>/tensorboard/     the same scalars
runs/<name>/samples/         one grid per sampled step
runs/<name>/checkpoints/     see checkpoint.py
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from filelock import FileLock, Timeout
from tensorboard.summary import Writer
from tqdm import tqdm

from gan_shared import checkpoint
from gan_shared.atomic import replacing
from gan_shared.config import Config
from gan_shared.errors import UserError, unexpected
from gan_shared.pictures import save_png
from gan_shared.schedules import images_seen

# Held by the process that trains there.
LOCK = ".lock"
# What is logged of a step's scalars (backend.py), with ``reconstruction`` where there is any; the one left out is a
# check, not a curve.
SCALARS = ("discriminator_loss", "generator_loss", "penalty", "real_logit", "fake_logit", "augment_probability")
# Seconds between two redraws of the progress bar: a file that takes the output wants few lines.
REDRAW_SEC, REDRAW_IN_FILE_SEC = 0.2, 30.0


def check_unused(run_dir: Path) -> None:
    """Refuse to begin a run in a folder that holds something, or whose name TensorBoard could not write.

    Raises:
        UserError: naming the two ways on.
    """
    try:
        str(run_dir).encode()
    except UnicodeEncodeError as error:
        raise unexpected("run_dir", ascii(str(run_dir)), "a name that is valid UTF-8") from error
    if run_dir.exists() and (not run_dir.is_dir() or any(path.name != LOCK for path in run_dir.iterdir())):
        raise UserError(
            f"run_dir: found {run_dir}, which is {'not empty' if run_dir.is_dir() else 'a file'}, "
            "expected a new folder; choices: --resume to go on "
            "with the run there, --run-dir DIR for another folder"
        )


class Log(Protocol):
    """Who listens to a run."""

    def advance(self, steps: int) -> None:
        """Hear that so many steps more are done."""

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Hear what ``step`` reported; reading it waits for the device."""

    def grid(self, step: int, make: Callable[[], np.ndarray]) -> None:
        """Hear that ``make`` returns a sheet of what the generator makes after ``step`` steps, uint8 (H, W, C)."""

    def save(self, export: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Hear that ``export`` returns the state by canonical name."""

    def remedy(self) -> str:
        """Say what is left to go on from when the run has failed."""
        ...


class RunLog:
    """Writer of a run folder; use it as a context.

    Args:
        run_dir: the folder; made when missing.
        config: the run.
        start: steps done before by the run that is resumed, whose later lines of scalars.jsonl, which an interruption
            left, are dropped; None for a run that begins, in a folder that must still be unused.
        written_by: backend and versions, for the manifests of its checkpoints.
        data: name and fingerprint of the training images, likewise.
    """

    def __init__(
        self, run_dir: Path, config: Config, start: int | None, written_by: Mapping[str, Any], data: Mapping[str, str]
    ) -> None:
        self.run_dir, self.config = run_dir, config
        self.written_by, self.data = written_by, data
        run_dir.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(run_dir)
        # Again, now that the folder is this process's: data were decoded and networks built since the first look.
        if start is None:
            check_unused(run_dir)
        elif checkpoint.newest_step(run_dir) != start:
            raise UserError(f"run_dir: another process has trained in {run_dir} meanwhile; --resume goes on from there")
        start = start or 0
        checkpoint.remove_leftovers(run_dir)
        for name in ("tensorboard", "samples", "checkpoints"):
            (run_dir / name).mkdir(exist_ok=True)
        _keep_scalars(run_dir / "scalars.jsonl", start)
        with replacing(run_dir / "config.json") as temporary:
            temporary.write_text(json.dumps(config.to_json(), indent=2) + "\n", encoding="utf-8")
        self._scalars = (run_dir / "scalars.jsonl").open("a", encoding="utf-8")
        self._tensorboard = Writer(str(run_dir / "tensorboard"))
        self._bar = _progress_bar(desc=run_dir.name, total=config.steps, initial=start)
        self._logged_step, self._logged_at = start, perf_counter()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
        self._scalars.close()
        self._tensorboard.close()
        self._lock.release()

    def advance(self, steps: int) -> None:
        """Move the progress bar."""
        try:
            self._bar.update(steps)
        except OSError:  # whoever read it has gone (``2>&1 | head``): no reason to lose the run
            self._bar.disable = True

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Log the scalars after ``step`` steps; reading them waits for the device.

        ``images_per_second`` is wall time since the line before: compilation, samples and saving count.
        """
        names = SCALARS + (("reconstruction",) if self.config.condition == "vgg16" else ())
        numbers = {name: float(values[name]) for name in names}
        now = perf_counter()
        trained = (step - self._logged_step) * self.config.batch_size
        numbers["images_per_second"] = trained / (now - self._logged_at)
        self._logged_step, self._logged_at = step, now
        line = {"step": step, "images_seen": images_seen(self.config, step), **numbers}
        with self._telling("scalars.jsonl"):
            self._scalars.write(json.dumps(line) + "\n")
            self._scalars.flush()
        for name, number in numbers.items():
            self._tensorboard.add_scalar(name, number, step)
        self._bar.set_postfix_str(
            f"D {numbers['discriminator_loss']:.3f} G {numbers['generator_loss']:.3f} "
            f"{numbers['images_per_second']:.0f} images/s",
            refresh=False,
        )

    def grid(self, step: int, make: Callable[[], np.ndarray]) -> None:
        """Write the sheet of ``step``."""
        name = f"samples/step-{step:07d}.png"
        with self._telling(name):
            save_png(self.run_dir / name, make())

    def save(self, export: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Write a checkpoint."""
        checkpoint.save(self.run_dir, self.config, export(), self.written_by, self.data)

    def remedy(self) -> str:
        """Name the last good checkpoint."""
        return checkpoint.last_good(self.run_dir)

    @contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        """Tell which file of the run could not be written, and what is left to go on from."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self.run_dir / name}: could not be written: {error.strerror}; {self.remedy()}"
            ) from error


def _progress_bar(**options: Any) -> tqdm:
    """Return a bar of steps on standard error, which shows nothing where there is none or nobody reads it."""
    if sys.stderr is None:
        return tqdm(disable=True, **options)
    redraw = REDRAW_SEC if sys.stderr.isatty() else REDRAW_IN_FILE_SEC
    try:
        return tqdm(unit="step", mininterval=redraw, **options)
    except OSError:
        return tqdm(disable=True, **options)


def read_scalars(run_dir: Path) -> list[dict[str, float]]:
    """Return the logged lines of a run, oldest first."""
    lines = (run_dir / "scalars.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _lock(run_dir: Path) -> FileLock:
    """Take a run folder for this process; the operating system gives it back when the process ends, however it ends.

    Raises:
        UserError: another process trains there.
    """
    lock = FileLock(run_dir / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"run_dir: found {run_dir} in use by another process, expected a folder of its own") from error
    return lock


def _keep_scalars(path: Path, start: int) -> None:
    """Drop lines after step ``start``, and all from the first damaged one on, as a crash may have cut it short."""
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            if int(json.loads(line)["step"]) <= start:
                kept.append(line)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            break
    with replacing(path) as temporary:
        temporary.write_bytes(b"".join(kept))
