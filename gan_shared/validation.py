"""Which options go together, and which may differ between a run and its continuation.

What one option may be by itself stands in its declaration (``option_groups.py``).
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from gan_shared import options as option_kinds
from gan_shared.config import Config, execution_options, options
from gan_shared.errors import UserError, unexpected
from gan_shared.families import FAMILIES
from gan_shared.image_conditions import image_condition
from gan_shared.option_groups import CUSTOM, PAIRED_LOSSES, RULES, SIGNED_LOSSES, AugmentationConfig, ObjectiveConfig
from gan_shared.options import Value, ends
from gan_shared.segments import check_segments, history

# Update rules that torch.compile can take, as their learning rate and beta2 may be tensors.
COMPILED_RULES = ("adam", "adamw")


def from_json(values: Mapping[str, object], source: object) -> Config:
    """Rebuild a valid Config from what ``Config.to_json`` gave.

    An execution option that is not there gets its default: the file was written before there was such an option.

    Args:
        values: the parsed JSON.
        source: the file it came from, for the error message.

    Raises:
        UserError: another option is missing, or one is unknown, of the wrong type, or cannot work.
    """
    defaults = Config().to_json()
    values = {**{name: defaults[name] for name in execution_options()}, **values}
    names = {"preset", *options()}
    missing, unknown = sorted(names - set(values)), sorted(set(values) - names)
    if missing or unknown:
        lists = {"options missing": missing, "unknown options": unknown}
        parts = (f"{what}: {' '.join(names)}" for what, names in lists.items() if names)
        raise UserError(f"{source}: {', '.join(parts)}")
    try:
        return typed(values)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def typed(values: Mapping[str, object]) -> Config:
    """Return the valid Config of all options as JSON holds them.

    Raises:
        UserError: a value is of the wrong type or cannot work.
    """
    preset = option_kinds.from_json("preset", values["preset"], str)
    changes: dict[str, Value] = {
        name: option_kinds.from_json(name, values[name], each.kind) for name, each in options().items()
    }
    config = Config().with_values({**changes, "preset": preset})
    validate(config)
    return config


def validate(config: Config) -> None:
    """Refuse a configuration that cannot be trained, before anything is written.

    Raises:
        UserError: naming option, found, expected and, where they can be listed, the choices.
    """
    values = config.values()
    for name, each in options().items():
        each.check(values[name])
    check_segments(config)
    _check_levels(config)
    _check_networks(config)
    if config.data.num_classes is not None and not config.data.class_conditional:
        raise unexpected("num_classes", config.data.num_classes, "none given, as class_conditional is False")
    _check_objective(config.objective)
    _check_augmentation(config.augmentation, config.objective.loss)
    for network in ("generator", "discriminator"):
        _check_custom(config, network)
        _check_rule(config, network)
    if config.execution.compile and config.execution.cuda_graph:
        raise unexpected("cuda_graph", "True beside compile", "one of them: on a GPU a compiled step is a CUDA graph")
    _check_schedules(config)
    image_condition(config).check(config)


def _check_schedules(config: Config) -> None:
    """Refuse two values of a scheduled number without the images over which it goes from one to the other."""
    values = config.values()
    for name in (name for name, each in options().items() if each.scheduled):
        value = values[name]
        if isinstance(value, tuple) and value[0] != value[1] and not config.training.burn_in_nimg:
            raise unexpected("burn_in_nimg", 0, f"the images over which {name} goes from {value[0]} to {value[1]}")


def _check_networks(config: Config) -> None:
    """Refuse a resolution, a normalisation or a batch that a network family does not have."""
    data, networks = config.data, config.networks
    # Every pyramid level has a discriminator; the generators above the lowest level can make every size.
    sizes = config.image_condition.pyramid_levels or (data.resolution,)
    name = "pyramid_levels" if config.image_condition.pyramid_levels else "resolution"
    for size, family in ((sizes[0], networks.generator), *((size, networks.discriminator) for size in sizes)):
        if family != CUSTOM:
            _check_resolution(size, family, name)
    if networks.generator != CUSTOM and data.resolution == sizes[0]:
        fewest, batch = FAMILIES[networks.generator].smallest_batch, config.training.batch_size
        if batch < fewest:
            raise unexpected("batch_size", batch, f"at least {fewest}, as generator is {networks.generator}")
    norm = networks.discriminator_norm
    if norm is not None and networks.discriminator != CUSTOM and norm not in FAMILIES[networks.discriminator].norms:
        known = " or ".join(FAMILIES[networks.discriminator].norms)
        raise unexpected("discriminator_norm", norm, f"{known}, as discriminator is {networks.discriminator}")


def _check_resolution(resolution: int, family: str, name: str) -> None:
    """Refuse a resolution that ``family`` cannot make and name the valid ones around it."""
    sizes = FAMILIES[family].resolutions
    if resolution in sizes:
        return
    nearest = [max((size for size in sizes if size < resolution), default=None)]
    nearest += [min((size for size in sizes if size > resolution), default=None)]
    named = " or ".join(str(size) for size in nearest if size is not None)
    raise unexpected(name, resolution, f"a size that {family} makes (nearest: {named})", sizes)


def _check_levels(config: Config) -> None:
    """Refuse levels that make no Laplacian pyramid, and a run that is none of them."""
    levels, networks = config.image_condition.pyramid_levels, config.networks
    if not levels:
        return
    shown = " ".join(map(str, levels))
    if len(levels) < 2 or any(high != 2 * low for low, high in pairwise(levels)):
        raise unexpected("pyramid_levels", shown, "two sizes or more, each twice the one before")
    if config.data.resolution not in levels:
        raise unexpected("resolution", config.data.resolution, f"one of the pyramid_levels {shown}")
    for network, family in (("generator", networks.generator), ("discriminator", networks.discriminator)):
        if family == CUSTOM or FAMILIES[family].image_conditional:
            raise unexpected(network, f"{family} beside pyramid_levels {shown}", "a family that takes latents alone")


def _check_objective(objective: ObjectiveConfig) -> None:
    """Refuse a weight without penalties, penalties without a weight, and latents that a paired loss cannot reuse."""
    weighted = any(ends(objective.gamma))
    if objective.penalties and not weighted:
        raise unexpected("gamma", f"0 beside penalties {' '.join(objective.penalties)}", "a weight above 0")
    if weighted and not objective.penalties:
        raise unexpected("gamma", f"{objective.gamma} without penalties", "0, or penalties that it weights")
    if objective.penalty_every > 1 and not objective.penalties:
        raise unexpected("penalty_every", f"{objective.penalty_every} without penalties", "1, or penalties")
    if objective.loss in PAIRED_LOSSES and not objective.fresh_latents:
        expected = f"True, as loss {objective.loss} pairs fakes with reals of their own"
        raise unexpected("fresh_latents", False, expected)


def _check_augmentation(augmentation: AugmentationConfig, loss: str) -> None:
    """Refuse augmentations that are never applied, a probability of none, and a target that the loss cannot reach."""
    names, probability = augmentation.augment, augmentation.augment_probability
    applied = augmentation.augment_target > 0 or any(ends(probability))
    if names and not applied:
        expected = "a probability above 0, or an augment_target above 0"
        raise unexpected("augment_probability", f"0 beside augment {' '.join(names)}", expected)
    if applied and not names:
        found = f"{probability} (and augment_target {augmentation.augment_target}) without augment"
        raise unexpected("augment_probability", found, "both 0, or augment that it is the probability of")
    if augmentation.augment_target and loss not in SIGNED_LOSSES:
        found = f"{augmentation.augment_target} beside loss {loss}, whose logits need not mean anything by their sign"
        raise unexpected("augment_target", found, f"0, or loss {', '.join(sorted(SIGNED_LOSSES))}")


def _check_custom(config: Config, network: str) -> None:
    """Refuse options that are not given to a module of the user's own."""
    values = config.values()
    if values[network] != CUSTOM:
        return
    if config.training.precision == "bfloat16":
        raise unexpected(
            "precision", "bfloat16", f"float32, tf32 or float64, as {network} is a module of the user's own"
        )
    for name in (f"{network}_activation", f"{network}_norm"):
        if values.get(name) is not None:
            raise unexpected(name, values[name], f"none given, as {network} is a module of the user's own")


