"""Where a port from PyTorch to JAX goes wrong in silence: ``python -m parity_tests.traps`` measures every case.

Each trap is a pair: what Flax, Optax or ``jax.numpy`` do when asked in the obvious way, and what this project does,
both against torch on the same numbers in float64 (float32 where the trap is one of precision). How far the naive half
is off is measured in this report alone: a library that mends itself should fail nobody's tests.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F
import tyro

import gan_jax.layers
import gan_jax.losses
import gan_jax.optimizers
from benchmarks.command import guarded
from benchmarks.machine import processor
from gan_shared.atomic import replacing
from parity_tests import trap_pairs

# A pair is equal where no number is further apart than this part of the largest: rounding, with two digits to spare.
EQUAL = 1e-11


class Trap(NamedTuple):
    """One way to port wrongly.

    Attributes:
        name: what it is about.
        torch: what torch does.
        naive: what the obvious port does.
        fix: what to do instead.
        lives: where this project does it.
        pair: () -> (torch's result, the naive one, this project's), arrays of one shape.
        at_least: the naive result is off by this part of the largest number, or more.
        modules: classes of modules in which a difference may come of it.
        kinds: of a trace's values (``gan_torch/trace.py``) that show it first.
        equal: how far this project's result may be off.
    """

    name: str
    torch: str
    naive: str
    fix: str
    lives: str
    pair: Callable[[], tuple[Any, Any, Any]]
    at_least: float
    modules: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("forward",)
    equal: float = EQUAL


class Measured(NamedTuple):
    """A trap, tried.

    Attributes:
        trap: which.
        naive: largest difference of the naive port, as a part of the largest number; infinite where it is not a number.
        ours: likewise of this project's.
    """

    trap: Trap
    naive: float
    ours: float


def apart(found: Any, expected: Any) -> float:
    """Return the largest difference as a part of the largest expected number; infinite where one is not finite."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def measure(trap: Trap) -> Measured:
    """Try one trap."""
    expected, naive, ours = trap.pair()
    return Measured(trap, apart(naive, expected), apart(ours, expected))


