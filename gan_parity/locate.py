"""Name the first value in which two implementations differ: ``python -m gan_parity.locate --help``.

    python -m gan_parity.locate dcgan                   # one step of a preset in both backends, in float64
    python -m gan_parity.locate runs/a runs/b           # the newest checkpoints of two runs, or two checkpoints

For a port of your own, in linen or nnx, see ``locate`` and ``examples/locate_a_port.py``. Values are compared in the
order in which torch computes them: inputs and outputs of modules, the gradients with respect to both, those of the
parameters, updates, the scalars of a training step and its state. Each is held to rounding on its own scale; the first
that differs by more says where to look. Where the input of a module differs already, its parent computed that input.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from flax import traverse_util
from tyro.conf import Positional

import gan_torch.backend
from gan_parity import runs
from gan_parity.configurations import CONFIGS
from gan_parity.difference import Context, Difference, first_difference, report
from gan_parity.locate_port import locate
from gan_shared import checkpoint, legacy
from gan_shared.command import guarded
from gan_shared.config import Config
from gan_shared.errors import unexpected
from gan_shared.manifest import TRAINED

__all__ = ["Difference", "locate", "locate_in_checkpoints", "locate_in_preset", "report", "traces"]

# Steps before the one that is compared: in the first, biases and the last kernels of R3GAN's blocks are zero.
WARM_UP = 3


def locate_in_preset(config: Config) -> Difference | None:
    """Run one step of a configuration in both backends, from one state of torch's run, and compare the traces."""
    theirs, ours = traces(config)
    modules = gan_torch.backend.build_networks(config)._asdict()
    kinds = {
        f"{name}/{path}": type(module).__name__
        for name, network in modules.items()
        if network is not None
        for path, module in network.named_modules()
    }
    state = runs.backend("jax", config).init()
    networks = {name: getattr(state, name) for name in TRAINED} | {"image_condition": state.image_condition_network}
    parameters = {name: network.parameters for name, network in networks.items() if network is not None}
    return first_difference(theirs, ours, Context(kinds, flax_paths(parameters)))


def flax_paths(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return the path in Flax of every module that holds parameters, or whose modules do, by ``network/path``."""
    found = {}
    for network, tree in parameters.items():
        for path in traverse_util.flatten_dict(tree):
            for end in range(1, len(path)):
                found[f"{network}/{'.'.join(path[:end])}"] = f"{network}/{'/'.join(path[:end])}"
    return found


def traces(config: Config) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the traces of one step in torch and in JAX, from one state of torch's run."""
    config = config.with_options(recompute=False)  # the same numbers, without calling modules again
    values = runs.step_values(config, WARM_UP)
    original = runs.backend("torch", config)
    begin = original.export(runs.run(original, original.init(), 0, WARM_UP)[0])
    theirs, ours = (
        twin.trace(twin.restore(begin), values) for twin in (runs.backend(name, config) for name in runs.BACKENDS)
    )
    return theirs, ours


def locate_in_checkpoints(paths: Sequence[Path]) -> Difference | None:
    """Compare the tensors of two checkpoints of any backend, in the order of their names in the first one's files.

    Raises:
        UserError: one cannot be read, or they are of different steps.
    """
    first, second = (checkpoint.load_newest(path) for path in paths)
    if first.step != second.step:
        raise unexpected("step", f"{first.step} and {second.step}", "two checkpoints of one step")
    theirs, ours = ({f"state/{name}": value for name, value in each.tensors.items()} for each in (first, second))
    return first_difference(theirs, ours)


@dataclass(frozen=True)
class Options:
    """Name the first value in which the two backends differ, or two runs."""

    what: Positional[tuple[str, ...]]
    """A preset (it is run at a reduced size), or two run or checkpoint folders."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 1 where something differs."""
    options = tyro.cli(Options, args=argv)
    found: list[Difference | None] = []

    def work() -> None:
        jax.config.update("jax_enable_x64", True)
        if len(options.what) == 2:
            found.append(locate_in_checkpoints([Path(path) for path in options.what]))
        elif len(options.what) == 1 and options.what[0] in CONFIGS:
            found.append(locate_in_preset(CONFIGS[options.what[0]]))
        else:
            legacy.check_preset(options.what[0] if len(options.what) == 1 else "")
            raise unexpected("what", " ".join(options.what), "a preset, or two folders", CONFIGS)
        print(report(found[0], " and ".join(options.what)))

    return guarded(work) or int(found[0] is not None)


if __name__ == "__main__":
    sys.exit(main())