def _check_rule(config: Config, network: str) -> None:
    """Refuse hyperparameters that an update rule has not, and a rule that cannot be compiled."""
    chosen = config.optimizer(network)
    own = chosen.optimizer == CUSTOM
    which = "an optimiser of the user's own" if own else chosen.optimizer
    known = chosen.hyperparameters
    for name in sorted({name for names in RULES.values() for name in names}.difference(known)):
        if getattr(chosen, name) is not None:
            has = "" if own else f", which has {', '.join(known)}"
            expected = f"none given, as {network}_optimizer is {which}{has}"
            raise unexpected(f"{network}_{name}", getattr(chosen, name), expected)
    if own and chosen.learning_rate != 0.0:
        expected = f"none given, as {network}_optimizer is {which}, which has its own"
        raise unexpected(f"{network}_learning_rate", chosen.learning_rate, expected)
    for option in ("compile", "cuda_graph"):
        if getattr(config.execution, option) and chosen.optimizer not in COMPILED_RULES:
            why = "which changes its state by itself" if own else "whose learning rate cannot be a tensor"
            found = f"True beside {network}_optimizer {chosen.optimizer}, {why}"
            raise unexpected(option, found, f"False, or {network}_optimizer {' or '.join(COMPILED_RULES)}")


def check_logits(logits: tuple[int, ...], images: tuple[int, ...]) -> None:
    """Refuse a discriminator of the user's own that does not give each image one logit or more.

    Args:
        logits: shape of its result.
        images: shape of the images, the batch first.

    Raises:
        UserError: naming both shapes.
    """
    if not logits or logits[0] != images[0] or 0 in logits:
        raise unexpected(
            "discriminator", f"logits of shape {tuple(logits)}", f"({images[0]}, ...): one or more per image"
        )


