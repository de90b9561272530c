"""argv to a command, for whichever backend calls.

A wrong *value* is one line of ours and exit status 2; a wrong *spelling* is tyro's message, also with status 2.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TextIO

import tyro
from tyro.conf import OmitArgPrefixes, Positional

from gan_shared import checkpoint, presets
from gan_shared import sample as sampling
from gan_shared import train as training
from gan_shared.backend import MakeBackend
from gan_shared.config import Config
from gan_shared.errors import UserError, unexpected
from gan_shared.interrupt import deferred
from gan_shared.profile import WARM_UP, Profiled
from gan_shared.validation import check_continuation, from_json, validate

# What a shell reports for a program that Ctrl-C ended.
INTERRUPTED = 130
# Package that a backend cannot run without -> the extra of pyproject.toml that brings it.
EXTRAS = {"torch": "torch", "jax": "jax", "jaxlib": "jax", "flax": "jax", "optax": "jax"}


@dataclass(frozen=True)
class TrainOptions:
    """Train a GAN, or go on with a run that either backend began."""

    config: OmitArgPrefixes[Config]

    run_dir: Path | None = None
    """Run folder; runs/PRESET-DATA when not given, and level-RESOLUTION in it for a level of a pyramid."""

    resume: bool = False
    """Go on from the newest checkpoint in the run folder; its configuration is the default."""

    profile: bool = False
    """Write a trace of three calls, soon after the start, into the run folder's profile."""


@dataclass(frozen=True)
class SampleOptions:
    """Make images with a trained generator, whichever backend trained it."""

    run: Positional[Path]
    """Run folder (its newest checkpoint), checkpoint folder, or the folder of a pyramid's runs."""

    num_images: int = 64
    """Images, or frames of an animation."""

    seed: int = 0
    """Number that the latents follow from."""

    out: Path = Path("samples.png")
    """FILE.png for a grid, FILE.npz for arrays, FILE.gif for a walk between latents, a folder for single PNGs."""

    classes: tuple[int, ...] = ()
    """Classes that a conditional generator makes, in turn; all of them when not given."""

    ema: bool = True
    """Whether the averaged generator makes them."""

    images: str | None = None
    """Pictures that the generator is told of, where it is told of pictures: what --data takes."""

    resolution: int | None = None
    """Level of a pyramid to stop at, in pixels; the highest when not given."""

    vgg_weights: str | None = None
    """File of VGG16's weights, where it lies elsewhere now."""

    device: str = "auto"
    """Where to compute: cpu, gpu, or auto (a GPU when the framework sees one)."""


def train(find_backend: Callable[[], MakeBackend], argv: Sequence[str] | None = None) -> int:
    """Run ``train`` and return the exit status.

    Args:
        find_backend: imports the framework and returns its Backend; called here, where Ctrl-C is answered.
        argv: the options, or None for the process's own.
    """
    stopped = "stopped at once: nothing was saved after the last checkpoint, if there is one"
    return _guarded(lambda: _train(find_backend, argv), stopped)


def sample(find_backend: Callable[[], MakeBackend], argv: Sequence[str] | None = None) -> int:
    """Run ``sample`` and return the exit status; see ``train``."""
    return _guarded(lambda: _sample(find_backend, argv), "stopped: nothing was written")


def parse_train(argv: Sequence[str] | None = None) -> tuple[Config, Path, bool, bool]:
    """Return the configuration, the run folder, whether to resume and whether to profile.

    The options are read twice: once to learn the preset or the saved run, then with its values as defaults.

    Raises:
        UserError: a value is wrong, or a resumed run's configuration would change.
    """
    options = _parse_train(presets.PRESETS["dcgan"], argv)
    if not options.resume:
        options = _parse_train(presets.find(options.config.preset), argv)
        validate(options.config)
        return options.config, _run_dir(options), False, options.profile
    # The folder that this preset's run is in when none is named.
    run_dir = _run_dir(_parse_train(presets.find(options.config.preset), argv))
    file = run_dir / "config.json"
    if not file.is_file():
        raise UserError(f"{run_dir}: found no run to resume, expected a folder with config.json")
    saved = from_json(checkpoint.read_json(file), file)
    options = _parse_train(saved, argv)
    check_continuation(saved, options.config, run_dir)
    validate(options.config)
    return options.config, run_dir, True, options.profile


