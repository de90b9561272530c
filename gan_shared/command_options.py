"""The options of the commands that take a trained generator; those of ``train`` are in ``option_groups.py``."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from gan_shared.evaluation import FEATURE_BATCH, HELD_OUT


@dataclass(frozen=True)
class SampleOptions:
    """Make images with a trained generator, whichever backend trained it."""

    run: Positional[Path]
    """Run folder (its newest checkpoint), checkpoint folder, folder of a generator, or that of a LAPGAN's runs."""

    num_images: int | None = None
    """Images, or frames of an animation; 64 when not given, one or 16 of each seed in --seeds."""

    seed: int = 0
    """Number that the latents follow from."""

    seeds: tuple[str, ...] = ()
    """One image of each of these seeds instead, which an animation walks between: numbers and ranges, as 1 2 5-9."""

    truncation: float | None = None
    """Largest number in a latent, above 0: with a lower one images are more typical and less varied (the truncation
    trick of Brock et al. 2019). Categorical latents, as dcgan-deep has them, take one category each."""

    out: Path = Path("samples.png")
    """FILE.png for a grid, FILE.npz for arrays, FILE.gif or FILE.mp4 for a walk between latents, a folder for single
    PNGs."""

    classes: tuple[str, ...] = ()
    """Names or numbers of the classes that a class-conditional generator makes, in turn; all of them when not given."""

    ema: bool = True
    """Whether the averaged generator makes them."""

    images: str | None = None
    """Input images for image-conditional generators; same formats as --data."""

    resolution: int | None = None
    """Pyramid level of a LAPGAN to stop at, in pixels; the highest when not given."""

    vgg_weights: str | None = None
    """File of VGG16's weights, if it has moved since the training."""

    device: str = "auto"
    """Where to compute: cpu, gpu, or auto (a GPU when there is one)."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Say how good a run's images are: FD, KID, precision, recall, and modes where they are digits.

    Every number stands beside that of real images, which the run was not trained on.
    """

    run: Positional[Path]
    """Run folder (its newest checkpoint), checkpoint folder, folder of a generator, or that of a LAPGAN's runs."""

    num_images: int | None = None
    """Images of each set; 10,000 (26,000 of stacked-mnist) when not given, or as many as there are."""

    real: str = HELD_OUT
    """Real images that generated ones are compared with: held-out, training, or the same formats as --data."""

    features: tuple[str, ...] = ()
    """Networks that images are compared by: efficientnet-lite0, digits, inception, vgg16; what suits the data when not
    given."""

    seed: int = 0
    """Number that the latents follow from."""

    batch_size: int = FEATURE_BATCH
    """Images that a network is given at once; changes nothing but the time."""

    ema: bool = True
    """Whether the averaged generator is evaluated."""

    truncation: float | None = None
    """Largest number in a latent, as sample has it; part of the protocol. Latents as in training when not given."""

    against: Path | None = None
    """A second run, by the same protocol, in the same table."""

    data: str | None = None
    """Where the run's own images are, if they have moved since the training."""

    data_manifest: str | None = None
    """Likewise the list of the pictures that they must be."""

    data_key: str | None = None
    """Likewise the public key that this list must be signed with."""

    exclude: str | None = None
    """Likewise the list of images that were left out."""

    resolution: int | None = None
    """Pyramid level of a LAPGAN to stop at, in pixels; the highest when not given."""

    inception_weights: str | None = None
    """File of Inception's weights that scripts/feature_weights.py writes."""

    vgg_weights: str | None = None
    """File of VGG16's weights that scripts/vgg_weights.py writes."""

    device: str = "auto"
    """Where to compute: cpu, gpu, or auto (a GPU when there is one)."""


@dataclass(frozen=True)
class ExportOptions:
    """Write a trained generator as a file for programs without this code, or publish it on the Hugging Face Hub.

    Each file is computed once in a process of its own and compared with the images of sample.
    """

    run: Positional[Path]
    """Run folder (its newest checkpoint), checkpoint folder, folder of a generator, or that of a LAPGAN's runs."""

    to: str
    """Kind of file: onnx or torch-export (written by PyTorch), jax-export or stablehlo (written by JAX), or hub: a
    folder as the Hugging Face Hub has them, with a model card."""

    out: Path | None = None
    """The file, or the folder of --to hub; generator with the kind's suffix when not given."""

    batch_size: int | None = None
    """Images of each call of the exported function; any number when not given. stablehlo needs it."""

    ema: bool = True
    """Whether the averaged generator is exported."""

    resolution: int | None = None
    """Pyramid level of a LAPGAN to stop at, in pixels; the highest when not given."""

    push_to: str | None = None
    """With --to hub: the repository USER/NAME that the folder is uploaded to; it is only written when not given."""

    private: bool = False
    """With --push-to: whether a new repository is for its owner alone."""

    license: str | None = None
    """With --to hub: licence of the weights by its identifier on the Hub, as cc-by-4.0; the card names none when not
    given."""