def check_continuation(saved: Config, wanted: Config, source: object, step: int | None = None) -> None:
    """Refuse to resume when the configuration differs in what defines the run.

    Args:
        saved: the run's own configuration.
        wanted: the configuration asked for now.
        source: the run folder, for the error message.
        step: steps done, up to which the batches must be the same; None where others are asked for from now on.

    Raises:
        UserError: listing every difference.
    """
    before, now = saved.values(), wanted.values()
    execution = execution_options()
    free = {*execution, "batch_size"}
    if step is not None:
        free.add("earlier_batch_sizes")
        before["segments"], now["segments"] = (str(history(config, step)) for config in (saved, wanted))
    different = [
        f"{name} (saved {before[name]}, now {now[name]})"
        for name in before
        if name not in free and before[name] != now[name]
    ]
    if different:
        raise UserError(
            f"{source}: resumed with a changed configuration: {', '.join(different)}; "
            f"only batch_size, {', '.join(execution)} may change"
        )


def with_data_defaults(config: Config, channels: int, num_classes: int, no_labels: str = "") -> Config:
    """Fill in what the data decides and the user left open: channels, and the classes of a class-conditional run.

    Args:
        config: the run.
        channels: of the data's images.
        num_classes: of the data's labels; 0 where it has none.
        no_labels: why it has none, where that is known.

    Raises:
        UserError: a class-conditional run of data without labels, or with more classes than the configuration says.
    """
    data, source = config.data, config.execution.data
    if data.channels is None:
        data = replace(data, channels=channels)
    if data.class_conditional:
        if not num_classes:
            why = f", because of {no_labels}" if no_labels else ""
            raise unexpected("class_conditional", True, f"False, as data {source} has no labels{why}")
        if data.num_classes is None:
            data = replace(data, num_classes=num_classes)
        elif data.num_classes < num_classes:
            raise unexpected("num_classes", data.num_classes, f"at least the {num_classes} classes of data {source}")
    return replace(config, data=data)
