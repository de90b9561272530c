"""Assertions on arrays and on whole states of both backends."""

from typing import Any

import numpy as np

from gan_parity.compare import amplified
from gan_parity.configurations import SMALL
from gan_shared.config import Config


def assert_close(ours: Any, theirs: Any, tolerance: float, what: str, extra: Any = 0.0) -> None:
    """Require |ours - theirs| <= tolerance * max |theirs| + extra, everywhere, with equal shapes and no NaN."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, what
    assert ours.dtype == theirs.dtype, what
    assert np.isfinite(ours).all() and np.isfinite(theirs).all(), what
    scale = np.abs(theirs).max(initial=0.0)
    error = (np.abs(ours - theirs) - extra).max(initial=0.0)
    assert error <= tolerance * scale, f"{what}: error {error:.3g}, scale {scale:.3g}"


def assert_states_close(ours: dict, theirs: dict, tolerance: float, config: Config = SMALL) -> None:
    """Compare every tensor of two exported states, which began as one, on its own scale.

    The optimizer's state, and with it gradients, are held to the tolerance alone. A weight may differ further by what
    Adam makes of the difference of that state in one update: see ``compare.amplified``.
    """
    assert ours.keys() == theirs.keys()
    for name in theirs:
        extra = amplified(ours, theirs, name, config)
        assert_close(ours[name], theirs[name], tolerance, name, extra)
