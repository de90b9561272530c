"""How an option is declared: once, with its default, help, choices and range.

The command line, the Python API, JSON files and error messages all use the declarations that ``config.py`` makes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import field
from types import NoneType, UnionType
from typing import NamedTuple, TypeAlias, TypeVar, Union, cast, get_args, get_origin

from gan_shared.errors import unexpected

# One value, or two: the second is reached from the first along half a cosine over ``burn_in_nimg`` images.
Schedule: TypeAlias = float | tuple[float, float]
# What an option can hold.
Value: TypeAlias = bool | int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | None
# The type of an option, as ``typing.get_type_hints`` gives it.
Kind: TypeAlias = type | UnionType

T = TypeVar("T")


class Option(NamedTuple):
    """The declaration of one option.

    Attributes:
        name: as it is typed, in Python's spelling: ``generator_learning_rate``.
        kind: its type.
        help: one sentence.
        choices: the names or numbers it may be; empty where there is no list of them. Of an option that takes several,
            each at most once.
        also: names that are accepted but listed in no message, as they are not typed.
        low: smallest number, or None where there is none; likewise the next three.
        above: number that it must be larger than.
        high: largest number.
        below: number that it must be smaller than.
    """

    name: str
    kind: Kind
    help: str
    choices: tuple[str | int, ...] = ()
    also: tuple[str, ...] = ()
    low: float | None = None
    above: float | None = None
    high: float | None = None
    below: float | None = None

    @property
    def description(self) -> str:
        """Help text with the choices or the range."""
        if self.choices:
            return f"{self.help} Choices: {', '.join(map(str, self.choices))}."
        return f"{self.help} ({self.range})" if self.range else self.help

    @property
    def scheduled(self) -> bool:
        """Whether it takes two values: from and to."""
        return tuple[float, float] in get_args(self.kind)

    @property
    def range(self) -> str:
        """The numbers that it may be, in words; empty where there is no limit."""
        if self.low is None and self.above is None:
            return ""
        first = f"above {self.above:g}" if self.low is None else f"from {_exact(self.low)}"
        if self.below is not None:
            return f"{first} up to, not including, {self.below:g}"
        if self.high is None:
            return first
        return f"{first} {'to' if self.above is None else 'and up to'} {_exact(self.high)}"

    def check(self, value: Value) -> None:
        """Refuse a value outside of the choices or the range.

        Raises:
            UserError: naming the option, what was found, and what was expected.
        """
        if value is None:
            if NoneType not in get_args(self.kind):
                raise unexpected(self.name, None, "a value")
            return
        if self.choices:
            self._check_choice(value)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                self._check_range(number)

    def _check_choice(self, value: Value) -> None:
        if not isinstance(value, tuple):
            if value not in (*self.choices, *self.also):
                kind = "name" if isinstance(self.choices[0], str) else "number"
                raise unexpected(self.name, repr(value), f"a known {kind}", self.choices)
        elif len(set(value)) < len(value) or not set(value) <= set(self.choices):
            raise unexpected(self.name, " ".join(map(str, value)), "known names, each once, or no name", self.choices)

    def _check_range(self, number: float) -> None:
        # A NaN compares false with everything, so it is refused too.
        inside = (
            (self.low is None or self.low <= number)
            and (self.above is None or self.above < number)
            and (self.high is None or number <= self.high)
            and (self.below is None or number < self.below)
        )
        if not inside:
            raise unexpected(self.name, number, f"a number {self.range}")


def option(
    default: T,
    help: str,
    *,
    choices: Iterable[str | int] = (),
    also: Iterable[str] = (),
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
) -> T:
    """Declare an option as a field of a dataclass; see ``Option``."""
    limits = {"low": low, "above": above, "high": high, "below": below}
    facts = {"help": help, "choices": tuple(choices), "also": tuple(also), **limits}
    return cast(T, field(default=default, metadata={"option": facts}))


def ends(value: Schedule) -> tuple[float, float]:
    """Return the first and the last value of a schedule."""
    return value if isinstance(value, tuple) else (value, value)


def from_json(name: str, value: object, kind: Kind) -> Value:
    """Return a value of JSON as the option's type: a list as a tuple.

    Args:
        name: the option, for the error message.
        value: what JSON holds.
        kind: the option's type.

    Raises:
        UserError: it fits none of the types that the option may have.
    """
    alternatives: Sequence[Kind] = get_args(kind) if get_origin(kind) in (UnionType, Union) else (kind,)
    for each in alternatives:
        if get_origin(each) is tuple and isinstance(value, list):
            inner = get_args(each)
            right_length = inner[-1] is Ellipsis or len(value) == len(inner)
            if right_length and all(_fits(item, inner[0]) for item in value):
                return tuple(value)
        elif isinstance(each, type) and get_origin(each) is None and _fits(value, each):
            return cast(Value, value)
    names = " or ".join(f"list {each}" if get_origin(each) else getattr(each, "__name__", "") for each in alternatives)
    raise unexpected(name, repr(value), f"a value of type {names}")


def _fits(value: object, kind: type) -> bool:
    """Whether a JSON value is of type ``kind``; an int may stand for a float, a bool for nothing else."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _exact(number: float) -> str:
    """Write a limit; whole numbers with all their digits."""
    return f"{number:d}" if isinstance(number, int) else f"{number:g}"
