"""A loss and optimisers of the user's own, as far as they are no tensors: how they are given, named, saved and refused.

A configuration calls them ``custom``, like a network of the user's own; the functions themselves are given to ``GAN``
and again to ``GAN.load``.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from gan_shared.checkpoint import Checkpoint, optimizer_prefix
from gan_shared.config import Config
from gan_shared.errors import UserError, unexpected
from gan_shared.manifest import TRAINED
from gan_shared.option_groups import CUSTOM, CUSTOM_PAIRED

# What a loss of the user's own is.
PAIR = (
    "a pair of functions: of (real logits, fake logits) for the discriminator, of (fake logits) or (real logits, fake "
    "logits) for the generator"
)
LOSSES = "losses of the logits' shape or (batch,) and of their type, not their mean"


class Own(NamedTuple):
    """What the user gave in the place of names; None where there is a name.

    Attributes:
        loss: a pair of functions of logits.
        generator_optimizer: of the framework's own kind: see ``own_optimizer.py`` of each backend.
        discriminator_optimizer: likewise.
    """

    loss: Any = None
    generator_optimizer: Any = None
    discriminator_optimizer: Any = None


def separated(values: Mapping[str, Any]) -> tuple[dict[str, Any], Own]:
    """Return options with ``custom`` in the place of what is no name, and what that is.

    Args:
        values: options by name, as the user gave them.

    Raises:
        UserError: the loss is neither a name nor a pair of functions, or a name stands for what was not given.
    """
    given = {name: values[name] for name in Own._fields if not _is_name(values.get(name, ""))}
    for name in Own._fields:
        if isinstance(each := values.get(name), str) and each in (CUSTOM, CUSTOM_PAIRED):
            raise missing(name)
    names = {name: loss_name(each) if name == "loss" else CUSTOM for name, each in given.items()}
    # A learning rate that nothing reads is not recorded.
    unread = {f"{name.removesuffix('optimizer')}learning_rate": 0.0 for name in given if name != "loss"}
    return {**unread, **values, **names}, Own(**given)


def loss_name(loss: object) -> str:
    """Return what a configuration calls a pair of functions.

    Raises:
        UserError: it is none, or its parameters are not those of losses.
    """
    pair = loss if isinstance(loss, tuple) and len(loss) == 2 else ()
    counts = tuple(_required(each) for each in pair)
    if counts not in ((2, 1), (2, 2)):
        found = f"{loss!r}, of {counts[0]} and {counts[1]} parameters" if all(counts) and counts else repr(loss)
        raise unexpected("loss", found, f"a name, or {PAIR}")
    return CUSTOM if counts == (2, 1) else CUSTOM_PAIRED


def own_options(config: Config) -> list[str]:
    """Return the options whose values are the user's own: loss, generator_optimizer, discriminator_optimizer."""
    values = config.values()
    return [name for name in Own._fields if values[name] in (CUSTOM, CUSTOM_PAIRED)]


def given_again(config: Config, own: Own, both: object) -> Own:
    """Return what a GAN that was saved needs, given anew.

    Args:
        config: of the GAN.
        own: what was given for one option each.
        both: an optimiser that was given for both networks, or None.

    Raises:
        UserError: something is of another kind, or was given in the place of a name.
    """
    needed = own_options(config)
    optimizers = [name for name in needed if name != "loss"]
    if both is not None:
        if not optimizers:
            raise unexpected("optimizer", repr(both), f"none, as the GAN has {_named(config, Own._fields[1:])}")
        own = own._replace(**{name: both for name in optimizers if getattr(own, name) is None})
    for name, value in own._asdict().items():
        if name not in needed and value is not None:
            raise unexpected(name, repr(value), f"none, as the GAN has {_named(config, (name,))}")
    if own.loss is not None and loss_name(own.loss) != config.objective.loss:
        paired = config.objective.loss == CUSTOM_PAIRED
        wanted = "both logits" if paired else "the fake logits alone"
        expected = f"a pair whose function for the generator is one of {wanted}, as the one that the GAN was made with"
        raise unexpected("loss", repr(own.loss), expected)
    return own


def missing(name: str) -> UserError:
    """Build the error that an option is the user's own and was not given."""
    what = "a pair of functions" if name == "loss" else "an optimiser"
    return unexpected(name, repr(CUSTOM), f"one with a name, or {what} of the user's own, which no file holds, given")


