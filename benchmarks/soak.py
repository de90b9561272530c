"""What short runs survive: ``python -m benchmarks.soak --help``.

A run is disturbed once (killed, stopped, its files damaged or taken away, the disk full, a second process beside it),
goes on with ``--resume`` until it is done, and must end with the bytes of a run that nothing disturbed. Damage that
cannot be mended must be told in one line.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro

from benchmarks.harness import ROOT, say
from gan_shared import checkpoint
from gan_shared.command import guarded
from gan_shared.errors import UserError, unexpected

STEPS, SAVE_EVERY = 40, 10
# A prime that is larger than the file events of a short run: steps of so many reach each of them, far apart.
STRIDE = 7919
OPTIONS = ["--resolution", "16", "--width", "0.0625", "--latent-size", "8", "--batch-size", "8", "--device", "cpu"]
CADENCES = ["--log-every", "1", "--sample-every", "10", "--save-every", str(SAVE_EVERY)]
# Seconds that a process has to end.
PATIENCE = 180
# Ends the process at one of its file events below the run folder: what a power cut would leave.
KILLED_AT = """
import os, sys
place, left = sys.argv[1], int(sys.argv[2])
def count(event, values):
    global left
    if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod"):
        if any(isinstance(each, (str, os.PathLike)) and os.fspath(each).startswith(place) for each in values):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), 9)
