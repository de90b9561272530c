"""What the folder of a generator alone says of it: its config.json, in a checkpoint or from the Hugging Face Hub."""

from pathlib import Path
from typing import Any

from gan_shared.config import Config
from gan_shared.errors import UserError, unexpected
from gan_shared.families import FAMILIES
from gan_shared.manifest import FORMAT_VERSION, check_file, config_from_json, network_config, read_json
from gan_shared.option_groups import CUSTOM

# What its config.json has the names of its classes under, as the Hugging Face Hub does.
CLASS_NAMES = "id2label"


def read_generator_config(folder: Path) -> tuple[Config, list[str]]:
    """Return the configuration of a generator, and the names of its classes where they are known.

    Raises:
        UserError: it is damaged, or of a network that cannot make images by itself.
    """
    file = folder / "config.json"
    check_file(file, "what a checkpoint says of its generator")
    values = read_json(file)
    network, resolution = values.get("network"), values.get("resolution")
    if values.get("role") != "generator":
        raise unexpected(str(file), f"role {values.get('role')!r}", "a generator", ("generator", "generator_ema"))
    if network == "lapgan":
        expected = "a generator that makes images by itself: give the folder of the LAPGAN"
        raise unexpected(str(file), "a generator of a pyramid level", expected)
    own = FAMILIES.get(str(network))
    others = (name for name, family in FAMILIES.items() if "discriminator" in family.roles)
    fitting = (name for name in others if resolution in FAMILIES[name].resolutions)
    discriminator = network if own is not None and "discriminator" in own.roles else next(fitting, CUSTOM)
    names = _class_names(file, values)
    known = {name: values[name] for name in values if name not in ("role", "network", "activation", "output")}
    config = config_from_json(
        Config().to_json()
        | known
        | {
            "generator": network,
            "discriminator": discriminator,
            "generator_activation": values.get("activation"),
            "output_activation": values.get("output"),
            "class_conditional": values.get("num_classes") is not None,
        },
        FORMAT_VERSION,
        file,
    )
    if network_config(config, "generator") != values:
        raise unexpected(str(file), "no whole configuration", "what a checkpoint says of its generator")
    if config.data.channels is None:
        raise UserError(f"{file}: channels: found null, expected 1 or 3")
    return config, names


def _class_names(file: Path, values: dict[str, Any]) -> list[str]:
    """Take the names of the classes, numbers to names, out of what a generator's config.json holds, if they are there.

    Raises:
        UserError: it holds something else.
    """
    found = values.pop(CLASS_NAMES, None)
    if found is None:
        return []
    count = values.get("num_classes")
    names = [found.get(str(number)) for number in range(len(found))] if isinstance(found, dict) else [None]
    texts = [name for name in names if isinstance(name, str)]
    if len(names) != count or len(texts) != count:
        raise unexpected(
            str(file), f"other {CLASS_NAMES}", f"the name of each class by its number, from 0, {count} in all"
        )
    return texts
