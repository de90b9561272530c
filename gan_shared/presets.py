"""Named recipes, each the difference from another one or from ``Config``'s defaults, with its source.

The numbers to expect are those that the sources report at full size and length; none was reproduced here.
"""

from gan_shared import legacy
from gan_shared.config import Config
from gan_shared.errors import unexpected

# Miyato et al. 2018 (arXiv:1802.05957), appendix B: ResNets at 32 pixels, Adam 2e-4 with betas 0 and 0.9, five
# discriminator updates, batch 64. CIFAR-10: FID 16.77 (mimicry, 100,000 steps; its rates fall linearly
# to 0, these stay). ``--class-conditional`` adds
# class-conditional batch normalisation and the projection discriminator of Miyato and Koyama 2018 (arXiv:1802.05637).
SNGAN = Config().with_options(
    preset="sngan",
    generator="resnet",
    discriminator="resnet",
    latent_size=128,
    discriminator_norm="spectral",
    loss="hinge",
    discriminator_updates=5,
    generator_beta1=0.0,
    discriminator_beta1=0.0,
    generator_beta2=0.9,
    discriminator_beta2=0.9,
    steps=100_000,
)
# Huang et al. 2024 (arXiv:2501.05441): widths, schedules and lengths of its StackedMNIST run, which found 1,000
# modes at a reverse KL of 0.029.
R3GAN = Config().with_options(
    preset="r3gan-stacked-mnist",
    data="stacked-mnist",
    generator="r3gan",
    discriminator="r3gan",
    latent_size=64,
    output_activation="none",
    loss="relativistic",
    penalties=("r1", "r2"),
    gamma=(1.0, 0.1),
    generator_beta1=0.0,
    discriminator_beta1=0.0,
    generator_beta2=(0.9, 0.99),
    discriminator_beta2=(0.9, 0.99),
    ema_half_life_nimg=(0.0, 500_000.0),
    burn_in_nimg=2_000_000,
    batch_size=512,
    steps=10_000_000 // 512,
)
# The other image sets share these: 20 million images of burn-in, learning rate 2e-4 -> 5e-5, augmentation (ours is
# close to the paper's, not the same).
R3GAN_IMAGES = R3GAN.with_options(
    generator_learning_rate=(2e-4, 5e-5),
    discriminator_learning_rate=(2e-4, 5e-5),
    burn_in_nimg=20_000_000,
    augment=("flip", "translate", "rotate", "scale", "cutout", "brightness", "saturation", "contrast"),
    augment_probability=(0.0, 0.3),
)
# Networks and rates that were chosen by measurement on a CPU (docs/quality-search.md); loss, penalties and
# beta1 are R3GAN's. No published number.
CPU = R3GAN.with_options(
    resolution=28,
    generator="dcgan-deep",
    discriminator="dcgan-deep",
    discriminator_norm="none",
    width=0.5,
    generator_activation="leaky_relu",
    output_activation="tanh",
    gamma=1.0,
    generator_learning_rate=(2e-3, 1e-4),
    discriminator_learning_rate=(2e-3, 1e-4),
    generator_beta2=0.99,
    discriminator_beta2=0.99,
    ema_half_life_nimg=(0.0, 10_000.0),
    batch_size=32,
)

