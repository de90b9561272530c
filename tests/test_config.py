"""Config: what is refused, in which words, and what every field must have."""

import ast
import inspect
import json
import math
from dataclasses import fields, replace

import pytest

from gan_shared.config import (
    AUGMENTATIONS,
    CUSTOM,
    DISCRIMINATORS,
    GENERATORS,
    LOSSES,
    PENALTIES,
    RESOLUTIONS,
    Config,
    Schedule,
    ends,
)
from gan_shared.errors import UserError
from gan_shared.presets import PRESETS, find
from gan_shared.validation import MAY_CHANGE, check_continuation, fitted, from_json, validate

NAMES = [field.name for field in fields(Config)]
SCHEDULES = [field.name for field in fields(Config) if field.type == Schedule]
FLOATS = [field.name for field in fields(Config) if field.type is float]
NAN = float("nan")
SIDES = ("generator", "discriminator")
# The default as a file holds it, lists where the fields are tuples.
STORED = json.loads(json.dumps(Config().to_json()))

# Field, a value that cannot work, and what the message must say beside the field and the value.
REFUSED = [
    ("penalties", ("r3",), ["found r3", "each once", "choices: gradient-penalty, r1, r2"]),
    ("penalties", ("r1", "r1"), ["found r1 r1", "each once"]),
    ("augment", ("flip", "blur"), ["found flip blur", "choices: flip, crop, translate, rotate, scale, cutout"]),
    ("augment", ("flip", "crop", "flip"), ["found flip crop flip", "each once"]),
    ("channels", 2, ["found 2", "1 (grey) or 3 (RGB)"]),
    ("channels", 0, ["found 0", "1 (grey) or 3 (RGB)"]),
    ("classes", 0, ["found 0", "from 1 to 65536"]),
    ("classes", 65537, ["found 65537", "from 1 to 65536"]),
    ("discriminator_learning_rate", math.inf, ["found inf", "from 0"]),
    ("generator_learning_rate", (1e-4, -1e-4), ["found -0.0001", "from 0"]),
    ("generator_beta2", (1.0, 0.5), ["found 1.0", "not including, 1"]),
    ("width", math.inf, ["found inf", "up to 64"]),
]
# Field, the smallest value and the next below it, the largest and the next above it.
RANGES = [
    ("latent_size", 1, 0, 65536, 65537),
    ("discriminator_updates", 1, 0, 1000, 1001),
    ("batch_size", 1, 0, 2**20, 2**20 + 1),
    *((field, 1, 0, 2**40, 2**40 + 1) for field in ("steps", "log_every", "sample_every", "save_every")),
    ("seed", 0, -1, 2**63 - 1, 2**63),
    ("steps_per_call", 1, 0, 10_000, 10_001),
    ("keep_checkpoints", 0, -1, 2**40, 2**40 + 1),
    ("burn_in_nimg", 0, -1, 2**60, 2**60 + 1),
    ("augment_adapt_nimg", 1, 0, 2**60, 2**60 + 1),
    ("gamma", 0.0, -1e-300, 1e6, 1e6 + 1),
    *((field, 0.0, -1e-300, 1e6, 1e6 + 1) for field in ("pixel_weight", "feature_weight")),
    ("weight_decay", 0.0, -1e-300, 1e3, 1e3 + 1),
    *((field, 0.0, -1e-300, 1e18, 1.1e18) for field in ("gradient_clip", "ema_half_life_nimg")),
    *((field, 0.0, -1e-300, 1.0, 1.0 + 2**-52) for field in ("augment_probability", "augment_target")),
    *((f"{network}_learning_rate", 0.0, -1e-300, 1e3, 1e3 + 1) for network in SIDES),
    *((f"{network}_beta1", 0.0, -1e-300, 1.0 - 2**-53, 1.0) for network in SIDES),
    *((f"{network}_beta2", 0.0, -1e-300, 1.0 - 2**-53, 1.0) for network in SIDES),
    ("width", 1e-300, 0.0, 64.0, 64.1),
]
# Fields -> the changes that give them a meaning, so that only the range of one is tested.
VGG = {"generator": "vgg16", "vgg_layer": "relu4_3", "vgg_weights": "random"}
COMPANIONS = {
    "pixel_weight": VGG,
    "feature_weight": VGG,
    "gamma": {"penalties": ("r1",)},
    "augment_probability": {"augment": ("flip",)},
    "augment_target": {"augment": ("flip",)},
}
# What is chosen, the field that the refusal begins with, and the other one that it names.
PAIRS = [
    ({"classes": 10}, "classes", "conditional"),
    ({"gamma": 1.0}, "gamma", "penalties"),
    ({"gamma": (1.0, 0.0), "burn_in_nimg": 100}, "gamma", "penalties"),
    ({"penalties": ("r1",)}, "gamma", "penalties"),
    ({"penalties": ("r1", "r2"), "gamma": (0.0, 0.0)}, "gamma", "penalties"),
    ({"augment": ("flip",)}, "augment_probability", "augment"),
    ({"augment_probability": 0.5}, "augment_probability", "augment"),
    ({"augment_probability": (0.0, 0.5), "burn_in_nimg": 100}, "augment_probability", "augment"),
    ({"augment_target": 0.6}, "augment_probability", "augment_target 0.6"),
    ({"compile": True, "discriminator_optimizer": "sgd"}, "compile", "discriminator_optimizer sgd"),
    ({"discriminator": "r3gan", "discriminator_norm": "batch"}, "discriminator_norm", "discriminator is r3gan"),
    ({"discriminator": "r3gan-tiny", "discriminator_norm": "batch"}, "discriminator_norm", "is r3gan-tiny"),
    ({"augment": ("flip",), "augment_target": 0.6, "loss": "relativistic"}, "augment_target", "loss relativistic"),
    ({"loss": "relativistic", "fresh_latents": False}, "fresh_latents", "loss relativistic"),
    ({"generator": CUSTOM, "precision": "bfloat16"}, "precision", "generator"),
    ({"generator": CUSTOM, "generator_activation": "relu"}, "generator_activation", "generator is"),
    ({"discriminator": CUSTOM, "discriminator_norm": "none"}, "discriminator_norm", "discriminator is"),
    ({"generator": "vgg16"}, "vgg_layer", "generator vgg16"),
    ({**VGG, "vgg_layer": "fc6"}, "resolution", "vgg_layer is fc6"),
    ({"vgg_layer": "relu4_3"}, "vgg_layer", "generator is not vgg16"),
    ({"vgg_weights": "random"}, "vgg_weights", "generator is not vgg16"),
    ({"vgg_sha256": "random"}, "vgg_sha256", "generator is not vgg16"),
    ({"pixel_weight": 1.0}, "pixel_weight", "generator is not vgg16"),
    ({"feature_weight": 1.0}, "feature_weight", "generator is not vgg16"),
    ({"recompute": True}, "recompute", "generator is not vgg16"),
    ({"levels": (32, 64), "generator": CUSTOM}, "levels", "generator custom"),
    ({"levels": (32, 64), **VGG}, "levels", "generator vgg16"),
    ({"levels": (16, 32), "resolution": 64}, "resolution", "pyramid's levels"),
]
# What stands beside each other.
ACCEPTED = [
    {"conditional": True},
    {"conditional": True, "classes": 10},
    {"penalties": ("r1", "r2"), "gamma": 0.1},
    {"penalties": ("gradient-penalty",), "gamma": (0.0, 10.0), "burn_in_nimg": 100},
    {"penalties": ("r2",), "gamma": (10.0, 0.0), "burn_in_nimg": 100},
    {"augment": ("flip", "crop"), "augment_probability": 0.3},
    {"augment": ("flip",), "augment_probability": (0.0, 0.3), "burn_in_nimg": 100},
    {"augment": ("flip",), "augment_target": 0.6},
    {"augment": ("flip",), "augment_target": 0.6, "augment_probability": 0.1},
    {"discriminator": "r3gan", "discriminator_norm": "spectral"},
    {"discriminator": "resnet", "generator": "r3gan", "discriminator_norm": "batch"},
    {"ema_half_life_nimg": (5.0, 5.0)},
    {"generator": CUSTOM, "resolution": 48, "discriminator": CUSTOM},
    {**VGG, "latent_size": 0, "recompute": True, "pixel_weight": 1.0},
    {**VGG, "vgg_layer": "fc6", "resolution": 224},
    {"levels": (32, 64), "latent_size": 0, "resolution": 64, "generator": "r3gan-tiny"},
]
# Field -> the names that it takes, in the order in which they are listed.
CHOICES = {
    "generator": "dcgan, resnet, inception, r3gan, r3gan-tiny, vgg16",
    "discriminator": "dcgan, resnet, inception, r3gan, r3gan-tiny",
    "generator_activation": "relu, leaky_relu, sigmoid, tanh, silu, gelu",
    "discriminator_activation": "relu, leaky_relu, sigmoid, tanh, silu, gelu",
    "discriminator_norm": "none, batch, spectral",
    "output_activation": "tanh, sigmoid, none",
    "loss": "bce, minimax, mse, mse-bce, hinge, wasserstein, relativistic",
    "freeze": "none, generator, discriminator",
    "generator_optimizer": "adam, adamw, rmsprop, sgd",
    "discriminator_optimizer": "adam, adamw, rmsprop, sgd",
    "precision": "float32, tf32, bfloat16, float64",
    "device": "auto, cpu, gpu",
    "data_on": "host, device",
    "vgg_layer": "relu3_3, relu4_1, relu4_2, relu4_3, relu5_1, relu5_2, relu5_3, fc6",
}
# Field -> JSON values that are not of its type.
WRONG: dict[str, list[object]] = {
    "preset": [3],
    "data": [None],
    "freeze": [None],
    "steps": [1.5, "20", True, None, [1, 2]],
    "width": ["wide", False],
    "weight_decay": ["0"],
    "generator_beta1": [[0.5, 0.9]],
    "fresh_latents": [1, "yes"],
    "conditional": [1],
    "channels": [1.0, [1]],
    "classes": [10.0, False],
    "generator_activation": [3, ["relu"]],
    "init_from": [False],
    "penalties": ["r1", None, [1]],
    "augment": [["flip", None], {"flip": 1}],
    "gamma": ["1", None, True, [], [1.0], [1.0, 0.5, 0.1], [1.0, "0.1"], [False, 0.1], [[1.0, 0.1]]],
    "generator_learning_rate": [{"from": 1.0, "to": 0.1}],
}


