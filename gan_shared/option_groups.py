"""The groups of options, each option declared once; ``config.py`` joins them to a run.

All groups but ``ExecutionConfig`` define the experiment; that one says how and where it is run.
"""

from dataclasses import dataclass

from gan_shared.families import families_of
from gan_shared.options import Schedule, option

# What was given to GAN(...) in the place of a name: a module, a pair of loss functions, an optimiser.
CUSTOM = "custom"
# A pair of loss functions of the user's own, the generator's one of real and fake logits.
CUSTOM_PAIRED = "custom-paired"
# The losses whose generator half depends on reals too.
PAIRED_LOSSES = frozenset({"relativistic", CUSTOM_PAIRED})
# The losses under which the sign of a logit says real or fake, which adaptive augmentation steers by.
SIGNED_LOSSES = frozenset({"bce", "minimax", "mse-bce", "hinge"})
ACTIVATIONS = ("relu", "leaky_relu", "sigmoid", "tanh", "silu", "gelu")
# Update rule -> its hyperparameters where they are not given, which are those of torch.optim's class of that name.
RULES: dict[str, dict[str, float]] = {
    "adam": {"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0},
    "adamw": {"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.01},
    "rmsprop": {"alpha": 0.99, "momentum": 0.0, "weight_decay": 0.0},
    "sgd": {"momentum": 0.0, "weight_decay": 0.0},
}
# Hyperparameters that a schedule may change: the decay of the squared gradient average, as each rule calls it.
SCHEDULED = ("beta2", "alpha")
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
# Feature maps of a VGG16 that a generator can be fed with, by the names of their rectified layers.
VGG_LAYERS = ("relu3_3", "relu4_1", "relu4_2", "relu4_3", "relu5_1", "relu5_2", "relu5_3", "fc6")
# Weights of a VGG16 that are drawn from the run's seed instead of read from a file.
RANDOM = "random"
# Upper limit of counts of steps, images and the like.
ENDLESS = 2**40


@dataclass(frozen=True)
class DataConfig:
    """Images that both networks work on."""

    resolution: int = option(32, "Height and width of the images in pixels.", low=8, high=2**14)
    channels: int | None = option(
        None, "Colours of the images: 1 (grey) or 3 (RGB); follows the data when not given.", choices=(1, 3)
    )
    class_conditional: bool = option(
        False, "Whether both networks are given the class of each image; the data must have labels."
    )
    num_classes: int | None = option(
        None, "Number of classes of a class-conditional run; follows the data when not given.", low=1, high=65536
    )
    holdout: float = option(
        0.0,
        "Share of one's own images that is kept out of training, to evaluate with; which ones follows from their "
        "content. Sets known by name have a test split instead.",
        low=0.0,
        below=1.0,
    )


@dataclass(frozen=True)
class NetworkConfig:
    """Generator and discriminator."""

    generator: str = option(
        "dcgan",
        "Network family of the generator; vgg-decoder makes images from the VGG16 features of others. Of a LAPGAN, the "
        "family of the lowest pyramid level.",
        choices=families_of("generator"),
        also=(CUSTOM,),
    )
    discriminator: str = option(
        "dcgan", "Network family of the discriminator.", choices=families_of("discriminator"), also=(CUSTOM,)
    )
    latent_size: int = option(
        100,
        "Length of the generator's normal input vector; 0 for none where the generator is given images.",
        low=0,
        high=2**16,
    )
    width: float = option(
        1.0, "Factor on the channel counts of both networks, and of a VGG16 with random weights.", above=0.0, high=64.0
    )
    generator_activation: str | None = option(
        None, "Activation of the generator; the family's own when not given.", choices=ACTIVATIONS
    )
    discriminator_activation: str | None = option(
        None, "Activation of the discriminator; the family's own when not given.", choices=ACTIVATIONS
    )
    discriminator_norm: str | None = option(
        None,
        "Normalisation in the discriminator; the family's own when not given.",
        choices=("none", "batch", "spectral"),
    )
    output_activation: str = option(
        "tanh",
        "Activation that ends the generator; under sigmoid pixels are 0 to 1 instead of -1 to 1. Of a LAPGAN, that of "
        "the lowest pyramid level.",
        choices=("tanh", "sigmoid", "none"),
    )


@dataclass(frozen=True)
class ImageConditionConfig:
    """What an image-conditional generator is given of real images."""

    pyramid_levels: tuple[int, ...] = option(
        (),
        "Sizes in pixels of the levels of a LAPGAN's Laplacian pyramid, from the lowest up, each twice the one before; "
        "--resolution is the one that this run trains.",
    )
    vgg_layer: str | None = option(
        None, "VGG16 layer whose features the generator vgg-decoder is given.", choices=VGG_LAYERS
    )
    vgg_sha256: str | None = option(
        None, "Hash of the file of VGG16's weights, or random; follows the file when not given."
    )
    pixel_weight: float = option(
        0.0, "Weight of the mean squared error of pixels in the loss of vgg-decoder.", low=0.0, high=1e6
    )
    feature_weight: float = option(
        0.0, "Weight of the mean squared error of VGG16 features in the loss of vgg-decoder.", low=0.0, high=1e6
    )


@dataclass(frozen=True)
class ObjectiveConfig:
    """Losses, and who is updated how often."""

    loss: str = option(
        "bce",
        "Adversarial loss: bce is the non-saturating one, mse-bce has squared error on reals, cross-entropy on fakes; "
        "relativistic pairs them.",
        choices=("bce", "minimax", "mse", "mse-bce", "hinge", "wasserstein", "relativistic"),
        also=(CUSTOM, CUSTOM_PAIRED),
    )
    penalties: tuple[str, ...] = option(
        (),
        "Penalties on the discriminator's gradient with respect to its input images; none where no name follows.",
        choices=("gradient-penalty", "r1", "r2"),
    )
    gamma: Schedule = option(
        0.0,
        "Weight of the penalties: of (norm - 1)^2 for gradient-penalty, of norm^2 / 2 for r1 and r2.",
        low=0.0,
        high=1e6,
    )
    penalty_every: int = option(
        1,
        "Steps from one with penalties to the next, whose weight is multiplied by as many: lazy regularization.",
        low=1,
        high=1000,
    )
    fresh_latents: bool = option(
        True, "Whether the generator's update draws latents of its own, or reuses the discriminator update's fakes."
    )
    discriminator_updates: int = option(1, "Discriminator updates per generator update.", low=1, high=1000)
    freeze: str = option(
        "none",
        "Network whose weights stay as they are; batch statistics still advance.",
        choices=("none", "generator", "discriminator"),
    )


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimiser of one network. Hyperparameters that are not given are the rule's own defaults in torch."""

    optimizer: str = option("adam", "Update rule, equivalent to that of torch.optim.", choices=RULES, also=(CUSTOM,))
    learning_rate: Schedule = option(
        2e-4, "Step size. This and the other scheduled numbers: one value, or two for from and to.", low=0.0, high=1e3
    )
    beta1: float | None = option(None, "adam, adamw: decay of the gradient average.", low=0.0, below=1.0)
    beta2: Schedule | None = option(None, "adam, adamw: decay of the squared gradient average.", low=0.0, below=1.0)
    alpha: Schedule | None = option(None, "rmsprop: decay of the squared gradient average.", low=0.0, below=1.0)
    momentum: float | None = option(None, "rmsprop, sgd: decay of the sum of updates.", low=0.0, below=1.0)
    weight_decay: float | None = option(
        None, "Pull of the weights towards zero, with the meaning that torch gives it in each rule.", low=0.0, high=1e3
    )

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """The names of the rule's hyperparameters; none of an optimiser of the user's own."""
        return tuple(RULES.get(self.optimizer, ()))

    def hyperparameter(self, name: str) -> Schedule:
        """Return one of the rule's hyperparameters: the given value, or else torch's default."""
        given = getattr(self, name)
        return RULES[self.optimizer][name] if given is None else given

    def constants(self) -> dict[str, float]:
        """Return the rule's hyperparameters that no schedule changes, by name: what its constructor takes."""
        values = {name: self.hyperparameter(name) for name in self.hyperparameters if name not in SCHEDULED}
        return {name: value for name, value in values.items() if not isinstance(value, tuple)}

    def square_decay(self) -> Schedule:
        """Return the decay of the squared gradient average; 0 for a rule that keeps none."""
        named = [name for name in self.hyperparameters if name in SCHEDULED]
        return self.hyperparameter(named[0]) if named else 0.0


@dataclass(frozen=True)
class AugmentationConfig:
    """Augmentation of the discriminator's input, reals and fakes alike."""

    augment: tuple[str, ...] = option((), "Augmentations; none where no name follows.", choices=AUGMENTATIONS)
    augment_probability: Schedule = option(
        0.0, "Probability with which each augmentation is applied to an image.", low=0.0, high=1.0
    )
    augment_target: float = option(
        0.0,
        "Adaptive augmentation: mean sign of the logits of reals that the probability is steered to; 0 does not steer.",
        low=0.0,
        high=1.0,
    )
    augment_adapt_nimg: int = option(
        500_000, "Images in which adaptive augmentation can go from probability 0 to 1.", low=1, high=2**60
    )


@dataclass(frozen=True)
class TrainingConfig:
    """Batches, averages, schedules and randomness."""

    batch_size: int = option(
        64, "Images per update; --resume with another number begins a new segment of the run.", low=1, high=2**20
    )
    earlier_batch_sizes: tuple[int, ...] = option(
        (), "Of the run's earlier segments, which --resume notes here: STEP SIZE, each up to that step.", low=1
    )
    gradient_clip: float = option(
        0.0, "Largest norm of all gradients of a network together; 0 leaves them as they are.", low=0.0, high=1e18
    )
    ema_half_life_nimg: Schedule = option(
        5000.0,
        "Half-life of the averaged generator in images seen; 0 makes it a copy of the generator.",
        low=0.0,
        high=1e18,
    )
    burn_in_nimg: int = option(
        0, "Images seen until the scheduled numbers reach their second value.", low=0, high=2**60
    )
    seed: int = option(0, "Number that every random draw and initial weight follows from.", low=0, high=2**63 - 1)
    precision: str = option(
        "float32",
        "Floating-point type: bfloat16 computes the networks in it, weights are float32; tf32 is float32 that a GPU "
        "may round to 10 bits before it multiplies (on a CPU float32).",
        choices=("float32", "tf32", "bfloat16", "float64"),
    )
    init_from: str | None = option(
        None, "Run, checkpoint or generator folder, of either backend, whose networks this run begins with."
    )


@dataclass(frozen=True)
class ExecutionConfig:
    """How long, where and with which files a run computes, and how often it reports; a resumed run may change it."""

    data: str = option(
        "mnist-5k",
        "Images: mnist-5k, mnist, fashion-mnist, cifar10, stacked-mnist (three digits as RGB, from mnist-5k; from "
        "mnist: stacked-mnist-60k), or a path (folder or archive of pictures, .npz, .npy, IDX, Parquet).",
    )
    data_manifest: str | None = option(
        None,
        "List of the sha256 of every picture that the data must hold, no more and no less, as "
        "python -m gan_shared.data_manifest writes it.",
    )
    data_key: str | None = option(None, "Public key (Ed25519) that the list must be signed with.")
    exclude: str | None = option(
        None,
        "List of images that are left out: the exclude.txt that python -m gan_shared.audit writes, or names of "
        "pictures, one a line.",
    )
    steps: int = option(2000, "Length of the whole run in generator updates.", low=1, high=ENDLESS)
    device: str = option(
        "auto",
        "Where to compute; auto is a GPU when there is one.",
        choices=("auto", "cpu", "gpu"),
    )
    data_on: str = option(
        "host",
        "Where the decoded images are kept; device is for data that fits there: a step then sends indices only.",
        choices=("host", "device"),
    )
    steps_per_call: int = option(
        1,
        "Steps that are handed to the framework at once; on a GPU JAX runs them as one call. The results are the same.",
        low=1,
        high=10_000,
    )
    compile: bool = option(False, "Whether PyTorch compiles its step (torch.compile); JAX always does.")
    cuda_graph: bool = option(
        False, "Whether PyTorch captures its step as a CUDA graph and replays it, not compiled; on a GPU alone."
    )
    recompute: bool = option(
        False,
        "Gradient checkpointing of VGG16: it is applied to one image at a time and its activations are computed again "
        "for the backward pass, to save memory.",
    )
    vgg_weights: str | None = option(None, "VGG16's weights: the file that scripts/vgg_weights.py writes, or random.")
    log_every: int = option(20, "Steps between two lines of scalars.", low=1, high=ENDLESS)
    sample_every: int = option(500, "Steps between two sample grids.", low=1, high=ENDLESS)
    save_every: int = option(500, "Steps between two checkpoints.", low=1, high=ENDLESS)
    evaluate_every: int = option(
        0,
        "Steps between two evaluations by EfficientNet-Lite0, or of stacked-mnist by the digit classifier; the best "
        "checkpoint is kept. 0 evaluates never.",
        low=0,
        high=ENDLESS,
    )
    evaluate_images: int = option(
        2000, "Most images that an evaluation while training makes, and real ones that it compares.", low=6, high=10**7
    )
    rollbacks: int = option(
        0,
        "How often at most a run whose losses are no longer finite goes back to its newest checkpoint, and on with "
        "other random numbers; 0 stops it.",
        low=0,
        high=10**6,
    )
    keep_checkpoints: int = option(5, "Newest checkpoints that are kept; 0 keeps all.", low=0, high=ENDLESS)
