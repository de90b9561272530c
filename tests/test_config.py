"""Config: which options go together, what follows the data, and what a resumed run may change."""

import inspect
from typing import Any, get_args

import pytest

from gan_shared.config import Config, groups, options
from gan_shared.errors import UserError
from gan_shared.families import FAMILIES, families_of
from gan_shared.option_groups import AUGMENTATIONS, CUSTOM, RULES
from gan_shared.presets import PRESETS, get_preset
from gan_shared.validation import check_continuation, validate, with_data_defaults

NAMES = ["preset", *options()]
EXECUTION = {option.name for group, _, declared in groups() if group == "execution" for option in declared}
# Another batch size begins a new segment.
MAY_CHANGE = EXECUTION | {"batch_size"}
SIDES = ("generator", "discriminator")


def config(**changes) -> Config:
    return Config().with_options(**changes)


# Fields -> the changes that give them a meaning, so that only the range of one is tested.
VGG = {"generator": "vgg-decoder", "vgg_layer": "relu4_3", "vgg_weights": "random"}
# What is chosen, the field that the refusal begins with, and the other one that it names.
PAIRS = [
    ({"num_classes": 10}, "num_classes", "class_conditional"),
    ({"gamma": 1.0}, "gamma", "penalties"),
    ({"gamma": (1.0, 0.0), "burn_in_nimg": 100}, "gamma", "penalties"),
    ({"penalties": ("r1",)}, "gamma", "penalties"),
    ({"penalties": ("r1", "r2"), "gamma": (0.0, 0.0)}, "gamma", "penalties"),
    ({"penalty_every": 4}, "penalty_every", "penalties"),
    ({"augment": ("flip",)}, "augment_probability", "augment"),
    ({"augment_probability": 0.5}, "augment_probability", "augment"),
    ({"augment_probability": (0.0, 0.5), "burn_in_nimg": 100}, "augment_probability", "augment"),
    ({"augment_target": 0.6}, "augment_probability", "augment_target 0.6"),
    ({"compile": True, "discriminator_optimizer": "sgd"}, "compile", "discriminator_optimizer sgd"),
    ({"cuda_graph": True, "generator_optimizer": "rmsprop"}, "cuda_graph", "generator_optimizer rmsprop"),
    ({"cuda_graph": True, "compile": True}, "cuda_graph", "compile"),
    ({"discriminator": "r3gan", "discriminator_norm": "batch"}, "discriminator_norm", "discriminator is r3gan"),
    ({"discriminator": "r3gan-tiny", "discriminator_norm": "batch"}, "discriminator_norm", "is r3gan-tiny"),
    ({"augment": ("flip",), "augment_target": 0.6, "loss": "relativistic"}, "augment_target", "loss relativistic"),
    ({"loss": "relativistic", "fresh_latents": False}, "fresh_latents", "loss relativistic"),
    ({"generator": CUSTOM, "precision": "bfloat16"}, "precision", "generator"),
    ({"generator": CUSTOM, "generator_activation": "relu"}, "generator_activation", "generator is"),
    ({"discriminator": CUSTOM, "discriminator_norm": "none"}, "discriminator_norm", "discriminator is"),
    ({"generator": "vgg-decoder"}, "vgg_layer", "generator vgg-decoder"),
    ({**VGG, "vgg_layer": "fc6"}, "resolution", "vgg_layer is fc6"),
    ({"vgg_layer": "relu4_3"}, "vgg_layer", "generator dcgan is given no features"),
    ({"vgg_weights": "random"}, "vgg_weights", "generator dcgan is given no features"),
    ({"vgg_sha256": "random"}, "vgg_sha256", "generator dcgan is given no features"),
    ({"pixel_weight": 1.0}, "pixel_weight", "generator dcgan is given no features"),
    ({"feature_weight": 1.0}, "feature_weight", "generator dcgan is given no features"),
    ({"recompute": True}, "recompute", "generator dcgan is given no features"),
    ({"pyramid_levels": (32, 64), "generator": CUSTOM}, "generator", "pyramid_levels 32 64"),
    ({"pyramid_levels": (32, 64), **VGG}, "generator", "pyramid_levels 32 64"),
    ({"pyramid_levels": (16, 32), "resolution": 64}, "resolution", "pyramid_levels 16 32"),
    ({"generator_optimizer": "sgd", "generator_beta1": 0.5}, "generator_beta1", "generator_optimizer is sgd"),
    ({"discriminator_optimizer": "sgd", "discriminator_alpha": 0.5}, "discriminator_alpha", "momentum, weight_decay"),
    ({"generator_momentum": 0.0}, "generator_momentum", "generator_optimizer is adam"),
]
# What stands beside each other.
ACCEPTED = [
    {"class_conditional": True},
    {"class_conditional": True, "num_classes": 10},
    {"penalties": ("r1", "r2"), "gamma": 0.1},
    {"penalties": ("gradient-penalty",), "gamma": (0.0, 10.0), "burn_in_nimg": 100},
    {"penalties": ("r2",), "gamma": (10.0, 0.0), "burn_in_nimg": 100},
    {"penalties": ("r1",), "gamma": (1.0, 0.0), "penalty_every": 4, "burn_in_nimg": 100},
    {"augment": ("flip", "crop"), "augment_probability": 0.3},
    {"augment": ("flip",), "augment_probability": (0.0, 0.3), "burn_in_nimg": 100},
    {"augment": ("flip",), "augment_target": 0.6},
    {"augment": ("flip",), "augment_target": 0.6, "augment_probability": 0.1},
    {"discriminator": "r3gan", "discriminator_norm": "spectral"},
    {"discriminator": "resnet", "generator": "r3gan", "discriminator_norm": "batch"},
    {"ema_half_life_nimg": (5.0, 5.0)},
    {"generator_optimizer": "sgd", "generator_momentum": 0.9},
    {"generator_optimizer": "rmsprop", "generator_alpha": (0.9, 0.99), "burn_in_nimg": 100},
    {"discriminator_optimizer": "adamw", "discriminator_weight_decay": 0.0},
    {"generator": CUSTOM, "resolution": 48, "discriminator": CUSTOM},
    {**VGG, "latent_size": 0, "recompute": True, "pixel_weight": 1.0},
    {**VGG, "vgg_layer": "fc6", "resolution": 224},
    {"pyramid_levels": (32, 64), "latent_size": 0, "resolution": 64, "generator": "r3gan-tiny"},
]


