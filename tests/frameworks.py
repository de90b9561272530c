"""Which frameworks are installed, and how a test is marked that needs one; imports nothing of what is tested."""

from importlib.util import find_spec

import pytest

# Name of a framework, of the backend that is written in it, and of the mark of the tests that need it.
FRAMEWORKS = ("torch", "jax")


def installed(framework: str) -> bool:
    """Whether a framework can be imported."""
    try:
        return find_spec(framework) is not None
    except ImportError:
        return False


# Those that are installed.
HERE = tuple(name for name in FRAMEWORKS if installed(name))


def needs(*names: str) -> list[pytest.MarkDecorator]:
    """Return the marks of what needs these frameworks."""
    return [getattr(pytest.mark, name) for name in dict.fromkeys(names)]
