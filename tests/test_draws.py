"""Randomness is data (docs/design.md, law 5): streams that never overlap, draws that follow from their position."""

from itertools import product

import numpy as np
import pytest

from gan_shared import initial
from gan_shared.config import Config
from gan_shared.draws import SAMPLE_BLOCK, Stream, draw, generator, normals, sample_labels, sample_latents, uniforms
from gan_shared.initial import ONES, ZEROS, Initial
from gan_shared.option_groups import AUGMENTATIONS

pytestmark = pytest.mark.fast

CONFIG = Config().with_options(batch_size=6, latent_size=5, seed=3, augment=("flip",), augment_probability=0.5)
NORMAL = Initial("normal", gain=1.0)
# Neighbours in every word, the ends of the seeds, and steps whose upper half would be lost in 32 bits.
PLACES = list(product((0, 1, 2, 2**32, 2**63 - 1), (0, 1, 2, 3, 2**32, 2**40), Stream))
# Enough to run through the next thousand values of a counter word, were it the one that advances.
LONG = 4096


def words(bits: np.random.BitGenerator, count: int = LONG) -> np.ndarray:
    return bits.random_raw(count)


def test_seeds_steps_and_streams_never_give_the_same_word():
    drawn = [words(generator(*place).bit_generator) for place in PLACES]
    # Of 4e5 words of 64 bits two are alike by chance with a probability of 4e-9.
    assert len(np.unique(np.concatenate(drawn))) == len(PLACES) * LONG


@pytest.mark.parametrize("blocks", [2**32, 2**64 - 1, 2**64, 2**64 + 1, 2**127])
def test_no_draw_is_long_enough_to_reach_a_neighbour(blocks):
    begins = np.concatenate([words(generator(*place).bit_generator, 64) for place in PLACES])
    for place in PLACES[:24]:
        bits = generator(*place).bit_generator
        assert isinstance(bits, np.random.Philox)
        bits.advance(blocks)
        assert not np.isin(words(bits, 64), begins).any(), place


def test_latents_are_the_documented_counters_normals():
    """The position in the counter is a promise: a run that is resumed years later must draw the same."""
    bits = np.random.Philox(key=3, counter=[0, 0, 17, 1])
    expected = np.random.Generator(bits).standard_normal((2, 6, 5)).astype(np.float32)
    latents = draw(CONFIG, 17).latents
    assert latents.dtype == np.float32
    np.testing.assert_array_equal(latents, expected)
    second_block = np.random.Generator(np.random.Philox(key=3, counter=[0, 0, 1, 2]))
    row = second_block.standard_normal(5).astype(np.float32)
    np.testing.assert_array_equal(sample_latents(3, SAMPLE_BLOCK + 1, 5)[SAMPLE_BLOCK], row)


def test_stream_numbers_keep_their_meaning():
    assert (Stream.EPOCH_ORDER, Stream.LATENTS, Stream.SAMPLES) == (0, 1, 2)
    assert (Stream.INTERPOLATION, Stream.AUGMENT, Stream.STACK) == (3, 4, 5)
    assert (Stream.EVALUATION, Stream.REAL_IMAGES) == (6, 7)
    assert Stream.PROJECTION == 8
    assert len(Stream) == 9


@pytest.mark.parametrize("name", ["interpolation", "augment"])
def test_interpolation_and_augmentation_are_the_documented_counters_uniforms(name):
    stream, shape = {"interpolation": (3, (1, 6)), "augment": (4, (2, 3, 6, sum(AUGMENTATIONS.values())))}[name]
    bits = np.random.Philox(key=3, counter=[0, 0, 17, stream])
    expected = np.random.Generator(bits).random(shape, dtype=np.float32)
    drawn = getattr(draw(CONFIG, 17), name)
    assert drawn.dtype == np.float32
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize(("updates", "fresh", "count"), [(1, True, 2), (1, False, 1), (3, True, 4), (3, False, 3)])
def test_there_is_one_row_of_latents_per_forward_of_the_generator(updates, fresh, count):
    config = CONFIG.with_options(discriminator_updates=updates, fresh_latents=fresh)
    latents = draw(config, 0).latents
    assert latents.shape == (count, 6, 5)
    assert len(np.unique(latents)) == latents.size