TRAPS = (
    Trap(
        "axes of a kernel",
        "out, in, height, width",
        "height, width, out, in",
        "transpose(2, 3, 1, 0)",
        "gan_jax/interop.py",
        trap_pairs.kernel_axes,
        0.1,
        ("Conv",),
    ),
    Trap(
        "axes of a matrix",
        "(out, in)",
        "the same matrix in linen.Dense, which has (in, out)",
        ".T",
        "gan_jax/interop.py",
        trap_pairs.matrix_axes,
        0.1,
        ("Linear",),
    ),
    Trap(
        "padding of a strided convolution",
        "padding=1 pads both sides",
        "linen.Conv pads 'SAME': (0, 1) for an even size",
        "give explicit pairs",
        "gan_jax/convolution.py",
        trap_pairs.convolution("SAME"),
        0.1,
        ("Conv",),
    ),
    Trap(
        "kernel of a transposed convolution",
        "the gradient of a convolution: the kernel is turned",
        "linen.ConvTranspose does not turn it",
        "keep the kernel of the convolution that is transposed; lax.conv_transpose(transpose_kernel=True)",
        "gan_jax/convolution.py",
        trap_pairs.transposed,
        0.1,
        ("ConvTranspose",),
    ),
    Trap(
        "flattening before a matrix",
        "channel, height, width",
        "height, width, channel",
        "transpose to torch's order, or permute the matrix",
        "gan_jax/models/vgg.py",
        trap_pairs.flatten,
        0.1,
        ("Linear",),
        kinds=("input", "forward"),
    ),
    Trap(
        "variance that batch normalisation keeps",
        "n / (n - 1) times the one it divides by",
        "linen.BatchNorm keeps the biased one",
        "multiply by n / (n - 1)",
        "gan_jax/layers.py",
        trap_pairs.batch_norm("var", momentum=0.9),
        1e-3,
        ("BatchNorm",),
        ("state",),
    ),
    Trap(
        "momentum of batch normalisation",
        "0.1 is the weight of the new batch",
        "linen.BatchNorm: 0.99 is the weight of the old average",
        "1 - momentum",
        "gan_jax/layers.py",
        trap_pairs.batch_norm("mean"),
        0.5,
        ("BatchNorm",),
        ("state",),
    ),
    Trap(
        "variance in one pass (float32, mean 1,000)",
        "two passes",
        "linen.BatchNorm: E[x^2] - E[x]^2",
        "subtract the mean first",
        "gan_jax/layers.py",
        trap_pairs.batch_norm("output", np.float32, mean=1000.0),
        1e-2,
        ("BatchNorm",),
        equal=1e-3,  # float32 numbers of 1,000 are 6e-5 apart, of a deviation of 1
    ),
    Trap(
        "spectral normalisation in evaluation",
        "uses the stored u and v",
        "linen.SpectralNorm iterates again",
        "store u and v, iterate in training only, u first",
        "gan_jax/layers.py",
        lambda: trap_pairs.spectral_norm(train=False),
        1e-3,
        ("Conv", "Linear", "Embedding"),
    ),
    Trap(
        "order of spectral normalisation's iteration",
        "u first, then v",
        "linen.SpectralNorm: v first, then u",
        "u first, from the stored v",
        "gan_jax/layers.py",
        lambda: trap_pairs.spectral_norm(train=True),
        1e-4,
        ("Conv", "Linear", "Embedding"),
    ),
    Trap(
        "forwards that advance statistics",
        "every forward in training, reals and fakes",
        "each from the state before both: the last one wins",
        "hand the state from forward to forward, in torch's order",
        "gan_jax/step.py",
        trap_pairs.forwards,
        0.1,
        ("BatchNorm",),
        kinds=("state",),
    ),
    Trap(
        "LeakyReLU's slope at 0",
        "0.2",
        "jax.nn.leaky_relu: 1",
        "where(x > 0, x, 0.2 x)",
        "gan_jax/layers.py",
        lambda: trap_pairs.slope(
            lambda x: F.leaky_relu(x, 0.2),
            lambda x: jax.nn.leaky_relu(x, 0.2),
            gan_jax.layers.leaky_relu,
            [-1.0, 0.0, 1.0],
        ),
        0.5,
        kinds=("backward", "gradient"),
    ),
    Trap(
        "hinge at its corner",
        "relu(1 - x): slope 0",
        "jnp.maximum(1 - x, 0): slope 0.5",
        "jax.nn.relu",
        "gan_jax/losses.py",
        lambda: trap_pairs.slope(
            lambda x: F.relu(1 - x),
            lambda x: jnp.maximum(1 - x, 0),
            lambda x: gan_jax.losses.LOSSES["hinge"].discriminator(x, jnp.full_like(x, -2.0)),
            [0.0, 1.0, 2.0],
        ),
        0.4,
        kinds=("backward", "gradient"),
    ),
    Trap(
        "gradient penalty where the gradient is 0",
        "the norm's subgradient at 0 is 0",
        "jnp.linalg.norm: not a number",
        "a root of a sum that is kept off 0",
        "gan_jax/losses.py",
        trap_pairs.penalty_at_zero,
        0.5,
        kinds=("gradient",),
        equal=1e-5,  # the small number below the root
    ),
    Trap(
        "softplus above 20",
        "F.softplus is linear there",
        "jax.nn.softplus is not (here the naive half is torch's own function)",
        "log(1 + exp(x)) in a stable form in both",
        "gan_torch/losses.py, gan_jax/losses.py",
        lambda: (
            np.logaddexp(0, [20.1]) - 20.1,
            F.softplus(torch.tensor([20.1], dtype=torch.float64)) - 20.1,
            gan_jax.losses.softplus(jnp.array([20.1])) - 20.1,
        ),
        0.5,
        kinds=("scalar", "gradient"),
        equal=1e-5,  # of 2e-9, which is what is left of 20.1 in float64
    ),
    Trap(
        "cross-entropy of a logit of 40",
        "binary_cross_entropy_with_logits",
        "-log(1 - sigmoid(x)): infinite",
        "softplus(x)",
        "gan_jax/losses.py",
        lambda: trap_pairs.values(
            lambda x: F.binary_cross_entropy_with_logits(x, torch.zeros_like(x), reduction="none"),
            lambda x: -jnp.log(1 - jax.nn.sigmoid(x)),
            gan_jax.losses.softplus,
            [-1.0, 0.5, 40.0],
        ),
        0.1,
        kinds=("scalar", "backward"),
    ),
    Trap(
        "GELU",
        "by erf",
        "jax.nn.gelu: by tanh",
        "approximate=False",
        "gan_jax/layers.py",
        lambda: trap_pairs.values(F.gelu, jax.nn.gelu, gan_jax.layers.gelu, [-1.0, 0.5, 1.0]),
        1e-5,
        ("GELU",),
    ),
    Trap(
        "Adam's bias correction (float32, first step, beta2 0.999)",
        "in double precision",
        "optax.adam: 1 - 0.999 in float32",
        "-expm1(t log(beta2)) of the complement",
        "gan_jax/optimizers.py",
        trap_pairs.optimizer(
            lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.9, 0.999)),
            optax.adam(1e-3, b1=0.9, b2=0.999),
            gan_jax.optimizers.Adam(0.9),
            steps=1,
            dtype=np.float32,
            begin_scale=0.0,  # a weight of 1 would have no digits for it
        ),
        3e-6,
        kinds=("update",),
        equal=5e-7,  # a few roundings of float32
    ),
    Trap(
        "weight decay of Adam",
        "torch.optim.Adam: a penalty, added to the gradient",
        "optax.adamw: taken from the weights",
        "add it to the gradients before Adam",
        "gan_jax/optimizers.py",
        trap_pairs.optimizer(
            lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=0.1),
            optax.adamw(1e-3, weight_decay=0.1),
            gan_jax.optimizers.Adam(0.9, weight_decay=0.1),
        ),
        1e-3,
        kinds=("update",),
    ),
    Trap(
        "weight decay of AdamW",
        "0.01 when not given",
        "optax.adamw: 0.0001",
        "give it",
        "gan_shared/config.py",
        trap_pairs.optimizer(
            lambda p: torch.optim.AdamW(p, lr=1e-3), optax.adamw(1e-3), gan_jax.optimizers.AdamW(0.9, weight_decay=0.01)
        ),
        1e-4,
        kinds=("update",),
    ),
    Trap(
        "RMSprop's epsilon (gradients of 1e-5)",
        "outside of the root",
        "optax.rmsprop: inside (and its decay is 0.9 when not given, torch's 0.99)",
        "eps_in_sqrt=False",
        "gan_jax/optimizers.py",
        trap_pairs.optimizer(
            lambda p: torch.optim.RMSprop(p, lr=1e-3, alpha=0.999),
            optax.rmsprop(1e-3, decay=0.999),
            gan_jax.optimizers.RMSprop(0.0),
            scale=1e-5,
        ),
        0.1,
        kinds=("update",),
    ),
    Trap(
        "clipping by the norm of all gradients (1e-4)",
        "divides by norm + 1e-6",
        "optax.clip_by_global_norm divides by the norm",
        "add 1e-6",
        "gan_jax/optimizers.py",
        trap_pairs.clip,
        5e-3,
        kinds=("update",),
    ),
    Trap(
        "average of the weights",
        "d average + (1 - d) weight, begun at the weight",
        "optax.ema begins at 0 and corrects for it",
        "write it out",
        "gan_jax/step.py",
        trap_pairs.average,
        0.1,
        ("generator_ema",),
        kinds=("state",),
    ),
    Trap(
        "initial weights",
        "its own initialisers and generator",
        "linen draws others, from a generator of its own",
        "declare distributions, draw once in NumPy",
        "gan_shared/initial.py",
        trap_pairs.beginning,
        0.1,
        kinds=(),
        equal=0.0,
    ),
    Trap(
        "a weight that is kept for later",
        "weight.numpy() shows what the next update makes of it",
        "kept as it is",
        "copy",
        "gan_torch/state.py, gan_jax/interop.py",
        trap_pairs.snapshot,
        0.1,
        kinds=(),
        equal=0.0,
    ),
    Trap(
        "float64 arrays",
        "stay float64",
        "jnp.asarray makes them float32, with no more than a warning",
        "jax_enable_x64, before anything is computed",
        "gan_jax/backend.py",
        trap_pairs.single,
        1e-9,
        kinds=(),
        equal=0.0,
    ),
)