def refusal(config: Config) -> str:
    with pytest.raises(UserError) as raised:
        validate(config)
    return str(raised.value)


@pytest.mark.parametrize(("field", "value", "words"), REFUSED, ids=lambda value: str(value)[:24])
def test_a_value_that_cannot_work_is_named_with_what_was_expected(field, value, words):
    message = refusal(replace(Config(), **{field: value}))
    assert message.startswith(f"{field}: found ") and "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(("field", "low", "below", "high", "above"), RANGES)
def test_a_range_ends_where_it_says(field, low, below, high, above):
    config = replace(Config(), **COMPANIONS.get(field, {}))
    for value in (below, above):
        assert refusal(replace(config, **{field: value})).startswith(f"{field}: found {value}, expected a")
    validate(replace(config, **{field: high}))
    # The smallest gamma, probability and target are those of a run without penalties or augmentation.
    validate(replace(Config(), **{field: low}))


def test_every_number_has_a_range():
    numbers = [field.name for field in fields(Config) if field.type in (int, float, Schedule)]
    assert sorted(numbers) == sorted({*(field for field, *_ in RANGES), "resolution"})


@pytest.mark.parametrize("field", FLOATS + SCHEDULES)
def test_nan_is_refused_in_every_float(field):
    values = [NAN, (NAN, 0.5), (0.5, NAN)] if field in SCHEDULES else [NAN]
    for value in values:
        assert refusal(replace(Config(), **{field: value})).startswith(f"{field}: found nan, expected")


