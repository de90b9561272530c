"""The virtual environment of the checkout, made with nothing but the standard library."""

import hashlib
import json
import signal
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv"
PYTHON = FOLDER / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
# What the environment was filled with, so that a second start has nothing to ask pip.
RECORD = FOLDER / "installed.json"
OLDEST_PYTHON = (3, 11)


def ensure(*extras: str) -> Path:
    """Create and fill ``.venv`` where needed and return its Python.

    Args:
        extras: optional dependencies of pyproject.toml that must be installed.
    """
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        sys.exit(f"error: python: found {sys.version.split()[0]}, expected {wanted} or newer")
    project = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    recorded = _recorded()
    installed = set(recorded.get("extras", [])) if recorded.get("pyproject") == project else set()
    if PYTHON.is_file() and ("all" in installed or installed >= set(extras)):
        return PYTHON
    if not recorded:
        print(f"creating {FOLDER}", flush=True)
        try:
            venv.create(FOLDER, with_pip=True, clear=True)
        except (subprocess.CalledProcessError, OSError) as error:
            sys.exit(f"error: {FOLDER}: could not be made: {error}; on Debian and Ubuntu install python3-venv")
        # Made, but not filled: a broken installation is taken up where it ended.
        RECORD.write_text(json.dumps({"pyproject": "", "extras": []}) + "\n")
    wanted = ",".join(sorted(installed | set(extras)))
    print(f"installing the project and its extras {wanted} into {FOLDER}: some minutes the first time", flush=True)
    command = [str(PYTHON), "-m", "pip", "install", "--editable", f"{ROOT}[{wanted}]"]
    if subprocess.run(command).returncode:
        sys.exit(f"error: pip could not install the project; run it by itself to see why: {' '.join(command)}")
    RECORD.write_text(json.dumps({"pyproject": project, "extras": sorted(installed | set(extras))}) + "\n")
    return PYTHON


def run(command: list[str]) -> int:
    """Run a command in this terminal and return its status.

    Ctrl-C reaches the command too, and is its to answer: it may have something to save.
    """
    # A handler that does nothing. SIG_IGN, which a background job of a shell begins with, would be the command's too:
    # it could not be stopped.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.run(command).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def _recorded() -> dict:
    """Return what the environment was filled with; nothing where there is none or it is broken."""
    try:
        return json.loads(RECORD.read_text()) if PYTHON.is_file() else {}
    except (OSError, ValueError):
        return {}


def inside() -> bool:
    """Whether this process already runs in the checkout's environment."""
    return Path(sys.prefix).resolve() == FOLDER.resolve()
