"""Is it equal, how fast is it, and where does the time go, on this machine's GPU: ``python scripts/gpu_report.py``.

Compares both backends in every precision, times them beside plain loops, and names what waits; see ``benchmarks/gpu``.
What is found is written at once, what says most first, so that a report that is cut short is one. Uses the Python that
runs it and installs nothing there. For a machine without a network, fetch a few pure-Python packages on one that has
it, with ``--wheels DIR``, and take the folder along.
"""

import argparse
import os
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parents[1]
# Import name -> package without compiled parts, which a machine with both frameworks may lack.
PURE = {
    "tyro": "tyro",
    "docstring_parser": "docstring-parser",
    "typeguard": "typeguard",
    "mlxtend": "mlxtend",
    "pooch": "pooch",
    "platformdirs": "platformdirs",
    "filelock": "filelock",
    "tqdm": "tqdm",
}
# The same of everything that the report imports beside the frameworks.
NEEDED = PURE | {
    "numpy": "numpy",
    "PIL": "pillow",
    "safetensors": "safetensors",
    "tensorboard": "tensorboard",
    "matplotlib": "matplotlib",
}


def main() -> int:
    """Parse, install what is missing for the length of the report, run it, return the exit status."""
    arguments = parse()
    if arguments.wheels is not None and not any(arguments.wheels.glob("*.whl")):
        return fetch(arguments.wheels)
    with TemporaryDirectory() as folder:
        if arguments.wheels is not None:
            install(arguments.wheels, Path(folder))
        absent = sorted(package for name, package in NEEDED.items() if find_spec(name) is None)
        if absent:
            print(f"error: packages: {', '.join(absent)} not installed; see --wheels", file=sys.stderr)
            return 2
        return report(arguments)


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, help="folder of results and page (default: benchmarks/results/gpu and docs/gpu.md for a "
        "whole report on a GPU, else gpu-report)"
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=8.0, help="length of the report (default: %(default)s)")
    parser.add_argument("--parts", nargs="+", help="environment, equality, speed, waits, or several (default: all)")
    parser.add_argument("--device", default="auto", choices=("auto", "gpu", "cpu"), help="where to compute")
    parser.add_argument("--quick", action="store_true", help="toy sizes, which show only that the command works")
    parser.add_argument(
        "--wheels", type=Path, help="folder of wheels that are used where a package is missing; where it holds none, "
        "it is filled from the package index, and nothing else is done"
    )  # fmt: skip
    return parser.parse_args()


def fetch(folder: Path) -> int:
    """Download the wheels that a machine with both frameworks may lack."""
    print(f"{folder} holds no wheels: fetching {', '.join(PURE.values())}", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--retries", "1", "--no-deps", "--only-binary=:all:", "--dest"]
    if subprocess.run([*command, str(folder), *PURE.values()]).returncode:
        print(f"error: wheels: pip could not fetch them into {folder}", file=sys.stderr)
        return 2
    print(f"wrote {folder}: take it along, and give it to --wheels there")
    return 0


def install(wheels: Path, folder: Path) -> None:
    """Unpack those wheels whose package is missing into a folder that this process and its children import from."""
    missing = [package.replace("-", "_") for name, package in PURE.items() if find_spec(name) is None]
    for file in wheels.glob("*.whl"):
        if file.name.split("-")[0].lower() in missing:
            with ZipFile(file) as archive:
                archive.extractall(folder)
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))


def report(arguments: argparse.Namespace) -> int:
    """Run the report and return its exit status; a user's mistake is one line."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.gpu.report import Options, main
    from gan_shared.command import guarded

    # As Ctrl-C, which ends what runs: a process that is left behind would go on using the GPU.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = Options(arguments.out, arguments.minutes, device=arguments.device, quick=arguments.quick)
    if arguments.parts:
        options = replace(options, parts=tuple(arguments.parts))
    statuses: list[int] = []
    return guarded(lambda: statuses.append(main(options)), "what had been found is written") or statuses[0]


if __name__ == "__main__":
    sys.exit(main())
