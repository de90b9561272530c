"""Which runs the plain implementations support; both refuse the others alike."""

from gan_shared.config import Config
from gan_shared.errors import unexpected

NETWORKS = ("dcgan", "r3gan", "r3gan-tiny")
OBJECTIVES = (("bce", ()), ("relativistic", ("r1", "r2")))
PRECISIONS = ("float32", "tf32", "bfloat16")


def check_plain(config: Config) -> None:
    """Refuse a run that the plain implementations do not support.

    Raises:
        UserError: naming the field.
    """
    if config.networks.generator not in NETWORKS or config.networks.discriminator != config.networks.generator:
        raise unexpected("generator", config.networks.generator, "a network that a plain implementation has", NETWORKS)
    if (config.objective.loss, config.objective.penalties) not in OBJECTIVES:
        found = " ".join((config.objective.loss, *config.objective.penalties))
        raise unexpected("loss", found, "bce alone or relativistic with r1 and r2")
    if config.data.class_conditional or config.augmentation.augment:
        raise unexpected("preset", config.preset, "one without classes and augmentation")
    if config.training.precision not in PRECISIONS:
        raise unexpected("precision", config.training.precision, "a type of the plain implementations", PRECISIONS)
    if config.execution.data_on != "host":
        raise unexpected("data_on", config.execution.data_on, "host, where the plain implementations read images")
