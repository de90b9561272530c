"""Augmentations of both backends against each other, NumPy, torch's grid_sample and torchvision, in float64."""

import itertools
from functools import cache, partial

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF

import gan_torch.augment
from gan_shared.option_groups import AUGMENTATIONS
from parity_tests.cases import TWINS, in_both
from parity_tests.pair import assert_close

pytestmark = pytest.mark.fast

# Coordinates of up to 28 pixels, wrong in the last place, times differences of neighbours, cubed; two digits to spare.
TOLERANCE = 1e-11
ALL = tuple(AUGMENTATIONS)
FIRST = dict(zip(ALL, np.cumsum([0, *AUGMENTATIONS.values()]), strict=False))
PROBABILITY = 0.5
LARGEST = 1 - 2**-53

# Not square, so that an exchange of height and width shows; both eighths are rounded.
HEIGHT, WIDTH = 20, 28


@cache
def augmentation(twin, names):
    """A backend's ``augment`` with its names; one function, so that JAX compiles it once for each shape."""
    return partial(twin.module("augment").augment, names)


def apply(twin, name, images, uniforms):
    return twin.value(twin.module("augment").AUGMENTATIONS[name], images, uniforms)


def augment(twin, names, images, uniforms, probability):
    return twin.value(augmentation(twin, names), images, uniforms, np.asarray(probability))