def _train(find_backend: Callable[[], MakeBackend], argv: Sequence[str] | None) -> int:
    """Parse, train, and say where the results lie."""
    config, run_dir, resume, profile = parse_train(argv)
    make_backend, traces = _imported(find_backend), run_dir / "profile"
    with ExitStack() as stack:

        def make(config: Config) -> Any:
            backend = make_backend(config)
            return Profiled(backend, traces, stack) if profile else backend

        outcome = training.train(make, config, run_dir, resume)
    if profile:
        _say(f"trace of three calls in {traces}" if traces.exists() else f"no trace: found less than {WARM_UP} calls")
    if outcome.interrupted:
        _say(f"stopped at step {outcome.step}, saved in {outcome.checkpoint}; --resume goes on from there")
        return INTERRUPTED
    _say(f"trained {outcome.step} steps: samples, scalars and checkpoints are in {outcome.run_dir}")
    return 0


def _sample(find_backend: Callable[[], MakeBackend], argv: Sequence[str] | None) -> int:
    """Parse, sample, and say where the images lie."""
    options = tyro.cli(SampleOptions, args=argv)
    sampling.sample(
        _imported(find_backend),
        options.run,
        options.out,
        num_images=options.num_images,
        seed=options.seed,
        classes=options.classes,
        ema=options.ema,
        device=options.device,
        images=options.images,
        resolution=options.resolution,
        vgg_weights=options.vgg_weights,
    )
    _say(f"wrote {options.out}")
    return 0


def _parse_train(default: Config, argv: Sequence[str] | None) -> TrainOptions:
    """Parse the options of ``train`` with ``default`` as the configuration's defaults."""
    return tyro.cli(TrainOptions, args=argv, default=TrainOptions(config=default))


def _run_dir(options: TrainOptions) -> Path:
    """Return the run folder that was named, or the one that preset and data name."""
    if options.run_dir is not None:
        return options.run_dir
    config = options.config
    folder = Path("runs") / f"{config.preset}-{Path(os.path.abspath(config.data)).stem or 'root'}"
    return folder / f"level-{config.resolution}" if config.levels else folder


def leave(status: int) -> NoReturn:
    """End the process with ``status``.

    After Ctrl-C at once: a second one may have come while XLA compiles, whose threads crash a normal exit.
    """
    if status == INTERRUPTED:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(status)
    sys.exit(status)


def _imported(find_backend: Callable[[], MakeBackend]) -> MakeBackend:
    """Import the framework.

    Raises:
        UserError: it is not installed.
    """
    try:
        with deferred():
            return find_backend()
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        raise unexpected(
            str(error.name), "no such package", f"it installed: pip install -e '.[{extra}]', or the other backend"
        ) from error


def _guarded(command: Callable[[], int], stopped: str) -> int:
    """Run ``command``; a user's mistake is told in one line and gives status 2, Ctrl-C is told by ``stopped``."""
    main_thread = threading.current_thread() is threading.main_thread()
    # Like Ctrl-C, so that what is half-written is removed; while training, interrupt.py takes over.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler) if main_thread else None
    try:
        return command()
    except (UserError, OSError) as error:  # a full disk or a forbidden folder is no fault of the program
        _say("error: " + " ".join(str(error).split()), sys.stderr)
        return 2
    except MemoryError as error:
        _say(
            "error: memory: " + " ".join(f"{error}".split()) + ", expected a smaller model, batch or number", sys.stderr
        )
        return 2
    except RuntimeError as error:  # what the frameworks raise when the host or the device has no memory left
        if "memory" not in str(error).lower():
            raise
        line = str(error).splitlines()[0]
        _say(f"error: memory: {line}, expected a smaller model or batch", sys.stderr)
        return 2
    except KeyboardInterrupt:
        _say(stopped, sys.stderr)
        return INTERRUPTED
    finally:
        if main_thread:
            signal.signal(signal.SIGTERM, before)


def _say(message: str, stream: TextIO | None = None) -> None:
    """Print a line, on standard output if nothing else is named, for whoever still reads."""
    with suppress(OSError, UnicodeError):
        print(message, file=stream, flush=True)
