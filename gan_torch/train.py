"""Train with PyTorch: ``python -m gan_torch.train --help``."""

import sys
from collections.abc import Sequence

from gan_shared import cli
from gan_torch.backend import Backend


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    return cli.train(Backend, argv)


if __name__ == "__main__":
    sys.exit(main())
