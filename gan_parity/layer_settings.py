"""How the settings of one layer differ between PyTorch and Flax: strides, padding, epsilon, momentum, mode.

The attributes of ``torch.nn`` layers beside those of ``flax.linen`` and ``flax.nnx``, which share their names.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import nn

# Spatial sizes of a layer's input, empty where they are not known.
Sizes = tuple[int, ...]


class Setting(NamedTuple):
    """One setting that both frameworks have.

    Attributes:
        name: what it is called here and in ``Trap.setting``.
        torch: attribute of the layer in torch.
        flax: attribute of the layer in Flax.
        expected: torch's value -> what the attribute in Flax must be.
    """

    name: str
    torch: str
    flax: str
    expected: Callable[[Any], Any] = lambda value: value


CONVOLUTION = (
    Setting("kernel size", "kernel_size", "kernel_size"),
    Setting("strides", "stride", "strides"),
    Setting("dilation", "dilation", "kernel_dilation"),
    Setting("bias", "bias", "use_bias", lambda value: value is not None),
)
NORM = (Setting("epsilon", "eps", "epsilon"),)
BATCH_NORM = (
    *NORM,
    Setting("momentum", "momentum", "momentum", lambda value: 1 - value),
    Setting("mode", "training", "use_running_average", lambda value: not value),
)
SETTINGS: dict[type[nn.Module], tuple[Setting, ...]] = {
    nn.Conv1d: (*CONVOLUTION, Setting("groups", "groups", "feature_group_count")),
    nn.Conv2d: (*CONVOLUTION, Setting("groups", "groups", "feature_group_count")),
    nn.ConvTranspose1d: CONVOLUTION,
    nn.ConvTranspose2d: CONVOLUTION,
    nn.Linear: (Setting("bias", "bias", "use_bias", lambda value: value is not None),),
    nn.BatchNorm1d: BATCH_NORM,
    nn.BatchNorm2d: BATCH_NORM,
    nn.LayerNorm: NORM,
    nn.GroupNorm: (*NORM, Setting("groups", "num_groups", "num_groups")),
    nn.InstanceNorm2d: NORM,
    nn.RMSNorm: NORM,
}


def compare_settings(original: nn.Module, port: object, sizes: Sizes = ()) -> dict[str, str]:
    """Return for each setting that can be compared how it differs, in a sentence; an empty one where it is the same.

    Args:
        original: a layer in torch.
        port: the layer of the port.
        sizes: height and width of what both get.
    """
    found: dict[str, str] = {}
    for setting in SETTINGS.get(type(original), ()):
        if not hasattr(original, setting.torch) or getattr(port, setting.flax, None) is None:
            continue  # a setting that is given when the layer is called is not known here
        theirs, ours = getattr(original, setting.torch), getattr(port, setting.flax)
        if theirs is None and setting.name in ("momentum", "epsilon"):
            continue  # torch averages over all batches, or takes the smallest number of the type
        expected = setting.expected(theirs)
        shown = expected if setting.name == "bias" else theirs
        theirs_here = f"{setting.torch}={shown} in torch is {setting.flax}={expected} in Flax"
        sentence = f"{setting.name}: {theirs_here}, the port has {ours}"
        found[setting.name] = "" if _same(expected, ours) else sentence
    if isinstance(original, nn.Conv1d | nn.Conv2d):
        found |= _convolution(original, port, sizes)
    if isinstance(original, nn.ConvTranspose1d | nn.ConvTranspose2d):
        found |= _transposed(original, port)
    in_flax = type(port).__module__.startswith("flax.")
    if isinstance(original, nn.BatchNorm1d | nn.BatchNorm2d) and original.training and in_flax:
        found["kept variance"] = "kept variance: unbiased in torch, biased in the port"
    if not getattr(port, "use_fast_variance", True):
        found["fast variance"] = ""
    return found


def _same(expected: Any, found: Any) -> bool:
    """Whether a setting has the same value; one number stands for each axis."""
    if isinstance(expected, tuple):
        axes = len(expected)
        return expected == (tuple(found) if isinstance(found, Sequence) else (found,) * axes)
    if isinstance(expected, float):
        return abs(expected - found) <= 1e-12
    return expected == found


def _convolution(original: nn.Conv1d | nn.Conv2d, port: object, sizes: Sizes) -> dict[str, str]:
    """Compare the padding of a convolution."""
    padding = getattr(port, "padding", None)
    if padding is None or original.padding_mode != "zeros":
        return {}
    axes = zip(original.kernel_size, original.stride, original.dilation, strict=True)
    kernels = [(dilation * (kernel - 1) + 1, stride) for kernel, stride, dilation in axes]
    if isinstance(original.padding, str):
        expected = [_same_padding(kernel, 1, 1) if original.padding == "same" else (0, 0) for kernel, _ in kernels]
    else:
        expected = [(int(pad), int(pad)) for pad in original.padding]
    if isinstance(padding, str):
        if padding == "SAME" and len(sizes) != len(kernels):
            return {}
        named = {
            "SAME": [_same_padding(*each, size) for each, size in zip(kernels, sizes, strict=False)],
            "VALID": [(0, 0)] * len(kernels),
        }
        found = named.get(padding)
    else:
        found = _pairs(padding, len(kernels))
    return {"padding": "" if found == expected else f"padding: {original.padding} in torch, the port has {padding}"}


def _transposed(original: nn.ConvTranspose1d | nn.ConvTranspose2d, port: object) -> dict[str, str]:
    """Compare the padding of a transposed convolution, and say whether the port's kernel is turned."""
    padding, turned = getattr(port, "padding", None), getattr(port, "transpose_kernel", None)
    if padding is None or turned is None:
        return {}
    expected, named = [], {"SAME": [], "VALID": []}
    for axis, kernel in enumerate(original.kernel_size):
        pad, extra = int(original.padding[axis]), original.output_padding[axis]  # type: ignore[arg-type]
        reach = original.dilation[axis] * (kernel - 1)
        expected.append((reach - pad, reach - pad + extra))
        stride = original.stride[axis]
        length = reach + stride - 1
        before = reach if stride > reach else -(-length // 2)
        named["SAME"].append((before, length - before))
        named["VALID"].append((reach, length + max(reach + 1 - stride, 0) - reach))
    found = named.get(padding) if isinstance(padding, str) else _pairs(padding, len(expected))
    words = (
        f"padding: {original.padding} and output_padding {original.output_padding} in torch are {tuple(expected)} "
        f"in Flax, the port has {padding}"
    )
    return {
        "padding": "" if found == expected else words,
        "transpose_kernel": "" if turned else "transpose_kernel: torch turns the kernel, the port does not",
    }


def _same_padding(kernel: int, stride: int, size: int) -> tuple[int, int]:
    """Return how many zeros 'SAME' puts before and after an axis."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _pairs(padding: Any, axes: int) -> list[tuple[int, int]]:
    """Return the padding before and after each axis; one number stands for each."""
    each = [padding] * axes if isinstance(padding, int) else list(padding)
    return [(pad, pad) if isinstance(pad, int) else (int(pad[0]), int(pad[1])) for pad in each]
