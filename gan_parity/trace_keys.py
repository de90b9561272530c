"""The names of a step trace's values, taken apart: ``KIND/NETWORK.CALL/PATH`` (see ``gan_torch/step_trace.py``)."""

from collections.abc import Collection

# Networks of a state that are no code of their own, and what is no network.
NO_CODE = ("generator_ema", "optimizer", "trainer")


def kind_of(key: str) -> str:
    """Return the kind of a value: ``input``, ``forward``, ``backward``, ``returned``, ``gradient``, ``state``, ..."""
    return key.split("/")[0]


def module_of(key: str) -> str:
    """Return ``network/path`` of a value's module; the last name of a parameter or buffer is not part of the path."""
    kind, _, rest = key.partition("/")
    network, _, path = rest.partition("/")
    if kind in ("gradient", "update", "state", "tensor"):
        path = path.rpartition(".")[0]
    if kind == "output":  # one of several that the network itself returns
        path = ""
    return f"{network.split('.')[0]}/{path}"


def scale_group(key: str) -> str:
    """Return what a value shares its scale with: its kind in one call of one network, or in one optimizer's state."""
    kind, network, *rest = key.split("/")
    quantity = f"/{rest[0].split('.')[0]}/{key.rpartition('.')[2]}" if network == "optimizer" else ""
    return f"{kind}/{network}{quantity}"


def at_fault(key: str, modules: Collection[str]) -> str:
    """Return ``network/path`` of the module whose code made a value, or an empty string where no network's code did.

    A module's input, and the gradient with respect to its output, are made by its parent; those of a whole network, by
    the training step. Updates are made by an optimizer.

    Args:
        key: name of the value.
        modules: those that both sides call; a list of modules is never called.
    """
    kind, module = kind_of(key), module_of(key)
    network, _, path = module.partition("/")
    if kind in ("input", "backward"):
        parents = [path[:end] for end in range(len(path)) if path[end] == "."]
        return next((each for p in [*parents[::-1], ""] if (each := f"{network}/{p}") in modules), "") if path else ""
    own = kind in ("forward", "returned", "gradient", "state", "tensor", "output")
    return module if own and network not in NO_CODE else ""
