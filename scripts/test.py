"""Lint, types and all tests: ``python scripts/test.py [options of pytest]``.

Creates and fills .venv when needed. Needs nothing but Python 3.11 or newer and, the first time, a network.
"""

import os
import subprocess
import sys
from time import perf_counter

import environment

# No test takes a quarter of it: one that hangs is named, with the stack of every thread.
TIMEOUT = ("--timeout", "900")


def main() -> int:
    """Run every check, even after one failed, and return 0 when all passed."""
    python = str(environment.ensure("all"))
    workers = str(max(1, min(8, os.cpu_count() or 1)))
    checks = {
        "lint": [python, "-m", "ruff", "check", "."],
        "format": [python, "-m", "ruff", "format", "--check", "."],
        "types": [python, "-m", "pyright"],
        "tests": [python, "-m", "pytest", "-n", workers, "--dist", "worksteal", *TIMEOUT, *sys.argv[1:]],
    }
    failed = []
    for name, command in checks.items():
        print(f"== {name}", flush=True)
        begun = perf_counter()
        status = subprocess.run(command, cwd=environment.ROOT).returncode
        print(f"== {name} {'failed' if status else 'passed'} in {perf_counter() - begun:.0f} s", flush=True)
        failed += [name] if status else []
    print(f"== failed: {', '.join(failed)}" if failed else "== all checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
