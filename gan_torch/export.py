"""Export with PyTorch: ``python -m gan_torch.export --help``."""

from collections.abc import Mapping, Sequence

from gan_shared import cli
from gan_shared.backend import MakeBackend
from gan_shared.export import Writer


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    return cli.export(_backend, _writers, argv)


def _backend() -> MakeBackend:
    """Import the framework, which takes seconds."""
    from gan_torch.backend import Backend

    return Backend


def _writers() -> Mapping[str, Writer]:
    """Import what writes files, which imports the framework."""
    from gan_torch.exported import writers

    return writers()


if __name__ == "__main__":
    cli.leave(main())
