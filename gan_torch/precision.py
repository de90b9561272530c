"""What a precision means while something is computed in it; settings of the framework are restored afterwards."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def precision_scope(precision: str) -> Generator[None]:
    """Compute in a precision while the block runs: float32 means float32, TF32 only where it is asked.

    Args:
        precision: a choice of the option ``precision``.
    """
    # Left alone, a GPU rounds what it convolves to TF32.
    flags: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [each.allow_tf32 for each in flags]
    try:
        for each in flags:
            each.allow_tf32 = precision == "tf32"
        yield
    finally:
        for each, value in zip(flags, before, strict=True):
            each.allow_tf32 = value
