"""A loss and optimisers of one's own in the Python API: as good as named ones, saved, given again, refused."""

# Loops over steps run at least once, which pyright cannot know.
# pyright: reportPossiblyUnboundVariable=false

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan_shared import checkpoint
from gan_shared.manifest import FORMAT_VERSION, TRAINED
from tests.fixtures import EACH, SAMPLE_MAINS, TRAIN_MAINS, gan_class, own_modules
from tests.frameworks import needs
from tests.test_gan import IMAGES, LABELS, NAMES, SIZE, refusal, tensors

CONDITIONAL: dict[str, Any] = {"class_conditional": True, "num_classes": 3}
RATES = {f"{network}_learning_rate": 0.1 for network in TRAINED}
MOMENTA = {f"{network}_momentum": 0.5 for network in TRAINED}


def make(name: str, loss: Any = "bce", optimizer: Any = "adam", **options: Any) -> Any:
    return gan_class(name)("cnn", "cnn", loss, optimizer, 16, 1, **SIZE | options)


def networks(gan: Any) -> dict[str, bytes]:
    """Everything but what the optimisers keep."""
    return {name: value for name, value in tensors(gan).items() if not name.startswith("optimizer/")}


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("bce", {}),
        ("bce", {"precision": "float64", **CONDITIONAL}),
        ("bce", {"precision": "bfloat16", "penalties": ("gradient-penalty",), "gamma": 10.0}),
        ("relativistic", {"penalties": ("r1", "r2"), "gamma": 0.5, "discriminator_updates": 2}),
        ("wasserstein", {"discriminator": "patch", "discriminator_norm": "none"}),
    ],
    ids=str,
)
@NAMES
def test_a_loss_of_ones_own_trains_to_the_bits_of_the_named_one(name, loss, options):
    options = dict(options)
    discriminator = options.pop("discriminator", "cnn")

    def trained(which: Any) -> Any:
        gan = gan_class(name)("cnn", discriminator, which, "adam", 16, 1, **SIZE | options)
        return gan.fit(IMAGES, LABELS, steps=2, progress=False)

    named, own = trained(loss), trained(own_modules(name).LOSSES[loss])
    if loss == "wasserstein":  # the mean of means is rounded otherwise than the mean
        ours, theirs = (gan.backend.export(gan.state) for gan in (own, named))
        for key in theirs:
            np.testing.assert_allclose(ours[key], theirs[key], rtol=0, atol=2e-3, err_msg=key)
    else:
        assert tensors(own) == tensors(named)
    assert own.config.objective.loss == ("custom-paired" if loss == "relativistic" else "custom")
    assert own.config.real_rows == named.config.real_rows


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("clip", [0.0, 0.1])
@NAMES
def test_gradient_descent_of_ones_own_is_the_named_one(name, momentum, clip):
    named = make(name, optimizer="sgd", gradient_clip=clip, **RATES, **MOMENTA if momentum else {})
    own = make(name, optimizer=own_modules(name).sgd(0.1, momentum), gradient_clip=clip)
    start = networks(own)
    assert start == networks(named)
    named, own = (gan.fit(IMAGES, steps=3, progress=False) for gan in (named, own))
    ours, theirs = networks(own), networks(named)
    assert ours == theirs and all(ours[key] != start[key] for key in ours if key.endswith("weight"))


@pytest.mark.parametrize("rule", ["adam", "nested", "counting"])
@NAMES
def test_an_optimiser_of_ones_own_goes_on_bit_for_bit(name, rule, tmp_path):
    """Between two fits, and through a checkpoint."""
    optimizer = getattr(own_modules(name), rule)
    whole = make(name, optimizer=optimizer).fit(IMAGES, steps=5, progress=False)
    parts = make(name, optimizer=optimizer).fit(IMAGES, steps=2, progress=False)
    kept = [key for key in tensors(parts) if key.startswith("optimizer/")]
    assert kept and all(key.split(".")[1] == {"torch": "torch", "jax": "optax"}[name] for key in kept)
    parts.save(tmp_path / "gan")
    loaded = gan_class(name).load(tmp_path / "gan", optimizer=optimizer)
    assert tensors(loaded) == tensors(parts)
    assert tensors(loaded.fit(IMAGES, steps=3, progress=False)) == tensors(whole)
    assert tensors(parts.fit(IMAGES, steps=3, progress=False)) == tensors(whole)
    forgetful = gan_class(name).load(tmp_path / "gan", optimizer=optimizer)
    fresh = {key: value for key, value in forgetful.backend.export(forgetful.state).items() if key not in kept}
    forgetful.state = forgetful.backend.restore(fresh)
    assert networks(forgetful.fit(IMAGES, steps=3, progress=False)) != networks(whole)


