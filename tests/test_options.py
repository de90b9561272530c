"""Every option by itself: its range, its choices, its type in JSON, its help."""

import json
import math
from typing import get_args

import pytest

from gan_shared.config import Config, groups, options
from gan_shared.errors import UserError
from gan_shared.options import ends
from gan_shared.validation import from_json, validate

SCHEDULES = [name for name, option in options().items() if option.scheduled]
FLOATS = [name for name, option in options().items() if option.kind is float]
NAN = float("nan")
SIDES = ("generator", "discriminator")
# The default as a file holds it, lists where the options are tuples.
STORED = json.loads(json.dumps(Config().to_json()))


def config(**changes) -> Config:
    return Config().with_options(**changes)


# Field, a value that cannot work, and what the message must say beside the field and the value.
REFUSED = [
    ("penalties", ("r3",), ["found r3", "each once, or no name", "choices: gradient-penalty, r1, r2"]),
    ("penalties", ("r1", "r1"), ["found r1 r1", "each once"]),
    ("augment", ("flip", "blur"), ["found flip blur", "choices: flip, crop, translate, rotate, scale, cutout"]),
    ("augment", ("flip", "crop", "flip"), ["found flip crop flip", "each once"]),
    ("channels", 2, ["found 2", "choices: 1, 3"]),
    ("channels", 0, ["found 0", "choices: 1, 3"]),
    ("num_classes", 0, ["found 0", "from 1 to 65536"]),
    ("num_classes", 65537, ["found 65537", "from 1 to 65536"]),
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
    ("rollbacks", 0, -1, 10**6, 10**6 + 1),
    ("keep_checkpoints", 0, -1, 2**40, 2**40 + 1),
    ("evaluate_every", 0, -1, 2**40, 2**40 + 1),
    ("evaluate_images", 6, 5, 10**7, 10**7 + 1),
    ("burn_in_nimg", 0, -1, 2**60, 2**60 + 1),
    ("augment_adapt_nimg", 1, 0, 2**60, 2**60 + 1),
    ("gamma", 0.0, -1e-300, 1e6, 1e6 + 1),
    ("penalty_every", 1, 0, 1000, 1001),
    *((field, 0.0, -1e-300, 1e6, 1e6 + 1) for field in ("pixel_weight", "feature_weight")),
    *((f"{network}_weight_decay", 0.0, -1e-300, 1e3, 1e3 + 1) for network in SIDES),
    *((field, 0.0, -1e-300, 1e18, 1.1e18) for field in ("gradient_clip", "ema_half_life_nimg")),
    *((field, 0.0, -1e-300, 1.0, 1.0 + 2**-52) for field in ("augment_probability", "augment_target")),
    *((f"{network}_learning_rate", 0.0, -1e-300, 1e3, 1e3 + 1) for network in SIDES),
    *((f"{network}_beta1", 0.0, -1e-300, 1.0 - 2**-53, 1.0) for network in SIDES),
    *((f"{network}_beta2", 0.0, -1e-300, 1.0 - 2**-53, 1.0) for network in SIDES),
    *((f"{network}_{name}", 0.0, -1e-300, 1.0 - 2**-53, 1.0) for network in SIDES for name in ("alpha", "momentum")),
    ("num_classes", 1, 0, 65536, 65537),
    ("holdout", 0.0, -1e-300, 1.0 - 2**-53, 1.0),
    ("width", 1e-300, 0.0, 64.0, 64.1),
]
# Lists of numbers, which are checked together.
LISTS = ("pyramid_levels", "earlier_batch_sizes")
# Fields -> the changes that give them a meaning, so that only the range of one is tested.
VGG = {"generator": "vgg-decoder", "vgg_layer": "relu4_3", "vgg_weights": "random"}
COMPANIONS = {
    "pixel_weight": VGG,
    "feature_weight": VGG,
    **{f"{network}_{name}": {f"{network}_optimizer": "rmsprop"} for network in SIDES for name in ("alpha", "momentum")},
    "num_classes": {"class_conditional": True},
    "gamma": {"penalties": ("r1",)},
    "penalty_every": {"penalties": ("r1",), "gamma": 1.0},
    "augment_probability": {"augment": ("flip",)},
    "augment_target": {"augment": ("flip",)},
}
# Options that name an entry of a table are compared with that table in both backends (``parity_tests``); these are not.
CHOICES = {
    "discriminator_norm": "none, batch, spectral",
    "freeze": "none, generator, discriminator",
    "precision": "float32, tf32, bfloat16, float64",
    "device": "auto, cpu, gpu",
    "data_on": "host, device",
    "vgg_layer": "relu3_3, relu4_1, relu4_2, relu4_3, relu5_1, relu5_2, relu5_3, fc6",
}
NAMED = {name: ", ".join(map(str, each.choices)) for name, each in options().items() if each.kind in (str, str | None)}
# Field -> JSON values that are not of its type.
WRONG: dict[str, list[object]] = {
    "preset": [3],
    "data": [None],
    "freeze": [None],
    "steps": [1.5, "20", True, None, [1, 2]],
    "width": ["wide", False],
    "generator_weight_decay": ["0"],
    "generator_beta1": [[0.5, 0.9]],
    "fresh_latents": [1, "yes"],
    "class_conditional": [1],
    "channels": [1.0, [1]],
    "num_classes": [10.0, False],
    "generator_activation": [3, ["relu"]],
    "init_from": [False],
    "penalties": ["r1", None, [1]],
    "augment": [["flip", None], {"flip": 1}],
    "gamma": ["1", None, True, [], [1.0], [1.0, 0.5, 0.1], [1.0, "0.1"], [False, 0.1], [[1.0, 0.1]]],
    "generator_learning_rate": [{"from": 1.0, "to": 0.1}],
}


