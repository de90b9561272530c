"""What an image-conditional generator is given of real images: one object for each kind, as far as it has no tensors.

The twins' ``image_conditions.py`` compute each kind on the device, under the same names. A further kind is a class
here, a row of ``IMAGE_CONDITIONS``, and a row in each twin.
"""

from typing import Protocol

from gan_shared import vgg16
from gan_shared.architecture import VGG_RESOLUTION, vgg_decoder_plan, vgg_plan
from gan_shared.config import Config
from gan_shared.errors import unexpected
from gan_shared.families import FAMILIES
from gan_shared.option_groups import CUSTOM, RANDOM

# Written on every sample grid that were made of random features, as those are not VGG16's published ones.
RANDOM_NOTE = "VGG16 with random weights: not pretrained"


class ImageCondition(Protocol):
    """One kind of image condition: what the rest of the project needs of it."""

    @property
    def network_options(self) -> tuple[str, ...]:
        """Options that such a generator is built from, beside those of every generator: for its own config.json."""
        ...

    def is_used(self, config: Config) -> bool:
        """Whether the generator of ``config`` is given this kind."""
        ...

    def check(self, config: Config) -> None:
        """Refuse options that do not go with this kind.

        Raises:
            UserError: naming the option.
        """
        ...

    def identified(self, config: Config) -> Config:
        """Return the configuration with the fingerprint of what the condition is computed with.

        Raises:
            UserError: it is not there, or is not what the run began with.
        """
        ...

    def check_same(self, saved: Config, wanted: Config) -> None:
        """Refuse a generator that was trained with another condition, whose shape may be the same.

        Raises:
            UserError: naming the first difference.
        """
        ...

    def shape(self, config: Config) -> tuple[int, ...] | None:
        """Return the shape of the condition of one image (height, width, channel), (feature,), or None without any."""
        ...

    def generator_options(self, config: Config) -> dict[str, str | int]:
        """Return what such a generator's constructor takes beside what every generator's does."""
        ...

    def note(self, config: Config) -> str | None:
        """Return what must be written on every sample grid of such a run, or None."""
        ...


class NoCondition:
    """The generator is given latents, and perhaps classes, alone."""

    network_options = ()

    def is_used(self, config: Config) -> bool:
        return not any(kind.is_used(config) for kind in IMAGE_CONDITIONS.values() if kind is not self)

    def check(self, config: Config) -> None:
        _check_no_features(config)
        if config.networks.latent_size == 0:
            raise unexpected("latent_size", 0, "a length above 0, as the generator is given no images")

    def identified(self, config: Config) -> Config:
        return config

    def check_same(self, saved: Config, wanted: Config) -> None:
        pass

    def shape(self, config: Config) -> None:
        return None

    def generator_options(self, config: Config) -> dict[str, str | int]:
        return {}

    def note(self, config: Config) -> None:
        return None


class VggFeatures:
    """Features of a pretrained, frozen VGG16 at one of its layers (Dosovitskiy and Brox 2016, arXiv:1602.02644)."""

    network_options = ("vgg_layer", "vgg_sha256")

    def is_used(self, config: Config) -> bool:
        return config.networks.generator != CUSTOM and FAMILIES[config.networks.generator].image_conditional

    def check(self, config: Config) -> None:
        layer = config.image_condition.vgg_layer
        if layer is None:
            raise unexpected("vgg_layer", None, f"a layer, whose features generator {config.networks.generator} reads")
        if layer == "fc6" and config.data.resolution != VGG_RESOLUTION:
            raise unexpected("resolution", config.data.resolution, f"{VGG_RESOLUTION}, as vgg_layer is fc6")

    def identified(self, config: Config) -> Config:
        return vgg16.with_sha256(config)

    def check_same(self, saved: Config, wanted: Config) -> None:
        names = ("vgg_layer", "vgg_sha256")
        if wanted.image_condition.vgg_sha256 == RANDOM:  # random weights follow from the seed and have the run's width
            names = (*names, "seed", "width")
        before, now = saved.values(), wanted.values()
        for name in names:
            if before[name] != now[name]:
                raise unexpected(name, f"{before[name]} there", f"{now[name]}, as in this run")

    def shape(self, config: Config) -> tuple[int, ...]:
        layer = self._layer(config)
        plan = vgg_plan(layer, vgg16.width(config))
        size = vgg_decoder_plan(layer, config.data.resolution, config.networks.width).start
        return (plan.features,) if plan.hidden else (size, size, plan.features)

    def generator_options(self, config: Config) -> dict[str, str | int]:
        layer = self._layer(config)
        return {"layer": layer, "features": vgg_plan(layer, vgg16.width(config)).features}

    def _layer(self, config: Config) -> str:
        layer = config.image_condition.vgg_layer
        assert layer is not None, "a validated run of this kind has a layer"
        return layer

    def note(self, config: Config) -> str | None:
        return RANDOM_NOTE if config.image_condition.vgg_sha256 == RANDOM else None


class LowerLevel:
    """The level below in a Laplacian pyramid, enlarged to this level's size (Denton et al. 2015, arXiv:1506.05751)."""

    network_options = ("pyramid_levels",)

    def is_used(self, config: Config) -> bool:
        levels = config.image_condition.pyramid_levels
        return bool(levels) and config.data.resolution > levels[0]

    def check(self, config: Config) -> None:
        _check_no_features(config)

    def identified(self, config: Config) -> Config:
        return config

    def check_same(self, saved: Config, wanted: Config) -> None:
        pass

    def shape(self, config: Config) -> tuple[int, ...]:
        return config.image_shape

    def generator_options(self, config: Config) -> dict[str, str | int]:
        return {}

    def note(self, config: Config) -> None:
        return None


def _check_no_features(config: Config) -> None:
    """Refuse options of VGG16's features for a generator that is given none."""
    absent = {"vgg_layer": None, "vgg_weights": None, "vgg_sha256": None, "recompute": False}
    values = config.values()
    for name, value in (absent | {"pixel_weight": 0.0, "feature_weight": 0.0}).items():
        if values[name] != value:
            expected = f"{value}, as generator {config.networks.generator} is given no features"
            raise unexpected(name, values[name], expected)


NONE = "none"
IMAGE_CONDITIONS: dict[str, ImageCondition] = {
    NONE: NoCondition(),
    "vgg-features": VggFeatures(),
    "lower-level": LowerLevel(),
}


def condition_name(config: Config) -> str:
    """Return the name of the kind of image condition that the generator of ``config`` is given."""
    return next(name for name, kind in IMAGE_CONDITIONS.items() if kind.is_used(config))


def image_condition(config: Config) -> ImageCondition:
    """Return the kind of image condition that the generator of ``config`` is given."""
    return IMAGE_CONDITIONS[condition_name(config)]


def is_image_conditional(config: Config) -> bool:
    """Whether the generator of ``config`` is given images."""
    return condition_name(config) != NONE
