"""Evaluate with JAX: ``python -m gan_jax.evaluate --help``."""

from collections.abc import Sequence

from gan_shared import cli
from gan_shared.backend import MakeBackend


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    return cli.evaluate(_backend, argv)


def _backend() -> MakeBackend:
    """Import the framework, which takes seconds, and keep what it compiles."""
    from gan_jax import compilation_cache
    from gan_jax.backend import Backend

    compilation_cache.enable()
    return Backend


if __name__ == "__main__":
    cli.leave(main())