def refusal(refused: Config) -> str:
    with pytest.raises(UserError) as raised:
        validate(refused)
    return str(raised.value)


@pytest.mark.parametrize(("field", "value", "words"), REFUSED, ids=lambda value: str(value)[:24])
def test_a_value_that_cannot_work_is_named_with_what_was_expected(field, value, words):
    message = refusal(config(**{field: value}))
    assert message.startswith(f"{field}: found ") and "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(("field", "low", "below", "high", "above"), RANGES)
def test_a_range_ends_where_it_says(field, low, below, high, above):
    base = config(**COMPANIONS.get(field, {}))
    for value in (below, above):
        assert refusal(base.with_options(**{field: value})).startswith(f"{field}: found {value}, expected a")
    validate(base.with_options(**{field: high}))
    # The smallest gamma, probability and target are those of a run without penalties or augmentation.
    alone = config() if low == 0.0 and field in ("gamma", "augment_probability", "augment_target") else base
    validate(alone.with_options(**{field: low}))


def test_every_number_has_a_range():
    kinds = {name: {each.kind, *get_args(each.kind)} for name, each in options().items() if not each.choices}
    numbers = [name for name, each in kinds.items() if {int, float} & each]
    assert sorted(numbers) == sorted({*(name for name, *_ in RANGES), "resolution", *LISTS})
    assert all(options()[name].range for name in numbers if name != "pyramid_levels")


@pytest.mark.parametrize("field", FLOATS + SCHEDULES)
def test_nan_is_refused_in_every_float(field):
    values = [NAN, (NAN, 0.5), (0.5, NAN)] if field in SCHEDULES else [NAN]
    for value in values:
        assert refusal(config(**COMPANIONS.get(field, {}), **{field: value})).startswith(
            f"{field}: found nan, expected"
        )


