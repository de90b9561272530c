"""The JAX backend, purely functional: Flax linen modules, Optax updates, one compiled step."""
