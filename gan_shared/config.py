"""Everything that defines a run, in one frozen dataclass, with one sentence per field.

The field comments below are the help texts of the command line. ``validate`` refuses what cannot work;
what may differ between a run and its continuation is listed in ``MAY_CHANGE``.
"""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_args, get_type_hints

from tyro.conf import Positional

from gan_shared.errors import UserError, unexpected

# The names that both backends' tables hold; ``parity_tests/test_mirror.py`` compares them.
LOSSES = ("bce", "mse")
PRECISIONS = ("float32", "float64")
DEVICES = ("auto", "cpu", "gpu")
# Network family -> the resolutions (pixels) that it can make.
RESOLUTIONS = {"dcgan": (16, 28, 32, 64, 128, 256)}
NETWORKS = tuple(RESOLUTIONS)

# What a continued run may set anew; any other difference would make it another run.
MAY_CHANGE = frozenset({"steps", "data", "device", "log_every", "sample_every", "save_every", "keep_checkpoints"})


@dataclass(frozen=True)
class Config:
    """One training run, complete: the same Config, data and seed give the same run."""

    preset: Positional[str] = "dcgan"
    """Named recipe whose values are the defaults of every option below."""

    data: str = "mnist-5k"
    """Images: mnist-5k, mnist, fashion-mnist, cifar10, or a path (folder of pictures, IDX, .npy, .npz)."""

    resolution: int = 32
    """Height and width of the images in pixels."""

    channels: int | None = None
    """Colours of the images: 1 (grey) or 3 (RGB); follows the data when not given."""

    generator: str = "dcgan"
    """Network that makes images."""

    discriminator: str = "dcgan"
    """Network that judges images."""

    latent_size: int = 100
    """Length of the generator's normal input vector."""

    width: float = 1.0
    """Factor on the channel counts of both networks."""

    loss: str = "bce"
    """Adversarial loss: bce (non-saturating binary cross-entropy) or mse (least squares)."""

    fresh_latents: bool = True
    """Whether the generator's update draws latents of its own, or reuses the discriminator update's fakes."""

    discriminator_updates: int = 1
    """Discriminator updates per generator update."""

    batch_size: int = 64
    """Images per update."""

    steps: int = 2000
    """Length of the whole run in generator updates."""

    generator_learning_rate: float = 2e-4
    """Adam step size of the generator."""

    discriminator_learning_rate: float = 2e-4
    """Adam step size of the discriminator."""

    beta1: float = 0.5
    """Adam decay of the gradient average."""

    beta2: float = 0.999
    """Adam decay of the squared gradient average."""

    ema_half_life_nimg: float = 5000.0
    """Half-life of the averaged generator in images seen; 0 makes it a copy of the generator."""

    seed: int = 0
    """Number that every random draw and initial weight follows from."""

    precision: str = "float32"
    """Floating-point type of weights and computation: float32 or float64."""

    device: str = "auto"
    """Where to compute: cpu, gpu, or auto (a GPU when the framework sees one)."""

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

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: object, source: object) -> "Config":
        """Rebuild a Config from ``to_json``'s dictionary.

        Args:
            values: the parsed JSON.
            source: the file it came from, for the error message.

        Raises:
            UserError: a field is missing, unknown or of the wrong type.
        """
        if not isinstance(values, dict):
            raise unexpected(str(source), type(values).__name__, "a JSON object of Config fields")
        names = {field.name for field in fields(cls)}
        missing, unknown = sorted(names - set(values)), sorted(set(values) - names)
        if missing or unknown:
            raise UserError(f"{source}: fields missing: {missing}, unknown fields: {unknown}")
        for name, kind in get_type_hints(cls).items():
            _check_type(f"{source}: {name}", values[name], kind)
        config = cls(**values)
        try:
            validate(config)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
        return config


def _check_type(field: str, value: object, kind: Any) -> None:
    """Refuse a JSON value whose type is not the field's (an int may stand for a float)."""
    allowed = get_args(kind) or (kind,)
    allowed += (int,) if float in allowed else ()
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        names = " or ".join(each.__name__ for each in allowed)
        raise unexpected(field, repr(value), f"a value of type {names}")


def validate(config: Config) -> None:
    """Refuse a configuration that cannot be trained, before anything is written.

    Raises:
        UserError: naming field, found, expected and, where they can be listed, the choices.
    """
    for field, choices in (
        ("generator", NETWORKS),
        ("discriminator", NETWORKS),
        ("loss", LOSSES),
        ("precision", PRECISIONS),
        ("device", DEVICES),
    ):
        if getattr(config, field) not in choices:
            raise unexpected(field, repr(getattr(config, field)), "a known name", choices)
    for network in (config.generator, config.discriminator):
        _check_resolution(config.resolution, network)
    if config.channels not in (None, 1, 3):
        raise unexpected("channels", config.channels, "1 (grey) or 3 (RGB)")
    _check_ranges(config)


def _check_resolution(resolution: int, network: str) -> None:
    """Refuse a resolution that ``network`` cannot make and name the valid ones around it."""
    choices = RESOLUTIONS[network]
    if resolution in choices:
        return
    nearest = [max((r for r in choices if r < resolution), default=None)]
    nearest += [min((r for r in choices if r > resolution), default=None)]
    named = " or ".join(str(r) for r in nearest if r is not None)
    raise unexpected("resolution", resolution, f"a size that {network} makes (nearest: {named})", choices)


def _check_ranges(config: Config) -> None:
    """Refuse numbers outside of what they mean."""
    for field, low, high in (
        ("latent_size", 1, 2**16),
        ("discriminator_updates", 1, 1000),
        ("batch_size", 1, 2**20),
        ("steps", 1, 2**40),
        ("seed", 0, 2**63 - 1),
        ("log_every", 1, 2**40),
        ("sample_every", 1, 2**40),
        ("save_every", 1, 2**40),
        ("keep_checkpoints", 0, 2**40),
        ("generator_learning_rate", 0.0, 1e3),
        ("discriminator_learning_rate", 0.0, 1e3),
        ("ema_half_life_nimg", 0.0, 1e18),
    ):
        value = getattr(config, field)
        if not low <= value <= high:  # a NaN compares false, so it is refused too
            raise unexpected(field, value, f"a number from {low} to {high}")
    for field in ("beta1", "beta2"):
        if not 0.0 <= getattr(config, field) < 1.0:
            raise unexpected(field, getattr(config, field), "a number from 0 up to, not including, 1")
    if not 0.0 < config.width <= 64.0:
        raise unexpected("width", config.width, "a factor above 0 and up to 64")


def check_continuation(saved: Config, wanted: Config, source: object) -> None:
    """Refuse to resume when the configuration differs in what defines the run.

    Args:
        saved: the run's own configuration.
        wanted: the configuration asked for now.
        source: the run folder, for the error message.

    Raises:
        UserError: listing every difference.
    """
    different = [
        f"{field.name} (saved {getattr(saved, field.name)}, now {getattr(wanted, field.name)})"
        for field in fields(Config)
        if field.name not in MAY_CHANGE and getattr(saved, field.name) != getattr(wanted, field.name)
    ]
    if different:
        raise UserError(
            f"{source}: resumed with a changed configuration: {', '.join(different)}; "
            f"only {', '.join(sorted(MAY_CHANGE))} may change"
        )


def with_channels(config: Config, channels: int) -> Config:
    """Fill in the channels that the data has, where the user left them open."""
    return config if config.channels is not None else replace(config, channels=channels)