@pytest.mark.torch
def test_another_rate_of_a_new_optimiser_counts_and_a_rate_that_the_old_one_changed_goes_on(tmp_path):
    own = own_modules("torch")
    for optimizer, other, rate in ((own.sgd(0.1), own.sgd(0.3), 0.3), (own.counting, own.counting, 0.1 * 0.75 * 0.75)):
        make("torch", optimizer=optimizer).fit(IMAGES, steps=2, progress=False).save(tmp_path / "gan")
        gan = gan_class("torch").load(tmp_path / "gan", optimizer=other)
        groups = gan.state.generator_optimizer_state.optimizer.param_groups
        assert [group["lr"] for group in groups] == [rate]


@pytest.mark.torch
def test_gradients_are_in_their_parameters_memory_order_and_are_not_kept():
    """Fused rules walk through memory: kernels are channels-last, and their gradients need not be."""
    import torch

    ends = []
    for fused in (True, False):
        gan = make("torch", optimizer=lambda parameters, fused=fused: torch.optim.Adam(parameters, 0.01, fused=fused))
        gan.fit(IMAGES, steps=3, progress=False)
        assert all(parameter.grad is None for parameter in gan.parameters())
        ends.append(gan.backend.export(gan.state))
    for key, value in ends[0].items():
        np.testing.assert_allclose(value, ends[1][key], rtol=0, atol=1e-3, err_msg=key)


