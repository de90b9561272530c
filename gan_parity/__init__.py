"""How equal two implementations of one network are, in PyTorch and in JAX: this project's own two, or your port.

    python -m gan_parity.locate     names the first value in which two implementations or two runs differ
    python -m gan_parity.traps      measures where a port from PyTorch to JAX goes wrong without an error
    python -m gan_parity.report     measures every preset of this project in both backends

Needs both frameworks: ``pip install "twin-gan[parity]"``.
"""

import sys
from importlib.util import find_spec

NEEDED = ("torch", "jax", "flax", "optax")


def missing() -> list[str]:
    """Return the packages that are needed here and cannot be imported."""
    found = []
    for name in NEEDED:
        try:
            spec = find_spec(name)
        except ImportError:  # an import hook may refuse a package
            spec = None
        found += [] if spec else [name]
    return found


def _require(absent: list[str]) -> None:
    """Say in one line what is not installed: as an ImportError, or on the command line as an error with status 2."""
    if not absent:
        return
    message = f'gan_parity: {", ".join(absent)} not installed, expected both frameworks: pip install "twin-gan[parity]"'
    if sys.argv[0] == "-m":  # python -m gan_parity.NAME: Python has not found the module's file yet
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)
    raise ImportError(message)


_require(missing())