@dataclass(frozen=True)
class Options:
    """Measure every trap of a port from PyTorch to JAX, and write the table."""

    out: Path = Path("docs/porting.md")
    """Markdown file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 1 where a pair of this project's is not equal."""
    options = tyro.cli(Options, args=argv)
    wrong: list[Measured] = []

    def work() -> None:
        jax.config.update("jax_enable_x64", True)
        found = [measure(trap) for trap in TRAPS]
        wrong.extend(each for each in found if not each.ours <= each.trap.equal)
        with replacing(options.out) as temporary:
            temporary.write_text(page(found), encoding="utf-8")
        for trap, naive, ours in found:
            mended = "" if naive >= trap.at_least else f", less than {trap.at_least:.2g}: a library has mended itself"
            print(f"{trap.name}: the obvious port is off by {naive:.2g}{mended}, this one by {ours:.2g}")
        print(f"wrote {options.out}")
        for each in wrong:
            print(f"not equal: {each.trap.name}, off by {each.ours:.2g}", file=sys.stderr)

    return guarded(work) or int(bool(wrong))


def page(found: Sequence[Measured]) -> str:
    """Return the table as Markdown."""
    header = ("what", "torch", "the obvious port", "off by", "instead", "here", "off by")
    rows = [header, tuple("---" for _ in header), *map(_row, found)]
    versions = f"torch {torch.__version__}, jax {jax.__version__}, flax {flax.__version__}, optax {optax.__version__}"
    lines = [
        "# Traps of a port from PyTorch to JAX",
        f"Measured by `python -m parity_tests.traps` on {processor()}, {date.today()}: {versions}. Each row is one "
        "small computation, made three times; *off by* is the largest difference to torch's result as a part of its "
        "largest number, in float64 unless the row says float32.",
        "\n".join("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n\n".join(lines) + "\n"


def _row(measured: Measured) -> tuple[str, ...]:
    """Return the cells of one line."""
    trap, naive, ours = measured
    shown = "not finite" if np.isinf(naive) else f"{naive:.1e}"
    return trap.name, trap.torch, trap.naive, shown, trap.fix, f"`{trap.lives}`", f"{ours:.1e}"


def likely(kind: str, module: str, network: str = "") -> Iterator[Trap]:
    """Yield the traps that a difference may come of.

    Args:
        kind: of the value, as a trace names it.
        module: class of its module, here or in torch.nn (Conv or Conv2d).
        network: whose value it is.
    """
    names = {re.sub(r"\dd$", "", module), network}
    for trap in TRAPS:
        if kind in trap.kinds and (not trap.modules or names & set(trap.modules)):
            yield trap


if __name__ == "__main__":
    sys.exit(main())