sys.addaudithook(count)
from gan_{backend}.train import main
status = main(sys.argv[3:])
print("events left", left, file=sys.stderr)
os._exit(status)
"""


class Run(NamedTuple):
    """One run.

    Attributes:
        backend: torch or jax.
        folder: the run folder.
        data: the images.
        chance: what is random about its disturbance.
        turn: how many runs had this kind of disturbance before.
        file_events: how many times a run of this backend makes, opens, renames or removes a file.
    """

    backend: str
    folder: Path
    data: Path
    chance: random.Random
    turn: int = 0
    file_events: int = 1

    def command(self, resume: bool) -> list[str]:
        """Return the options of ``train``."""
        if resume:
            return ["--resume", "--run-dir", str(self.folder)]
        own = ["--data", str(self.data), "--steps", str(STEPS), "--run-dir", str(self.folder)]
        return ["dcgan", *OPTIONS, *CADENCES, *own]

    def start(self, resume: bool = False, **options: object) -> "subprocess.Popen[str]":
        """Start a process that trains."""
        module = [sys.executable, "-m", f"gan_{self.backend}.train"]
        return started([*module, *self.command(resume)], **options)

    def start_counting(self, event: int) -> "subprocess.Popen[str]":
        """Start a process that kills itself at the file event of that number, from 1, or says how many were left."""
        program = KILLED_AT.replace("{backend}", self.backend)
        return started([sys.executable, "-c", program, str(self.folder), str(event), *self.command(False)])

    def is_begun(self) -> bool:
        """Return whether there is a run to resume."""
        return (self.folder / "config.json").is_file()


class Fault(Exception):
    """A run did not survive."""


def started(command: Sequence[str], **options: object) -> "subprocess.Popen[str]":
    """Start a process with one thread for each of its pools."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes, **options)  # type: ignore[call-overload]


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Wait for a process and return its status and what it wrote to standard error.

    Raises:
        Fault: it does not end, or ends with a traceback.
    """
    try:
        _, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise Fault(f"no end after {PATIENCE} s") from error
    if "Traceback" in err:
        raise Fault(f"a traceback: {err[max(0, err.index('Traceback') - 200) :].strip()}")
    return process.returncode, err


def await_step(run: Run, process: "subprocess.Popen[str]") -> None:
    """Wait until a random step is logged, or the process has ended."""
    file, wanted, late = run.folder / "scalars.jsonl", run.chance.randrange(1, STEPS), time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < late:
        if file.exists() and file.read_bytes().count(b"\n") >= wanted:
            return
        time.sleep(0.01)


def kill(run: Run) -> None:
    """Kill it after some time: before it has begun, while it trains or while it saves."""
    process = run.start()
    time.sleep(run.chance.uniform(0, 10))
    process.kill()
    process.communicate()


def kill_at_file_event(run: Run) -> None:
    """Kill it where it makes, opens, renames or removes a file, at another of these places in each turn."""
    status, err = ended(run.start_counting(STRIDE * run.turn % run.file_events + 1))
    if status != -signal.SIGKILL:
        raise Fault(f"status {status}: {err}")


def stop(run: Run) -> None:
    """Ask it to stop, by one of the signals that save."""
    process = run.start()
    await_step(run, process)
    number = run.chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    process.send_signal(number)
    if number == signal.SIGHUP:
        process.send_signal(number)  # as the system and the shell do when a terminal closes
    status, err = ended(process)
    if status not in (0, 128 + number):
        raise Fault(f"status {status} after {number.name}: {err}")


def stop_twice(run: Run) -> None:
    """Press Ctrl-C twice within milliseconds."""
    process = run.start()
    await_step(run, process)
    process.send_signal(signal.SIGINT)
    time.sleep(run.chance.uniform(0, 0.004))
    process.send_signal(signal.SIGINT)
    status, err = ended(process)
    if status not in (0, 130, -signal.SIGINT):
        raise Fault(f"status {status} after two Ctrl-C: {err}")


def fill_the_disk(run: Run) -> None:
    """Let no file grow beyond a few kilobytes, which ends as a full disk does."""
    status, err = ended(_limited(run, run.chance.randrange(1_000, 60_000)))
    if status not in (0, 2):
        raise Fault(f"status {status} on a full disk: {err}")
    if status == 2 and str(run.folder) not in err.splitlines()[-1] and "cache" not in err.splitlines()[-1]:
        raise Fault(f"the error names no file of the run: {err.splitlines()[-1]}")


def _limited(run: Run, most: int) -> "subprocess.Popen[str]":
    """Start a run that may write no file of more bytes than that."""
    limit = f"import resource, signal, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most})); "
    program = limit + f"signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from gan_{run.backend}.train import main; "
    return started([sys.executable, "-c", program + "sys.exit(main(sys.argv[1:]))", *run.command(False)])


def take_a_folder_away(run: Run) -> None:
    """Remove a folder of the run while it trains."""
    process = run.start()
    await_step(run, process)
    shutil.rmtree(run.folder / run.chance.choice(["samples", "tensorboard", "checkpoints"]), ignore_errors=True)
    status, err = ended(process)
    if status not in (0, 2):
        raise Fault(f"status {status} without a folder: {err}")


def damage_a_file(run: Run) -> None:
    """Change a byte of one of its files, and take a checkpoint away that is refused for it."""
    process = run.start()
    await_step(run, process)
    process.kill()
    process.communicate()
    names = ("scalars.jsonl", "model.safetensors", "optimizer.safetensors", "trainer.safetensors", "manifest.json")
    files = [path for path in sorted(run.folder.rglob("*")) if path.name in names and path.stat().st_size]
    if not files:
        return
    file = run.chance.choice(files)
    content = bytearray(file.read_bytes())
    content[run.chance.randrange(len(content))] ^= 1 << run.chance.randrange(8)
    file.write_bytes(content)
    newest = checkpoint.folders(run.folder)[-1:]
    if newest and newest[0] in file.parents:
        status, err = ended(run.start(resume=True))
        last = err.splitlines()[-1] if err else ""
        if status != 2 or str(newest[0]) not in last:
            raise Fault(f"damage of {file.relative_to(run.folder)} was taken: status {status}: {last}")
        shutil.rmtree(newest[0])


def run_two_at_once(run: Run) -> None:
    """Start a second process in its folder."""
    process = run.start()
    await_step(run, process)
    if process.poll() is None and run.is_begun():
        status, err = ended(run.start(resume=True))
        is_done = checkpoint.newest_step(run.folder) == STEPS  # the first one's last step: nothing was left to do
        if process.poll() is None and not is_done and (status != 2 or "in use by another process" not in err):
            raise Fault(f"a second process was let in: status {status}: {err}")
    ended(process)


EVENTS: dict[str, Callable[[Run], None]] = {
    "kill": kill,
    "kill at a file event": kill_at_file_event,
    "stop": stop,
    "stop twice": stop_twice,
    "full disk": fill_the_disk,
    "folder taken away": take_a_folder_away,
    "damaged file": damage_a_file,
    "two at once": run_two_at_once,
}


@dataclass(frozen=True)
class Options:
    """Disturb short runs for a time and print which of them survived."""

    events: tuple[str, ...] = tuple(EVENTS)
    """Kinds of disturbances, or parts of their names."""

    backends: tuple[str, ...] = ("torch", "jax")
    """Backends: torch, jax, or both."""

    seconds: float | None = None
    """How long; ten minutes when neither this nor the number of runs is given."""

    runs: int | None = None
    """Runs at most; as many as there is time for when not given."""

    seed: int = 0
    """Number of the first run; disturbances follow from the runs' numbers."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 1 where a run did not survive."""
    options = tyro.cli(Options, args=argv)
    faults: list[str] = []
    return guarded(lambda: faults.extend(soak(options))) or int(bool(faults))


