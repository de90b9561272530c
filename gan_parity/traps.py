"""Measure where a port from PyTorch to JAX goes wrong without an error: ``python -m gan_parity.traps``.

Each trap is a pair: what Flax, Optax or ``jax.numpy`` do when asked in the obvious way, and what is right, both against
torch on the same numbers in float64 (float32 where the trap is one of precision). How far the naive half is off is
measured in this report alone: a library that corrects itself should fail no test.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import flax
import jax
import numpy as np
import optax
import torch
import tyro

from gan_parity.trap_table import TRAPS, Trap
from gan_shared.atomic import replacing
from gan_shared.command import guarded
from gan_shared.machine import processor
from gan_shared.markdown import table


class Measured(NamedTuple):
    """A trap and how far both halves of its pair are off.

    Attributes:
        trap: which.
        naive: largest difference of the naive port, as a part of the largest number; infinite where it is not finite.
        right: the same of the right port.
    """

    trap: Trap
    naive: float
    right: float


def relative_error(found: Any, expected: Any) -> float:
    """Return the largest difference as a part of the largest expected number; infinite where one is not finite."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def measure(trap: Trap) -> Measured:
    """Compute a pair and compare both halves with torch."""
    expected, naive, right = trap.pair()
    return Measured(trap, relative_error(naive, expected), relative_error(right, expected))


@dataclass(frozen=True)
class Options:
    """Measure every trap of a port from PyTorch to JAX, and write the table."""

    out: Path = Path("docs/porting.md")
    """Markdown file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 1 where the right half of a pair is not equal to torch."""
    options = tyro.cli(Options, args=argv)
    wrong: list[Measured] = []

    def work() -> None:
        jax.config.update("jax_enable_x64", True)
        found = [measure(trap) for trap in TRAPS]
        wrong.extend(each for each in found if not each.right <= each.trap.equal)
        with replacing(options.out) as temporary:
            temporary.write_text(page(found), encoding="utf-8")
        for trap, naive, right in found:
            corrected = "" if naive >= trap.at_least else f", less than {trap.at_least:.2g}: a library has changed"
            print(f"{trap.name}: the obvious port is off by {naive:.2g}{corrected}, the right one by {right:.2g}")
        print(f"wrote {options.out}")
        for each in wrong:
            print(f"not equal: {each.trap.name}, off by {each.right:.2g}", file=sys.stderr)

    return guarded(work) or int(bool(wrong))


def page(found: Sequence[Measured]) -> str:
    """Return the table as Markdown."""
    header = ("what", "torch", "the obvious port", "off by", "instead", "here", "off by")
    versions = f"torch {torch.__version__}, jax {jax.__version__}, flax {flax.__version__}, optax {optax.__version__}"
    parts = [
        "# Traps of a port from PyTorch to JAX",
        f"Measured by `python -m gan_parity.traps` on {processor()}, {date.today()}: {versions}. Each row is one "
        "small computation, made three times; *off by* is the largest difference to torch's result as a part of its "
        "largest number, in float64 unless the row says float32.",
        table(header, map(_row, found)),
    ]
    return "\n\n".join(parts) + "\n"


def _row(measured: Measured) -> tuple[str, ...]:
    """Return the cells of one row."""
    trap, naive, right = measured
    shown = "not finite" if np.isinf(naive) else f"{naive:.1e}"
    return trap.name, trap.torch, trap.naive, shown, trap.fix, f"`{trap.code}`", f"{right:.1e}"


if __name__ == "__main__":
    sys.exit(main())