PRESETS: dict[str, Config] = {
    # Radford et al. 2016 (arXiv:1511.06434), at the size of small digits. 2,000 steps of 64 images are
    # 26 epochs of mnist-5k. No published number: it is here to be tried.
    "dcgan": Config().with_options(preset="dcgan"),
    # The work of the PyTorch project's DCGAN example: 64x64 RGB, 100 latents, 64 channels at the widest image,
    # Adam 2e-4 with beta1 0.5, batch 64, and one set of fakes for both updates. The example counts epochs of the
    # user's data; 25,000 steps are this project's choice.
    "dcgan-64": Config().with_options(preset="dcgan-64", resolution=64, channels=3, fresh_latents=False, steps=25_000),
    # "PyTorch and GANs: from model to application": a CNN pair at 28 pixels, squared error on reals and cross-entropy
    # on fakes, Adam 1e-4, 1,000 iterations. It names no other constants: those of dcgan and of torch's Adam.
    "article": Config().with_options(
        preset="article",
        resolution=28,
        loss="mse-bce",
        generator_learning_rate=1e-4,
        discriminator_learning_rate=1e-4,
        generator_beta1=0.9,
        discriminator_beta1=0.9,
        steps=1000,
    ),
    # Mao et al. 2017 (arXiv:1611.04076). FID of Lucic et al. 2018: MNIST 7.8, Fashion-MNIST 30.7, CIFAR-10 87.1.
    "lsgan": Config().with_options(preset="lsgan", loss="mse", steps=10_000),
    # Gulrajani et al. 2017 (arXiv:1704.00028): weight 10, five discriminator updates, Adam 1e-4 with betas 0 and 0.9.
    # The paper's 32-pixel ResNets have 128 channels in both networks; these are sngan's, with 256 in the generator.
    "wgan-gp": SNGAN.with_options(
        preset="wgan-gp",
        discriminator_norm="none",
        loss="wasserstein",
        penalties=("gradient-penalty",),
        gamma=10.0,
        generator_learning_rate=1e-4,
        discriminator_learning_rate=1e-4,
    ),
    "sngan": SNGAN,
    # Blocks of Szegedy et al. 2015 (arXiv:1409.4842) and 2016 (arXiv:1512.00567) trained as sngan. No published number.
    "inception": SNGAN.with_options(preset="inception", generator="inception", discriminator="inception"),
    "r3gan-stacked-mnist": R3GAN,
    # CIFAR-10, class-conditional: FID 1.96.
    "r3gan-cifar10": R3GAN_IMAGES.with_options(
        preset="r3gan-cifar10",
        data="cifar10",
        class_conditional=True,
        gamma=(0.05, 0.005),
        ema_half_life_nimg=(0.0, 5_000_000.0),
        augment_probability=(0.0, 0.55),
        steps=250_000_000 // 512,
    ),
    # FFHQ at 64 pixels. The pictures are the user's to name with --data.
    "r3gan-ffhq-64": R3GAN_IMAGES.with_options(
        preset="r3gan-ffhq-64",
        data="ffhq",
        resolution=64,
        channels=3,
        gamma=(2.0, 0.2),
        batch_size=256,
        steps=100_000_000 // 256,
    ),
    # FFHQ at 256 pixels.
    "r3gan-ffhq-256": R3GAN_IMAGES.with_options(
        preset="r3gan-ffhq-256",
        data="ffhq",
        resolution=256,
        channels=3,
        gamma=(150.0, 15.0),
        batch_size=256,
        steps=200_000_000 // 256,
    ),
    # The same for a laptop: narrow (64 to 96 channels instead of 768), images read in patches of 4x4 pixels, a
    # short burn-in with a larger step, and three times the gamma of stacked digits. No published number.
    "r3gan-tiny": R3GAN.with_options(
        preset="r3gan-tiny",
        data="mnist-5k",
        generator="r3gan-tiny",
        discriminator="r3gan-tiny",
        gamma=(3.0, 0.3),
        generator_learning_rate=(8e-4, 1e-4),
        discriminator_learning_rate=(8e-4, 1e-4),
        ema_half_life_nimg=(0.0, 5000.0),
        burn_in_nimg=100_000,
        batch_size=64,
        steps=1500,
    ),
    # Three digits at once. Rates of 2e-3 over as many images lose the discriminator on the way.
    "stacked-mnist-cpu": CPU.with_options(
        preset="stacked-mnist-cpu",
        data="stacked-mnist-60k",
        generator_learning_rate=(1.2e-3, 1e-4),
        discriminator_learning_rate=(1.2e-3, 1e-4),
        penalty_every=4,
        ema_half_life_nimg=(0.0, 100_000.0),
        burn_in_nimg=3_840_000,
        steps=3_840_000 // 32,
    ),
    # Grey images of 28 pixels; --data mnist likewise.
    "fashion-cpu": CPU.with_options(
        preset="fashion-cpu", data="fashion-mnist", burn_in_nimg=400_000, steps=400_000 // 32
    ),
    # Dosovitskiy and Brox 2016 (arXiv:1602.02644): an adversarial, a pixel and a feature loss. The layer, the decoder
    # and the weights are this project's: the paper sums squared differences, these are means. The pictures are the
    # user's to name with --data, and VGG16's weights with --vgg-weights.
    "vgg-inversion": Config().with_options(
        preset="vgg-inversion",
        data="photographs",
        resolution=224,
        channels=3,
        generator="vgg-decoder",
        vgg_layer="relu4_3",
        latent_size=0,
        pixel_weight=50.0,
        feature_weight=1.0,
        fresh_latents=False,
        batch_size=8,
        steps=50_000,
    ),
    # Denton et al. 2015 (arXiv:1506.05751): a GAN for the lowest pyramid level and one for the detail of each
    # further one, each a run of its own: --resolution names it. Sizes are this project's. No published number.
    "lapgan": Config().with_options(preset="lapgan", pyramid_levels=(8, 16, 32), resolution=8),
}


def get_preset(name: str) -> Config:
    """Return the preset called ``name``.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    legacy.check_preset(name)
    if name not in PRESETS:
        raise unexpected("preset", repr(name), "a known preset", PRESETS)
    return PRESETS[name]