@pytest.mark.parametrize("field", SCHEDULES)
def test_a_schedule_needs_the_images_that_it_takes(field):
    scheduled = config(**COMPANIONS.get(field, {}), **{field: (0.25, 0.5)})
    message = refusal(scheduled)
    assert message.startswith("burn_in_nimg: found 0, expected") and f"{field} goes from 0.25 to 0.5" in message
    validate(scheduled.with_options(burn_in_nimg=1))
    validate(scheduled.with_options(**{field: (0.5, 0.5)}))


@pytest.mark.parametrize("field", [name for name, listed in NAMED.items() if listed])
def test_every_listed_name_is_taken_and_no_other(field):
    for choice in NAMED[field].split(", "):
        beside = {**VGG, "resolution": 224} if "vgg" in choice or field == "vgg_layer" else {}
        validate(config(**beside | {field: choice}))
    for other in ("unet", "", "Adam"):
        message = refusal(config(**{field: other}))
        assert message == f"{field}: found {other!r}, expected a known name; choices: {NAMED[field]}"


def test_every_option_has_a_help_sentence():
    assert all(len(each.help.split()) >= 3 and each.help.endswith(".") for each in options().values())


def test_names_of_options_are_unique():
    assert len(options()) == sum(len(declared) for _, _, declared in groups())


def test_json_round_trip_is_exact():
    whole = config(channels=3, generator_learning_rate=1 / 3, seed=2**63 - 1, data="a ü.npz")
    assert from_json(json.loads(json.dumps(whole.to_json())), "x") == whole


def test_schedules_and_names_are_lists_in_json_and_tuples_again():
    given = config(
        class_conditional=True,
        num_classes=10,
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
    values = json.loads(json.dumps(given.to_json()))
    assert values["gamma"] == [1 / 3, 0.1] and values["augment"] == ["flip", "cutout"]
    again = from_json(values, "x")
    assert again == given and hash(again) == hash(given)
    whole = from_json({**values, "gamma": [1, 0]}, "x")
    assert whole.objective.gamma == (1.0, 0.0)


def test_names_without_a_table_of_their_own_are_these():
    assert {name: NAMED[name] for name in CHOICES} == CHOICES


def test_an_execution_option_that_a_file_does_not_have_gets_its_default():
    """Files that were written before there was such an option; one that defines the experiment is refused."""
    values = {name: value for name, value in STORED.items() if name not in ("save_every", "device")}
    assert from_json(values, "x") == Config()


def test_an_unknown_and_a_missing_option_are_both_named():
    values = dict(STORED)
    del values["generator_beta2"], values["width"]
    values |= {"momentum": 0.9}
    with pytest.raises(UserError) as raised:
        from_json(values, "run/config.json")
    message = str(raised.value)
    assert message.startswith("run/config.json: ")
    missing, unknown = message.split("unknown")
    assert missing.endswith("options missing: generator_beta2 width, ") and unknown == " options: momentum"


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in WRONG for value in WRONG[field]])
def test_an_option_of_the_wrong_type_is_refused(field, value):
    with pytest.raises(UserError) as raised:
        from_json({**STORED, field: value}, "run/config.json")
    assert str(raised.value).startswith(f"run/config.json: {field}: found {value!r}, expected a value of type")


def test_whole_numbers_may_stand_for_floats_and_null_for_open_channels():
    assert from_json({**STORED, "width": 1, "channels": None}, "x") == Config()


def test_a_stored_value_that_cannot_work_is_refused():
    with pytest.raises(UserError, match=r"^x: loss: found 'lsgan'"):
        from_json({**STORED, "loss": "lsgan"}, "x")
    with pytest.raises(UserError, match=r"^x: burn_in_nimg: .* generator_beta2 goes from 0\.9 to 0\.99$"):
        from_json({**STORED, "generator_beta2": [0.9, 0.99]}, "x")


def test_one_value_is_a_schedule_that_ends_where_it_begins():
    assert ends(0.25) == (0.25, 0.25)
    assert ends((1.0, 0.1)) == (1.0, 0.1)
