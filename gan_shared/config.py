"""Everything that defines a run, in one frozen dataclass, with one sentence per field.

The field comments below are the help texts of the command line. ``validation.py`` refuses what cannot work.
"""

from dataclasses import asdict, dataclass
from typing import Any

from tyro.conf import Positional

# The names that both backends' tables hold; ``parity_tests/test_mirror.py`` compares them.
LOSSES = ("bce", "minimax", "mse", "mse-bce", "hinge", "wasserstein", "relativistic")
# The losses whose generator update sees reals too.
PAIRED_LOSSES = frozenset({"relativistic"})
# The losses under which the sign of a logit says real or fake, which adaptive augmentation steers by.
SIGNED_LOSSES = ("bce", "minimax", "mse-bce", "hinge")
PENALTIES = ("gradient-penalty", "r1", "r2")
ACTIVATIONS = ("relu", "leaky_relu", "sigmoid", "tanh", "silu", "gelu")
OUTPUTS = ("tanh", "sigmoid", "none")
NORMS = ("none", "batch", "spectral")
OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd")
# Those that torch.compile can take, as their learning rate and beta2 may be tensors.
COMPILED_OPTIMIZERS = ("adam", "adamw")
# Augmentation -> the uniform numbers that one image takes: the first decides whether, the rest how.
AUGMENTATIONS = {
    "flip": 2,
    "crop": 3,
    "translate": 3,
    "rotate": 2,
    "scale": 2,
    "cutout": 3,
    "brightness": 2,
    "saturation": 2,
    "contrast": 2,
}
PRECISIONS = ("float32", "tf32", "bfloat16", "float64")
DEVICES = ("auto", "cpu", "gpu")
PLACES = ("host", "device")
# Network family -> the resolutions (pixels) that it can make.
RESOLUTIONS = {
    "dcgan": (8, 16, 28, 32, 64, 128, 224, 256),
    "resnet": (16, 32, 64, 128),
    "inception": (16, 32, 64, 128),
    "r3gan": (32, 64, 128, 256),
    "r3gan-tiny": (16, 32, 64, 128),
    "vgg16": (32, 64, 128, 224, 256),
}
GENERATORS = tuple(RESOLUTIONS)
# The family that is a generator alone.
DISCRIMINATORS = tuple(name for name in RESOLUTIONS if name != "vgg16")
# Feature maps of a VGG16 that a generator can be fed with, by the names of their rectified layers.
VGG_LAYERS = ("relu3_3", "relu4_1", "relu4_2", "relu4_3", "relu5_1", "relu5_2", "relu5_3", "fc6")
# Weights of a VGG16 that are drawn from the run's seed instead of read from a file.
RANDOM = "random"
# A module of the user's own, given to GAN(...) (``gan.py``).
CUSTOM = "custom"

# One value, or two: the second is reached from the first along a half cosine over ``burn_in_nimg`` images.
Schedule = float | tuple[float, float]


