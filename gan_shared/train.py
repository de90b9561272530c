"""The training loop: read this first. Config, data, steps, log, samples, checkpoints; no tensor operation in it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from gan_shared import checkpoint, lapgan
from gan_shared.backend import Backend, MakeBackend, State, StepValues
from gan_shared.config import Config
from gan_shared.data import Dataset, check_outside
from gan_shared.data.batches import batches, check_batch_size
from gan_shared.draws import draw
from gan_shared.errors import NotFinite, UserError, unexpected
from gan_shared.evaluate import check_from_latents
from gan_shared.evaluation import Evaluator
from gan_shared.evaluation_hook import EvaluationHook, settings_while_training
from gan_shared.hooks import Event, Every, call_length
from gan_shared.image_conditions import image_condition
from gan_shared.interrupt import Interrupt, Stopped, deferred
from gan_shared.own import own_options
from gan_shared.paths import expanded
from gan_shared.real_images import load_training_images
from gan_shared.runlog import RunLog, check_unused
from gan_shared.sample import grid_inputs
from gan_shared.schedules import schedule_values
from gan_shared.segments import check_first_segment, segments_note
from gan_shared.transfer import transferred
from gan_shared.validation import check_continuation, with_data_defaults


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        run_dir: its folder.
        step: steps done.
        signal_number: of the signal that ended it before its last step; 0 for none.
        checkpoint: the folder of its last checkpoint.
    """

    run_dir: Path
    step: int
    signal_number: int
    checkpoint: Path


class Played(NamedTuple):
    """Where the steps ended.

    Attributes:
        state: everything that training changes.
        step: steps that it has done.
        signal_number: of the signal that asked for the end; 0 for none.
    """

    state: State
    step: int
    signal_number: int


def class_names(config: Config, dataset: Dataset) -> list[str]:
    """Return the names of a run's classes; one that the data has no name for goes by its number."""
    count = config.num_classes if config.data.class_conditional else len(dataset.class_names)
    return [*dataset.class_names, *map(str, range(len(dataset.class_names), count))]


def train(
    make_backend: MakeBackend, config: Config, run_dir: Path, resume: bool, further: Sequence[Every] = ()
) -> Outcome:
    """Train from step 0, or from the newest checkpoint of ``run_dir`` when ``resume`` is set.

    Args:
        make_backend: the Backend class of gan_torch or gan_jax.
        config: the run.
        run_dir: the run folder; new or empty unless ``resume`` is set.
        resume: whether to go on with the run that is there.
        further: entries beside logging, sampling and saving; numbers that their actions return are logged.

    Raises:
        UserError: the run cannot begin, or its losses are no longer finite.
    """
    if not resume:
        check_unused(run_dir)
        check_first_segment(config)
    check_outside("run_dir", run_dir, config.execution.data)
    config = image_condition(config).identified(config)
    dataset = load_training_images(config)
    config = with_data_defaults(config, dataset.channels, len(dataset.class_names), dataset.no_labels)
    check_batch_size(dataset, config)
    evaluator = find_evaluator(config, dataset.fingerprint)
    notes = [f"{dataset.name}: {dataset.about}"] if dataset.about else []
    notes += [segments_note(config)] if config.training.earlier_batch_sizes else []
    source = {"name": dataset.name, "fingerprint": dataset.fingerprint, "class_names": class_names(config, dataset)}
    with deferred():
        backend = make_backend(config)
        state, start = begin(backend, config, run_dir, resume, source, notes.append)
    written_by = {"backend": backend.name, **backend.versions()}
    if config.image_condition.pyramid_levels:
        lapgan.register(run_dir, config, source)
    with RunLog(run_dir, config, start if resume else None, written_by, source) as runlog:
        for note in notes:
            runlog.print_line(note)
        if evaluator is not None:
            further = [*further, Every(config.execution.evaluate_every, EvaluationHook(evaluator, runlog))]
        inputs = grid_inputs(config, dataset)
        while True:
            hooks, rollbacks = runlog.hooks(inputs, further), runlog.rollbacks
            try:
                played = play(backend, config, state, dataset, start, hooks, remedy=runlog.remedy, rollbacks=rollbacks)
                break
            except NotFinite as error:
                del state  # its memory is the next one's
                saved, stop = runlog.roll_back(error), error.signal_number
            if stop:
                raise Stopped(stop)
            start = saved.step if saved else 0
            config = runlog.config
            state = backend.restore(saved.tensors) if saved else first_state(backend, config)
    ended_by = played.signal_number if played.step < config.execution.steps else 0
    return Outcome(run_dir, played.step, ended_by, checkpoint.folders(run_dir)[-1])


