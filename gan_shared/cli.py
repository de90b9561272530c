"""argv to a command, for whichever backend calls.

A wrong *value* is one line of ours and exit status 2; a wrong *spelling* is tyro's message, also with status 2.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn, TextIO, TypeVar

import tyro
from tyro.conf import OmitArgPrefixes, Positional

from gan_shared import checkpoint, hub, legacy, manifest, presets
from gan_shared import evaluate as evaluating
from gan_shared import export as exporting
from gan_shared import sample as sampling
from gan_shared import train as training
from gan_shared.backend import MakeBackend
from gan_shared.command import spell_out
from gan_shared.command_options import EvaluateOptions, ExportOptions, SampleOptions
from gan_shared.config import Config, groups
from gan_shared.errors import UserError, one_line, unexpected
from gan_shared.evaluation import EvaluationSettings
from gan_shared.evaluation_hook import settings_while_training
from gan_shared.interrupt import deferred, handling, status_of, stop_at_once
from gan_shared.latents import LatentSource, parse_seeds
from gan_shared.paths import expanded
from gan_shared.profile import WARM_UP, Profiled
from gan_shared.segments import continued
from gan_shared.validation import check_continuation, validate

RUN_DIR_HELP = (
    "Run folder; runs/PRESET-DATA when not given, and level-RESOLUTION in it for a pyramid level of a LAPGAN."
)
RESUME_HELP = "Go on from the newest checkpoint in the run folder; its configuration is the default."
PROFILE_HELP = "Profile three calls, soon after the start, into the run folder's profile."
Imported = TypeVar("Imported")
# Package that a backend cannot run without -> the extra of pyproject.toml that brings it.
EXTRAS = {"torch": "torch", "jax": "jax", "jaxlib": "jax", "flax": "jax", "optax": "jax"}


class TrainRequest(NamedTuple):
    """What the command line of ``train`` asks for.

    Attributes:
        config: the run.
        run_dir: its folder.
        resume: whether to go on with the run that is there.
        profile: whether to profile three calls.
    """

    config: Config
    run_dir: Path
    resume: bool
    profile: bool


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


def evaluate(find_backend: Callable[[], MakeBackend], argv: Sequence[str] | None = None) -> int:
    """Run ``evaluate`` and return the exit status; see ``train``."""
    return _guarded(lambda: _evaluate(find_backend, argv), "stopped: no numbers were written")


def export(
    find_backend: Callable[[], MakeBackend],
    find_writers: Callable[[], Mapping[str, exporting.Writer]],
    argv: Sequence[str] | None = None,
) -> int:
    """Run ``export`` and return the exit status; see ``train``.

    Args:
        find_backend: imports the framework and returns its Backend.
        find_writers: likewise for what it writes files with.
        argv: the options, or None for the process's own.
    """
    return _guarded(lambda: _export(find_backend, find_writers, argv), "stopped: nothing was written")


def parse_train(argv: Sequence[str] | None = None) -> TrainRequest:
    """Return what the options of ``train`` ask for.

    They are read twice: once to learn the preset, the update rules or the saved run, then with their values as
    defaults.

    Raises:
        UserError: a value is wrong, or a resumed run's configuration would change.
    """
    legacy.check_arguments(sys.argv[1:] if argv is None else argv)
    first = _parse_train(presets.PRESETS["dcgan"], argv)
    preset = presets.get_preset(first.config.preset)
    legacy.check_family(str(first.config.networks.generator), "generator")
    if not first.resume:
        # A rule that is named keeps the hyperparameters of the preset that it has too; others are its own defaults.
        rules = {name: first.config.values()[name] for name in ("generator_optimizer", "discriminator_optimizer")}
        typed = {name: rule for name, rule in rules.items() if rule != presets.PRESETS["dcgan"].values()[name]}
        request = _parse_train(preset.with_values(typed), argv)
        validate(request.config)
        return request
    # The folder that this preset's run is in when none is named.
    run_dir = _parse_train(preset, argv).run_dir
    saved = manifest.read_config(run_dir)
    request = _parse_train(saved, argv)._replace(run_dir=run_dir)
    check_continuation(saved, request.config, run_dir)
    config = continued(saved, request.config, checkpoint.newest_step(run_dir))
    validate(config)
    return request._replace(config=config)


def _train(find_backend: Callable[[], MakeBackend], argv: Sequence[str] | None) -> int:
    """Parse, train, and print where the results are."""
    config, run_dir, resume, profile = parse_train(argv)
    if resume and checkpoint.newest_step(run_dir) == config.execution.steps:
        done = checkpoint.load_newest(run_dir)
        _say(f"nothing to do: {run_dir} has done all of its {done.step} steps; more --steps prolong it")
        return 0
    make_backend, profiles = _imported(find_backend), run_dir / "profile"
    with ExitStack() as stack:

        def make(config: Config) -> Any:
            backend = make_backend(config)
            return Profiled(backend, profiles, stack) if profile else backend

        outcome = training.train(make, config, run_dir, resume)
    if profile:
        few = f"no profile: found less than {WARM_UP} calls"
        _say(f"profile of three calls in {profiles}" if profiles.exists() else few)
    if outcome.signal_number:
        _say(f"stopped at step {outcome.step}, saved in {outcome.checkpoint}; --resume goes on from there")
        return status_of(outcome.signal_number)
    done = f"trained {outcome.step} step{'' if outcome.step == 1 else 's'}"
    _say(f"{done}: samples, scalars and checkpoints are in {outcome.run_dir}")
    if config.execution.evaluate_every and checkpoint.folders(run_dir, checkpoint.BEST):
        _say_how_good(make_backend, outcome, config)
    return 0


def _sample(find_backend: Callable[[], MakeBackend], argv: Sequence[str] | None) -> int:
    """Parse, sample, and print where the images are."""
    options = tyro.cli(SampleOptions, args=argv)
    out = expanded(options.out)
    sampling.sample(
        _imported(find_backend),
        expanded(options.run),
        out,
        num_images=options.num_images,
        latents=LatentSource(options.seed, parse_seeds(options.seeds), options.truncation),
        classes=options.classes,
        ema=options.ema,
        device=options.device,
        images=options.images,
        resolution=options.resolution,
        vgg_weights=options.vgg_weights,
    )
    _say(f"wrote {out}")
    return 0


def _evaluate(find_backend: Callable[[], MakeBackend], argv: Sequence[str] | None) -> int:
    """Parse, evaluate, and print the table."""
    options = tyro.cli(EvaluateOptions, args=argv)
    shared = {name: getattr(options, name) for name in EvaluationSettings.__dataclass_fields__}
    found = evaluating.evaluate(
        _imported(find_backend),
        expanded(options.run),
        EvaluationSettings(**shared),
        against=options.against and expanded(options.against),
        moved={name: getattr(options, name) for name in evaluating.MOVED},
        device=options.device,
        resolution=options.resolution,
    )
    _say(found)
    return 0


def _export(
    find_backend: Callable[[], MakeBackend],
    find_writers: Callable[[], Mapping[str, exporting.Writer]],
    argv: Sequence[str] | None,
) -> int:
    """Parse, export, and print what was written."""
    options = tyro.cli(ExportOptions, args=argv)
    source, out = expanded(options.run), options.out and expanded(options.out)
    of_hub = options.to == "hub"
    others = ("batch_size", "resolution") if of_hub else ("push_to", "private", "license")
    for name in others:
        if getattr(options, name) not in (None, False):
            wanted = "none, as --to is hub" if of_hub else f"none, as --to is {options.to} and not hub"
            raise unexpected(name, getattr(options, name), wanted)
    if of_hub:
        publish = hub.Publication(options.push_to, options.private, options.license)
        _say(hub.export(_imported(find_backend), source, out, publish, ema=options.ema))
        return 0
    _say(
        exporting.export(
            _imported(find_backend),
            _imported(find_writers),
            source,
            options.to,
            out,
            batch_size=options.batch_size,
            ema=options.ema,
            resolution=options.resolution,
        )
    )
    return 0


def _say_how_good(make_backend: MakeBackend, outcome: training.Outcome, config: Config) -> None:
    """Print the numbers of a run's last checkpoint and of its best.

    Both are measured again, from other latents and as many images as are usual: the smallest of several numbers was
    partly luck.
    """
    best = checkpoint.folders(outcome.run_dir, checkpoint.BEST)[-1]
    same = checkpoint.step_of(best) == checkpoint.step_of(outcome.checkpoint)
    _say(f"the best checkpoint while it trained is {'the last' if same else best}; measured again, from other latents:")
    settings, execution = settings_while_training(config, seed=1), config.execution
    against = None if same else best
    try:
        _say(
            evaluating.evaluate(
                make_backend,
                outcome.checkpoint,
                settings,
                against=against,
                moved={name: getattr(execution, name) for name in evaluating.MOVED},
                device=execution.device,
            )
        )
    except (UserError, KeyboardInterrupt) as error:  # the run is complete whatever happens here
        _say(f"not measured again: {one_line(error) or 'stopped'}")


def _parse_train(default: Config, argv: Sequence[str] | None) -> TrainRequest:
    """Parse the options of ``train`` with the values of ``default`` as their defaults."""
    parsed = tyro.cli(_train_options(default), args=argv)
    values = {
        name: getattr(getattr(parsed, group), name)
        for group, _, declared in groups()
        for name in (each.name for each in declared)
    }
    config = default.with_values({**values, "preset": parsed.preset})
    return TrainRequest(config, _run_dir(parsed.run_dir, config), parsed.resume, parsed.profile)


def _train_options(default: Config) -> type:
    """Return the options of ``train`` as a dataclass for tyro: every group a heading in the help, every name flat."""
    values, headings = default.values(), []
    for group, kind, declared in groups():
        options_of_group = [
            (each.name, Annotated[each.kind, tyro.conf.arg(help=each.description)], field(default=values[each.name]))  # type: ignore[valid-type]
            for each in declared
        ]
        made = make_dataclass(group, options_of_group, frozen=True)
        made.__doc__ = kind.__doc__
        headings.append((group, OmitArgPrefixes[made], field(default_factory=made)))
    preset = Annotated[str, tyro.conf.arg(help="Named recipe whose values are the defaults of every option.")]
    own = [
        ("preset", Positional[preset], field(default=default.preset)),
        ("run_dir", Annotated[Path | None, tyro.conf.arg(help=RUN_DIR_HELP)], field(default=None)),
        ("resume", Annotated[bool, tyro.conf.arg(help=RESUME_HELP)], field(default=False)),
        ("profile", Annotated[bool, tyro.conf.arg(help=PROFILE_HELP)], field(default=False)),
    ]
    made = make_dataclass("TrainOptions", [*own, *headings], frozen=True)
    made.__doc__ = "Train a GAN, or go on with a run that either backend began."
    return made


def _run_dir(given: Path | None, config: Config) -> Path:
    """Return the run folder that was given, or the one that preset and data name."""
    if given is not None:
        return expanded(given)
    folder = Path("runs") / f"{config.preset}-{Path(os.path.abspath(config.execution.data)).stem or 'root'}"
    return folder / f"level-{config.data.resolution}" if config.image_condition.pyramid_levels else folder


def leave(status: int) -> NoReturn:
    """End the process with ``status``.

    After a signal at once: a second one may have come while XLA compiles, whose threads crash a normal exit.
    """
    if status > status_of(0):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(status)
    sys.exit(status)


def _imported(find: Callable[[], Imported]) -> Imported:
    """Import the framework, and return what is needed of it.

    Raises:
        UserError: it is not installed.
    """
    try:
        with deferred():
            return find()
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        raise unexpected(
            str(error.name), "no such package", f"it installed: pip install -e '.[{extra}]', or the other backend"
        ) from error


def _guarded(command: Callable[[], int], stopped: str) -> int:
    """Run ``command``; a user's mistake is printed as one line with status 2, a signal as the line ``stopped``."""
    spell_out()
    try:
        with handling(stop_at_once):  # while training, ``Interrupt`` takes over
            return command()
    except (UserError, OSError) as error:  # a full disk or a forbidden folder is no fault of the program
        _say(f"error: {one_line(error)}", sys.stderr)
        return 2
    except MemoryError as error:
        _say(f"error: memory: {one_line(error)}, expected a smaller model, batch or number", sys.stderr)
        return 2
    except RuntimeError as error:  # what the frameworks raise when the host or the device has no memory left
        if "memory" not in str(error).lower():
            raise
        first = RuntimeError(*str(error).splitlines()[:1])
        _say(f"error: memory: {one_line(first)}, expected a smaller model or batch", sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        _say(stopped, sys.stderr)
        return status_of(stop)


def _say(message: str, stream: TextIO | None = None) -> None:
    """Print a line, on standard output if no other stream is given; a stream that is closed is no error."""
    with suppress(OSError, UnicodeError):
        print(message, file=stream, flush=True)
