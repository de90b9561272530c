"""The catalogue of traps: each names what torch does, what the obvious port does, and what to do instead.

``python -m gan_parity.traps`` measures every row; the locator suspects those that fit the module and the value that
differ.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F

import gan_jax.layers
import gan_jax.losses
import gan_jax.optimizers
from gan_parity import norm_pairs, trap_pairs

# A pair is equal where no number is further apart than this part of the largest: rounding, with two digits to spare.
EQUAL = 1e-11


class Trap(NamedTuple):
    """One way to port wrongly.

    Attributes:
        name: what it is about.
        torch: what torch does.
        naive: what the obvious port does.
        fix: what to do instead.
        code: the files where this project does it.
        pair: () -> (torch's result, the naive one, the right one), arrays of one shape.
        at_least: the naive result is off by this part of the largest number, or more.
        modules: classes of modules in torch, without their number of axes, in which a difference may be caused by it.
        kinds: of a step trace's values (``gan_torch/step_trace.py``) that show it first; ``shape`` where it changes the
            shape of an activation, ``tensor`` where it changes names or shapes of parameters.
        equal: how far the right result may be off.
        setting: the setting of a module that it is about (``gan_parity/layer_settings.py``).
    """

    name: str
    torch: str
    naive: str
    fix: str
    code: str
    pair: Callable[[], tuple[Any, Any, Any]]
    at_least: float
    modules: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("forward",)
    equal: float = EQUAL
    setting: str = ""


TRAPS = (
    Trap(
        "axes of a kernel",
        "out, in, height, width",
        "height, width, out, in",
        "transpose(2, 3, 1, 0)",
        "gan_jax/interop.py",
        trap_pairs.kernel_axes,
        0.1,
        ("Conv",),
    ),
    Trap(
        "axes of a matrix",
        "(out, in)",
        "the same matrix in linen.Dense, which has (in, out)",
        ".T",
        "gan_jax/interop.py",
        trap_pairs.matrix_axes,
        0.1,
        ("Linear",),
    ),
    Trap(
        "padding of a convolution",
        "0 when not given; padding=1 pads both sides",
        "linen.Conv pads 'SAME' when not given: (0, 1) for an even size and stride 2",
        "give explicit pairs",
        "gan_jax/convolution.py",
        trap_pairs.convolution("SAME"),
        0.1,
        ("Conv",),
        kinds=("forward", "shape"),
        setting="padding",
    ),
    Trap(
        "kernel of a transposed convolution",
        "the gradient of a convolution: the kernel is turned",
        "linen.ConvTranspose does not turn it, and has its last two axes the other way round",
        "transpose_kernel=True, and the kernel's axes transpose(2, 3, 1, 0)",
        "gan_jax/convolution.py",
        trap_pairs.transposed,
        0.1,
        ("ConvTranspose",),
        kinds=("forward", "tensor"),
        setting="transpose_kernel",
    ),
    Trap(
        "padding of a transposed convolution",
        "padding=1, output_padding=1 with a kernel of 3",
        "linen.ConvTranspose pads 'SAME', also with transpose_kernel=True: the same shape",
        "per axis (d(k - 1) - p, d(k - 1) - p + output_padding), k the kernel, p torch's padding, d its dilation",
        "gan_jax/convolution.py",
        norm_pairs.transposed_padding,
        0.1,
        ("ConvTranspose",),
        kinds=("forward", "shape"),
        setting="padding",
    ),
    Trap(
        "channels that become pixels",
        "PixelShuffle: channel, then the two axes of a block",
        "the two axes of a block, then channel: the same shape",
        "reshape(b, h, w, c, r, r).transpose(0, 1, 4, 2, 5, 3)",
        "gan_parity/norm_pairs.py",
        norm_pairs.pixel_shuffle,
        0.1,
        ("PixelShuffle", "PixelUnshuffle"),
    ),
    Trap(
        "bicubic enlargement",
        "a = -0.75",
        "jax.image.resize: a = -0.5",
        "apply torch's kernel as two matrices",
        "gan_parity/norm_pairs.py",
        norm_pairs.bicubic,
        1e-2,
        ("Upsample",),
    ),
    Trap(
        "flattening before a matrix",
        "channel, height, width",
        "height, width, channel",
        "transpose to torch's order, or permute the matrix",
        "gan_jax/models/vgg.py",
        trap_pairs.flatten,
        0.1,
        ("Linear",),
        kinds=("input", "forward"),
    ),
    Trap(
        "variance that batch normalisation keeps",
        "n / (n - 1) times the one it divides by",
        "linen.BatchNorm keeps the biased one",
        "multiply by n / (n - 1)",
        "gan_jax/layers.py",
        trap_pairs.batch_norm("var", momentum=0.9),
        1e-3,
        ("BatchNorm",),
        ("state",),
        setting="kept variance",
    ),
    Trap(
        "momentum of batch normalisation",
        "0.1 is the weight of the new batch",
        "linen.BatchNorm: 0.99 is the weight of the old average",
        "1 - momentum",
        "gan_jax/layers.py",
        trap_pairs.batch_norm("mean"),
        0.5,
        ("BatchNorm",),
        ("state",),
        setting="momentum",
    ),
    Trap(
        "epsilon of layer normalisation",
        "1e-5",
        "linen.LayerNorm, nnx.LayerNorm: 1e-6",
        "epsilon=1e-5",
        "gan_parity/norm_pairs.py",
        norm_pairs.layer_norm,
        1e-3,
        ("LayerNorm",),
        setting="epsilon",
    ),
    Trap(
        "epsilon of group normalisation",
        "1e-5",
        "linen.GroupNorm, nnx.GroupNorm: 1e-6",
        "epsilon=1e-5",
        "gan_parity/norm_pairs.py",
        norm_pairs.group_norm,
        1e-3,
        ("GroupNorm",),
        setting="epsilon",
    ),
    Trap(
        "epsilon of instance normalisation",
        "1e-5",
        "linen.InstanceNorm, nnx.InstanceNorm: 1e-6",
        "epsilon=1e-5",
        "gan_parity/norm_pairs.py",
        norm_pairs.instance_norm,
        1e-3,
        ("InstanceNorm",),
        setting="epsilon",
    ),
    Trap(
        "epsilon of RMS normalisation",
        "that of the type: 2e-16 in float64, 1e-7 in float32",
        "linen.RMSNorm, nnx.RMSNorm: 1e-6",
        "epsilon=jnp.finfo(dtype).eps",
        "gan_parity/norm_pairs.py",
        norm_pairs.rms_norm,
        1e-3,
        ("RMSNorm",),
        setting="epsilon",
    ),
    Trap(
        "epsilon of batch normalisation",
        "1e-5 when not given",
        "the number of another library: 1e-3 in Keras",
        "epsilon=1e-5, or what torch is given",
        "gan_jax/layers.py",
        trap_pairs.batch_norm_epsilon,
        1e-4,
        ("BatchNorm",),
        setting="epsilon",
    ),
    Trap(
        "parameters of instance normalisation",
        "affine=False when not given",
        "linen.InstanceNorm has a scale and a bias, which training changes",
        "use_scale=False, use_bias=False",
        "gan_parity/norm_pairs.py",
        norm_pairs.instance_norm_parameters,
        1e-2,
        ("InstanceNorm",),
        kinds=("tensor",),
    ),
    Trap(
        "mode of batch normalisation",
        "training until .eval()",
        "use_running_average=True divides by the kept variance",
        "use_running_average=False where torch trains",
        "gan_jax/layers.py",
        norm_pairs.batch_norm_mode,
        0.1,
        ("BatchNorm",),
        kinds=("forward", "state"),
        setting="mode",
    ),
    Trap(
        "variance over a batch",
        "torch.var divides by n - 1",
        "jnp.var divides by n",
        "ddof=1",
        "gan_parity/norm_pairs.py",
        norm_pairs.variance,
        0.1,
        kinds=(),
    ),
    Trap(
        "variance in one pass (float32, mean 1,000)",
        "two passes",
        "linen.BatchNorm: E[x^2] - E[x]^2",
        "subtract the mean first",
        "gan_jax/layers.py",
        trap_pairs.batch_norm("output", np.float32, mean=1000.0),
        1e-2,
        ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm"),
        setting="fast variance",
        equal=1e-3,  # float32 numbers of 1,000 are 6e-5 apart, of a deviation of 1
    ),
    Trap(
        "spectral normalisation in evaluation",
        "uses the stored u and v",
        "linen.SpectralNorm iterates again",
        "store u and v, iterate in training only, u first",
        "gan_jax/layers.py",
        lambda: trap_pairs.spectral_norm(train=False),
        1e-3,
        ("Conv", "Linear", "Embedding"),
        setting="spectral",
    ),
    Trap(
        "order of spectral normalisation's iteration",
        "u first, then v",
        "linen.SpectralNorm: v first, then u",
        "u first, from the stored v",
        "gan_jax/layers.py",
        lambda: trap_pairs.spectral_norm(train=True),
        1e-4,
        ("Conv", "Linear", "Embedding"),
        setting="spectral",
    ),
    Trap(
        "forwards that advance statistics",
        "every forward in training, reals and fakes",
        "each from the state before both: the last one wins",
        "hand the state from forward to forward, in torch's order",
        "gan_jax/step.py",
        trap_pairs.forwards,
        0.1,
        ("BatchNorm",),
        kinds=("state",),
    ),
    Trap(
        "LeakyReLU's slope at 0",
        "0.2",
        "jax.nn.leaky_relu: 1",
        "where(x > 0, x, 0.2 x)",
        "gan_jax/layers.py",
        lambda: trap_pairs.slope(
            lambda x: F.leaky_relu(x, 0.2),
            lambda x: jax.nn.leaky_relu(x, 0.2),
            gan_jax.layers.leaky_relu,
            [-1.0, 0.0, 1.0],
        ),
        0.5,
        kinds=("backward", "gradient"),
    ),
    Trap(
        "hinge at its corner",
        "relu(1 - x): slope 0",
        "jnp.maximum(1 - x, 0): slope 0.5",
        "jax.nn.relu",
        "gan_jax/losses.py",
        lambda: trap_pairs.slope(
            lambda x: F.relu(1 - x),
            lambda x: jnp.maximum(1 - x, 0),
            lambda x: gan_jax.losses.LOSSES["hinge"].discriminator(x, jnp.full_like(x, -2.0)),
            [0.0, 1.0, 2.0],
        ),
        0.4,
        kinds=("backward", "gradient"),
    ),
    Trap(
        "gradient penalty where the gradient is 0",
        "the norm's subgradient at 0 is 0",
        "jnp.linalg.norm: not a number",
        "a root of a sum that is kept off 0",
        "gan_jax/losses.py",
        trap_pairs.penalty_at_zero,
        0.5,
        kinds=("gradient",),
        equal=1e-5,  # the small number below the root
    ),
    Trap(
        "softplus above 20",
        "F.softplus is linear there",
        "jax.nn.softplus is not (here the naive half is torch's own function)",
        "log(1 + exp(x)) in a stable form in both",
        "gan_torch/losses.py, gan_jax/losses.py",
        lambda: (
            np.logaddexp(0, [20.1]) - 20.1,
            F.softplus(torch.tensor([20.1], dtype=torch.float64)) - 20.1,
            gan_jax.losses.softplus(jnp.array([20.1])) - 20.1,
        ),
        0.5,
        kinds=("scalar", "gradient"),
        equal=1e-5,  # of 2e-9, which is what is left of 20.1 in float64
    ),
    Trap(
        "cross-entropy of a logit of 40",
        "binary_cross_entropy_with_logits",
        "-log(1 - sigmoid(x)): infinite",
        "softplus(x)",
        "gan_jax/losses.py",
        lambda: trap_pairs.values(
            lambda x: F.binary_cross_entropy_with_logits(x, torch.zeros_like(x), reduction="none"),
            lambda x: -jnp.log(1 - jax.nn.sigmoid(x)),
            gan_jax.losses.softplus,
            [-1.0, 0.5, 40.0],
        ),
        0.1,
        kinds=("scalar", "backward"),
    ),
    Trap(
        "GELU",
        "by erf",
        "jax.nn.gelu: by tanh",
        "approximate=False",
        "gan_jax/layers.py",
        lambda: trap_pairs.values(F.gelu, jax.nn.gelu, gan_jax.layers.gelu, [-1.0, 0.5, 1.0]),
        1e-5,
        ("GELU",),
    ),
    Trap(
        "Adam's bias correction (float32, first step, beta2 0.999)",
        "in double precision",
        "optax.adam: 1 - 0.999 in float32",
        "-expm1(t log(beta2)) of the complement",
        "gan_jax/optimizers.py",
        trap_pairs.optimizer(
            lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.9, 0.999)),
            optax.adam(1e-3, b1=0.9, b2=0.999),
            gan_jax.optimizers.Adam(0.9),
            steps=1,
            dtype=np.float32,
            begin_scale=0.0,  # a weight of 1 would have no digits for it
        ),
        3e-6,
        kinds=("update",),
        equal=5e-7,  # a few roundings of float32
    ),
    Trap(
        "weight decay of Adam",
        "torch.optim.Adam: a penalty, added to the gradient",
        "optax.adamw: taken from the weights",
        "add it to the gradients before Adam",
        "gan_jax/optimizers.py",
        trap_pairs.optimizer(
            lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=0.1),
            optax.adamw(1e-3, weight_decay=0.1),
            gan_jax.optimizers.Adam(0.9, weight_decay=0.1),
        ),
        1e-3,
        kinds=("update",),
    ),
    Trap(
        "weight decay of AdamW",
        "0.01 when not given",
        "optax.adamw: 0.0001",
        "give it",
        "gan_shared/config.py",
        trap_pairs.optimizer(
            lambda p: torch.optim.AdamW(p, lr=1e-3), optax.adamw(1e-3), gan_jax.optimizers.AdamW(0.9, weight_decay=0.01)
        ),
        1e-4,
        kinds=("update",),
    ),
    Trap(
        "RMSprop's epsilon (gradients of 1e-5)",
        "outside of the root",
        "optax.rmsprop: inside (and its decay is 0.9 when not given, torch's 0.99)",
        "eps_in_sqrt=False",
        "gan_jax/optimizers.py",
        trap_pairs.optimizer(
            lambda p: torch.optim.RMSprop(p, lr=1e-3, alpha=0.999),
            optax.rmsprop(1e-3, decay=0.999),
            gan_jax.optimizers.RMSprop(0.0),
            scale=1e-5,
        ),
        0.1,
        kinds=("update",),
    ),
    Trap(
        "clipping by the norm of all gradients (1e-4)",
        "divides by norm + 1e-6",
        "optax.clip_by_global_norm divides by the norm",
        "add 1e-6",
        "gan_jax/optimizers.py",
        trap_pairs.clip,
        5e-3,
        kinds=("update",),
    ),
    Trap(
        "average of the weights",
        "d average + (1 - d) weight, begun at the weight",
        "optax.ema begins at 0 and corrects for it",
        "write it out",
        "gan_jax/step.py",
        trap_pairs.average,
        0.1,
        ("generator_ema",),
        kinds=("state",),
    ),
    Trap(
        "a weight that is used twice",
        "one parameter: its gradient is the sum of both uses",
        "two copies, each with the gradient of one use",
        "use one Flax module twice, or linen.Embed.attend",
        "gan_parity/norm_pairs.py",
        norm_pairs.tied_weights,
        0.1,
        kinds=("gradient",),
        setting="tied",
    ),
    Trap(
        "initial weights",
        "its own initialisers and generator",
        "linen draws others, from a generator of its own",
        "declare distributions, draw once in NumPy",
        "gan_shared/initial.py",
        trap_pairs.beginning,
        0.1,
        kinds=(),
        equal=0.0,
    ),
    Trap(
        "a weight that is kept for later",
        "weight.numpy() shows what the next update makes of it",
        "kept as it is",
        "copy",
        "gan_torch/state.py, gan_jax/interop.py",
        trap_pairs.snapshot,
        0.1,
        kinds=(),
        equal=0.0,
    ),
    Trap(
        "float64 arrays",
        "stay float64",
        "jnp.asarray makes them float32, with no more than a warning",
        "jax_enable_x64, before anything is computed",
        "gan_jax/backend.py",
        trap_pairs.single,
        1e-9,
        kinds=(),
        equal=0.0,
    ),
)


def likely(kind: str, module: str, network: str = "", settings: Mapping[str, str] | None = None) -> Iterator[Trap]:
    """Yield the traps that may cause a difference: those about a setting that is known to differ, then others.

    Where a setting is known to differ, traps that fit every module are left out; where it is the same, its own are.

    Args:
        kind: of the value, as a trace names it, or ``shape`` or ``tensor``.
        module: class of its module, here or in torch.nn (Conv or Conv2d).
        network: whose value it is.
        settings: of the module: a sentence on each that differs, an empty one for each that is the same.
    """
    known = settings or {}
    names = {re.sub(r"\dd$", "", module.removeprefix("Parametrized")), network}
    fitting = [trap for trap in TRAPS if kind in trap.kinds and (not trap.modules or names & set(trap.modules))]
    certain = [trap for trap in fitting if known.get(trap.setting)]
    yield from certain
    yield from (trap for trap in fitting if trap.setting not in known and (trap.modules or not certain))