@pytest.mark.parametrize(("changes", "field", "other"), PAIRS, ids=lambda value: str(value)[:24])
def test_two_options_that_do_not_go_together_are_both_named(changes, field, other):
    message = refusal(replace(Config(), **changes))
    assert message.startswith(f"{field}: found ") and other in message and "\n" not in message


@pytest.mark.parametrize("field", SCHEDULES)
def test_a_schedule_needs_the_images_that_it_takes(field):
    config = replace(Config(), **COMPANIONS.get(field, {}), **{field: (0.25, 0.5)})
    message = refusal(config)
    assert message.startswith("burn_in_nimg: found 0, expected") and f"{field} goes from 0.25 to 0.5" in message
    validate(replace(config, burn_in_nimg=1))
    validate(replace(config, **{field: (0.5, 0.5)}))


@pytest.mark.parametrize("changes", ACCEPTED, ids=str)
def test_options_that_go_together_are_taken(changes):
    validate(replace(Config(), **changes))


@pytest.mark.parametrize("field", CHOICES)
def test_every_listed_name_is_taken_and_no_other(field):
    for choice in CHOICES[field].split(", "):
        beside = {**VGG, "resolution": 224} if "vgg16" in choice or field == "vgg_layer" else {}
        validate(replace(Config(), **beside | {field: choice}))
    for other in ("unet", "", "Adam"):
        message = refusal(replace(Config(), **{field: other}))
        assert message == f"{field}: found {other!r}, expected a known name; choices: {CHOICES[field]}"


def test_penalties_and_augmentations_may_all_be_named():
    validate(Config(penalties=PENALTIES, gamma=1.0, augment=tuple(AUGMENTATIONS), augment_probability=1.0))


