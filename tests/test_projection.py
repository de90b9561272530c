"""Projection of an image into a latent space, by each backend: images of the generator are found again."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan_shared.backend import Inputs
from gan_shared.config import Config
from gan_shared.draws import Stream, sample_latents
from gan_shared.errors import UserError
from gan_shared.projection import CANDIDATES, LEARNING_RATE, Projected, learning_rate, longest, project
from gan_shared.sample import TrainedGenerator, load_checkpoints, restored
from tests.fixtures import ANY, EACH, backend_class

EXAMPLE = Path(__file__).parents[1] / "gan_app" / "example"


def example(name: str) -> TrainedGenerator:
    """Return the trained generator of digits that comes with the project: 32 pixels, latents of 100 numbers."""
    (loaded,) = load_checkpoints(EXAMPLE, None)
    return restored(backend_class(name), loaded, loaded.config.with_options(device="cpu"))


def small(name: str, **options: Any) -> TrainedGenerator:
    """Return a generator of random weights, large enough for images that are not grey."""
    size = {"resolution": 16, "channels": 1, "width": 0.0625, "latent_size": 4, "device": "cpu"}
    backend = backend_class(name)(Config().with_options(**(size | options)))
    tensors, random = backend.export(backend.init()), np.random.default_rng(0)
    for key, value in tensors.items():
        if key.startswith("generator_ema/") and key.endswith("weight"):
            value += 0.2 * random.standard_normal(value.shape).astype(value.dtype)
    return TrainedGenerator(backend, backend.restore(tensors))


def image(generator: TrainedGenerator, seed: int, label: int | None = None) -> np.ndarray:
    """Return an image that a generator makes."""
    latents = sample_latents(seed, 1, generator.backend.config.networks.latent_size)
    labels = None if label is None else np.array([label])
    return generator.backend.sample(generator.state, Inputs(latents, labels))[0]


def last(generator: TrainedGenerator, target: np.ndarray, *arguments: Any, **options: Any) -> Projected:
    """Return what a projection ends with."""
    return list(project(generator, target, *arguments, **options))[-1]


@pytest.mark.parametrize("name", EACH)
def test_an_image_that_the_generator_made_is_found_again(name: str):
    """To three grey levels, from more than 40 of the nearest of 256 random images; of four latents nearly exactly."""
    generator = example(name)
    target = image(generator, 5)
    found = list(project(generator, target, steps=1000, look_every=250))
    assert [each.step for each in found] == [0, 250, 500, 750, 1000]
    assert found[0].error > 40 and found[-1].error < 3
    errors = [each.error for each in found]
    assert errors == sorted(errors, reverse=True)
    # What is shown is what the latents make, and as far from the target as is said; later steps change none of it.
    for each in found:
        made = generator.backend.sample(generator.state, Inputs(each.latents[None]))[0].astype(int)
        assert np.abs(made - each.image).max() <= 1
        assert each.error == pytest.approx(np.sqrt(np.square(each.image.astype(float) - target).mean()))
    end = found[-1]
    assert end.latents.shape == (100,) and end.latents.dtype == np.float32 and end.label is None
    assert np.linalg.norm(end.latents) <= longest(100) * (1 + 1e-6)
    few = small(name)
    assert last(few, image(few, 3)).error < 0.3


@pytest.mark.parametrize("name", EACH)
def test_a_projection_follows_from_its_arguments_and_changes_nothing(name: str):
    generator = small(name)
    before = generator.backend.export(generator.state)
    mode = getattr(generator.state.generator, "training", None)  # of torch's modules
    target = image(generator, 3)
    first, again = (list(project(generator, target, steps=20, seed=4)) for _ in range(2))
    for ours, theirs in zip(first, again, strict=True):
        np.testing.assert_array_equal(ours.latents, theirs.latents)
        np.testing.assert_array_equal(ours.image, theirs.image)
        assert ours.error == theirs.error
    assert not np.array_equal(first[0].latents, last(generator, target, steps=0, seed=5).latents)
    last(generator, target, steps=1, ema=False)
    assert getattr(generator.state.generator, "training", None) == mode
    after = generator.backend.export(generator.state)
    assert all(np.array_equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize("name", EACH)
def test_the_class_is_found_or_kept(name: str):
    generator = small(name, class_conditional=True, num_classes=3)
    target = image(generator, 3, 2)
    kept, found = last(generator, target, (1,)), last(generator, target)
    assert kept.label == 1 and found.label == 2
    assert found.error < 1 < kept.error


def test_who_stops_asking_stops_the_search():
    generator, calls = small(ANY), list[int]()
    made = generator.backend.projector

    def counted(*arguments: Any) -> Any:
        advance = made(*arguments)
        return lambda rates: (calls.append(len(rates)), advance(rates))[1]

    generator.backend.projector = counted  # type: ignore[method-assign]
    found = list(islice(project(generator, image(generator, 3), steps=25, look_every=10), 2))
    assert [each.step for each in found] == [0, 10] and calls == [10]
    calls.clear()
    assert [each.step for each in project(generator, image(generator, 3), steps=25, look_every=10)] == [0, 10, 20, 25]
    assert calls == [10, 10, 5]


def test_what_was_found_is_kept_where_later_latents_are_worse():
    generator = small(ANY)
    target = image(generator, 3)
    start = last(generator, target, steps=0)
    worse = np.tile(sample_latents(99, 1, 4), (8, 1))
    generator.backend.projector = lambda *arguments: lambda rates: worse  # type: ignore[method-assign]
    end = last(generator, target, steps=5)
    assert end.step == 5 and end.error == start.error
    np.testing.assert_array_equal(end.latents, start.latents)
    np.testing.assert_array_equal(end.image, start.image)


def test_the_search_begins_at_the_best_of_many_latents():
    generator = small(ANY)
    target = image(generator, 3)
    start = last(generator, target, steps=0)
    drawn = sample_latents(0, CANDIDATES, 4, stream=Stream.PROJECTION)
    images = generator.backend.sample(generator.state, Inputs(drawn)).astype(float)
    errors = np.sqrt(np.square(images - target).mean((1, 2, 3)))
    np.testing.assert_array_equal(start.latents, drawn[errors.argmin()])


def test_learning_rates_fall_from_the_first_to_nearly_zero():
    rates = [learning_rate(step, 100) for step in range(100)]
    assert rates[0] == LEARNING_RATE and rates[50] == pytest.approx(LEARNING_RATE / 2) and rates[99] < 1e-3
    assert rates == sorted(rates, reverse=True)


def test_what_cannot_be_projected_is_refused():
    generator = small(ANY)
    target = image(generator, 3)
    for wrong, message in (
        (target[:8], r"target: found uint8 \(8, 16, 1\), expected uint8 \(16, 16, 1\), as the generator makes"),
        (target.astype(float), r"target: found float64 \(16, 16, 1\), expected uint8 "),
    ):
        with pytest.raises(UserError, match=message):
            last(generator, wrong)
    for options, message in (
        ({"steps": -1}, "steps: found -1, expected a number from 0 to "),
        ({"look_every": 0}, "look_every: found 0, expected a number from 1 to "),
        ({"seed": 0.5}, "seed: found 0.5, expected a number from 0 to "),
    ):
        with pytest.raises(UserError, match=message):
            last(generator, target, **options)
    level = small(ANY, pyramid_levels=(8, 16))
    with pytest.raises(UserError, match="generator: found dcgan, which is given images, expected one of latents alone"):
        last(level, target)
