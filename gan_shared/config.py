"""Everything that defines a run: groups of options, and their names.

An option has one name everywhere: ``--generator-learning-rate`` on the command line, ``generator_learning_rate`` in
Python, in JSON and in messages. The code reads it as ``config.generator_optimizer.learning_rate``. The options are
declared in ``option_groups.py``; rules that tie several of them together are in ``validation.py``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, cast, get_type_hints

from gan_shared.architecture import categorical_latents
from gan_shared.errors import unexpected
from gan_shared.option_groups import (
    CUSTOM,
    PAIRED_LOSSES,
    RULES,
    AugmentationConfig,
    DataConfig,
    ExecutionConfig,
    ImageConditionConfig,
    NetworkConfig,
    ObjectiveConfig,
    OptimizerConfig,
    TrainingConfig,
)
from gan_shared.options import Option, Value
from gan_shared.paths import expanded

Group: TypeAlias = (
    DataConfig
    | NetworkConfig
    | ImageConditionConfig
    | ObjectiveConfig
    | OptimizerConfig
    | AugmentationConfig
    | TrainingConfig
    | ExecutionConfig
)


@dataclass(frozen=True)
class Config:
    """One run, complete: the same Config and data give the same run.

    Attributes:
        preset: named recipe whose values were the defaults of every option.
        data: the images that both networks work on.
        networks: families, widths, activations and normalisation.
        image_condition: what an image-conditional generator is given.
        objective: losses, penalties and update counts.
        generator_optimizer: update rule of the generator.
        discriminator_optimizer: update rule of the discriminator.
        augmentation: of the discriminator's input.
        training: batches, averages, schedules, seed and precision.
        execution: how and where the run computes; a resumed run may change it.
    """

    preset: str = "dcgan"
    data: DataConfig = DataConfig()
    networks: NetworkConfig = NetworkConfig()
    image_condition: ImageConditionConfig = ImageConditionConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    generator_optimizer: OptimizerConfig = OptimizerConfig(beta1=0.5)
    discriminator_optimizer: OptimizerConfig = OptimizerConfig(beta1=0.5)
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()
    execution: ExecutionConfig = ExecutionConfig()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image.

        Raises:
            ValueError: the channels are not known yet, as they follow the data.
        """
        if self.data.channels is None:
            raise ValueError("channels follow the data: load it first")
        return self.data.resolution, self.data.resolution, self.data.channels

    @property
    def num_classes(self) -> int:
        """Number of classes that the networks are given; 0 when they are given none.

        Raises:
            ValueError: it is not known yet, as it follows the data.
        """
        if not self.data.class_conditional:
            return 0
        if self.data.num_classes is None:
            raise ValueError("classes follow the data: load it first")
        return self.data.num_classes

    @property
    def categorical_latents(self) -> int:
        """How many categorical latents the generator makes from its first latents; 0 for most."""
        return categorical_latents(self.networks.generator, self.networks.latent_size)

    @property
    def data_resolution(self) -> int:
        """Height and width of the images as they are loaded: those of the highest pyramid level for all of them."""
        levels = self.image_condition.pyramid_levels
        return levels[-1] if levels else self.data.resolution

    @property
    def exclusion(self) -> Path | None:
        """The list of images that are left out; None where there is none."""
        file = self.execution.exclude
        return None if file is None else expanded(file)

    @property
    def lowest_pixel(self) -> float:
        """Value of black in the generator's range; white is 1."""
        return 0.0 if self.networks.output_activation == "sigmoid" else -1.0

    @property
    def real_rows(self) -> int:
        """Batches of reals in one step: one per discriminator update, one more if the generator's loss needs them."""
        return self.objective.discriminator_updates + int(self.objective.loss in PAIRED_LOSSES)

    def optimizer(self, network: str) -> OptimizerConfig:
        """Return the optimiser of ``generator`` or ``discriminator``."""
        return self.generator_optimizer if network == "generator" else self.discriminator_optimizer

    def without_penalties(self) -> "Config":
        """Return the run as its steps are that take no penalties; see ``schedules.penalties_due``."""
        return replace(self, objective=replace(self.objective, penalties=(), gamma=0.0, penalty_every=1))

    def values(self) -> dict[str, Value]:
        """Return the value of every option by its name, the preset's first."""
        placed = {name: getattr(getattr(self, group), field) for name, (group, field) in _places().items()}
        return {"preset": self.preset, **placed}

    def to_json(self) -> dict[str, Value | list[Value]]:
        """Return ``values`` as JSON holds them: tuples are lists."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.values().items()}

    def with_options(self, **changes: Value) -> "Config":
        """Return a copy with other values of some options, by their names; nothing is validated.

        A network that is given another update rule keeps those hyperparameters that both rules have.

        Raises:
            UserError: there is no option of that name.
        """
        return self.with_values(changes)

    def with_values(self, changes: Mapping[str, Value]) -> "Config":
        """Return a copy with other values; see ``with_options``."""
        grouped: dict[str, dict[str, Value]] = {}
        for name, value in changes.items():
            if name != "preset":
                group, field = _place(name)
                grouped.setdefault(group, {})[field] = value
        result = replace(self, preset=cast(str, changes.get("preset", self.preset)))
        for group, values in grouped.items():
            before: Group = getattr(self, group)
            if isinstance(before, OptimizerConfig):
                before = _for_rule(before, values.get("optimizer"))
            result = replace(result, **{group: replace(before, **cast(dict[str, Any], values))})
        return result


# Prefix of the names of a group's options, where the fields alone are not unique.
PREFIXES = {"generator_optimizer": "generator_", "discriminator_optimizer": "discriminator_"}
# What a resumed run may change.
EXECUTION = "execution"


def groups() -> Iterator[tuple[str, type[Group], tuple[Option, ...]]]:
    """Yield the name, the class and the options of every group, in order."""
    for field in fields(Config):
        if field.name != "preset":
            kind: type[Group] = type(getattr(Config(), field.name))
            yield field.name, kind, _options(kind, PREFIXES.get(field.name, ""))


@cache
def options() -> dict[str, Option]:
    """Return every option by its name, the preset's left out."""
    return {each.name: each for _, _, declared in groups() for each in declared}


def execution_options() -> list[str]:
    """Return the names of the options that a resumed run may change."""
    return [each.name for group, _, declared in groups() if group == EXECUTION for each in declared]


def _options(kind: type[Group], prefix: str) -> tuple[Option, ...]:
    """Return the options that a group declares."""
    hints = get_type_hints(kind)
    declared: tuple[Field[Any], ...] = fields(kind)
    return tuple(Option(prefix + each.name, hints[each.name], **each.metadata["option"]) for each in declared)


@cache
def _places() -> dict[str, tuple[str, str]]:
    """Return group and field of every option by its name."""
    return {
        each.name: (group, each.name.removeprefix(PREFIXES.get(group, "")))
        for group, _, declared in groups()
        for each in declared
    }


def _place(name: str) -> tuple[str, str]:
    """Return group and field of an option.

    Raises:
        UserError: there is none of that name.
    """
    if name not in _places():
        raise unexpected("option", repr(name), "the name of an option", sorted(_places()))
    return _places()[name]


def _for_rule(before: OptimizerConfig, rule: Value) -> OptimizerConfig:
    """Return an optimiser without the hyperparameters that ``rule`` has not, if it is another rule."""
    if not isinstance(rule, str) or rule not in (*RULES, CUSTOM) or rule == before.optimizer:
        return before
    all_names = {name for names in RULES.values() for name in names}
    return replace(before, **dict.fromkeys(all_names - RULES.get(rule, {}).keys()))