@pytest.mark.parametrize("updates", [1, 3])
@pytest.mark.parametrize("fresh", [True, False])
def test_there_is_an_interpolation_per_discriminator_update_and_an_augmentation_per_update(updates, fresh):
    drawn = draw(CONFIG.with_options(discriminator_updates=updates, fresh_latents=fresh), 0)
    assert drawn.interpolation.shape == (updates, 6)
    # The generator's update augments too; reals, fakes and interpolates each have numbers of their own.
    assert drawn.augment.shape == (updates + 1, 3, 6, sum(AUGMENTATIONS.values()))
    # Single float32 uniforms may be alike by chance, all the numbers of two images never.
    rows = drawn.augment.reshape(-1, drawn.augment.shape[3])
    assert len(np.unique(rows, axis=0)) == (updates + 1) * 3 * 6


def test_without_augmentation_no_number_is_drawn_for_it():
    plain = CONFIG.with_options(augment=(), augment_probability=0.0)
    assert draw(plain, 5).augment.shape == (2, 3, 6, 0)
    np.testing.assert_array_equal(draw(plain, 5).interpolation, draw(CONFIG, 5).interpolation)
    np.testing.assert_array_equal(draw(plain, 5).latents, draw(CONFIG, 5).latents)


@pytest.mark.parametrize("named", [("crop",), ("flip", "cutout"), tuple(AUGMENTATIONS), tuple(AUGMENTATIONS)[::-1]])
def test_an_augmentations_numbers_do_not_depend_on_which_others_are_named(named):
    np.testing.assert_array_equal(draw(CONFIG.with_options(augment=named), 5).augment, draw(CONFIG, 5).augment)


@pytest.mark.parametrize("stream", [Stream.INTERPOLATION, Stream.AUGMENT])
def test_uniforms_fill_the_range_from_0_up_to_but_not_including_1(stream):
    values = uniforms(0, 0, stream, (200_000,)).astype(np.float64)
    assert values.min() >= 0 and values.max() < 1
    # The distance of the empirical distribution function from u: above 2 / sqrt(n) with a probability of 7e-4.
    rank = np.arange(1, len(values) + 1) / len(values)
    assert abs(np.sort(values) - rank).max() < 2 / len(values) ** 0.5


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_rows_of_all_processes_are_the_global_draws(processes):
    each = CONFIG.training.batch_size // processes
    rows = [slice(rank * each, (rank + 1) * each) for rank in range(processes)]
    parts = [draw(CONFIG, 5, part) for part in rows]
    whole = draw(CONFIG, 5)
    for name, axis in (("latents", 1), ("interpolation", 1), ("augment", 2)):
        joined = np.concatenate([getattr(part, name) for part in parts], axis)
        np.testing.assert_array_equal(joined, getattr(whole, name), name)


def test_draws_differ_between_steps_and_seeds_and_repeat_at_one_place():
    others = [draw(CONFIG, 6), draw(CONFIG.with_options(seed=4), 5), draw(CONFIG, 5, rollbacks=1)]
    here = draw(CONFIG, 5)
    for name in here._fields:
        values = getattr(here, name)
        np.testing.assert_array_equal(values, getattr(draw(CONFIG, 5), name))
        for other in others:
            # Of 2^24 uniforms in float32, the augmentation's 792 and 792 share 0.04 by chance.
            assert np.isin(values, getattr(other, name)).sum() <= 1, name


def test_precision_and_what_is_not_random_leave_the_draws_alone():
    other = CONFIG.with_options(precision="float64", loss="mse", width=0.5, device="cpu")
    for name, values in draw(CONFIG, 5)._asdict().items():
        np.testing.assert_array_equal(getattr(draw(other, 5), name), values)


def test_draws_are_standard_normals():
    values = normals(0, 0, Stream.LATENTS, (200_000,)).astype(np.float64)
    # Five standard errors of mean, variance and fourth moment: 1, sqrt(2) and sqrt(96) over sqrt(n).
    bound = 5 / len(values) ** 0.5
    assert abs(values.mean()) < bound
    assert abs((values**2).mean() - 1) < 2**0.5 * bound
    assert abs((values**4).mean() - 3) < 96**0.5 * bound


