"""The settings of one measured process, and what follows from them without any framework."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from gan_shared import data, presets
from gan_shared.config import Config
from gan_shared.data import Dataset
from gan_shared.errors import unexpected
from gan_shared.option_groups import RANDOM
from gan_shared.options import Value
from gan_shared.validation import validate, with_data_defaults

# Images of the synthetic set, fewer where they would be larger than this: memory is for what is measured.
NOISE_IMAGES = 2048
NOISE_BYTES = 128 * 2**20
# Colours and classes of noise that stands for a preset's own data; one colour and no classes elsewhere.
COLOURS = {"cifar10": 3, "stacked-mnist": 3, "ffhq": 3}
NOISE_CLASSES = 10
# Steps of a timed run: more than any measurement takes.
ENDLESS = 2**40


class Contender(NamedTuple):
    """Something that can be measured.

    Attributes:
        framework: ``torch`` or ``jax``: whose probes measure what the device can do.
        needs: packages that it cannot run without.
        naive: whether it is a plain implementation instead of ours.
        options: of the run, by name, that make it another contender than the framework's first.
        environment: variables of its process, likewise.
        cudnn_benchmark: whether cuDNN tries its algorithms and keeps the fastest (``torch.backends.cudnn.benchmark``).
    """

    framework: str
    needs: tuple[str, ...]
    naive: bool = False
    options: Mapping[str, Value] = MappingProxyType({})
    environment: Mapping[str, str] = MappingProxyType({})
    cudnn_benchmark: bool = False


FLAX = ("jax", "flax")
CONTENDERS = {
    "torch": Contender("torch", ("torch",)),
    "jax": Contender("jax", FLAX),
    "jax-16": Contender("jax", FLAX, options={"steps_per_call": 16}),
    "jax-latency-hiding": Contender(
        "jax", FLAX, environment={"XLA_FLAGS": "--xla_gpu_enable_latency_hiding_scheduler=true"}
    ),
    "jax-without-triton": Contender("jax", FLAX, environment={"XLA_FLAGS": "--xla_gpu_enable_triton_gemm=false"}),
    "torch-compile": Contender("torch", ("torch",), options={"compile": True}),
    "torch-graph": Contender("torch", ("torch",), options={"cuda_graph": True}),
    "torch-benchmark": Contender("torch", ("torch",), cudnn_benchmark=True),
    "torch-graph-benchmark": Contender("torch", ("torch",), options={"cuda_graph": True}, cudnn_benchmark=True),
    "torch-naive": Contender("torch", ("torch",), naive=True),
    "jax-naive": Contender("jax", ("jax", "flax", "optax"), naive=True),
}


@dataclass(frozen=True)
class Settings:
    """One cell: what is measured, at which size, on what."""

    preset: str
    backend: str
    batch_size: int
    precision: str = "float32"
    resolution: int | None = None
    width: float | None = None
    device: str = "auto"
    steps_per_call: int = 1
    data: str | None = None
    """A name or a path as ``--data`` takes it; noise in memory when not given."""
    data_on: str = "host"
    recompute: bool = False

    def to_line(self) -> str:
        """Return the settings as one line of JSON."""
        return json.dumps(asdict(self))


def read_settings() -> Settings:
    """Read the settings from one line of standard input.

    Raises:
        UserError: it holds none, which is what happens to who starts a cell by hand.
    """
    try:
        return Settings(**json.loads(sys.stdin.readline()))
    except (ValueError, TypeError) as error:
        raise unexpected("standard input", "no settings", "a line of JSON from the process that measures") from error


def check_known(backends: tuple[str, ...]) -> None:
    """Refuse a backend that cannot be measured.

    Raises:
        UserError: naming the first.
    """
    for backend in backends:
        if backend not in CONTENDERS:
            raise unexpected("backends", backend, "what can be measured", CONTENDERS)


def available(backends: tuple[str, ...], say: Callable[[str], None]) -> tuple[str, ...]:
    """Return the backends whose packages are installed, and ``say`` in one line which is left out and why.

    Raises:
        UserError: one is unknown, or none is left.
    """
    check_known(backends)
    found = []
    for backend in dict.fromkeys(backends):
        absent = missing(backend)
        if absent:
            say(f"{backend}: left out, as {', '.join(absent)} is not installed")
        else:
            found.append(backend)
    if not found:
        raise unexpected("backends", " ".join(backends), "at least one whose packages are installed")
    return tuple(found)


def missing(backend: str) -> list[str]:
    """Return the packages that a backend cannot run without and that are not installed."""
    return [name for name in CONTENDERS[backend].needs if find_spec(name) is None]


def configuration(settings: Settings) -> Config:
    """Return the run that a cell steps through: its preset, with what the settings change.

    Raises:
        UserError: there is no such preset, or it cannot be had at these sizes.
    """
    config = presets.get_preset(settings.preset)
    changed: dict[str, Any] = {
        "batch_size": settings.batch_size,
        "precision": settings.precision,
        "device": settings.device,
        "steps_per_call": settings.steps_per_call,
        "data_on": settings.data_on,
        "recompute": settings.recompute,
        "steps": ENDLESS,
        **CONTENDERS[settings.backend].options,
    }
    for name in ("resolution", "width", "data"):
        if getattr(settings, name) is not None:
            changed[name] = getattr(settings, name)
    config = config.with_options(**changed)
    config = without_files(config) if settings.data is None else config
    validate(config)
    return config


def without_files(config: Config) -> Config:
    """Return a run with what its images would decide, and with random weights where it would read a VGG16's."""
    if config.image_condition.vgg_layer is not None:
        config = config.with_options(vgg_weights=config.execution.vgg_weights or RANDOM)
    return with_data_defaults(config, COLOURS.get(config.execution.data, 1), NOISE_CLASSES)


def prepare(settings: Settings) -> tuple[Config, Dataset]:
    """Return the run with all that its images decide, and the images: those that are named, or noise.

    Raises:
        UserError: the run cannot be had at these sizes, or on these images.
    """
    config = configuration(settings)
    if settings.data is None:
        return config, noise(config)
    images = data.load(config.execution.data, config.data_resolution, config.data.channels)
    return with_data_defaults(config, images.channels, len(images.class_names)), images


def noise(config: Config) -> Dataset:
    """Return images that stand for a run's own, made here.

    Returns:
        uint8 (N, resolution, resolution, channels) with labels where the run is conditional, N at most 2,048 and at
        least one batch.
    """
    shape = (config.data_resolution, config.data_resolution, config.image_shape[2])
    count = max(config.training.batch_size, min(NOISE_IMAGES, NOISE_BYTES // int(np.prod(shape))))
    generator = np.random.default_rng(config.training.seed)
    images = generator.integers(256, size=(count, *shape), dtype=np.uint8)
    labels = generator.integers(config.num_classes, size=count) if config.data.class_conditional else None
    return Dataset("noise", images, labels, (), "noise")