@pytest.mark.parametrize(
    ("resolution", "nearest"),
    [
        (48, "nearest: 32 or 64"),
        (30, "nearest: 28 or 32"),
        (20, "nearest: 16 or 28"),
        (12, "nearest: 8 or 16"),
        (0, "nearest: 8)"),
        (512, "nearest: 256)"),
    ],
)
def test_a_resolution_that_cannot_be_made_names_the_nearest_ones(resolution, nearest):
    message = refusal(Config(resolution=resolution))
    assert message.startswith(f"resolution: found {resolution}") and nearest in message
    assert message.endswith("choices: 8, 16, 28, 32, 64, 128, 224, 256")


@pytest.mark.parametrize("resolution", [16, 28, 32, 64, 128, 256])
@pytest.mark.parametrize("channels", [1, 3, None])
def test_the_resolutions_and_colours_that_the_issue_asks_for_are_valid(resolution, channels):
    config = Config(resolution=resolution, channels=channels)
    validate(config)
    assert resolution in RESOLUTIONS["dcgan"]


@pytest.mark.parametrize(
    ("side", "network"),
    [("generator", name) for name in GENERATORS] + [("discriminator", name) for name in DISCRIMINATORS],
)
def test_both_networks_are_held_to_the_sizes_that_they_make(network, side):
    beside: dict = {"generator": CUSTOM, "discriminator": CUSTOM, side: network}
    beside |= {"vgg_layer": "relu4_3"} if network == "vgg16" else {}
    for resolution in RESOLUTIONS[network]:
        validate(Config(resolution=resolution, **beside))
    message = refusal(Config(resolution=40, **beside))
    assert message.startswith(f"resolution: found 40, expected a size that {network} makes (nearest: 32 or 64)")
    assert message.endswith(f"choices: {', '.join(map(str, RESOLUTIONS[network]))}")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_and_knows_its_name(name):
    validate(find(name))
    assert find(name).preset == name


def test_the_default_is_the_dcgan_preset():
    assert find("dcgan") == Config()


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(UserError, match=rf"^preset: found 'gan9000', .*choices: {', '.join(PRESETS)}$"):
        find("gan9000")


def test_every_field_has_a_help_sentence():
    (node,) = ast.parse(inspect.getsource(Config)).body
    assert isinstance(node, ast.ClassDef)
    helped = {}
    for line, after in zip(node.body, node.body[1:], strict=False):
        if isinstance(line, ast.AnnAssign) and isinstance(after, ast.Expr):
            assert isinstance(line.target, ast.Name) and isinstance(after.value, ast.Constant)
            helped[line.target.id] = after.value.value
    assert list(helped) == NAMES
    assert all(len(text.split()) >= 3 and text.endswith(".") for text in helped.values())


def test_what_may_change_are_fields_and_none_that_defines_the_mathematics():
    assert set(NAMES) > MAY_CHANGE
    where = {"data", "device", "data_on", "steps_per_call", "compile", "recompute", "vgg_weights"}
    assert {"steps", "log_every", "sample_every", "save_every", "keep_checkpoints"} | where == MAY_CHANGE


def test_json_round_trip_is_exact():
    config = Config(channels=3, generator_learning_rate=1 / 3, seed=2**63 - 1, data="a ü.npz")
    assert from_json(json.loads(json.dumps(config.to_json())), "x") == config


def test_schedules_and_names_are_lists_in_json_and_tuples_again():
    config = Config(
        conditional=True,
        classes=10,
        generator_activation="silu",
        init_from="runs/a",
        penalties=("r1", "r2"),
        gamma=(1 / 3, 0.1),
        generator_beta2=(0.9, 0.99),
        ema_half_life_nimg=(0.0, 5e5),
        augment=("flip", "cutout"),
        augment_probability=(0.0, 0.3),
        burn_in_nimg=1000,
    )
    values = json.loads(json.dumps(config.to_json()))
    assert values["gamma"] == [1 / 3, 0.1] and values["augment"] == ["flip", "cutout"]
    again = from_json(values, "x")
    assert again == config and hash(again) == hash(config)
    whole = from_json({**values, "gamma": [1, 0]}, "x")
    assert whole.gamma == (1.0, 0.0)


def test_an_unknown_and_a_missing_field_are_both_named():
    values = dict(STORED)
    del values["generator_beta2"], values["width"]
    values |= {"momentum": 0.9}
    with pytest.raises(UserError) as raised:
        from_json(values, "run/config.json")
    message = str(raised.value)
    assert message.startswith("run/config.json: ")
    missing, unknown = message.split("unknown")
    assert missing.endswith("fields missing: generator_beta2 width, ") and unknown == " fields: momentum"


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in WRONG for value in WRONG[field]])
def test_a_field_of_the_wrong_type_is_refused(field, value):
    with pytest.raises(UserError) as raised:
        from_json({**STORED, field: value}, "run/config.json")
    assert str(raised.value).startswith(f"run/config.json: {field}: found {value!r}, expected a value of type")


