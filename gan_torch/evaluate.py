"""Evaluate with PyTorch: ``python -m gan_torch.evaluate --help``."""

from collections.abc import Sequence

from gan_shared import cli
from gan_shared.backend import MakeBackend


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    return cli.evaluate(_backend, argv)


def _backend() -> MakeBackend:
    """Import the framework, which takes seconds."""
    from gan_torch.backend import Backend

    return Backend


if __name__ == "__main__":
    cli.leave(main())
