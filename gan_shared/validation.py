"""What a configuration may be, and what a run may be continued with.

``validate`` refuses what cannot work; what may differ between a run and its continuation is listed in ``MAY_CHANGE``.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import pairwise
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from gan_shared.architecture import VGG_RESOLUTION
from gan_shared.config import (
    ACTIVATIONS,
    AUGMENTATIONS,
    COMPILED_OPTIMIZERS,
    CUSTOM,
    DEVICES,
    DISCRIMINATORS,
    GENERATORS,
    LOSSES,
    NORMS,
    OPTIMIZERS,
    OUTPUTS,
    PAIRED_LOSSES,
    PENALTIES,
    PLACES,
    PRECISIONS,
    RANDOM,
    RESOLUTIONS,
    SIGNED_LOSSES,
    VGG_LAYERS,
    Config,
    Schedule,
    ends,
)
from gan_shared.errors import UserError, unexpected

# What a continued run may set anew; any other difference would make it another run.
MAY_CHANGE = frozenset(
    {
        "steps",
        "data",
        "device",
        "data_on",
        "steps_per_call",
        "compile",
        "recompute",
        "vgg_weights",
        "log_every",
        "sample_every",
        "save_every",
        "keep_checkpoints",
    }
)


def from_json(values: object, source: object) -> Config:
    """Rebuild a Config from what ``Config.to_json`` gave.

    Args:
        values: the parsed JSON.
        source: the file it came from, for the error message.

    Raises:
        UserError: a field is missing, unknown or of the wrong type.
    """
    if not isinstance(values, dict):
        raise unexpected(str(source), type(values).__name__, "a JSON object of Config fields")
    names = {field.name for field in fields(Config)}
    missing, unknown = sorted(names - set(values)), sorted(set(values) - names)
    if missing or unknown:
        lists = {"fields missing": missing, "unknown fields": unknown}
        told = (f"{what}: {' '.join(names)}" for what, names in lists.items() if names)
        raise UserError(f"{source}: {', '.join(told)}")
    try:
        return typed(values)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def typed(values: Mapping[str, Any]) -> Config:
    """Return the valid Config of all its fields as JSON holds them.

    Raises:
        UserError: a value is of the wrong type or cannot work.
    """
    kinds = get_type_hints(Config)
    config = Config(**{name: _typed(name, values[name], kind) for name, kind in kinds.items()})
    validate(config)
    return config


def _typed(field: str, value: object, kind: Any) -> Any:
    """Return a JSON value as the field's type: a list as a tuple; refuse what fits none of its alternatives."""
    alternatives = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    for each in alternatives:
        if get_origin(each) is tuple and isinstance(value, list):
            inner = get_args(each)
            right_length = inner[-1] is Ellipsis or len(value) == len(inner)
            if right_length and all(_fits(item, inner[0]) for item in value):
                return tuple(value)
        elif get_origin(each) is None and _fits(value, each):
            return value
    names = " or ".join(each.__name__ if get_origin(each) is None else f"list {each}" for each in alternatives)
    raise unexpected(field, repr(value), f"a value of type {names}")


