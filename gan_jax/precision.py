"""What a precision means while something is computed in it; settings of the framework are restored afterwards."""

from collections.abc import Generator
from contextlib import contextmanager

import jax


@contextmanager
def precision_scope(precision: str) -> Generator[None]:
    """Compute in a precision while the block runs: float32 means float32, TF32 only where it is asked.

    Args:
        precision: a choice of the option ``precision``.
    """
    # Left alone, a GPU rounds what it multiplies to TF32, and float64 becomes float32 everywhere.
    products = "tensorfloat32" if precision == "tf32" else "highest"
    with jax.enable_x64(precision == "float64"), jax.default_matmul_precision(products):
        yield
