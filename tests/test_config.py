"""Config: what is refused, in which words, and what every field must have."""

import ast
import inspect
import json
import math
from dataclasses import fields, replace

import pytest

from gan_shared.config import MAY_CHANGE, RESOLUTIONS, Config, check_continuation, validate, with_channels
from gan_shared.errors import UserError
from gan_shared.presets import PRESETS, find

NAMES = [field.name for field in fields(Config)]
FLOATS = [field.name for field in fields(Config) if field.type is float]
NAN = float("nan")

# Field, a value that cannot work, and what the message must say beside the field and the value.
REFUSED = [
    ("generator", "unet", ["'unet'", "choices: dcgan"]),
    ("discriminator", "", ["''", "choices: dcgan"]),
    ("loss", "hinge", ["'hinge'", "choices: bce, mse"]),
    ("precision", "float16", ["'float16'", "choices: float32, float64"]),
    ("device", "tpu", ["'tpu'", "choices: auto, cpu, gpu"]),
    ("channels", 2, ["found 2", "1 (grey) or 3 (RGB)"]),
    ("channels", 0, ["found 0", "1 (grey) or 3 (RGB)"]),
    ("latent_size", 0, ["found 0", "from 1"]),
    ("discriminator_updates", 0, ["found 0", "from 1"]),
    ("batch_size", 0, ["found 0", "from 1"]),
    ("batch_size", -4, ["found -4", "from 1"]),
    ("steps", 0, ["found 0", "from 1"]),
    ("seed", -1, ["found -1", "from 0"]),
    ("seed", 2**63, [f"found {2**63}", f"to {2**63 - 1}"]),
    ("log_every", 0, ["found 0", "from 1"]),
    ("sample_every", 0, ["found 0", "from 1"]),
    ("save_every", 0, ["found 0", "from 1"]),
    ("keep_checkpoints", -1, ["found -1", "from 0"]),
    ("generator_learning_rate", -1e-4, ["found -0.0001", "from 0"]),
    ("discriminator_learning_rate", math.inf, ["found inf", "from 0"]),
    ("ema_half_life_nimg", -1.0, ["found -1.0", "from 0"]),
    ("beta1", 1.0, ["found 1.0", "not including, 1"]),
    ("beta2", -0.1, ["found -0.1", "from 0"]),
    ("width", 0.0, ["found 0.0", "above 0"]),
    ("width", -1.0, ["found -1.0", "above 0"]),
    ("width", math.inf, ["found inf", "up to 64"]),
]


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


@pytest.mark.parametrize("field", FLOATS)
def test_nan_is_refused_in_every_float(field):
    assert refusal(replace(Config(), **{field: NAN})).startswith(f"{field}: found nan, expected")


@pytest.mark.parametrize(
    ("resolution", "nearest"),
    [
        (48, "nearest: 32 or 64"),
        (30, "nearest: 28 or 32"),
        (20, "nearest: 16 or 28"),
        (8, "nearest: 16)"),
        (0, "nearest: 16)"),
        (512, "nearest: 256)"),
    ],
)
def test_a_resolution_that_cannot_be_made_names_the_nearest_ones(resolution, nearest):
    message = refusal(Config(resolution=resolution))
    assert message.startswith(f"resolution: found {resolution}") and nearest in message
    assert message.endswith("choices: 16, 28, 32, 64, 128, 256")


@pytest.mark.parametrize("resolution", [16, 28, 32, 64, 128, 256])
@pytest.mark.parametrize("channels", [1, 3, None])
def test_the_resolutions_and_colours_that_the_issue_asks_for_are_valid(resolution, channels):
    config = Config(resolution=resolution, channels=channels)
    validate(config)
    assert resolution in RESOLUTIONS["dcgan"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_and_knows_its_name(name):
    validate(find(name))
    assert find(name).preset == name


def test_the_default_is_the_dcgan_preset():
    assert find("dcgan") == Config()


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(UserError, match=r"^preset: found 'gan9000', .*choices: dcgan, dcgan-64$"):
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
    assert not MAY_CHANGE & {"seed", "batch_size", "loss", "width", "precision", "beta1", "beta2", "resolution"}


def test_json_round_trip_is_exact():
    config = replace(Config(), channels=3, generator_learning_rate=1 / 3, seed=2**63 - 1, data="a ü.npz")
    assert Config.from_json(json.loads(json.dumps(config.to_json())), "x") == config


def test_an_unknown_and_a_missing_field_are_both_named():
    values = Config().to_json()
    del values["beta2"], values["width"]
    values |= {"momentum": 0.9}
    with pytest.raises(UserError) as raised:
        Config.from_json(values, "run/config.json")
    message = str(raised.value)
    assert message.startswith("run/config.json: ")
    missing, unknown = message.split("unknown")
    assert "'beta2'" in missing and "'width'" in missing and "'momentum'" in unknown


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 1.5),
        ("steps", "20"),
        ("steps", True),
        ("steps", None),
        ("width", "wide"),
        ("width", False),
        ("fresh_latents", 1),
        ("fresh_latents", "yes"),
        ("preset", 3),
        ("data", None),
        ("channels", 1.0),
        ("channels", [1]),
    ],
)
def test_a_field_of_the_wrong_type_is_refused(field, value):
    with pytest.raises(UserError) as raised:
        Config.from_json({**Config().to_json(), field: value}, "run/config.json")
    assert str(raised.value).startswith(f"run/config.json: {field}: found {value!r}, expected a value of type")


def test_whole_numbers_may_stand_for_floats_and_null_for_open_channels():
    config = Config.from_json({**Config().to_json(), "width": 1, "channels": None}, "x")
    assert config == Config()


@pytest.mark.parametrize("values", [[], "text", 3, None])
def test_a_configuration_that_is_no_object_is_refused(values):
    with pytest.raises(UserError, match="expected a JSON object"):
        Config.from_json(values, "run/config.json")


def test_a_stored_value_that_cannot_work_is_refused():
    with pytest.raises(UserError, match="loss: found 'hinge'"):
        Config.from_json({**Config().to_json(), "loss": "hinge"}, "x")


def other_value(field: str) -> object:
    """A valid value that differs from the default."""
    listed = {"resolution": 64, "channels": 3, "precision": "float64", "device": "cpu", "loss": "mse"}
    value = getattr(Config(), field)
    if field in listed:
        return listed[field]
    if isinstance(value, bool):
        return not value
    return value + "-2" if isinstance(value, str) else value / 2 if isinstance(value, float) else value + 1


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
    assert with_channels(Config(), 3).channels == 3
    assert with_channels(Config(channels=1), 3).channels == 1
    with pytest.raises(ValueError, match="channels follow the data"):
        _ = Config().image_shape
    assert Config(channels=3, resolution=16).image_shape == (16, 16, 3)
