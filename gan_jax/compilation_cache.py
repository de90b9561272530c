"""Compiled steps kept on the disk, so that a second start need not compile again."""

import jax

from gan_shared.data import cache


def enable() -> None:
    """Keep what this process compiles in ``jax`` in the cache folder, where nothing else is configured.

    For programs, to which the process belongs; ``JAX_COMPILATION_CACHE_DIR`` names another folder.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(cache.root() / "jax"))
