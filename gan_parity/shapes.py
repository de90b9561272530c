"""The first place where a port does not fit its original: names and shapes, before any number is compared."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

from gan_parity.difference import Context, Difference
from gan_parity.names import Names, Path, is_singular_vector, torch_axes, without_counterpart
from gan_parity.original import Original, state_names
from gan_parity.ports import Outline
from gan_parity.trace_keys import module_of

Shape = tuple[int, ...]
# What the axes of a weight are in torch.
AXES = {
    "Conv": ("output channels", "input channels", "kernel height", "kernel width"),
    "ConvTranspose": ("input channels", "output channels", "kernel height", "kernel width"),
    "Linear": ("outputs", "inputs"),
    "Embedding": ("rows", "features"),
}
ACTIVATIONS, TENSOR = ("input/", "forward/"), "tensor/module/"


class Held(NamedTuple):
    """A tensor of a port.

    Attributes:
        path: in the port.
        shape: in the port.
        trained: whether it is a parameter there.
    """

    path: Path
    shape: Shape
    trained: bool

    def in_torch(self) -> Shape:
        """Return the shape that the tensor has in torch's order of axes."""
        if is_singular_vector(self.path):
            return self.shape[1:]
        return tuple(self.shape[axis] for axis in torch_axes(self.path, len(self.shape)))

    def named(self) -> str:
        """Return its path and shape as they are shown."""
        return f"{'/'.join(self.path)} {self.shape}"


class Fit(NamedTuple):
    """An original and the outline of its port.

    Attributes:
        original: run.
        outline: of the port.
        names: which module is which.
        held: the port's tensors by torch's names.
        own_layout: whether the user gave the port's values: then the shapes of its parameters are the user's affair.
    """

    original: Original
    outline: Outline
    names: Names
    held: dict[str, Held]
    own_layout: bool

    def needless(self, name: str) -> bool:
        """Whether a tensor that one side lacks is no difference, by its kind or as the port has it by another name."""
        others = self.original.tied.get(name, ())
        return bool(without_counterpart(name)) or any(other in self.held for other in others)

    def unmatched(self) -> tuple[str, ...]:
        """Return the names of the tensors that only one side has, where that is a difference."""
        held, tensors = self.held, self.original.tensors
        alone = [*(name for name in tensors if name not in held), *(name for name in held if name not in tensors)]
        return tuple(f"state/module/{name}" for name in alone if not self.needless(name))


def fit_of(original: Original, outline: Outline, names: Names, own_layout: bool) -> Fit:
    """Return an original and the outline of its port, with the port's tensors by torch's names."""
    trained = outline.trained
    held = {names.tensor(path): Held(path, leaf.shape, path in trained) for path, leaf in outline.tensors.items()}
    return Fit(original, outline, names, held, own_layout)


def first_misfit(fit: Fit, context: Context) -> Difference | None:
    """Return the first tensor or activation, in the order of torch's calls, that does not fit; or None.

    Args:
        fit: what is compared.
        context: what is known of the modules.
    """
    theirs = {key: value.shape for key, value in fit.original.values.items() if key.startswith(ACTIVATIONS)}
    ours = {fit.names.key(key): shape for key, shape in fit.outline.activations.items()}
    modules = {"module/"} | {module_of(key) for key in theirs if key in ours and key.startswith("forward/")}
    unmatched = fit.unmatched()
    checked = 0
    unknown = fit.outline.failure is not None and not fit.outline.tensors  # the port could not even begin
    for key in theirs if unknown else _in_order(theirs, fit.original, fit.held):
        about, detail = "shape", ""
        if key.startswith(TENSOR):
            about, detail = "tensor", _misfit_of_tensor(key.removeprefix(TENSOR), fit, unmatched)
        elif key in ours and theirs[key] != ours[key] and not _channels_first(theirs[key], ours[key]):
            detail = f"shape {theirs[key]} in torch, {ours[key]} in the port"
        if detail:
            return context.difference(key, modules, checked, unmatched, about)._replace(detail=detail)
        checked += 1
    detail = _misfit_of_outputs(fit)
    if not detail:
        return None
    return context.difference("output/module/", modules, checked, unmatched, "shape")._replace(detail=detail)