def soak(options: Options) -> list[str]:
    """Disturb runs, print the table, and return what did not survive.

    Raises:
        UserError: no event has such a name.
    """
    asked = [{part} if part in EVENTS else {name for name in EVENTS if part in name} for part in options.events]
    events = [name for name in EVENTS if any(name in each for each in asked)]
    if not events:
        raise unexpected("events", " ".join(options.events), "a name, or a part of one", EVENTS)
    counts: Counter[tuple[str, str]] = Counter()
    seconds = options.seconds or (600.0 if options.runs is None else float("inf"))
    faults, end = [], time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="twin-gan-soak-") as place:
        data = training_images(Path(place))
        whole = {name: reference(name, Path(place) / f"whole-{name}", data) for name in options.backends}
        for done in count():
            if time.monotonic() >= end or done == options.runs:
                break
            number, event, turn = options.seed + done, events[done % len(events)], done // len(events)
            backend = options.backends[turn % len(options.backends)]
            turn_of_backend = (options.seed + turn) // len(options.backends)
            chance = random.Random(f"{event} {number}")
            tensors, file_events = whole[backend]
            run = Run(backend, Path(place) / f"run-{number}", data, chance, turn_of_backend, file_events)
            try:
                EVENTS[event](run)
                finish(run, tensors)
                counts[event, "survived"] += 1
            except Fault as fault:
                counts[event, "fault"] += 1
                faults.append(f"{event}, {backend}, seed {number}: {fault}")
                say(faults[-1])
            shutil.rmtree(run.folder, ignore_errors=True)
    for event in events:
        print(f"{event:22} {counts[event, 'survived']} survived, {counts[event, 'fault']} did not")
    return faults


def training_images(place: Path) -> Path:
    """Write the images of short runs and return their file."""
    np.save(place / "images.npy", np.random.default_rng(0).integers(0, 256, (200, 16, 16), np.uint8))
    return place / "images.npy"


def reference(backend: str, folder: Path, data: Path) -> tuple[dict[str, bytes], int]:
    """Return the tensors of the last checkpoint of a run that nothing disturbs, and how many file events it has.

    Raises:
        UserError: it cannot be trained.
    """
    run, most = Run(backend, folder, data, random.Random(0)), 10**6
    try:
        status, err = ended(run.start_counting(most))
    except Fault as fault:
        raise UserError(f"{backend}: {fault}") from fault
    if status:
        raise UserError(f"{backend}: status {status}: {err}")
    return last_tensors(run), most - int(err.split()[-1])


def finish(run: Run, whole: dict[str, bytes]) -> None:
    """Go on with a run until it is done and compare its end.

    Raises:
        Fault: it does not go on, leaves something behind, or ends elsewhere.
    """
    err = ""
    for _ in range(4):
        status, err = ended(run.start(resume=run.is_begun()))
        if status == 0:
            break
    else:
        raise Fault(f"it does not go on: {err.splitlines()[-1]}")
    left = [path for path in run.folder.rglob("*") if path.name.endswith((".partial", ".retired"))]
    if left:
        raise Fault(f"left behind: {left[0].relative_to(run.folder)}")
    if last_tensors(run) != whole:
        raise Fault("it ends elsewhere than the run that nothing disturbed")


def last_tensors(run: Run) -> dict[str, bytes]:
    """Return the files of tensors of a run's last checkpoint."""
    folder = run.folder / "checkpoints" / f"step-{STEPS:07d}"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


if __name__ == "__main__":
    sys.exit(main())
