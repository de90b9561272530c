"""The spine: read this first. Config, data, steps, log, samples, checkpoints; no tensor operation in it."""

from collections.abc import Mapping
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from gan_shared import checkpoint, data, pyramid
from gan_shared.backend import Backend, MakeBackend, State, StepValues
from gan_shared.config import Config
from gan_shared.data import Dataset
from gan_shared.data.batches import batches, check_batch_size
from gan_shared.draws import draw
from gan_shared.errors import UserError
from gan_shared.interrupt import Interrupt, deferred
from gan_shared.runlog import Log, RunLog, check_unused
from gan_shared.sample import grid_inputs, make_sheet
from gan_shared.schedules import call_length, due, knobs
from gan_shared.validation import check_continuation, check_features, fitted
from gan_shared.vgg16 import identified


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        run_dir: its folder.
        step: steps done.
        interrupted: whether Ctrl-C ended it before its last step.
        checkpoint: the folder of its last checkpoint.
    """

    run_dir: Path
    step: int
    interrupted: bool
    checkpoint: Path


def train(make_backend: MakeBackend, config: Config, run_dir: Path, resume: bool) -> Outcome:
    """Train from step 0, or from the newest checkpoint of ``run_dir`` when ``resume`` is set.

    Args:
        make_backend: the Backend class of gan_torch or gan_jax.
        config: the run.
        run_dir: the run folder; new or empty unless ``resume`` is set.
        resume: whether to go on with the run that is there.

    Raises:
        UserError: the run cannot begin, or its losses are no longer finite.
    """
    if not resume:
        check_unused(run_dir)
    config = identified(config)
    dataset = data.load(config.data, config.data_resolution, config.channels)
    config = fitted(config, dataset.channels, len(dataset.classes))
    check_batch_size(dataset, config)
    with deferred():
        backend = make_backend(config)
        state, start = begin(backend, config, run_dir, resume, dataset.fingerprint)
    written_by = {"backend": backend.name, **backend.versions()}
    source = {"name": dataset.name, "fingerprint": dataset.fingerprint}
    if config.levels:
        pyramid.enrol(run_dir, config, source)
    with RunLog(run_dir, config, start if resume else None, written_by, source) as runlog:
        _, done = play(backend, config, state, dataset, start, runlog)
    return Outcome(run_dir, done, done < config.steps, checkpoint.folders(run_dir)[-1])


def play(backend: Backend, config: Config, state: State, dataset: Dataset, start: int, log: Log) -> tuple[State, int]:
    """Play the steps from ``start`` to the last one of ``config``, or until Ctrl-C.

    Returns:
        The state and the number of steps that it has done.
    """
    fixed = grid_inputs(config, dataset)
    if config.data_on == "device":
        backend.hold(dataset.images)
    done = start
    with Interrupt() as interrupt, closing(batches(dataset, config, start)) as stream:
        while True:
            ahead = islice(stream, call_length(config, done))
            values = [StepValues(batch, draw(config, step), knobs(config, step)) for step, batch in ahead]
            state, scalars = backend.steps(state, values)
            log.advance(len(values))
            done += len(values)
            last = interrupt.requested or done == config.steps
            save, show = (last or due(done, every) for every in (config.save_every, config.sample_every))
            if save or show or due(done, config.log_every):
                check_finite(scalars, log)  # the only synchronisation
            if save or due(done, config.log_every):
                log.scalars(done, scalars)
            if show:
                log.grid(done, partial(make_sheet, backend, state, fixed))
            if save:
                log.save(partial(backend.export, state))
            if last:
                return state, done


def begin(backend: Backend, config: Config, run_dir: Path, resume: bool, fingerprint: str) -> tuple[State, int]:
    """Return the state to start from and the number of steps it has done."""
    # A run that ended before its first checkpoint goes on from step 0, which is the same run.
    if not resume or not checkpoint.folders(run_dir):
        return first_state(backend, config), 0
    saved = checkpoint.load_newest(run_dir)
    check_continuation(saved.config, config, saved.path)
    if saved.data["fingerprint"] != fingerprint:
        raise UserError(
            f"data: found other images in {config.data} than those of {saved.data['name']} that the run in "
            f"{run_dir} was trained on, expected the same"
        )
    if saved.step >= config.steps:
        raise UserError(
            f"steps: found {config.steps}, expected more than the {saved.step} steps that {run_dir} has done"
        )
    with checkpoint.offering(saved.path):
        return backend.restore(saved.tensors), saved.step


def first_state(backend: Backend, config: Config) -> State:
    """Return the state at step 0, with the networks of another run where the configuration names one."""
    state = backend.init()
    if config.init_from is None:
        return state
    try:
        other = checkpoint.load_newest(Path(config.init_from))
        check_features(other.config, config)
        return backend.restore(checkpoint.with_networks(backend.export(state), other.tensors))
    except UserError as error:
        raise UserError(f"init_from: {error}") from error


def check_finite(scalars: Mapping[str, Any], log: Log) -> None:
    """Stop a run whose losses are no longer finite.

    Raises:
        UserError: naming the first such step and what is left to go on from.
    """
    first = int(scalars["first_non_finite_step"])
    if first:
        raise UserError(
            f"step {first}: the losses are no longer finite; {log.remedy()}; a lower learning rate may help"
        )