def play(
    backend: Backend,
    config: Config,
    state: State,
    dataset: Dataset,
    start: int,
    hooks: Sequence[Every],
    *,
    remedy: Callable[[], str],
    rollbacks: int = 0,
) -> Played:
    """Run the steps from ``start`` to the last one of ``config``, or until a signal asks for the end.

    Args:
        backend: what computes.
        config: the run.
        state: the state after ``start`` steps; it must not be used again.
        dataset: the training images.
        start: steps done before.
        hooks: what happens beside the steps, in this order where several entries are due (see ``Every``).
        remedy: says what is left to go on from when the losses are no longer finite.
        rollbacks: how often the run has gone back to a checkpoint before: the random numbers are others each time.

    Raises:
        NotFinite: the losses are no longer finite.
    """
    if config.execution.data_on == "device":
        backend.hold(dataset.images)
    done = start
    with Interrupt() as interrupt, closing(batches(dataset, config, start)) as stream:
        while True:
            ahead = islice(stream, call_length(hooks, config, done))
            values = [
                StepValues(batch, draw(config, step, rollbacks=rollbacks), schedule_values(config, step))
                for step, batch in ahead
            ]
            state, scalars = backend.steps(state, values)
            done += len(values)
            last = bool(interrupt.requested) or done == config.execution.steps
            event = Event(done, last, state, scalars, backend, config)
            for hook in hooks:
                if hook.due(done, event.last):
                    try:
                        if hook.reads:
                            check_finite(event, remedy)  # the only synchronisation
                        hook.action(event)
                    except NotFinite as error:
                        error.signal_number = interrupt.requested
                        raise
            if event.last:
                return Played(state, done, interrupt.requested)


def find_evaluator(config: Config, fingerprint: str) -> Evaluator | None:
    """Return what evaluates a run while it trains, if anything does; what it lacks is found out before the first step.

    Raises:
        UserError: there are no held-out images, or no weights of the network.
    """
    if not config.execution.evaluate_every:
        return None
    check_from_latents(config)
    most = config.execution.evaluate_images
    return Evaluator(config, settings_while_training(config), fingerprint, most)


def begin(
    backend: Backend,
    config: Config,
    run_dir: Path,
    resume: bool,
    source: Mapping[str, Any],
    say: Callable[[str], None],
) -> tuple[State, int]:
    """Return the state to start from and the number of steps it has done.

    Args:
        backend: what computes.
        config: the run.
        run_dir: its folder.
        resume: whether to go on with the run that is there.
        source: name, fingerprint and class names of the training images.
        say: see ``first_state``.

    Raises:
        UserError: the run there is another one, or has other images, or is complete; see ``first_state`` too.
    """
    # A run that ended before its first checkpoint goes on from step 0, which is the same run.
    if not resume or not checkpoint.folders(run_dir):
        return first_state(backend, config, say), 0
    saved = checkpoint.load_newest(run_dir)
    check_continuation(saved.config, config, saved.path, saved.step)
    if saved.data["fingerprint"] != source["fingerprint"]:
        raise UserError(
            f"data: found other images in {config.execution.data} than those of {saved.data['name']} that the run in "
            f"{run_dir} was trained on, expected the same"
        )
    if config.data.class_conditional and saved.class_names and list(saved.class_names) != source["class_names"]:
        pairs = zip_longest(source["class_names"], saved.class_names)
        found, expected = next(pair for pair in pairs if pair[0] != pair[1])
        raise unexpected("data", f"the class {found} in {config.execution.data}", f"{expected}, as the run has it")
    if saved.step >= config.execution.steps:
        raise UserError(
            f"steps: found {config.execution.steps}, expected more than the {saved.step} steps that {run_dir} has done"
        )
    with checkpoint.suggesting_another(saved.path):
        return backend.restore(saved.tensors), saved.step


def first_state(backend: Backend, config: Config, say: Callable[[str], None] = lambda text: None) -> State:
    """Return the state at step 0, with the networks of another run where the configuration names one.

    Args:
        backend: what computes.
        config: of the run.
        say: called with what of those networks was carried over, where not all of it was.

    Raises:
        UserError: there are no such networks, or they do not fit.
    """
    state = backend.init()
    if config.training.init_from is None:
        return state
    try:
        other = checkpoint.load_newest(expanded(config.training.init_from))
        if made_with := own_options(other.config):
            found = f"a GAN whose {' and '.join(made_with)} are the user's own"
            raise unexpected(str(other.path), found, "one of named ones; GAN.load and fit train it on")
        image_condition(config).check_same(other.config, config)
        begun = transferred(backend.export(state), other, config)
        if begun.about:
            say(f"init_from: {begun.about}")
        return backend.restore(begun.tensors)
    except UserError as error:
        raise UserError(f"init_from: {error}") from error


def check_finite(event: Event, remedy: Callable[[], str]) -> None:
    """Stop a run whose losses are no longer finite; this waits for the device.

    Raises:
        NotFinite: naming the first such step and what is left to go on from.
    """
    first = int(event.scalars["first_non_finite_step"].item())
    if first:
        raise NotFinite(f"step {first}: the losses are no longer finite; {remedy()}; a lower learning rate may help")
