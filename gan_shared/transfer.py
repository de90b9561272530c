"""Networks of another run that a run begins with, of its own sizes or of others."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from gan_shared.checkpoint import Checkpoint, with_networks
from gan_shared.config import Config
from gan_shared.errors import UserError, unexpected
from gan_shared.families import FAMILIES
from gan_shared.manifest import ROLES, TRAINED, network_config
from gan_shared.option_groups import CUSTOM

# Options that may differ: what they shape begins anew.
SIZES = ("resolution", "channels", "num_classes", "width")
# Options that shape nothing.
SHAPELESS = ("activation", "output")
# A list of layers that a network has more or fewer of at another size: its name, and the number of a layer.
NUMBERED = re.compile(r"(\w+)\.(\d+)\.(.+)")
# Layers that a message names before it counts the others.
NAMED = 4


class Transfer(NamedTuple):
    """A state that begins with networks of another run.

    Attributes:
        tensors: of the state by canonical name.
        about: what was carried over and what begins anew, in one line; empty where all was.
    """

    tensors: dict[str, np.ndarray]
    about: str = ""


def transferred(own: Mapping[str, np.ndarray], other: Checkpoint, config: Config) -> Transfer:
    """Return a run's first state with what fits of another run's networks.

    Networks of the same sizes are carried over whole. Between other sizes a tensor is carried over where it has its
    name and shape there. Layers are counted from the side of a network where more of them fit: those of a DCGAN from
    the image, those of an R3GAN from the smallest map.

    Args:
        own: the state without the other's networks, by canonical name.
        other: the checkpoint, perhaps of a generator alone.
        config: of the run.

    Raises:
        UserError: the networks differ in more than their sizes, or nothing of one fits.
    """
    there = [network for network in ROLES if any(name.startswith(f"{network}/") for name in other.tensors)]
    sizes = {name for network in TRAINED if network in there for name in _differences(network, other, config)}
    absent = [network for network in TRAINED if network not in there]
    new = [f"{network}: all of it begins anew" for network in absent]
    if not sizes:
        return Transfer(with_networks(own, other.tensors), f"{other.path}; {'; '.join(new)}" if new else "")
    tensors, parts = dict(own), []
    for network in there:
        ours, theirs = (_network(values, network) for values in (own, other.tensors))
        fitting = _fitting(ours, theirs)
        learned = [name for name in sorted(ours) if not name.endswith("num_batches_tracked")]
        carried = [name for name in learned if name in fitting]
        if not carried:
            raise UserError(f"nothing of the {network} has the shape of this run's: {_listed(sizes, other, config)}")
        tensors |= {f"{network}/{name}": value for name, value in fitting.items()}
        if network in TRAINED:
            anew = list(dict.fromkeys(_layer(name) for name in learned if name not in fitting))
            more = f" and {len(anew) - NAMED} more" if len(anew) > NAMED else ""
            begins = f", anew: {', '.join(anew[:NAMED])}{more}" if anew else ""
            parts.append(f"{network}: {len(carried)} of {len(learned)} tensors carried over{begins}")
    return Transfer(tensors, f"{other.path} ({_listed(sizes, other, config)}); {'; '.join(parts + new)}")


def _differences(network: str, other: Checkpoint, config: Config) -> list[str]:
    """Return which sizes of a network differ.

    Raises:
        UserError: something else differs.
    """
    before, now = network_config(other.config, network), network_config(config, network)
    if CUSTOM in (before["network"], now["network"]):
        return []  # compared tensor by tensor
    if before["network"] != now["network"]:
        raise unexpected(network, f"{before['network']} there", f"{now['network']}, as in this run")
    for name in now:
        old, new = (_resolved(name, values) for values in (before, now))
        if name == "precision":  # weights of float64 are not those of the other types
            old, new = (each if each == "float64" else "another type than float64" for each in (old, new))
        if name not in SIZES + SHAPELESS and old != new:
            raise unexpected(f"{network} {name}", f"{old} there", f"{new}, as in this run")
    return [name for name in SIZES if before[name] != now[name]]


def _resolved(name: str, values: Mapping[str, Any]) -> Any:
    """Return a value of a network's configuration; a normalisation that is not given is its family's own."""
    return FAMILIES[values["network"]].default_norm if name == "norm" and values[name] is None else values.get(name)


def _listed(sizes: set[str], other: Checkpoint, config: Config) -> str:
    """Return the sizes that differ, with both values."""
    before, now = other.config.values(), config.values()
    return ", ".join(f"{name} {before[name]} there, {now[name]} here" for name in SIZES if name in sizes)


def _network(tensors: Mapping[str, np.ndarray], network: str) -> dict[str, np.ndarray]:
    """Return the tensors of one network by their names in it."""
    prefix = f"{network}/"
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _layer(name: str) -> str:
    """Return what is named of a tensor: the layer of a list, or the module, that it is in."""
    match = NUMBERED.fullmatch(name)
    return f"{match[1]}.{match[2]}" if match else name.split(".")[0]


def _fitting(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the other's tensors that have one's own names and shapes, lists counted from where more fits."""

    def counted(from_end: bool) -> dict[str, np.ndarray]:
        renamed = {_renamed(name, ours, theirs) if from_end else name: value for name, value in theirs.items()}
        return {
            name: value
            for name, value in renamed.items()
            if name in ours and (value.shape, value.dtype) == (ours[name].shape, ours[name].dtype)
        }

    return max(counted(False), counted(True), key=lambda found: sum(value.size for value in found.values()))


def _renamed(name: str, ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> str:
    """Return a tensor's name where the layers of its list are counted from the list's end."""
    match = NUMBERED.fullmatch(name)
    if match is None:
        return name
    shift = _length(match[1], ours) - _length(match[1], theirs)
    return f"{match[1]}.{int(match[2]) + shift}.{match[3]}"


def _length(group: str, tensors: Mapping[str, np.ndarray]) -> int:
    """Return how many layers a list has."""
    matches = (NUMBERED.fullmatch(name) for name in tensors)
    return max((int(match[2]) + 1 for match in matches if match and match[1] == group), default=0)