def _fits(value: object, kind: type) -> bool:
    """Whether a JSON value is of type ``kind``; an int may stand for a float, a bool for nothing else."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def validate(config: Config) -> None:
    """Refuse a configuration that cannot be trained, before anything is written.

    Raises:
        UserError: naming field, found, expected and, where they can be listed, the choices.
    """
    for field, choices in (
        ("generator", (*GENERATORS, CUSTOM)),
        ("discriminator", (*DISCRIMINATORS, CUSTOM)),
        ("generator_activation", (None, *ACTIVATIONS)),
        ("discriminator_activation", (None, *ACTIVATIONS)),
        ("discriminator_norm", (None, *NORMS)),
        ("vgg_layer", (None, *VGG_LAYERS)),
        ("output_activation", OUTPUTS),
        ("loss", LOSSES),
        ("freeze", ("none", "generator", "discriminator")),
        ("generator_optimizer", OPTIMIZERS),
        ("discriminator_optimizer", OPTIMIZERS),
        ("precision", PRECISIONS),
        ("device", DEVICES),
        ("data_on", PLACES),
    ):
        if getattr(config, field) not in choices:
            named = tuple(choice for choice in choices if choice not in (None, CUSTOM))
            raise unexpected(field, repr(getattr(config, field)), "a known name", named)
    for field, choices in (("penalties", PENALTIES), ("augment", tuple(AUGMENTATIONS))):
        names = getattr(config, field)
        if len(set(names)) < len(names) or not set(names) <= set(choices):
            raise unexpected(field, " ".join(names), "known names, each once", choices)
    _check_levels(config)
    # Every level of a pyramid is judged; those above the lowest are made by a network that knows every size.
    sizes = config.levels or (config.resolution,)
    for size, network in ((sizes[0], config.generator), *((size, config.discriminator) for size in sizes)):
        if network != CUSTOM:
            _check_resolution(size, network, "levels" if config.levels else "resolution")
    if config.channels not in (None, 1, 3):
        raise unexpected("channels", config.channels, "1 (grey) or 3 (RGB)")
    if config.classes is not None and not 1 <= config.classes <= 65536:
        raise unexpected("classes", config.classes, "a number from 1 to 65536")
    _check_ranges(config)
    _check_pairs(config)
    _check_vgg(config)


def _check_pairs(config: Config) -> None:
    """Refuse pairs of options of which one is without meaning beside the other."""
    if config.classes is not None and not config.conditional:
        raise unexpected("classes", config.classes, "none given, as conditional is False")
    if config.penalties and not any(ends(config.gamma)):
        raise unexpected("gamma", f"0 beside penalties {' '.join(config.penalties)}", "a weight above 0")
    if any(ends(config.gamma)) and not config.penalties:
        raise unexpected("gamma", f"{config.gamma} without penalties", "0, or penalties", PENALTIES)
    steered = config.augment_target > 0 or any(ends(config.augment_probability))
    if config.augment and not steered:
        found = f"0 beside augment {' '.join(config.augment)}"
        raise unexpected("augment_probability", found, "a probability above 0, or an augment_target above 0")
    if steered and not config.augment:
        found = f"{config.augment_probability} (and augment_target {config.augment_target}) without augment"
        raise unexpected("augment_probability", found, "both 0, or augment", AUGMENTATIONS)
    if config.augment_target and config.loss not in SIGNED_LOSSES:
        found = f"{config.augment_target} beside loss {config.loss}, whose logits mean nothing by their sign"
        raise unexpected("augment_target", found, "0", SIGNED_LOSSES)
    if config.loss in PAIRED_LOSSES and not config.fresh_latents:
        raise unexpected("fresh_latents", False, f"True, as loss {config.loss} pairs fakes with reals of their own")
    for network in ("generator", "discriminator"):
        _check_custom(config, network)
        optimizer = getattr(config, f"{network}_optimizer")
        if config.compile and optimizer not in COMPILED_OPTIMIZERS:
            found = f"True beside {network}_optimizer {optimizer}, whose rule takes no learning rate that is a tensor"
            raise unexpected("compile", found, "False, or an optimizer that compiles", COMPILED_OPTIMIZERS)
    if config.discriminator_norm == "batch" and config.discriminator.startswith("r3gan"):
        raise unexpected("discriminator_norm", "batch", f"none or spectral, as discriminator is {config.discriminator}")
    for field, kind in get_type_hints(Config).items():
        low, high = ends(getattr(config, field)) if kind == Schedule else (0, 0)
        if low != high and not config.burn_in_nimg:
            raise unexpected("burn_in_nimg", 0, f"the images over which {field} goes from {low} to {high}")


def _check_levels(config: Config) -> None:
    """Refuse levels that make no pyramid, and a run that is none of them."""
    levels = config.levels
    if not levels:
        return
    shown = " ".join(map(str, levels))
    if len(levels) < 2 or any(high != 2 * low for low, high in pairwise(levels)):
        raise unexpected("levels", shown, "two sizes or more, each twice the one before")
    if config.resolution not in levels:
        raise unexpected("resolution", config.resolution, "one of the pyramid's levels", levels)
    for network in ("generator", "discriminator"):
        if getattr(config, network) in (CUSTOM, "vgg16"):
            raise unexpected(
                "levels", f"{shown} beside {network} {getattr(config, network)}", "none, or another network"
            )


def _check_vgg(config: Config) -> None:
    """Refuse what only a generator that reads features needs, and such a generator without it."""
    if config.condition != "vgg16":
        absent: dict[str, object] = {"vgg_layer": None, "vgg_weights": None, "vgg_sha256": None, "recompute": False}
        for field, value in (absent | {"pixel_weight": 0.0, "feature_weight": 0.0}).items():
            if getattr(config, field) != value:
                raise unexpected(field, getattr(config, field), f"{value}, as generator is not vgg16")
    elif config.vgg_layer is None:
        raise unexpected("vgg_layer", None, "the features that generator vgg16 reads", VGG_LAYERS)
    elif config.vgg_layer == "fc6" and config.resolution != VGG_RESOLUTION:
        raise unexpected("resolution", config.resolution, f"{VGG_RESOLUTION}, as vgg_layer is fc6")
    if config.latent_size == 0 and config.condition == "none":
        raise unexpected("latent_size", 0, "a length above 0, as the generator reads no pictures")


def _check_custom(config: Config, network: str) -> None:
    """Refuse options that a module of the user's own would not hear of."""
    if getattr(config, network) != CUSTOM:
        return
    if config.precision == "bfloat16":
        raise unexpected("precision", "bfloat16", f"float32 or float64, as {network} is a module of the user's own")
    for field in (f"{network}_activation", f"{network}_norm"):
        if getattr(config, field, None) is not None:
            raise unexpected(field, getattr(config, field), f"none given, as {network} is a module of the user's own")


