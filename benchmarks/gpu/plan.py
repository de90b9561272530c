"""What a report runs, in order: what says most comes first, so that a report that is cut short is one."""

from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.harness import Plan
from benchmarks.settings import Settings

PARTS = ("environment", "equality", "speed", "waits")


class Group(NamedTuple):
    """Cells of one preset, batch and precision, which take turns.

    Attributes:
        preset: its name.
        batch_size: images per update.
        precision: of the run.
        contenders: names in ``benchmarks.settings.CONTENDERS``.
        profiled: whether it is said of these cells where the time of a step goes.
    """

    preset: str
    batch_size: int
    precision: str
    contenders: tuple[str, ...]
    profiled: bool = False

    def cells(self, device: str, width: float | None = None, resolution: int | None = None) -> tuple[Settings, ...]:
        """Return the cells on a device, at the preset's own size where no other is given."""
        return tuple(
            Settings(self.preset, each, self.batch_size, self.precision, resolution, width, device)
            for each in self.contenders
        )


class Phase(NamedTuple):
    """Tasks that are done before those of the next phase.

    Attributes:
        checks: (check of ``checks.py``, configuration), several at a time, as nothing is timed.
        groups: cells that take turns, one group at a time.
    """

    checks: tuple[tuple[str, str], ...] = ()
    groups: tuple[Group, ...] = ()


# Every preset, and what none has: adaptive augmentation beside three penalties, spectral normalisation with classes.
EQUAL = (
    "dcgan",
    "r3gan-tiny",
    "sngan",
    "r3gan-cifar10",
    "adaptive",
    "conditional-spectral-sigmoid",
    "wgan-gp",
    "r3gan-ffhq-64",
    "dcgan-64",
    "lapgan",
    "inception",
    "vgg-inversion",
    "lsgan",
    "article",
    "r3gan-stacked-mnist",
    "r3gan-ffhq-256",
    "stacked-mnist-cpu",
    "fashion-cpu",
    "patch",
)
# Where a precision of fewer digits is compared: a network of each family.
ROUNDED = ("dcgan", "r3gan-tiny", "sngan", "r3gan-cifar10", "wgan-gp", "inception")
ALL = ("torch", "torch-graph", "torch-compile", "jax", "jax-16", "torch-naive", "jax-naive")
# Without torch.compile, which would take longer than the whole report, and without what the plain loops cannot run.
OURS = ("torch", "torch-graph", "jax")
# What may become a default where it pays.
TUNED = (
    "torch",
    "torch-benchmark",
    "torch-graph",
    "torch-graph-benchmark",
    "jax",
    "jax-latency-hiding",
    "jax-without-triton",
)
# Batches of the large presets: what one of the eight GPUs of the published runs is given (Huang et al. 2024).
FFHQ_64, FFHQ_256, CIFAR10 = 32, 32, 64
PHASES = (
    Phase(checks=(*(("float64", name) for name in EQUAL[:6]), ("variants", "dcgan"), ("resumed", "dcgan"))),
    Phase(
        groups=(
            Group("dcgan-64", 64, "tf32", ALL, profiled=True),
            Group("r3gan-ffhq-64", FFHQ_64, "bfloat16", OURS, profiled=True),
            Group("r3gan-cifar10", CIFAR10, "bfloat16", OURS, profiled=True),
        )
    ),
    Phase(
        checks=(
            *((check, "dcgan") for check in ("carried", "samples", "precisions", "resumed, deterministic")),
            *(("precisions", name) for name in ROUNDED[1:]),
            *(("float64", name) for name in EQUAL[6:]),
            *((check, "r3gan-tiny") for check in ("variants", "carried", "samples", "resumed")),
            ("resumed, deterministic", "r3gan-tiny"),
        )
    ),
    Phase(
        groups=(
            Group("dcgan-64", 1024, "tf32", ALL),
            Group("sngan", 64, "tf32", OURS, profiled=True),
            Group("dcgan-64", 64, "bfloat16", TUNED),
            Group("r3gan-ffhq-256", FFHQ_256, "bfloat16", ("torch", "jax")),
            Group("dcgan-64", 256, "tf32", ALL),
            Group("r3gan-cifar10", CIFAR10, "tf32", OURS),
            Group("r3gan-ffhq-64", FFHQ_64, "tf32", OURS),
            *(Group("dcgan-64", batch, "float32", ALL) for batch in (64, 1024, 256)),
            *(Group("dcgan-64", batch, "bfloat16", ALL) for batch in (1024, 256)),
            *(Group("sngan", 64, precision, OURS) for precision in ("bfloat16", "float32")),
            *(Group("r3gan-ffhq-256", FFHQ_256, precision, ("torch", "jax")) for precision in ("tf32", "float32")),
            Group("r3gan-cifar10", CIFAR10, "float32", OURS),
            Group("r3gan-ffhq-64", FFHQ_64, "float32", OURS),
        )
    ),
)
# Turns and probes that fill a GPU. A cell that does not begin in time (torch.compile, most likely) is left behind.
TIMED = Plan(
    rounds=5, seconds_per_round=1.0, probe_size=8192, probe_conv_batch=512, start_together=True, start_seconds=120.0
)
# Toy sizes, which show that the command works and no more.
QUICK = (
    Phase(checks=(("float64", "dcgan"),)),
    Phase(groups=(Group("dcgan", 4, "float32", ("torch", "jax"), profiled=True),)),
)
QUICK_SIZE = {"width": 0.0625, "resolution": 16}
QUICKLY_TIMED = Plan(rounds=1, steps_per_round=1, probe_size=64, probe_conv_batch=1)


def phases(quick: bool, parts: tuple[str, ...]) -> Iterator[Phase]:
    """Yield what is to be done of some parts, what says most first."""
    for phase in QUICK if quick else PHASES:
        checks = phase.checks if "equality" in parts else ()
        groups = [
            group._replace(profiled=group.profiled and "waits" in parts)
            for group in phase.groups
            if "speed" in parts or (group.profiled and "waits" in parts)
        ]
        yield Phase(checks, tuple(groups))