def test_whole_numbers_may_stand_for_floats_and_null_for_open_channels():
    config = from_json({**STORED, "width": 1, "channels": None}, "x")
    assert config == Config()


@pytest.mark.parametrize("values", [[], "text", 3, None])
def test_a_configuration_that_is_no_object_is_refused(values):
    with pytest.raises(UserError, match="expected a JSON object"):
        from_json(values, "run/config.json")


def test_a_stored_value_that_cannot_work_is_refused():
    with pytest.raises(UserError, match=r"^x: loss: found 'lsgan'"):
        from_json({**STORED, "loss": "lsgan"}, "x")
    with pytest.raises(UserError, match=r"^x: burn_in_nimg: .* generator_beta2 goes from 0\.9 to 0\.99$"):
        from_json({**STORED, "generator_beta2": [0.9, 0.99]}, "x")


def other_value(field: str) -> object:
    """A value of the right type that differs from the default."""
    listed = {"channels": 3, "classes": 7, "penalties": ("r1",), "augment": ("flip",), "levels": (16, 32)}
    value = getattr(Config(), field)
    if field in listed:
        return listed[field]
    if isinstance(value, bool):
        return not value
    return f"{value}-2" if isinstance(value, str | None) else value + 1


@pytest.mark.parametrize("field", NAMES)
def test_a_continuation_may_change_what_is_listed_and_nothing_else(field):
    wanted = replace(Config(), **{field: other_value(field)})
    if field in MAY_CHANGE:
        return check_continuation(Config(), wanted, "runs/a")
    with pytest.raises(UserError) as raised:
        check_continuation(Config(), wanted, "runs/a")
    saved, now = getattr(Config(), field), getattr(wanted, field)
    assert f"{field} (saved {saved}, now {now})" in str(raised.value)


def test_every_difference_of_a_continuation_is_listed():
    changed = [name for name in NAMES if name not in MAY_CHANGE]
    wanted = replace(Config(), **{name: other_value(name) for name in NAMES})
    with pytest.raises(UserError) as raised:
        check_continuation(Config(), wanted, "runs/a")
    message = str(raised.value)
    assert message.startswith("runs/a: ") and message.count("(saved ") == len(changed)
    assert all(f"{name} (saved" in message for name in changed)
    assert not any(f"{name} (saved" in message for name in MAY_CHANGE)


def test_channels_follow_the_data_only_where_they_are_open():
    assert fitted(Config(), 3, 0) == Config(channels=3)
    assert fitted(Config(channels=1), 3, 0) == Config(channels=1)
    with pytest.raises(ValueError, match="channels follow the data"):
        _ = Config().image_shape
    assert Config(channels=3, resolution=16).image_shape == (16, 16, 3)


def test_classes_follow_the_data_of_a_conditional_run_only():
    assert fitted(Config(), 1, 10) == Config(channels=1)
    assert fitted(Config(), 1, 10).class_count == 0
    conditional = Config(conditional=True)
    with pytest.raises(ValueError, match="classes follow the data"):
        _ = conditional.class_count
    assert fitted(conditional, 1, 10) == Config(conditional=True, channels=1, classes=10)
    assert fitted(conditional, 1, 10).class_count == 10
    for given in (10, 12):
        assert fitted(replace(conditional, classes=given), 1, 10).class_count == given


def test_a_conditional_run_of_data_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"^conditional: found True, .* data a\.npy has no labels$"):
        fitted(Config(conditional=True, data="a.npy"), 1, 0)
    with pytest.raises(UserError, match=r"^conditional: found True, .* data a\.npy has no labels$"):
        fitted(Config(conditional=True, classes=10, data="a.npy"), 1, 0)
    with pytest.raises(UserError, match=r"^classes: found 9, expected at least the 10 classes of data mnist-5k$"):
        fitted(Config(conditional=True, classes=9), 1, 10)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("updates", [1, 5])
def test_only_a_paired_loss_takes_reals_for_the_generator(loss, updates):
    config = Config(loss=loss, discriminator_updates=updates)
    assert config.real_rows == (updates + 1 if loss == "relativistic" else updates)


def test_one_value_is_a_schedule_that_ends_where_it_begins():
    assert ends(0.25) == (0.25, 0.25)
    assert ends((1.0, 0.1)) == (1.0, 0.1)
