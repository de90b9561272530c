"""Sample with JAX: ``python -m gan_jax.sample --help``."""

import sys
from collections.abc import Sequence

from gan_jax.backend import Backend
from gan_shared import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    return cli.sample(Backend, argv)


if __name__ == "__main__":
    sys.exit(main())
