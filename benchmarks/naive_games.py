"""Which runs the plain implementations play; both refuse the others alike."""

from gan_shared.config import Config
from gan_shared.errors import unexpected

NETWORKS = ("dcgan", "r3gan", "r3gan-tiny")
GAMES = (("bce", ()), ("relativistic", ("r1", "r2")))
PRECISIONS = ("float32", "tf32", "bfloat16")


def check_plain(config: Config) -> None:
    """Refuse a run that the plain implementations do not play.

    Raises:
        UserError: naming the field.
    """
    if config.generator not in NETWORKS or config.discriminator != config.generator:
        raise unexpected("generator", config.generator, "a network that a plain implementation has", NETWORKS)
    if (config.loss, config.penalties) not in GAMES:
        found = " ".join((config.loss, *config.penalties))
        raise unexpected("loss", found, "bce alone or relativistic with r1 and r2")
    if config.conditional or config.augment:
        raise unexpected("preset", config.preset, "one without classes and augmentation")
    if config.precision not in PRECISIONS:
        raise unexpected("precision", config.precision, "a type of the plain implementations", PRECISIONS)
    if config.data_on != "host":
        raise unexpected("data_on", config.data_on, "host, where the plain implementations read images")
