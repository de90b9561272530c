"""Where latents come from: seeds, truncation, walks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import kstest, truncnorm

from gan_shared.architecture import CATEGORIES, SHARPNESS
from gan_shared.config import Config
from gan_shared.draws import sample_latents
from gan_shared.errors import UserError
from gan_shared.latents import (
    FRAMES_PER_LATENT,
    WALK_IMAGES,
    LatentSource,
    blends,
    check_request,
    parse_seeds,
    slerp,
    truncated,
)
from gan_shared.sample import inputs_of


def test_a_listed_seed_gives_the_first_image_of_that_seed():
    drawn = LatentSource(seeds=(7, 3, 7)).draw(3, 5, level=1)
    for row, seed in enumerate((7, 3, 7)):
        np.testing.assert_array_equal(drawn[row], LatentSource(seed).draw(4, 5, level=1)[0])


@pytest.mark.parametrize(
    ("texts", "seeds"),
    [
        (["1", "2", "5-9"], (1, 2, 5, 6, 7, 8, 9)),
        (["1,2,5-6", "0"], (1, 2, 5, 6, 0)),
        (["4-4"], (4,)),
        (["1,", "2,", "3"], (1, 2, 3)),
        ([str(2**63 - 1)], (2**63 - 1,)),
        ([], ()),
    ],
)
def test_seeds_are_listed_by_number_and_range(texts: list[str], seeds: tuple[int, ...]):
    assert parse_seeds(texts) == seeds


def refusal(texts: Sequence[str] = (), source: LatentSource | None = None) -> str:
    with pytest.raises(UserError) as raised:
        check_request(1, LatentSource(seeds=parse_seeds(texts)) if source is None else source)
    return str(raised.value)


@pytest.mark.parametrize("text", ["", "5-", "-5", "9-5", "1.0", "1 2", "1-2-3", "one", "1,,2", "\u0661"])
def test_what_is_no_list_of_seeds_is_refused(text: str):
    expected = "expected whole numbers and ranges of them, such as 1 2 5-9"
    assert refusal([text]).startswith("seeds: found '") and refusal([text]).endswith(expected)


def test_numbers_that_no_latents_follow_from_are_refused():
    assert refusal(["0-99999999999"]) == "seeds: found more than 10,000,000, expected fewer"
    assert refusal([str(2**63)]) == f"seeds: found {2**63}, expected a number from 0 to {2**63 - 1}"
    assert refusal(source=LatentSource(1, (2,))) == "seed: found 1, expected none beside seeds"
    limits: list[Any] = [0.0, -1.0, float("nan"), True, "x"]
    for limit in limits:
        assert refusal(source=LatentSource(truncation=limit)) == f"truncation: found {limit}, expected a number above 0"


@pytest.mark.parametrize("limit", [0.3, 1.0, 2.5])
def test_truncated_latents_are_distributed_as_a_truncated_normal(limit: float):
    drawn = sample_latents(0, 500, 40)
    found = truncated(drawn, limit)
    assert found.dtype == np.float32 and np.abs(found).max() <= limit
    # The order is kept, number by number; 20,000 numbers of another distribution would have a p-value near 0.
    np.testing.assert_array_equal(np.sign(found), np.sign(drawn))
    assert (np.diff(found.ravel()[np.argsort(drawn.ravel())]) >= 0).all()
    assert kstest(found.ravel(), truncnorm(-limit, limit).cdf).pvalue > 0.01


def test_a_limit_beyond_all_numbers_changes_next_to_nothing():
    drawn = sample_latents(0, 500, 40)
    np.testing.assert_allclose(truncated(drawn, 8.0), drawn, atol=1e-6)  # float32 of numbers up to 5
    np.testing.assert_array_equal(truncated(drawn, float("inf")), drawn)
    assert truncated(drawn, None) is drawn
    assert np.isfinite(truncated(np.array([[-40.0, 40.0]], np.float32), 1.0)).all()


@pytest.mark.parametrize("limit", [0.3, 2.5, float("inf")])
def test_truncated_categorical_latents_take_their_likeliest_category(limit: float):
    drawn = sample_latents(0, 500, 40)
    found = truncated(drawn, limit, categorical=2)
    others = slice(2 * CATEGORIES, None)
    np.testing.assert_array_equal(found[:, others], truncated(drawn, limit)[:, others])
    for first in (0, CATEGORIES):
        before, after = (each[:, first : first + CATEGORIES] for each in (drawn, found))
        np.testing.assert_array_equal(after.argmax(1), before.argmax(1))
        # The generator's softmax of them, in float32, gives the category all but a rounding.
        shares = softmax(SHARPNESS * after, axis=1)
        np.testing.assert_allclose(shares.max(1), 1, rtol=2e-7)
    np.testing.assert_array_equal(truncated(drawn, None, categorical=2), drawn)


@pytest.mark.parametrize(
    "generator, latent_size, number", [("dcgan-deep", 64, 4), ("dcgan-deep", 20, 2), ("dcgan", 64, 0), ("own", 64, 0)]
)
def test_truncation_follows_the_categorical_latents_of_the_generator(generator, latent_size, number):
    config = Config().with_options(generator=generator, latent_size=latent_size)
    assert config.categorical_latents == number
    (made,) = inputs_of([config], LatentSource(3, truncation=0.5), 4, ())
    np.testing.assert_array_equal(made.latents, truncated(sample_latents(3, 4, latent_size), 0.5, number))


def test_a_walk_goes_through_categories_where_it_is_truncated():
    path = list(LatentSource(seeds=(5, 9), truncation=2.0).walk(4, 20, categorical=2))
    np.testing.assert_allclose(path[0], truncated(sample_latents(5, 1, 20), 2.0, 2), rtol=1e-6)  # float32
    np.testing.assert_allclose(path[2], truncated(sample_latents(9, 1, 20), 2.0, 2), rtol=1e-6)


def test_a_walk_between_seeds_goes_through_them_in_their_order():
    path = list(LatentSource(seeds=(5, 9, 2), truncation=1.5).walk(12, 16))
    for place, seed in enumerate((5, 9, 2)):
        expected = truncated(sample_latents(seed, 1, 16), 1.5)
        np.testing.assert_allclose(path[4 * place], expected, rtol=1e-6)
    assert {part.shape for part in path} == {(1, 16)}


@pytest.mark.parametrize("frames", [8, 32, 50])
def test_a_walk_is_closed_and_takes_even_steps(frames):
    path = np.stack(list(LatentSource(5).walk(frames, 16)))
    assert path.shape == (frames, WALK_IMAGES, 16) and path.dtype == np.float32
    stops = max(2, round(frames / FRAMES_PER_LATENT))
    latents = sample_latents(5, stops * WALK_IMAGES, 16).reshape(stops, WALK_IMAGES, 16)
    np.testing.assert_allclose(path[0], latents[0], rtol=1e-6)
    if frames % stops == 0:
        for i, stop in enumerate(latents):
            np.testing.assert_allclose(path[i * frames // stops], stop, rtol=1e-6)
    # No step, the one back to the start included, is longer than its share of the way between two normals.
    lengths = np.linalg.norm(np.roll(path, -1, axis=0) - path, axis=2)
    longest = np.linalg.norm(latents[:, None] - latents[None], axis=3).max()
    assert lengths.max() < 2 * longest * stops / frames and lengths.min() > 0


def test_slerp_stays_on_the_sphere_and_moves_by_equal_angles():
    ends = np.random.default_rng(0).standard_normal((2, 50, 8))
    start, end = ends / np.linalg.norm(ends, axis=2, keepdims=True) * 3
    whole = np.arccos((start * end).sum(1) / 9)
    for fraction in (0.0, 0.25, 0.5, 0.9, 1.0):
        point = slerp(start, end, fraction).astype(np.float64)
        np.testing.assert_allclose(np.linalg.norm(point, axis=1), 3, rtol=1e-6)
        turned = np.arccos(np.clip((start * point).sum(1) / 9, -1, 1))
        np.testing.assert_allclose(turned, fraction * whole, atol=2e-3)


def test_slerp_between_parallel_vectors_is_straight_and_finite():
    start = np.array([[1.0, 2.0], [1.0, 0.0]])
    np.testing.assert_allclose(slerp(start, start, 0.3), start, rtol=1e-6)
    np.testing.assert_allclose(slerp(start, 3 * start, 0.5), 2 * start, rtol=1e-6)


def test_blends_lead_from_each_class_to_the_next_in_equal_steps():
    found = blends((2, 0, 1), 5, 4)
    assert found.shape == (10, 4) and found.dtype == np.float32
    np.testing.assert_array_equal(found[0], [0, 0, 1, 0])
    np.testing.assert_array_equal(found[1], [0.25, 0, 0.75, 0])
    np.testing.assert_array_equal(found[4], found[5])
    np.testing.assert_array_equal(found[7], [0.5, 0.5, 0, 0])
    np.testing.assert_array_equal(found[9], [0, 1, 0, 0])
    np.testing.assert_array_equal(found.sum(1), np.ones(10, np.float32))


def test_what_is_no_blend_is_refused():
    for class_ids, count, message in (
        ((1,), 5, "classes: found 1, expected two or more to blend"),
        ((0, 4), 5, "classes: found 4, expected numbers from 0 to 3"),
        ((-1, 0), 5, "classes: found -1, expected numbers from 0 to 3"),
        ((0, 1), 1, "count: found 1, expected a number from 2"),
    ):
        with pytest.raises(UserError) as raised:
            blends(class_ids, count, 4)
        assert str(raised.value) == message