def _in_order(theirs: Mapping[str, Shape], original: Original, held: Mapping[str, Held]) -> list[str]:
    """Return the names of activations, and before each output of a module those of the module's own tensors."""
    of_module = state_names(original.modules)
    for name in held:
        listed = of_module.get(name.rpartition(".")[0], [])
        listed += [] if name in listed else [name]
    keys: list[str] = []
    for key in theirs:
        if key.startswith("forward/"):
            keys += [f"{TENSOR}{name}" for name in of_module.pop(key.split("/", 2)[2], [])]
        keys.append(key)
    rest = [name for listed in of_module.values() for name in listed]  # of modules that are never called
    rest += [name for name in held if name.rpartition(".")[0] not in original.modules]
    return keys + [f"{TENSOR}{name}" for name in rest]


def _misfit_of_tensor(name: str, fit: Fit, unmatched: tuple[str, ...]) -> str:
    """Return in a sentence how a parameter or buffer does not fit, or an empty string."""
    tensors, held = fit.original.tensors, fit.held
    if name not in tensors and name not in held:
        return ""  # of another parametrization
    if name not in tensors or name not in held:
        return "" if fit.needless(name) else _alone(name, fit, unmatched)
    mine = held[name]
    if mine.trained == (name in fit.original.buffers):
        theirs, ours = ("a buffer", "a parameter") if mine.trained else ("a parameter", "no parameter")
        return f"{name} is {theirs} in torch, {'/'.join(mine.path)} is {ours} in the port: only one of them trains it"
    if tensors[name].shape == mine.in_torch() or fit.own_layout:
        return ""
    module = fit.original.modules.get(name.rpartition(".")[0])
    return (
        f"{name} {tensors[name].shape} in torch, {mine.named()} in the port{_axes(module, tensors[name].shape, mine)}"
    )


def _alone(name: str, fit: Fit, unmatched: tuple[str, ...]) -> str:
    """Return in a sentence that only one side has a tensor, and what that may be caused by."""
    held = fit.held
    if name in held:
        why = ": bias=False there" if name.rpartition(".")[2] == "bias" else ""
        return f"the port has {held[name].named()}, torch has no {name}{why}"
    others = [each for key in unmatched if (each := key.removeprefix("state/module/")) in held]
    why = ": use_bias=False, where torch has bias=True" if name.rpartition(".")[2] == "bias" else ""
    if others:
        why = f"; if it is one of {', '.join(others)}, say so by names={{'path in the port': 'path in torch'}}"
    return f"torch has {name} {fit.original.tensors[name].shape}, the port has no such tensor{why}"


def _axes(module: nn.Module | None, theirs: Shape, mine: Held) -> str:
    """Return in words which axes of a weight differ."""
    ours = mine.in_torch()
    kind = type(module).__name__.removesuffix("1d").removesuffix("2d")
    if len(theirs) != len(ours) or kind not in AXES or len(theirs) < 2:
        return ""
    if kind == "ConvTranspose" and (theirs[1], theirs[0], *theirs[2:]) == ours:
        return ": input and output channels are exchanged, as without transpose_kernel=True"
    pairs = zip(AXES[kind], theirs, ours, strict=False)
    return f": {', '.join(f'{axis} {one} and {other}' for axis, one, other in pairs if one != other)}"


def _channels_first(theirs: Shape, ours: Shape) -> bool:
    """Whether an activation of the port has torch's order of axes, which ``theirs``, (B, H, W, C), no longer has."""
    return len(theirs) == 4 and (theirs[0], theirs[3], theirs[1], theirs[2]) == ours


def _misfit_of_outputs(fit: Fit) -> str:
    """Return in a sentence how the outputs differ in their number or shapes, or an empty string."""
    if fit.outline.failure is not None:
        return ""
    made, found = fit.original.outputs, fit.outline.outputs
    if len(made) != len(found):
        return f"torch returns {len(made)} arrays, the port {len(found)}"
    for i, (theirs, ours) in enumerate(zip(made, found, strict=True)):
        channels_last = (theirs[0], *theirs[2:], theirs[1]) if len(theirs) == 4 else theirs
        if ours not in (channels_last, theirs):
            return f"output {i} has shape {channels_last} in torch, {ours} in the port"
    return ""
