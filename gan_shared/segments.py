"""Segments of a run: the parts that have batches of one size. ``--resume --batch-size`` begins another."""

from itertools import pairwise

from gan_shared.config import Config
from gan_shared.errors import unexpected


def history(config: Config, step: int) -> list[tuple[int, int]]:
    """Return the segments up to ``step``: the last step and the batch size of each, the newest last.

    Args:
        config: the run.
        step: steps done.
    """
    found, first = [], 0
    for last, size in (*_earlier(config), (step, config.training.batch_size)):
        if first < min(last, step):
            found.append((min(last, step), size))
        first = last
    return found


def images_seen(config: Config, step: int) -> int:
    """Return the images seen after ``step`` steps: a step counts its batch once, however many updates it holds."""
    seen = first = 0
    for last, size in history(config, step):
        seen, first = seen + (last - first) * size, last
    return seen


def begun_at(config: Config, step: int) -> Config:
    """Return the configuration of a run whose newest segment begins after ``step`` steps, if not before.

    A run that goes back to an earlier step has the batches of its newest segment from there on.
    """
    if not config.training.earlier_batch_sizes:
        return config
    merged: list[tuple[int, int]] = []
    for last, size in history(config, min(step, _earlier(config)[-1][0])):
        if merged and merged[-1][1] == size:
            merged.pop()
        merged.append((last, size))
    if merged and merged[-1][1] == config.training.batch_size:
        merged.pop()
    return config.with_options(earlier_batch_sizes=tuple(number for pair in merged for number in pair))


def continued(saved: Config, wanted: Config, step: int) -> Config:
    """Return the configuration of a run that goes on, perhaps with batches of another size.

    Args:
        saved: the run's own configuration.
        wanted: the one that is asked for now.
        step: steps that the run has done.
    """
    if wanted.training.batch_size == saved.training.batch_size:
        return begun_at(wanted, step)
    before = tuple(number for pair in history(saved, step) for number in pair)
    return begun_at(wanted.with_options(earlier_batch_sizes=before), step)


def check_segments(config: Config) -> None:
    """Refuse a malformed ``earlier_batch_sizes``.

    Raises:
        UserError: naming the option.
    """
    given = config.training.earlier_batch_sizes
    steps = (0, *given[::2])
    rising = all(low < high for low, high in pairwise(steps))
    if len(given) % 2 or not rising or not all(size >= 1 for size in given[1::2]):
        expected = "STEP SIZE, once or more, with steps that rise"
        raise unexpected("earlier_batch_sizes", " ".join(map(str, given)), expected)


def check_first_segment(config: Config) -> None:
    """Refuse earlier segments of a run that begins.

    Raises:
        UserError: naming the option.
    """
    if config.training.earlier_batch_sizes:
        found = " ".join(map(str, config.training.earlier_batch_sizes))
        raise unexpected("earlier_batch_sizes", found, "none, as the run begins")


def segments_note(config: Config) -> str:
    """Return which batch sizes a run has had until when."""
    before = ", ".join(f"{size} up to step {last}" for last, size in _earlier(config))
    return f"batch size {config.training.batch_size} from step {_earlier(config)[-1][0]} on; before: {before}"


def _earlier(config: Config) -> list[tuple[int, int]]:
    """Return the last step and the batch size of each segment before the newest."""
    given = config.training.earlier_batch_sizes
    return list(zip(given[::2], given[1::2], strict=True))
