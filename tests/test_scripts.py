"""The two commands of the README: the tour at a few steps, and when the environment is filled."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
TOUR = "import sys, pathlib, quickstart; sys.exit(quickstart.tour(pathlib.Path(sys.argv[1]), 3, 2))"


@pytest.fixture
def environment(monkeypatch, tmp_path) -> Any:
    """The module with its folder elsewhere and pip replaced by a list of what it would have installed."""
    monkeypatch.syspath_prepend(SCRIPTS)
    environment: Any = importlib.import_module("environment")
    monkeypatch.setattr(environment, "FOLDER", tmp_path)
    monkeypatch.setattr(environment, "PYTHON", tmp_path / "python")
    monkeypatch.setattr(environment, "RECORD", tmp_path / "installed.json")
    installed = []
    monkeypatch.setattr(environment.venv, "create", lambda *a, **k: (tmp_path / "python").touch())
    answer = subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(environment.subprocess, "run", lambda command: installed.append(command[-1]) or answer)
    environment.installed = installed
    environment.answer = answer
    return environment


def test_environment_is_filled_once_and_again_when_something_is_new(environment):
    environment.ensure("torch", "jax")
    environment.ensure("torch", "jax")
    environment.ensure("jax")
    assert [command.rsplit("[")[1] for command in environment.installed] == ["jax,torch]"]
    environment.ensure("dev")
    assert environment.installed[1].endswith("[dev,jax,torch]")
    record = json.loads(environment.RECORD.read_text())
    environment.RECORD.write_text(json.dumps({**record, "pyproject": "another"}))
    environment.ensure("jax")
    assert len(environment.installed) == 3, "a changed pyproject.toml fills the environment again"
    environment.ensure("all")
    environment.ensure("torch", "evaluate")
    assert len(environment.installed) == 4, "with all of them there is nothing new"


def test_failed_installation_is_reported_and_tried_again(environment):
    environment.answer.returncode = 1
    for _ in range(2):
        with pytest.raises(SystemExit, match="pip could not install"):
            environment.ensure("torch")
    assert len(environment.installed) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("shell", ["exec", "trap '' INT; exec"], ids=["foreground", "background"])
def test_ctrl_c_is_left_to_the_command_which_may_have_something_to_save(tmp_path, shell):
    """A background job of a shell begins with SIGINT ignored, and hands that on."""
    child = (
        "import pathlib, signal, sys, time\n"
        "try:\n    pathlib.Path(sys.argv[1], 'ready').touch(); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    time.sleep(1); pathlib.Path(sys.argv[1], 'saved').touch(); sys.exit(130)\n"
    )
    parent = (
        "import signal, sys, environment; before = signal.getsignal(signal.SIGINT)\n"
        f"status = environment.run([sys.executable, '-c', {child!r}, sys.argv[1]])\n"
        "assert signal.getsignal(signal.SIGINT) is before; sys.exit(status)\n"
    )
    command = ["sh", "-c", f'{shell} "$@"', "sh", sys.executable, "-c", parent, str(tmp_path)]
    process = subprocess.Popen(command, cwd=SCRIPTS, start_new_session=True)
    try:
        while not (tmp_path / "ready").exists():
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # a terminal's Ctrl-C reaches the whole group
        assert process.wait(30) == 130
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert (tmp_path / "saved").exists()


def test_scripts_need_only_the_standard_library():
    """-S leaves out every installed package; --help comes before the environment is touched."""
    command = [sys.executable, "-S", str(SCRIPTS / "quickstart.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "--torch-steps" in done.stdout, done.stderr
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import environment, test"], cwd=SCRIPTS, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.torch
@pytest.mark.jax
def test_tour_leaves_pictures_of_both_backends(tmp_path):
    out = tmp_path / "tour"
    command = [sys.executable, "-c", TOUR, str(out)]
    done = subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    grid = out / "run" / "samples" / "step-0000005.png"
    for path in (out / "both.png", out / "losses.png", grid):
        assert str(path) in done.stdout
        with Image.open(path) as picture:
            assert min(picture.size) > 200
    ours, theirs = (np.load(out / f"gan_{name}.npz")["images"] for name in ("torch", "jax"))
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    writers = [
        json.loads((out / f"run/checkpoints/step-000000{step}/manifest.json").read_text())["written_by"]["backend"]
        for step in (3, 5)
    ]
    assert writers == ["torch", "jax"]
