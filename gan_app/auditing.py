"""Audits of the images that runs are trained on: the command ``python -m gan_shared.audit``, and what it writes."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from gan_app.run_files import is_shown
from gan_shared.data.audit import KINDS
from gan_shared.errors import UserError, printable, unexpected
from gan_shared.lapgan import is_lapgan
from gan_shared.manifest import read_config

# Where an audit lies in the folder of a run.
FOLDER = "audit"
# Names of images in the table, of each kind, and characters of a text in it: a report may come from a stranger.
NAMED, LONGEST = 3, 200


class Auditor:
    """At most one audit at a time, in a process of its own.

    Args:
        seconds: that an audit may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._lock = seconds, Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, run: Path) -> None:
        """Audit the images of a run, and write the report into its folder.

        Raises:
            UserError: the run's images are not known or cannot be read, or it takes too long.
        """
        command = [sys.executable, "-m", "gan_shared.audit", *arguments(run), "--out", str(run / FOLDER)]
        with self._lock, _started(command) as process:
            self._process = process
            try:
                _, printed = process.communicate(timeout=self._seconds)
            except subprocess.TimeoutExpired as error:
                limit = f"{self._seconds:.0f} seconds"
                raise UserError(f"the audit took more than {limit}: python -m gan_shared.audit has no limit") from error
            finally:
                self.close()
        if process.returncode != 0:
            lines = printed.decode("utf-8", "replace").strip().splitlines() or ["the audit was ended"]
            raise UserError(printable(lines[-1].removeprefix("error: ")))

    def close(self) -> None:
        """End the audit with the server."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()


def _started(command: list[str]) -> "subprocess.Popen[bytes]":
    """Start a command of which only the errors are read."""
    # A session of its own: Ctrl-C in the server's terminal is the server's to pass on.
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def arguments(run: Path) -> list[str]:
    """Return which images the command is to check: the set of a run, with what it leaves out, at the run's size.

    Raises:
        UserError: it is a checkpoint alone, or its configuration cannot be read.
    """
    if is_lapgan(run):
        run = min(run.glob("level-*"), key=lambda each: int(each.name.removeprefix("level-")))
    if not (run / "config.json").is_file() or not (run / "checkpoints").is_dir():
        raise unexpected("run", f"{run.name}, a checkpoint alone", "a run, which says what it is trained on")
    config = read_config(run)
    data = config.execution.data
    if data.startswith("-"):  # what the command would take for an option
        raise unexpected("data", repr(data), "a name or a path of images")
    size = ["--resolution", str(config.data_resolution), "--channels", str(config.image_shape[2])]
    return [data, *size]


def table(run: Path) -> list[list[Any]]:
    """Return what an audit of a run has found, a row for each kind: kind, images, meaning, names of some of them.

    Rows of text that is to be shown as text: names of images and classes are whatever somebody has called files. None
    where there is no report, or one that cannot be read.
    """
    file = run / FOLDER / "audit.json"
    if not is_shown(file):
        return []
    with suppress(ValueError, TypeError, AttributeError, KeyError, RecursionError):
        report = json.loads(file.read_text(encoding="utf-8", errors="replace"))
        kinds = {kind: report["kinds"][kind]["count"] for kind in KINDS if kind in report["kinds"]}
        names: dict[str, list[str]] = {kind: [] for kind in kinds}
        for finding in report["findings"]:
            if len(names.get(finding["kind"], [""] * NAMED)) < NAMED:
                names[finding["kind"]].append(str(finding.get("name", f"image {finding.get('index')}")))
        rows = [[kind, int(count), KINDS[kind], _short(", ".join(names[kind]))] for kind, count in kinds.items()]
        return [*rows, *(["warning", "", _short(str(warning)), ""] for warning in report["warnings"])]
    return []


def _short(text: str) -> str:
    """Return text as it is shown."""
    return printable(text if len(text) <= LONGEST else f"{text[: LONGEST - 2]}..")