@pytest.mark.parametrize("count", [1, 2, SAMPLE_BLOCK - 1, SAMPLE_BLOCK, SAMPLE_BLOCK + 1, 3 * SAMPLE_BLOCK])
def test_a_sample_does_not_depend_on_how_many_are_asked_for(count):
    many = sample_latents(7, 4 * SAMPLE_BLOCK, 5)
    few = sample_latents(7, count, 5)
    assert few.shape == (count, 5) and few.dtype == np.float32
    np.testing.assert_array_equal(few, many[:count])


def test_samples_differ_from_each_other_from_other_seeds_and_from_training():
    samples = sample_latents(3, 3 * SAMPLE_BLOCK, 5)
    assert len(np.unique(samples)) == samples.size
    assert not np.isin(samples, sample_latents(4, 3 * SAMPLE_BLOCK, 5)).any()
    trained = np.concatenate([draw(CONFIG, step).latents.ravel() for step in range(10)])
    assert not np.isin(samples, trained).any()


@pytest.mark.parametrize(
    ("count", "choices", "labels"),
    [
        (5, (0, 1, 2), [0, 1, 2, 0, 1]),
        (2, (7, 3, 9), [7, 3]),
        (4, (6,), [6, 6, 6, 6]),
        (3, (999, 0, 10), [999, 0, 10]),
        (0, (1,), []),
    ],
)
def test_the_classes_of_samples_are_the_choices_in_turn(count, choices, labels):
    drawn = sample_labels(count, choices)
    assert drawn.dtype == np.int64 and drawn.shape == (count,)
    assert drawn.tolist() == labels


def test_an_initial_tensor_follows_from_seed_network_and_name():
    def drawn(seed=0, network="generator", name="stem.weight"):
        return initial.tensor(seed, network, name, (50,), NORMAL)

    np.testing.assert_array_equal(drawn(), drawn())
    others = [drawn(seed=1), drawn(network="discriminator"), drawn(name="stem.bias"), drawn(seed=2**63 - 1)]
    # Two boundaries of network and name that a careless join would confuse.
    others += [drawn(network="generator.stem", name="weight"), drawn(network="", name="generatorstem.weight")]
    for i, tensor in enumerate(others):
        rest = np.concatenate([drawn(), *others[:i]])
        assert not np.isin(tensor, rest).any(), i


def test_initial_tensors_do_not_depend_on_the_order_or_on_what_else_is_declared():
    declared = {f"layer.{i}.weight": ((3, i + 1), NORMAL) for i in range(5)}
    first = initial.tensors(0, "generator", declared)
    backwards = initial.tensors(0, "generator", dict(reversed(declared.items())))
    alone = initial.tensors(0, "generator", {"layer.3.weight": declared["layer.3.weight"]})
    for name, tensor in first.items():
        np.testing.assert_array_equal(tensor, backwards[name])
    np.testing.assert_array_equal(alone["layer.3.weight"], first["layer.3.weight"])


def test_initial_values_have_the_declared_distribution_type_and_shape():
    for constant, value in ((ZEROS, 0), (ONES, 1)):
        tensor = initial.tensor(0, "generator", "norm.bias", (2, 3), constant)
        assert tensor.dtype == np.float32 and tensor.shape == (2, 3) and (tensor == value).all()
    drawn = initial.tensor(0, "generator", "norm.weight", (100, 1000), Initial("normal", 0.02, 1.0))
    assert drawn.dtype == np.float32 and drawn.shape == (100, 1000)
    values = (drawn.astype(np.float64) - 1) / 0.02
    assert abs(values.mean()) < 5 / values.size**0.5 and abs(values.std() - 1) < 5 / (2 * values.size) ** 0.5


def test_initial_weights_never_share_words_with_the_draws(monkeypatch):
    drawn, plain = [], np.random.Philox

    class Recorder(np.random.Philox):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            drawn.append(words(plain(*arguments, **options)))

    monkeypatch.setattr(np.random, "Philox", Recorder)
    for seed, network, i in product((0, 1), ("generator", "discriminator"), range(10)):
        initial.tensor(seed, network, f"stages.{i}.weight", (1,), NORMAL)
    weights = len(drawn)
    for seed, step, stream in product((0, 1), range(10), Stream):
        normals(seed, step, stream, (1,))
    assert weights == 40 and len(drawn) == 40 + 20 * len(Stream)
    assert len(np.unique(np.concatenate(drawn))) == len(drawn) * LONG