@NAMES
def test_each_network_may_have_an_optimiser_of_its_own_kind(name, tmp_path):
    own = own_modules(name)
    gan = make(name, optimizer="sgd", generator_optimizer=own.adam, discriminator_learning_rate=0.1)
    same = make(name, optimizer=own.adam, discriminator_optimizer="sgd", discriminator_learning_rate=0.1)
    gan, same = (each.fit(IMAGES, steps=2, progress=False) for each in (gan, same))
    assert tensors(gan) == tensors(same)
    chosen = [gan.config.optimizer(network) for network in TRAINED]
    assert [each.optimizer for each in chosen] == ["custom", "sgd"]
    assert [each.learning_rate for each in chosen] == [0.0, 0.1] and chosen[0].beta1 is None
    gan.save(tmp_path / "gan")
    load = gan_class(name).load
    for given in ({"optimizer": own.adam}, {"generator_optimizer": own.adam}):
        assert tensors(load(tmp_path / "gan", **given)) == tensors(gan)
    message = refusal(lambda: load(tmp_path / "gan", optimizer=own.adam, discriminator_optimizer=own.adam))
    assert message.startswith("discriminator_optimizer: found ")
    assert message.endswith("expected none, as the GAN has discriminator_optimizer sgd")
    frozen = make(name, optimizer=own.sgd(0.1), freeze="generator").fit(IMAGES, steps=1, progress=False)
    assert tensors(frozen)["generator/stem.conv.weight"] == tensors(make(name))["generator/stem.conv.weight"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Any:
    """Returns the checkpoint of a GAN of two steps, whose loss and optimisers are one's own, of a backend."""
    folders: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in folders:
            own = own_modules(name)
            gan = make(name, own.LOSSES["bce"], own.adam).fit(IMAGES, steps=2, progress=False)
            folders[name] = tmp_path_factory.mktemp("own") / name
            gan.save(folders[name])
        return folders[name]

    return folder


@NAMES
def test_what_is_ones_own_is_given_again(saved, name):
    own, load, path = own_modules(name), gan_class(name).load, saved(name)
    config = json.loads((path / "manifest.json").read_text())["config"]
    recorded = [config[key] for key in ("loss", "generator_optimizer", "generator_learning_rate")]
    assert recorded == ["custom", "custom", 0.0]
    loss, adam = {"loss": own.LOSSES["bce"]}, {"optimizer": own.adam}
    assert load(path, **loss, **adam).steps_done == 2
    for given, words in (
        ({}, "loss: found 'custom', expected one with a name, or a pair of functions of the user's own, which no"),
        (adam, "loss: found 'custom', expected one with a name"),
        (loss, "generator_optimizer: found 'custom', expected one with a name, or an optimiser of the user's own"),
        ({**loss, "generator_optimizer": own.adam}, "discriminator_optimizer: found 'custom', expected one"),
        ({"loss": own.LOSSES["relativistic"], **adam}, "one of the fake logits alone, as the one that the GAN was"),
        ({"loss": "bce", **adam}, "loss: found 'bce', expected a name, or a pair of functions"),
        ({**loss, "optimizer": "adam"}, "generator_optimizer: found 'adam', expected a name, or a"),
        ({**loss, "optimizer": own.sgd(0.1)}, "generator_optimizer: found the state of another optimiser ("),
        ({"loss": (own.LOSSES["bce"][0], lambda fake: fake.mean()), **adam}, "loss: found float32 of shape ()"),
    ):
        message = refusal(lambda given=given: load(path, **given))
        assert words in message, message


@NAMES
def test_nothing_is_given_in_the_place_of_a_name(name, tmp_path):
    own, load = own_modules(name), gan_class(name).load
    make(name).save(tmp_path / "gan")
    for given, words in (
        ({"loss": own.LOSSES["bce"]}, "expected none, as the GAN has loss bce"),
        (
            {"optimizer": own.adam},
            "expected none, as the GAN has generator_optimizer adam and discriminator_optimizer adam",
        ),
        ({"generator_optimizer": own.adam}, "expected none, as the GAN has generator_optimizer adam"),
    ):
        message = refusal(lambda given=given: load(tmp_path / "gan", **given))
        assert message.startswith(f"{next(iter(given))}: found ") and message.endswith(words)
    for name_alone, words in (
        ({"loss": "custom"}, "loss: found 'custom', expected one with a name"),
        (
            {"optimizer": "custom"},
            "generator_optimizer: found 'custom', expected one with a name, or an optimiser of the",
        ),
    ):
        assert words in refusal(lambda given=name_alone: make(name, **given))


@pytest.mark.parametrize(
    ("writer", "reader"), [pytest.param(*pair, marks=needs(*pair)) for pair in (("torch", "jax"), ("jax", "torch"))]
)
def test_the_state_of_an_optimiser_stays_in_its_framework(saved, writer, reader, tmp_path):
    there, here = own_modules(writer), own_modules(reader)
    load = gan_class(reader).load
    message = refusal(lambda: load(saved(writer), loss=here.LOSSES["bce"], optimizer=here.adam))
    of, other = ({"torch": "torch", "jax": "optax"}[each] for each in (reader, writer))
    assert message.startswith(
        f"generator_optimizer: found the state of an optimiser of {other}, expected that of one of {of}: "
    )
    # Where an optimiser keeps nothing, nothing stands in the way; and the loss is given in the reader's framework.
    gan = make(writer, there.LOSSES["bce"], there.sgd(0.1)).fit(IMAGES, steps=1, progress=False)
    gan.save(tmp_path / "gan")
    loaded = load(tmp_path / "gan", loss=here.LOSSES["bce"], optimizer=here.sgd(0.1))
    assert tensors(loaded) == tensors(gan)
    loaded.fit(IMAGES, steps=1, progress=False)


@pytest.mark.parametrize("writer", EACH)
@pytest.mark.parametrize("reader", EACH)
def test_the_command_line_makes_images_and_trains_nothing(saved, writer, reader, tmp_path, capsys):
    path = saved(writer)
    argv = [str(path), "--out", str(tmp_path / "x.npz"), "--num-images", "5", "--device", "cpu"]
    assert SAMPLE_MAINS[reader](argv) == 0
    with np.load(tmp_path / "x.npz") as archive:
        own = own_modules(writer)
        gan = gan_class(writer).load(path, loss=own.LOSSES["bce"], optimizer=own.adam)
        assert np.abs(archive["images"].astype(int) - gan.sample(5)).max() <= int(reader != writer)
    np.save(tmp_path / "images.npy", IMAGES)
    begin = ["--data", str(tmp_path / "images.npy"), "--resolution", "16", "--steps", "1", "--batch-size", "8"]
    begin += ["--device", "cpu", "--width", "0.0625", "--latent-size", "8", "--run-dir", str(tmp_path / "run")]
    assert TRAIN_MAINS[reader]([*begin, "--init-from", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "init_from: " in line
    assert "loss and generator_optimizer and discriminator_optimizer are the user's own" in line


@NAMES
def test_a_run_folder_of_it_is_not_resumed(saved, name, tmp_path, capsys):
    folder = tmp_path / "run"
    gan = checkpoint.load(saved(name))
    values = {
        "format_version": FORMAT_VERSION,
        **gan.config.with_options(data=str(tmp_path / "images.npy"), steps=9).to_json(),
    }
    np.save(tmp_path / "images.npy", IMAGES)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(values))
    assert TRAIN_MAINS[name](["--resume", "--run-dir", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "loss: found 'custom', expected one with a name" in line


@NAMES
def test_what_is_no_loss_is_refused_in_one_line(name):
    own = own_modules(name)
    discriminator, generator = own.LOSSES["bce"]
    for loss, words in (
        *own.WRONG_LOSSES,
        (discriminator, "expected a name, or a pair of functions: of (real logits, fake logits)"),
        ((discriminator,), "expected a name, or a pair"),
        ((discriminator, generator, generator), "expected a name, or a pair"),
        ((generator, discriminator), "of 1 and 2 parameters, expected a name, or a pair"),
        ((discriminator, lambda *logits: logits[0]), "expected a name, or a pair"),
        ((discriminator, lambda fake, *, weight: fake), "expected a name, or a pair"),
        (("bce", "bce"), "expected a name, or a pair"),
        ({"discriminator": discriminator}, "expected a name, or a pair"),
        (3, "loss: found 3, expected a value of type str"),
        (None, "loss: found None, expected a value of type str"),
    ):
        message = refusal(lambda loss=loss: make(name, loss))
        assert message.startswith("loss: found ") and words in message, message
    # An argument with a default is the function's own.
    make(name, (discriminator, lambda fake, weight=2.0: -weight * fake))


@NAMES
def test_what_is_no_optimiser_is_refused_in_one_line(name):
    own = own_modules(name)
    for optimizer, words in own.WRONG_OPTIMIZERS:
        message = refusal(lambda optimizer=optimizer: make(name, optimizer=optimizer))
        assert message.startswith("generator_optimizer: found ") and words in message, message


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("generator_learning_rate", 0.1),
        ("discriminator_learning_rate", (0.1, 0.01)),
        ("generator_beta1", 0.5),
        ("generator_beta2", 0.9),
        ("discriminator_weight_decay", 0.1),
        ("generator_momentum", 0.5),
        ("compile", True),
        ("cuda_graph", True),
    ],
)
@NAMES
def test_options_that_an_optimiser_of_ones_own_would_ignore_are_refused(name, option, value):
    message = refusal(lambda: make(name, optimizer=own_modules(name).adam, **{option: value}))
    assert message.startswith(f"{option}: found ")
    assert "an optimiser of the user's own" in message or "custom, which changes its state by itself" in message


@NAMES
def test_adaptive_augmentation_and_reused_fakes_need_a_loss_that_is_known(name):
    own = own_modules(name)
    message = refusal(lambda: make(name, own.LOSSES["bce"], augment=("flip",), augment_target=0.6))
    assert message.startswith("augment_target: found 0.6 beside loss custom, whose logits need not mean anything")
    message = refusal(lambda: make(name, own.LOSSES["relativistic"], fresh_latents=False))
    assert message.startswith("fresh_latents: found False, expected True, as loss custom-paired pairs")


@NAMES
def test_modules_of_ones_own_train_with_a_loss_on_probabilities_and_an_optimiser(name):
    """Nothing warns of the sigmoid, which the loss may be for; a network without parameters has no optimiser."""
    own = own_modules(name)
    options: dict[str, Any] = {**SIZE, "resolution": 12, "loss": own.LOSSES["bce"], "optimizer": own.adam}
    gan = gan_class(name)(own.Generator(), own.Probability(), **options).fit(IMAGES, steps=1, progress=False)
    assert gan.steps_done == 1
    gan_class(name)(own.Generator(), own.Nothing(), **options).fit(IMAGES, steps=2, progress=False)
