"""A training that the page began: an ordinary run of the command line, in a process of its own."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Lock, Timer

from gan_shared.errors import UserError, printable, unexpected
from gan_shared.runlog import lock_run

# Names of runs that the page makes; hidden ones are not listed.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Folder, in that of the runs, of uploaded pictures and of what trainings print.
HIDDEN = ".app"
# Seconds that a training has to save its state when the server ends.
PATIENCE = 60
# Characters of a training's output that are looked at for its last line.
TAIL = 4000


class Trainer:
    """At most one training at a time.

    Args:
        folder: of runs.
        device: where to compute.
        seconds: after which a training is asked to save and end.
    """

    def __init__(self, folder: Path, device: str, seconds: float) -> None:
        self.folder, self._device, self._seconds = folder, device, seconds
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._timer: Timer | None = None
        self.name = ""

    @property
    def running(self) -> bool:
        """Whether a training is under way."""
        return self._process is not None and self._process.poll() is None

    def start(self, name: str, backend: str, arguments: Sequence[str]) -> None:
        """Begin a run.

        Args:
            name: of its folder, which is not there yet.
            backend: torch or jax.
            arguments: of the command ``train``, but for the folder and the device.

        Raises:
            UserError: the name cannot be used, or there is a training already.
        """
        self.check_name(name)
        self._run(name, backend, [*arguments, "--run-dir", str(self.folder / name)])

    def check_name(self, name: str) -> None:
        """Refuse what cannot be the name of a new run.

        Raises:
            UserError: it is no plain name, or there is such a run.
        """
        self.check_plain(name)
        if (self.folder / name).exists():
            raise unexpected("name", repr(name), "a name that no run has")

    def check_plain(self, name: str) -> None:
        """Refuse a name that could lead out of the folder.

        Raises:
            UserError: it has more than letters, digits, dots, dashes and underscores, or is hidden.
        """
        if not NAME.fullmatch(name):
            raise unexpected("name", repr(name), "1 to 64 letters, digits, dots, dashes and underscores")

    def resume(self, name: str, backend: str, steps: int) -> None:
        """Go on with a run of the folder.

        Raises:
            UserError: there is a training already.
        """
        self._run(name, backend, ["--resume", "--run-dir", str(self.folder / name), "--steps", str(steps)])

    def stop(self) -> None:
        """Ask the training to save and end; it does so behind the step in hand."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """End the training with the server, and wait until it has saved its state."""
        self.stop()
        if self._timer is not None:
            self._timer.cancel()
        if self._process is not None:
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def status(self) -> str:
        """Return in one line how the training goes, or how the last one ended."""
        if self._process is None:
            return "No training has begun here."
        state, last = self._process.poll(), self._last_line()
        if state is None:
            return f"{self.name} trains. {last}"
        return f"{self.name} {'is done' if state == 0 else f'ended with status {state}'}. {last}"

    def delete(self, name: str, listed: bool) -> None:
        """Remove a run of the folder, what it printed, and the pictures that were uploaded for it.

        Args:
            name: of the run.
            listed: whether images can be made with it; of others only what a training began is removed.

        Raises:
            UserError: it is being trained, by whomever, or there is nothing of that name.
        """
        run, uploads, log = self.folder / name, self.uploads(name), self._log(name)
        if not listed:
            self.check_plain(name)
            begun = run.is_symlink() or run.exists()
            if (begun and not (run / "config.json").is_file()) or run.is_symlink() or not (begun or log.exists()):
                raise unexpected("name", repr(name), "a run of the folder")
        if self.running and name == self.name:
            raise UserError(f"{name} is being trained: stop it first")
        if run.exists():
            lock = lock_run(run)
            try:
                shutil.rmtree(run)
            finally:
                lock.release()
        shutil.rmtree(uploads, ignore_errors=True)
        log.unlink(missing_ok=True)

    def uploads(self, name: str) -> Path:
        """Return the folder of the pictures that were uploaded for a run."""
        return self.folder / HIDDEN / "uploads" / name

    def _run(self, name: str, backend: str, arguments: Sequence[str]) -> None:
        """Start the command ``train``."""
        with self._lock:
            if self.running:
                raise UserError(f"{self.name} is being trained: one training at a time")
            log = self._log(name)
            log.parent.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", f"gan_{backend}.train", *arguments, "--device", self._device]
            with log.open("wb") as stream:
                # A session of its own: Ctrl-C in the server's terminal is the server's to pass on.
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
                )
            self.name = name
            if self._timer is not None:
                self._timer.cancel()
            self._timer = Timer(self._seconds, self.stop)
            self._timer.daemon = True
            self._timer.start()

    def _log(self, name: str) -> Path:
        """Return the file of what a training prints."""
        return self.folder / HIDDEN / f"{name}.log"

    def _last_line(self) -> str:
        """Return the last line that the training printed."""
        try:
            with self._log(self.name).open("rb") as stream:
                stream.seek(max(0, os.fstat(stream.fileno()).st_size - TAIL))
                lines = stream.read().decode("utf-8", "replace").replace("\r", "\n").split("\n")
        except OSError:
            return ""
        return printable(next((line for line in reversed(lines) if line.strip()), ""))