def refusal(refused: Config) -> str:
    with pytest.raises(UserError) as raised:
        validate(refused)
    return str(raised.value)


@pytest.mark.parametrize(("changes", "field", "other"), PAIRS, ids=lambda value: str(value)[:24])
def test_two_options_that_do_not_go_together_are_both_named(changes, field, other):
    message = refusal(config(**changes))
    assert message.startswith(f"{field}: found ") and other in message and "\n" not in message


@pytest.mark.parametrize("changes", ACCEPTED, ids=str)
def test_options_that_go_together_are_taken(changes):
    validate(config(**changes))


def test_penalties_and_augmentations_may_all_be_named():
    validate(
        config(
            penalties=options()["penalties"].choices, gamma=1.0, augment=tuple(AUGMENTATIONS), augment_probability=1.0
        )
    )


@pytest.mark.parametrize(
    ("resolution", "nearest"),
    [
        (50, "nearest: 48 or 56"),
        (30, "nearest: 28 or 32"),
        (21, "nearest: 20 or 24"),
        (9, "nearest: 8 or 10"),
        (1024, "nearest: 512)"),
    ],
)
def test_a_resolution_that_cannot_be_made_names_the_nearest_ones(resolution, nearest):
    message = refusal(config(resolution=resolution))
    assert message.startswith(f"resolution: found {resolution}") and nearest in message
    sizes = (
        "8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512"
    )
    assert message.endswith(f"choices: {sizes}")


@pytest.mark.parametrize("resolution", [16, 28, 32, 48, 64, 96, 128, 256, 512])
@pytest.mark.parametrize("channels", [1, 3, None])
def test_common_resolutions_and_colours_are_valid(resolution, channels):
    validate(config(resolution=resolution, channels=channels))