def pictures(batch, height, width, channels, seed=0):
    """Normal images with a block of exact zeros inside; at an edge they would hide what wrongly comes in."""
    images = np.random.default_rng(seed).standard_normal((batch, height, width, channels))
    images[:, height // 4 : height // 2, width // 4 : width // 2] = 0
    return images


def random_uniforms(batch, seed=1):
    return np.random.default_rng(seed).random((batch, sum(AUGMENTATIONS.values())))


def difficult_uniforms():
    """Rows of one value, among them whole turns of 90 degrees; random rows; a gate at and one above one half."""
    uniforms = random_uniforms(8)
    for row, value in enumerate((0.0, 0.25, 0.5, 0.75, LARGEST)):
        uniforms[row] = value
    gates = list(FIRST.values())
    uniforms[:5, gates] = 0.0
    uniforms[6, gates] = PROBABILITY
    uniforms[7, gates[1:]] = 0.9
    return uniforms


@in_both
def test_the_table_holds_the_names_of_the_options(twin):
    assert tuple(twin.module("augment").AUGMENTATIONS) == ALL


# One after the other they take as long to compile as all others here: one size is enough.
CASES = [*(((name,), size) for name in ALL for size in ((16, 3), (28, 1))), (ALL, (28, 3))]


@pytest.mark.parametrize(("names", "size"), CASES, ids=lambda part: "-".join(map(str, part)))
def test_twins_agree_to_the_second_derivative(names, size):
    side, channels = size
    values = pictures(8, side, side, channels), difficult_uniforms(), np.array(PROBABILITY)
    theirs, ours = (twin.second_gradients(augmentation(twin, names), *values) for twin in TWINS.values())
    for what, mine, other in zip(("y", "dx", "ddx"), ours, theirs, strict=True):
        assert_close(mine, other, TOLERANCE, what)


# A gate decides.


@in_both
def test_probability_zero_returns_the_same_bits(twin):
    images = pictures(4, 16, 16, 3)
    images[0, 0] = -0.0
    for uniforms in (random_uniforms(4), np.zeros((4, sum(AUGMENTATIONS.values())))):
        assert augment(twin, ALL[::-1], images, uniforms, np.array(0.0)).tobytes() == images.tobytes()


@in_both
def test_no_names_need_no_uniforms(twin):
    images = pictures(2, 16, 16, 1)
    assert augment(twin, (), images, np.zeros((2, 0)), np.array(1.0)).tobytes() == images.tobytes()


@in_both
@pytest.mark.parametrize("name", ALL)
def test_gate_opens_below_the_probability_only(twin, name):
    images, uniforms = pictures(4, 16, 16, 3), random_uniforms(4)
    uniforms[:, FIRST[name] + 1 :] = 0.2
    gates = FIRST[name]
    uniforms[:, gates] = [0.0, np.nextafter(PROBABILITY, 0), PROBABILITY, LARGEST]
    for probability, expected in ((PROBABILITY, [True, True, False, False]), (1.0, [True] * 4)):
        result = augment(twin, (name,), images, uniforms, np.array(probability))
        changed = [a.tobytes() != b.tobytes() for a, b in zip(result, images, strict=True)]
        assert changed == expected


@in_both
def test_gates_are_compared_in_the_type_of_the_uniforms(twin):
    images = pictures(2, 16, 16, 1).astype(np.float32)
    uniforms = np.full((2, sum(AUGMENTATIONS.values())), 0.1, np.float32)
    just_above = np.array(np.float64(np.float32(0.1)) + 1e-9)
    assert uniforms[0, 0] < just_above, "as float64, the gate would open"
    assert augment(twin, ("brightness",), images, uniforms, just_above).tobytes() == images.tobytes()


@in_both
def test_each_name_reads_its_own_columns_and_the_table_gives_the_order(twin):
    images, uniforms = pictures(4, 16, 16, 3), random_uniforms(4)
    probability = np.array(1.0)
    for name, count in AUGMENTATIONS.items():
        others = random_uniforms(4, seed=2)
        others[:, FIRST[name] : FIRST[name] + count] = uniforms[:, FIRST[name] : FIRST[name] + count]
        alone = augment(twin, (name,), images, uniforms, probability)
        np.testing.assert_array_equal(augment(twin, (name,), images, others, probability), alone)
    chain = images
    for name in ALL:
        chain = augment(twin, (name,), chain, uniforms, probability)
    # The compiler may contract products and sums across augmentations: a few units in the last place.
    assert_close(augment(twin, ALL[::-1], images, uniforms, probability), chain, 1e-14, "chain")


@in_both
def test_mistaken_columns_are_refused(twin):
    with pytest.raises(AssertionError):
        augment(twin, ("contrast",), pictures(2, 16, 16, 1), random_uniforms(2)[:, :-1], np.array(1.0))


# Each augmentation against something else.


def every_place(height_count, width_count):
    """Uniforms for the middle of each of the choices of two axes, and for the first and the last number of each."""
    axes = [
        [(k, (k + 0.5) / count) for k in range(count)] + [(0, 0.0), (count - 1, LARGEST)]
        for count in (height_count, width_count)
    ]
    pairs = list(itertools.product(*axes))
    return [(down[0], right[0]) for down, right in pairs], np.array([(down[1], right[1]) for down, right in pairs])


@in_both
def test_flip_against_numpy(twin):
    images = pictures(4, HEIGHT, WIDTH, 3)
    result = apply(twin, "flip", images, np.array([[0.0], [np.nextafter(0.5, 0)], [0.5], [LARGEST]]))
    np.testing.assert_array_equal(result, np.concatenate([np.flip(images[:2], 2), images[2:]]))


def eighth(size):
    """One eighth of ``size``; a half, as in 2.5 of 20 and 3.5 of 28, goes up."""
    return int(size / 8 + 0.5)


@in_both
def test_crop_against_numpy_pad(twin):
    down, right = eighth(HEIGHT), eighth(WIDTH)
    places, uniforms = every_place(2 * down + 1, 2 * right + 1)
    image = pictures(1, HEIGHT, WIDTH, 2)[0]
    padded = np.pad(image, ((down, down), (right, right), (0, 0)), mode="reflect")
    result = apply(twin, "crop", np.stack([image] * len(places)), uniforms)
    for cut, (top, left) in zip(result, places, strict=True):
        np.testing.assert_array_equal(cut, padded[top : top + HEIGHT, left : left + WIDTH])


@in_both
def test_translate_against_a_loop(twin):
    places, uniforms = every_place(2 * eighth(HEIGHT) + 1, 2 * eighth(WIDTH) + 1)
    image = pictures(1, HEIGHT, WIDTH, 2)[0]
    result = apply(twin, "translate", np.stack([image] * len(places)), uniforms)
    for moved, (top, left) in zip(result, places, strict=True):
        up, leftward = top - eighth(HEIGHT), left - eighth(WIDTH)
        expected = np.zeros_like(image)
        for row, column in itertools.product(range(HEIGHT), range(WIDTH)):
            if 0 <= row - up < HEIGHT and 0 <= column - leftward < WIDTH:
                expected[row - up, column - leftward] = image[row, column]
        np.testing.assert_array_equal(moved, expected)


def grid_sample(images, matrices):
    """Sample with torch where ``matrices``, (batch, 2, 2) in pixels about the centre, take each (x, y)."""
    pixels = np.array([WIDTH, HEIGHT])
    theta = np.zeros((len(images), 2, 3))
    theta[:, :, :2] = matrices * pixels[None, None, :] / pixels[None, :, None]
    tensor = torch.tensor(images).permute(0, 3, 1, 2)
    grid = F.affine_grid(torch.tensor(theta), list(tensor.shape), align_corners=False)
    return F.grid_sample(tensor, grid, padding_mode="zeros", align_corners=False).permute(0, 2, 3, 1).numpy()


def torchvision_affine(images, degrees, factors):
    """Turn counter-clockwise and enlarge about the centre with torchvision."""
    tensors = torch.tensor(images).permute(0, 3, 1, 2)
    bilinear = TF.InterpolationMode.BILINEAR
    changed = [
        # affine turns clockwise, rotate counter-clockwise.
        TF.affine(TF.rotate(image, degree, bilinear), 0.0, [0, 0], factor, [0.0, 0.0], bilinear)
        for image, degree, factor in zip(tensors, degrees, factors, strict=True)
    ]
    return torch.stack(changed).permute(0, 2, 3, 1).numpy()


# Rounding of coordinates (a grid from -1 to 1 in the third parties) times differences of neighbouring pixels.
SAMPLING = 1e-13
QUARTERS = (0.0, 0.25, 0.5, 0.75)
TURNS = np.array([*QUARTERS, 0.1, 0.375, 0.61, 0.9, LARGEST])


@in_both
def test_rotate_against_torch_and_torchvision(twin):
    images = pictures(len(TURNS), HEIGHT, WIDTH, 2)
    angles = np.pi * (2 * TURNS - 1)
    result = apply(twin, "rotate", images, TURNS[:, None])
    matrices = np.array([[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]]).transpose(2, 0, 1)
    assert_close(result, grid_sample(images, matrices), SAMPLING, "grid_sample")
    expected = torchvision_affine(images, np.degrees(angles), np.ones(len(angles)))
    assert_close(result, expected, SAMPLING, "torchvision")


@in_both
def test_quarter_turns_are_counter_clockwise(twin):
    images = pictures(len(QUARTERS), 16, 16, 2)
    result = apply(twin, "rotate", images, np.array(QUARTERS)[:, None])
    expected = np.stack([np.rot90(image, turns) for image, turns in zip(images, (-2, -1, 0, 1), strict=True)])
    assert_close(result, expected, SAMPLING, "quarter turns")
    np.testing.assert_array_equal(result[2], images[2])


@in_both
def test_scale_against_torch_and_torchvision(twin):
    uniforms = np.array([0.0, 0.25, 0.5, 0.66, LARGEST])
    images = pictures(len(uniforms), HEIGHT, WIDTH, 2)
    factors = 2 ** (uniforms - 0.5)
    result = apply(twin, "scale", images, uniforms[:, None])
    matrices = np.eye(2) / factors[:, None, None]
    assert_close(result, grid_sample(images, matrices), SAMPLING, "grid_sample")
    assert_close(result, torchvision_affine(images, np.zeros(5), factors), SAMPLING, "torchvision")
    np.testing.assert_array_equal(result[2], images[2])


@in_both
# 7 of 14 has its centre on one of 14 places; 8 of 16 between two of them, or at an end: 17.
@pytest.mark.parametrize(("height", "width", "centres"), [(14, 16, (14, 17)), (16, 14, (17, 14))])
def test_cutout_area(twin, height, width, centres):
    places, uniforms = every_place(*centres)
    result = apply(twin, "cutout", np.ones((len(places), height, width, 1)), uniforms)
    for hole, (down, right) in zip(result == 0, places, strict=True):
        inside = []
        for size, centre in ((height, down), (width, right)):
            middle = centre + (0.5 if size == 14 else 0.0)  # in pixels from the edge
            inside.append(np.abs(np.arange(size) + 0.5 - middle) < size / 4)
        expected = np.outer(*inside)
        assert hole.sum() == expected.sum()
        np.testing.assert_array_equal(hole[:, :, 0], expected)
    assert (result == 0).sum((1, 2, 3)).max() == height * width // 4
    assert set(np.unique(result)) == {0.0, 1.0}


# A mean of up to 1,680 numbers, added in another order, and two products.
COLOUR = 1e-14


@in_both
def test_colours_against_numpy(twin):
    images = pictures(4, HEIGHT, WIDTH, 3) + 0.3
    u = np.array([0.0, 0.3, 0.5, LARGEST]).reshape(4, 1)
    factor = u[:, :, None, None]
    grey, middle = images.mean(3, keepdims=True), images.mean((1, 2, 3), keepdims=True)
    assert_close(apply(twin, "brightness", images, u), images + factor - 0.5, COLOUR, "brightness")
    saturated = 2 * factor * images + (1 - 2 * factor) * grey
    assert_close(apply(twin, "saturation", images, u), saturated, COLOUR, "saturation")
    contrasted = (0.5 + factor) * images + (0.5 - factor) * middle
    assert_close(apply(twin, "contrast", images, u), contrasted, COLOUR, "contrast")


@in_both
def test_contrast_against_torchvision(twin):
    # One channel: with three, torchvision's mean is of a weighted grey. Far from 0 and 1, where it clamps.
    images = np.random.default_rng(3).uniform(0.4, 0.6, (4, HEIGHT, WIDTH, 1))
    u = np.array([[0.0], [0.3], [0.5], [0.9]])
    tensors = torch.tensor(images).permute(0, 3, 1, 2)
    expected = [TF.adjust_contrast(image, value + 0.5) for image, value in zip(tensors, u[:, 0], strict=True)]
    assert_close(
        apply(twin, "contrast", images, u), torch.stack(expected).permute(0, 2, 3, 1).numpy(), COLOUR, "contrast"
    )


@pytest.mark.parametrize(("names", "probability"), [(ALL, 0.0), (ALL, 1.0), (("saturation",), 1.0)])
def test_bfloat16_images(names, probability):
    exact = torch.tensor(pictures(4, 16, 16, 3)).bfloat16()
    uniforms = random_uniforms(4).astype(np.float32)
    exact_images, exact_uniforms = exact.double().numpy(), uniforms.astype(np.float64)
    wide = augment(TWINS["torch"], names, exact_images, exact_uniforms, probability)
    ours = gan_torch.augment.augment(
        names, exact.permute(0, 3, 1, 2), torch.tensor(uniforms), torch.tensor(probability)
    ).permute(0, 2, 3, 1)
    bfloat16 = np.asarray(jnp.asarray(exact.float().numpy(), jnp.bfloat16))
    theirs = TWINS["jax"].value(
        augmentation(TWINS["jax"], names), bfloat16, uniforms, np.asarray(probability, np.float32)
    )
    assert ours.dtype == torch.bfloat16 and theirs.dtype == jnp.bfloat16
    # One rounding to 8 bits at the end, none for what no gate lets through; before it, float32 coordinates up to 16.
    rounding, coordinates = (2**-8, 1e-4) if probability else (0.0, 0.0)
    for result in (ours.double().numpy(), np.asarray(theirs, np.float64)):
        np.testing.assert_allclose(result, wide, rtol=rounding, atol=coordinates)
