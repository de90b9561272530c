"""Older names and formats: what was renamed, and how files of older versions are read.

Format version 5 of runs and checkpoints renamed options, presets and a file of version 4, and gave each update rule
hyperparameters of its own. Version 6 added the option ``holdout``, version 8 ``earlier_batch_sizes``,
version 9 ``penalty_every``.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from gan_shared.errors import UserError, unexpected
from gan_shared.option_groups import RULES

# Option before version 5 -> its name now.
OPTIONS = {
    "conditional": "class_conditional",
    "classes": "num_classes",
    "levels": "pyramid_levels",
    "weight_decay": "generator_weight_decay and discriminator_weight_decay",
}
# Preset before version 5 -> its name now.
PRESETS = {"vgg16": "vgg-inversion", "pyramid": "lapgan"}
# Generator before version 5 -> its name now.
FAMILIES = {"vgg16": "vgg-decoder"}
# Tensor file -> its name before version 5.
FILES = {"trainer.safetensors": "game.safetensors"}
# Manifest of a LAPGAN in its format version 1.
LAPGAN_MANIFEST = "pyramid.json"
# What version 4 called beta1 and beta2, whatever the rule: update rule -> its own names.
HYPERPARAMETERS = {
    "adam": ("beta1", "beta2"),
    "adamw": ("beta1", "beta2"),
    "rmsprop": ("momentum", "alpha"),
    "sgd": ("momentum", None),
}
# Version -> options that it added -> what makes an older run the same as before.
ADDED: dict[int, dict[str, Any]] = {6: {"holdout": 0.0}, 8: {"earlier_batch_sizes": []}, 9: {"penalty_every": 1}}
# Options that took the place of version 4's.
ADDED_IN_5 = frozenset(
    [OPTIONS[name] for name in ("conditional", "classes", "levels")]
    + [
        f"{network}_{name}"
        for network in ("generator", "discriminator")
        for name in {name for names in RULES.values() for name in names} - {"beta1", "beta2"}
    ]
)


def check_arguments(arguments: Iterable[str]) -> None:
    """Refuse an option that was renamed, as it is typed on a command line.

    Raises:
        UserError: naming the new one.
    """
    for argument in arguments:
        typed, _, _ = argument.removeprefix("--").partition("=")
        name = typed.replace("-", "_")
        bare = name.removeprefix("no_")
        if argument.startswith("--") and bare in OPTIONS:
            raise unexpected(f"--{typed}", "an option that was renamed", _renamed(OPTIONS[bare]))


def check_keywords(names: Iterable[str]) -> None:
    """Refuse an option that was renamed, as a keyword of the Python API; see ``check_arguments``."""
    for name in names:
        if name in OPTIONS:
            raise unexpected(name, "an option that was renamed", OPTIONS[name])


def check_preset(name: str) -> None:
    """Refuse a preset that was renamed.

    Raises:
        UserError: naming the new one.
    """
    if name in PRESETS:
        raise unexpected("preset", f"{name!r}, which was renamed", repr(PRESETS[name]))


def check_family(name: str, option: str) -> None:
    """Refuse a network family that was renamed; see ``check_preset``."""
    if name in FAMILIES:
        raise unexpected(option, f"{name!r}, which was renamed", repr(FAMILIES[name]))


def to_current(values: Mapping[str, Any], version: int, source: object) -> dict[str, Any]:
    """Return the options of today's Config, as JSON holds them, from those of a format version that is read.

    Args:
        values: the parsed JSON.
        version: 4 or later.
        source: the file it came from, for the error message.

    Raises:
        UserError: there is an option that the version had not; or one that version 4 had is missing, or holds what it
            could not hold.
    """
    new = {name: value for since, names in ADDED.items() if version < since for name, value in names.items()}
    added = new.keys() | (ADDED_IN_5 if version == 4 else ())
    later = next((name for name in values if name in added), None)
    if later is not None:
        found = f"{later} beside options of format version {version}"
        raise unexpected(str(source), found, "the options of one version")
    try:
        now = _of_version_5(values) if version == 4 else values
    except (KeyError, TypeError) as error:
        raise UserError(f"{source}: found no complete configuration of format version 4 ({error})") from error
    return {**now, **new}


def lapgan_of_version_1(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of a LAPGAN with today's names of options."""
    return {OPTIONS.get(name, name): value for name, value in manifest.items()}


def is_version_4(values: Mapping[str, Any]) -> bool:
    """Whether a run folder's config.json, which held no version then, is of version 4."""
    return "conditional" in values


def _of_version_5(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of version 5 from those of version 4."""
    now = dict(values)
    for name in ("conditional", "classes", "levels"):
        now[OPTIONS[name]] = now.pop(name)
    now["preset"] = PRESETS.get(now["preset"], now["preset"])
    now["generator"] = FAMILIES.get(now["generator"], now["generator"])
    decay = now.pop("weight_decay")
    for network in ("generator", "discriminator"):
        rule = now[f"{network}_optimizer"]
        given = dict(
            zip(HYPERPARAMETERS[rule], (now.pop(f"{network}_beta1"), now.pop(f"{network}_beta2")), strict=True)
        )
        given["weight_decay"] = decay
        for name in {name for names in RULES.values() for name in names}:
            now[f"{network}_{name}"] = given.get(name)
    return now


def _renamed(name: str) -> str:
    """Return a new name as it is typed on a command line."""
    return " and ".join("--" + part.replace("_", "-") for part in name.split(" and "))