@pytest.mark.parametrize(
    ("side", "network"),
    [(role, name) for role in ("generator", "discriminator") for name in families_of(role)],
)
def test_both_networks_are_held_to_the_sizes_that_they_make(network, side):
    beside: dict = {"generator": CUSTOM, "discriminator": CUSTOM, side: network}
    beside |= {"vgg_layer": "relu4_3"} if network == "vgg-decoder" else {}
    for resolution in FAMILIES[network].resolutions:
        validate(config(resolution=resolution, **beside))
    message = refusal(config(resolution=60, **beside))
    near = "56 or 64" if 56 in FAMILIES[network].resolutions else "32 or 64"
    assert message.startswith(f"resolution: found 60, expected a size that {network} makes (nearest: {near})")
    assert message.endswith(f"choices: {', '.join(map(str, FAMILIES[network].resolutions))}")


@pytest.mark.parametrize("network", families_of("generator"))
def test_a_generator_that_normalises_single_values_is_not_trained_with_one_image(network):
    smallest = {"dcgan-deep": 2}.get(network, 1)
    beside: dict = {"generator": network, "discriminator": CUSTOM}
    beside |= {"vgg_layer": "relu4_3"} if network == "vgg-decoder" else {}
    validate(config(batch_size=smallest, **beside))
    if smallest > 1:
        message = refusal(config(batch_size=smallest - 1, **beside))
        assert message == f"batch_size: found 1, expected at least 2, as generator is {network}"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_and_has_its_name(name):
    validate(get_preset(name))
    assert get_preset(name).preset == name


def test_the_default_is_the_dcgan_preset():
    assert get_preset("dcgan") == Config()


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(UserError, match=rf"^preset: found 'gan9000', .*choices: {', '.join(PRESETS)}$"):
        get_preset("gan9000")


@pytest.mark.parametrize("old", ["vgg16", "pyramid"])
def test_a_renamed_preset_names_the_new_one(old):
    new = {"vgg16": "vgg-inversion", "pyramid": "lapgan"}[old]
    with pytest.raises(UserError, match=rf"^preset: found '{old}', which was renamed, expected '{new}'$"):
        get_preset(old)


def test_what_may_change_defines_no_mathematics():
    where = {"device", "data_on", "steps_per_call", "compile", "cuda_graph", "recompute"}
    files = {"data", "data_manifest", "data_key", "exclude", "vgg_weights"}
    reports = {"log_every", "sample_every", "save_every", "keep_checkpoints", "evaluate_every", "evaluate_images"}
    assert {"steps", "rollbacks"} | reports | where | files == EXECUTION


def test_an_error_lists_no_choices_of_another_option():
    """Every refusal of PAIRS: what follows "choices:" belongs to the option that the message begins with."""
    for changes, name, _ in PAIRS:
        _, _, listed = refusal(config(**changes)).partition("; choices: ")
        sizes = FAMILIES["dcgan"].resolutions
        assert not listed or listed in (", ".join(map(str, sizes)), ", ".join(map(str, options()[name].choices)))


@pytest.mark.parametrize("rule", RULES)
def test_hyperparameters_that_are_not_given_are_those_of_torch(rule):
    """RMSprop has alpha 0.99, SGD momentum 0, AdamW weight decay 0.01: read from torch's own signatures."""
    torch = pytest.importorskip("torch")
    made = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
        "sgd": torch.optim.SGD,
    }
    defaults = {name: each.default for name, each in inspect.signature(made[rule]).parameters.items()}
    defaults |= dict(zip(("beta1", "beta2"), defaults.get("betas", ()), strict=False))
    chosen = config(generator_optimizer=rule, generator_beta1=None).generator_optimizer
    assert {name: chosen.hyperparameter(name) for name in RULES[rule]} == {name: defaults[name] for name in RULES[rule]}