@dataclass(frozen=True)
class Config:
    """One training run, complete: the same Config, data and seed give the same run."""

    preset: Positional[str] = "dcgan"
    """Named recipe whose values are the defaults of every option below."""

    data: str = "mnist-5k"
    """Images: mnist-5k, mnist, fashion-mnist, cifar10, stacked-mnist (three digits as RGB, from mnist-5k; from mnist:
    stacked-mnist-60k), or a path (folder of pictures, IDX, .npy, .npz)."""

    resolution: int = 32
    """Height and width of the images in pixels."""

    channels: int | None = None
    """Colours of the images: 1 (grey) or 3 (RGB); follows the data when not given."""

    conditional: bool = False
    """Whether both networks are told the class of each image; the data must have labels."""

    classes: int | None = None
    """Number of classes of a conditional run; follows the data when not given."""

    generator: str = "dcgan"
    """Network that makes images: dcgan, resnet, inception, r3gan, r3gan-tiny, or vgg16 (from a picture's features).
    Of a pyramid, the network of the lowest level."""

    discriminator: str = "dcgan"
    """Network that judges images: dcgan, resnet, inception, r3gan or r3gan-tiny."""

    latent_size: int = 100
    """Length of the generator's normal input vector; 0 for none where the generator reads pictures."""

    width: float = 1.0
    """Factor on the channel counts of both networks, and of a VGG16 with random weights."""

    levels: tuple[int, ...] = ()
    """Sizes in pixels of a pyramid of GANs, from the lowest up, each twice the one before; resolution is the one that
    this run trains."""

    vgg_layer: str | None = None
    """Features that the generator vgg16 reads: relu3_3, relu4_1 to relu4_3, relu5_1 to relu5_3, or fc6."""

    vgg_weights: str | None = None
    """VGG16's weights: the file that scripts/vgg_weights.py writes, or random."""

    vgg_sha256: str | None = None
    """Hash of the file of VGG16's weights, or random; follows the file when not given."""

    pixel_weight: float = 0.0
    """Weight, in the loss of the generator vgg16, of the mean squared difference to the picture's pixels."""

    feature_weight: float = 0.0
    """Likewise to the picture's features."""

    generator_activation: str | None = None
    """relu, leaky_relu (slope 0.2), sigmoid, tanh, silu or gelu; the network's own when not given."""

    discriminator_activation: str | None = None
    """Likewise for the discriminator."""

    discriminator_norm: str | None = None
    """Normalisation of the discriminator: none, batch or spectral; the network's own when not given."""

    output_activation: str = "tanh"
    """End of the generator: tanh, sigmoid (pixels are then 0 to 1 instead of -1 to 1) or none; of a pyramid, of the
    lowest level."""

    loss: str = "bce"
    """Adversarial loss: bce (non-saturating), minimax, mse, mse-bce (mse on reals, bce on fakes), hinge, wasserstein or
    relativistic (paired)."""

    penalties: tuple[str, ...] = ()
    """Penalties on the discriminator's gradient at images: gradient-penalty, r1, r2, or several."""

    gamma: Schedule = 0.0
    """Weight of the penalties: of (norm - 1)^2 for gradient-penalty, of norm^2 / 2 for r1 and r2."""

    fresh_latents: bool = True
    """Whether the generator's update draws latents of its own, or reuses the discriminator update's fakes."""

    discriminator_updates: int = 1
    """Discriminator updates per generator update."""

    freeze: str = "none"
    """Network whose weights stay as they are: generator, discriminator or none; batch statistics still advance."""

    init_from: str | None = None
    """Run or checkpoint folder, of either backend, whose networks this run begins with."""

    batch_size: int = 64
    """Images per update."""

    steps: int = 2000
    """Length of the whole run in generator updates."""

    generator_optimizer: str = "adam"
    """adam, adamw, rmsprop or sgd, each as torch's."""

    discriminator_optimizer: str = "adam"
    """Likewise for the discriminator."""

    generator_learning_rate: Schedule = 2e-4
    """Step size of the generator. This and the other scheduled numbers: one value, or two for from and to."""

    discriminator_learning_rate: Schedule = 2e-4
    """Step size of the discriminator."""

    generator_beta1: float = 0.5
    """Decay of the generator's gradient average: beta1 of adam and adamw, momentum of rmsprop and sgd."""

    discriminator_beta1: float = 0.5
    """Likewise for the discriminator."""

    generator_beta2: Schedule = 0.999
    """Decay of the generator's squared gradient average: beta2 of adam and adamw, alpha of rmsprop."""

    discriminator_beta2: Schedule = 0.999
    """Likewise for the discriminator."""

    weight_decay: float = 0.0
    """Pull of all weights towards zero, with the meaning that torch gives it in each optimiser."""

    gradient_clip: float = 0.0
    """Largest norm of all gradients of a network together; 0 leaves them as they are."""

    ema_half_life_nimg: Schedule = 5000.0
    """Half-life of the averaged generator in images seen; 0 makes it a copy of the generator."""

    burn_in_nimg: int = 0
    """Images seen until the scheduled numbers reach their second value."""

    augment: tuple[str, ...] = ()
    """Augmentations of what the discriminator sees: flip, crop, translate, rotate, scale, cutout, brightness,
    saturation, contrast, or several."""

    augment_probability: Schedule = 0.0
    """Probability with which each augmentation meets an image."""

    augment_target: float = 0.0
    """Adaptive augmentation: mean sign of the logits of reals that the probability is steered to; 0 does not steer."""

    augment_adapt_nimg: int = 500_000
    """Images in which adaptive augmentation can go from probability 0 to 1."""

    seed: int = 0
    """Number that every random draw and initial weight follows from."""

    precision: str = "float32"
    """Floating-point type: float32, float64, bfloat16 (which computes the networks in it; weights are float32), or tf32
    (float32 that a GPU may round to 10 bits before it multiplies; on a CPU float32)."""

    device: str = "auto"
    """Where to compute: cpu, gpu, or auto (a GPU when the framework sees one)."""

    data_on: str = "host"
    """Where the decoded images lie: host, or device (for data that fits there: a step then sends indices only)."""

    steps_per_call: int = 1
    """Steps that are handed to the framework at once; on a GPU JAX runs them as one call. The results are the same."""

    compile: bool = False
    """Whether PyTorch compiles its step (torch.compile); JAX always does."""

    recompute: bool = False
    """Whether VGG16 looks at one image at a time, and again where gradients are needed, to save memory."""

    log_every: int = 20
    """Steps between two lines of scalars."""

    sample_every: int = 500
    """Steps between two sample grids."""

    save_every: int = 500
    """Steps between two checkpoints."""

    keep_checkpoints: int = 5
    """Newest checkpoints that are kept; 0 keeps all."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image; the channels must be known."""
        if self.channels is None:
            raise ValueError("channels follow the data: load it first")
        return self.resolution, self.resolution, self.channels

    @property
    def class_count(self) -> int:
        """Number of classes that the networks are told; 0 when they are told none. The data must be known."""
        if self.conditional and self.classes is None:
            raise ValueError("classes follow the data: load it first")
        return self.classes or 0 if self.conditional else 0

    @property
    def condition(self) -> str:
        """What the generator is told of pictures: ``none``, ``vgg16`` features, or the ``level`` below."""
        if self.generator == "vgg16":
            return "vgg16"
        return "level" if self.levels and self.resolution > self.levels[0] else "none"

    @property
    def vgg_width(self) -> float:
        """Factor on the channels of the run's VGG16: published weights fit the published widths alone."""
        return self.width if self.vgg_weights == RANDOM else 1.0

    @property
    def data_resolution(self) -> int:
        """Height and width of the images as they are loaded: those of a pyramid's highest level for all of them."""
        return self.levels[-1] if self.levels else self.resolution

    @property
    def lowest_pixel(self) -> float:
        """Value of black in the generator's range; white is 1."""
        return 0.0 if self.output_activation == "sigmoid" else -1.0

    @property
    def real_rows(self) -> int:
        """Batches of reals in one step: one per discriminator update, one more where the generator's loss sees them."""
        return self.discriminator_updates + int(self.loss in PAIRED_LOSSES)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dictionary as JSON holds it: tuples are lists."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def ends(value: Schedule) -> tuple[float, float]:
    """Return the first and the last value of a schedule."""
    return value if isinstance(value, tuple) else (value, value)
