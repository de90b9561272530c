"""What happens beside the steps of a run, and when: logging, sampling, saving, a user's callbacks, as one list.

    hooks = [Every(None, advance), Every(20, log), Every(500, save, at_end=True)]

``train.play`` runs the entries that are due after a call, in the order of the list, and reads from the list how many
steps the next call may have.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from gan_shared.backend import Backend, State
from gan_shared.config import Config
from gan_shared.errors import is_whole, unexpected
from gan_shared.image_conditions import is_image_conditional
from gan_shared.latents import LatentSource, check_request
from gan_shared.sample import TrainedGenerator, check_class_ids, generate_images, inputs_of

# Names of a logged line that no action may use, beside those of the step's scalars.
RESERVED = ("step", "images_seen", "images_per_second")


class Scalar(Protocol):
    """A number on the device: a tensor or an array without axes."""

    def item(self) -> float:
        """Return it as a Python number, a float or an int; this waits for the device."""
        ...


class Event(NamedTuple):
    """What an action is called with, after a call of one step or more.

    Attributes:
        step: steps done.
        last: whether no step follows: the run has reached its last step, or Ctrl-C has ended it.
        state: everything that training changes, of the backend's own type. The next step takes over its memory: read
            it, change nothing, and keep copies alone, such as ``backend.export(state)`` makes.
        scalars: what the last of the steps reported, by name; still on the device (see ``Backend.steps``).
        backend: what computes, for ``sample`` and ``export``.
        config: the run.
    """

    step: int
    last: bool
    state: State
    scalars: Mapping[str, Scalar]
    backend: Backend
    config: Config

    def numbers(self) -> dict[str, float]:
        """Return the scalars that are logged, read from the device.

        The rule is that of ``Backend.steps``: a floating-point scalar is a curve, an integer is a check and no curve.
        The reconstruction loss is one only where the generator's loss has such terms.
        """
        numbers = {name: scalar.item() for name, scalar in self.scalars.items()}
        weights = self.config.image_condition
        if not (weights.pixel_weight or weights.feature_weight):
            numbers.pop("reconstruction_loss", None)
        return {name: number for name, number in numbers.items() if isinstance(number, float)}

    def samples(self, num_images: int = 16, seed: int = 0) -> np.ndarray:
        """Return images that the averaged generator makes now, uint8 (N, H, W, C); the classes in turn.

        Args:
            num_images: how many.
            seed: image i follows from the seed and i, so that the same ones are seen to improve.

        Raises:
            UserError: a number cannot be used, or the generator is image-conditional.
        """
        if is_image_conditional(self.config):
            raise unexpected("samples", "an image-conditional generator", "one that makes images from latents")
        latents = LatentSource(seed)
        check_request(num_images, latents)
        inputs = inputs_of([self.config], latents, num_images, check_class_ids(self.config, ()))
        return np.concatenate(list(generate_images([TrainedGenerator(self.backend, self.state)], inputs, ema=True)))


# What an action returns is logged with the step: numbers by name. What is no mapping is ignored.
Action = Callable[[Event], object]


@dataclass(frozen=True)
class Every:
    """An entry of the list: an action, and after which steps it runs.

    Args:
        n: the action runs after every ``n`` steps, whether the run began at step 0 or was resumed. None: after every
            call of the backend, which must not wait for the device: such an action reads no state and no scalar.
        action: called with the ``Event``. Numbers that it returns by name (``{"fid": 12.5}``) are logged with the
            step.
        at_end: whether it also runs after the last step, and after the one at which Ctrl-C ends the run.

    Raises:
        UserError: ``n`` is no number of steps, or ``action`` cannot be called.
    """

    n: int | None
    action: Action
    at_end: bool = False

    def __post_init__(self) -> None:
        if self.n is not None and (not is_whole(self.n) or self.n < 1):
            raise unexpected("Every", self.n, "a number of steps from 1, or None for after every call")
        if not callable(self.action):
            raise unexpected("Every", repr(self.action), "a function of the event")

    @property
    def reads(self) -> bool:
        """Whether the action may read from the device."""
        return self.n is not None

    def due(self, step: int, last: bool) -> bool:
        """Whether the action runs after ``step`` steps."""
        return self.n is None or step % self.n == 0 or (last and self.at_end)


def call_length(hooks: Iterable[Every], config: Config, step: int) -> int:
    """Return how many steps after ``step`` are one call: up to the next that an entry is due after, or the last."""
    ahead = (hook.n - step % hook.n for hook in hooks if hook.n is not None)
    return min(config.execution.steps_per_call, config.execution.steps - step, *ahead)


def _checked(name: object, number: Any, taken: Collection[str]) -> tuple[str, float]:
    """Return a number that an action returned, with its name.

    Raises:
        UserError: it is no number, or the name is none or that of something else.
    """
    if not isinstance(name, str) or name in taken:
        raise unexpected("Every", f"the name {name!r}", f"one that no other number has; taken: {sorted(taken)}")
    try:
        return name, float(number)
    except (TypeError, ValueError, OverflowError) as error:
        raise unexpected("Every", f"{number!r} as {name}", "a number") from error


class ScalarLog:
    """Brings the numbers of a step together, its own and those that actions return, and writes each step once.

    Args:
        write: called with the event and its numbers by name.
    """

    def __init__(self, write: Callable[[Event, dict[str, float]], None]) -> None:
        self._write = write
        self._added: dict[str, float] = {}
        self._step = -1

    def hooks(self, cadences: Iterable[int], further: Sequence[Every] = ()) -> list[Every]:
        """Return the entries that log.

        Args:
            cadences: a step is written after every so many steps, for each of them, and after the last.
            further: entries that run before, whose numbers are written with the step; it is written for them alone
                where no cadence asks for it.
        """
        return [
            *(replace(entry, action=partial(self._add, entry.action)) for entry in further),
            *(Every(n, self._log, at_end=True) for n in cadences),
            Every(None, self._log_added),
        ]

    def _add(self, action: Action, event: Event) -> None:
        """Run an action and keep the numbers that it returns."""
        returned = action(event)
        if isinstance(returned, Mapping):
            taken = {*RESERVED, *event.scalars, *self._added}
            self._added |= dict(_checked(name, number, taken) for name, number in returned.items())

    def _log(self, event: Event) -> None:
        """Write the step, if it is not written yet."""
        if event.step == self._step:
            return
        numbers, self._added, self._step = event.numbers() | self._added, {}, event.step
        self._write(event, numbers)

    def _log_added(self, event: Event) -> None:
        """Write the step for what actions have returned."""
        if self._added:
            self._log(event)
