"""The JAX backend, purely functional: Flax linen modules, Optax updates, one compiled step."""

from typing import TYPE_CHECKING, Any

from gan_shared.hooks import Every

if TYPE_CHECKING:
    from gan_jax.gan import GAN

__all__ = ["GAN", "Every"]


def __getattr__(name: str) -> Any:
    """Import the Python API when it is asked for: the command line's help need not wait for the framework."""
    if name != "GAN":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gan_jax.gan import GAN

    return GAN