def own_state(option: str, network: str, framework: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the state of an optimiser of the user's own among the tensors of a checkpoint.

    Args:
        option: that the optimiser was given as, for the error message.
        network: whose optimiser it is.
        framework: of the optimiser.
        tensors: by canonical name.

    Returns:
        Tensors by their names in the optimiser; none where no update has been done.

    Raises:
        UserError: they are those of an optimiser of another framework.
    """
    found = {name: value for name, value in tensors.items() if name.startswith(optimizer_prefix(network))}
    prefix = own_state_name(network, framework, "")
    foreign = next((name for name in found if not name.startswith(prefix)), None)
    if foreign is not None:
        other = foreign.removeprefix(optimizer_prefix(network)).split(".")[0]
        expected = f"that of one of {framework}: the state of an optimiser of one's own belongs to its framework"
        raise unexpected(option, f"the state of an optimiser of {other}", expected)
    return {name.removeprefix(prefix): value for name, value in found.items()}


def check_state(option: str, expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> None:
    """Refuse the state of another optimiser than that which is to go on with it.

    Args:
        option: that the optimiser was given as.
        expected: arrays like those that it keeps, by their names in it.
        found: those that were saved.

    Raises:
        UserError: naming the first that differs.
    """
    layouts = [{name: (each.shape, each.dtype) for name, each in named.items()} for named in (expected, found)]
    wanted, there = layouts
    if differing := sorted(name for name in wanted.keys() | there if wanted.get(name) != there.get(name)):
        what = f"the state of another optimiser ({len(differing)} tensors differ, {differing[0]} first)"
        raise unexpected(option, what, "that of the one that is given: give the one that the GAN was saved with")


def own_state_name(network: str, framework: str, name: str) -> str:
    """Return the canonical name of a tensor that an optimiser of the user's own keeps."""
    return f"{optimizer_prefix(network)}{framework}.{name}"


def without_state(tensors: Mapping[str, np.ndarray], config: Config) -> dict[str, np.ndarray]:
    """Return the tensors of a state without those of optimisers of the user's own."""
    own = tuple(optimizer_prefix(network) for network in TRAINED if f"{network}_optimizer" in own_options(config))
    return {name: value for name, value in tensors.items() if not (own and name.startswith(own))}


def for_images(loaded: Checkpoint, config: Config) -> tuple[Checkpoint, Config]:
    """Return a checkpoint and its configuration for making images, which needs neither a loss nor an optimiser.

    Those of the user's own are replaced by named ones that keep no state.
    """
    own = own_options(config)
    tensors = without_state(loaded.tensors, config)
    named = {name: "bce" if name == "loss" else "sgd" for name in own}
    return loaded._replace(tensors=tensors), config.with_values(named)


@contextmanager
def applying(option: str, what: str, expected: str) -> Iterator[None]:
    """Turn what the user's own function raises into one line.

    Args:
        option: that it was given as.
        what: it is.
        expected: of it.

    Raises:
        UserError: naming what it raised.
    """
    try:
        yield
    except (UserError, MemoryError, Warning):
        raise
    except Exception as error:
        message = " ".join(str(error).split())
        raise unexpected(option, f"{what} that raises {type(error).__name__}: {message}", expected) from error


def check_losses(network: str, found: np.ndarray, logits: np.ndarray) -> None:
    """Refuse what a loss function of the user's own returns where the step cannot take the mean of it.

    Args:
        network: whose loss it is.
        found: what the function returned.
        logits: what it was given, (batch, ...).

    Raises:
        UserError: naming shape and type, or that it is not finite.
    """
    name = f"the {network}'s function returns"
    if found.shape not in (logits.shape, logits.shape[:1]) or found.dtype != logits.dtype:
        expected = f"{LOSSES}: shape {logits.shape}, {logits.dtype}"
        raise unexpected("loss", f"{found.dtype} of shape {found.shape} ({name} it)", expected)
    if not np.isfinite(found).all():
        raise unexpected("loss", f"a number that is not finite ({name} it)", "finite losses")


def check_derivatives(network: str, gradients: Sequence[np.ndarray]) -> None:
    """Refuse a loss function of the user's own whose derivatives by the logits are not finite."""
    if not all(np.isfinite(gradient).all() for gradient in gradients):
        found = f"a function for the {network} whose derivative is not finite"
        raise unexpected("loss", found, "functions that can be derived by the logits")


def _is_name(value: object) -> bool:
    """Whether an option's value is a name, or wrong in the way of one."""
    return value is None or isinstance(value, (str, bool, int, float, list, np.generic))


def _named(config: Config, names: tuple[str, ...]) -> str:
    """Return the names that a configuration has for options, in words."""
    values = config.values()
    return " and ".join(f"{name} {values[name]}" for name in names)


def _required(function: Callable[..., Any]) -> int:
    """Return how many arguments a function needs; 0 where they are not listed, or not given by position."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0
    needed = [each for each in parameters if each.default is each.empty and each.kind is not each.VAR_KEYWORD]
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return len(needed) if all(each.kind in by_position for each in needed) else 0