def test_another_rule_keeps_the_hyperparameters_that_it_has():
    sngan = PRESETS["sngan"]
    assert (sngan.generator_optimizer.beta1, sngan.generator_optimizer.beta2) == (0.0, 0.9)
    adamw = sngan.with_options(generator_optimizer="adamw").generator_optimizer
    assert (adamw.beta1, adamw.beta2, adamw.hyperparameter("weight_decay")) == (0.0, 0.9, 0.01)
    sgd = sngan.with_options(generator_optimizer="sgd").generator_optimizer
    assert (sgd.beta1, sgd.beta2, sgd.hyperparameter("momentum")) == (None, None, 0.0)


def other_value(field: str) -> Any:
    """A value of the right type that differs from the default."""
    listed: dict[str, Any] = {
        "channels": 3,
        "num_classes": 7,
        "penalties": ("r1",),
        "augment": ("flip",),
        "pyramid_levels": (16, 32),
        "earlier_batch_sizes": (5, 8),
    }
    listed |= {name: 0.25 for name, each in options().items() if float in get_args(each.kind)}
    value: Any = Config().values()[field]
    if field in listed:
        return listed[field]
    if isinstance(value, bool):
        return not value
    return f"{value}-2" if isinstance(value, str | None) else value + 1


@pytest.mark.parametrize("field", NAMES)
def test_a_continuation_may_change_what_is_listed_and_nothing_else(field):
    wanted = config(**{field: other_value(field)})
    if field in MAY_CHANGE:
        return check_continuation(Config(), wanted, "runs/a")
    with pytest.raises(UserError) as raised:
        check_continuation(Config(), wanted, "runs/a")
    saved, now = Config().values()[field], wanted.values()[field]
    assert f"{field} (saved {saved}, now {now})" in str(raised.value)


def test_every_difference_of_a_continuation_is_listed():
    changed = [name for name in NAMES if name not in MAY_CHANGE]
    wanted = Config().with_values({name: other_value(name) for name in NAMES})
    with pytest.raises(UserError) as raised:
        check_continuation(Config(), wanted, "runs/a")
    message = str(raised.value)
    assert message.startswith("runs/a: ") and message.count("(saved ") == len(changed)
    assert all(f"{name} (saved" in message for name in changed)
    assert not any(f"{name} (saved" in message for name in MAY_CHANGE)


def test_channels_follow_the_data_only_where_they_are_open():
    assert with_data_defaults(Config(), 3, 0) == config(channels=3)
    assert with_data_defaults(config(channels=1), 3, 0) == config(channels=1)
    with pytest.raises(ValueError, match="channels follow the data"):
        _ = Config().image_shape
    assert config(channels=3, resolution=16).image_shape == (16, 16, 3)


def test_classes_follow_the_data_of_a_class_conditional_run_only():
    assert with_data_defaults(Config(), 1, 10) == config(channels=1)
    assert with_data_defaults(Config(), 1, 10).num_classes == 0
    conditional = config(class_conditional=True)
    with pytest.raises(ValueError, match="classes follow the data"):
        _ = conditional.num_classes
    assert with_data_defaults(conditional, 1, 10) == config(class_conditional=True, channels=1, num_classes=10)
    assert with_data_defaults(conditional, 1, 10).num_classes == 10
    for given in (10, 12):
        assert with_data_defaults(conditional.with_options(num_classes=given), 1, 10).num_classes == given


def test_a_class_conditional_run_of_data_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"^class_conditional: found True, .* data a\.npy has no labels$"):
        with_data_defaults(config(class_conditional=True, data="a.npy"), 1, 0)
    with pytest.raises(UserError, match=r"^class_conditional: found True, .* data a\.npy has no labels$"):
        with_data_defaults(config(class_conditional=True, num_classes=10, data="a.npy"), 1, 0)
    with pytest.raises(UserError, match=r"^num_classes: found 9, expected at least the 10 classes of data mnist-5k$"):
        with_data_defaults(config(class_conditional=True, num_classes=9), 1, 10)


@pytest.mark.parametrize("loss", options()["loss"].choices)
@pytest.mark.parametrize("updates", [1, 5])
def test_only_a_paired_loss_takes_reals_for_the_generator(loss, updates):
    rows = config(loss=loss, discriminator_updates=updates).real_rows
    assert rows == (updates + 1 if loss == "relativistic" else updates)