def _check_resolution(resolution: int, network: str, field: str) -> None:
    """Refuse a resolution that ``network`` cannot make and name the valid ones around it."""
    choices = RESOLUTIONS[network]
    if resolution in choices:
        return
    nearest = [max((r for r in choices if r < resolution), default=None)]
    nearest += [min((r for r in choices if r > resolution), default=None)]
    named = " or ".join(str(r) for r in nearest if r is not None)
    raise unexpected(field, resolution, f"a size that {network} makes (nearest: {named})", choices)


def _check_ranges(config: Config) -> None:
    """Refuse numbers outside of what they mean."""
    for field, low, high in (
        ("resolution", 8, 2**14),
        ("latent_size", 0, 2**16),
        ("discriminator_updates", 1, 1000),
        ("batch_size", 1, 2**20),
        ("steps", 1, 2**40),
        ("seed", 0, 2**63 - 1),
        ("log_every", 1, 2**40),
        ("sample_every", 1, 2**40),
        ("save_every", 1, 2**40),
        ("steps_per_call", 1, 10_000),
        ("keep_checkpoints", 0, 2**40),
        ("generator_learning_rate", 0.0, 1e3),
        ("discriminator_learning_rate", 0.0, 1e3),
        ("gamma", 0.0, 1e6),
        ("pixel_weight", 0.0, 1e6),
        ("feature_weight", 0.0, 1e6),
        ("weight_decay", 0.0, 1e3),
        ("gradient_clip", 0.0, 1e18),
        ("ema_half_life_nimg", 0.0, 1e18),
        ("burn_in_nimg", 0, 2**60),
        ("augment_probability", 0.0, 1.0),
        ("augment_target", 0.0, 1.0),
        ("augment_adapt_nimg", 1, 2**60),
    ):
        for value in ends(getattr(config, field)):
            if not low <= value <= high:  # a NaN compares false, so it is refused too
                raise unexpected(field, value, f"a number from {low} to {high}")
    for network in ("generator", "discriminator"):
        for field in (f"{network}_beta1", f"{network}_beta2"):
            for value in ends(getattr(config, field)):
                if not 0.0 <= value < 1.0:
                    raise unexpected(field, value, "a number from 0 up to, not including, 1")
    if not 0.0 < config.width <= 64.0:
        raise unexpected("width", config.width, "a factor above 0 and up to 64")


def check_logits(found: tuple[int, ...], images: tuple[int, ...]) -> None:
    """Refuse a discriminator of the user's own that does not give one logit for each image, shapes (batch,).

    Raises:
        UserError: naming both shapes.
    """
    if tuple(found) != (images[0],):
        raise unexpected("discriminator", f"logits of shape {tuple(found)}", f"{(images[0],)}: one for each image")


def check_continuation(saved: Config, wanted: Config, source: object) -> None:
    """Refuse to resume when the configuration differs in what defines the run.

    Args:
        saved: the run's own configuration.
        wanted: the configuration asked for now.
        source: the run folder, for the error message.

    Raises:
        UserError: listing every difference.
    """
    different = [
        f"{field.name} (saved {getattr(saved, field.name)}, now {getattr(wanted, field.name)})"
        for field in fields(Config)
        if field.name not in MAY_CHANGE and getattr(saved, field.name) != getattr(wanted, field.name)
    ]
    if different:
        raise UserError(
            f"{source}: resumed with a changed configuration: {', '.join(different)}; "
            f"only {', '.join(sorted(MAY_CHANGE))} may change"
        )


def check_features(saved: Config, wanted: Config) -> None:
    """Refuse to begin with a generator that has learned to read other features; their shapes may be the same.

    Raises:
        UserError: naming the first difference.
    """
    # Random weights follow from the seed and have the run's own width.
    drawn = ("seed", "width") if wanted.vgg_sha256 == RANDOM else ()
    for field in ("vgg_layer", "vgg_sha256", *drawn):
        found, expected = getattr(saved, field), getattr(wanted, field)
        if found != expected:
            raise unexpected(field, f"{found} there", f"{expected}, as in this run")


def fitted(config: Config, channels: int, classes: int) -> Config:
    """Fill in what the data decides and the user left open: channels, and the classes of a conditional run.

    Args:
        config: the run.
        channels: of the data's images.
        classes: of the data's labels; 0 where it has none.

    Raises:
        UserError: a conditional run of data without labels, or with more classes than the configuration says.
    """
    if config.channels is None:
        config = replace(config, channels=channels)
    if not config.conditional:
        return config
    if not classes:
        raise unexpected("conditional", True, f"False, as data {config.data} has no labels")
    if config.classes is not None and config.classes < classes:
        raise unexpected("classes", config.classes, f"at least the {classes} classes of data {config.data}")
    return config if config.classes is not None else replace(config, classes=classes)
