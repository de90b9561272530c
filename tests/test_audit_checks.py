"""Each check of an audit by value: what is planted is found, what is beside it is not."""

from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
import scipy.fft
from PIL import Image

from gan_shared.data.audit import Audit, audit, classes, duplicates, features, patches, pixels
from gan_shared.data.audit.findings import Finding, blocks, excess, shrunk

SIDE = 24


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return grey images of bars, uint8 (count, 24, 24, 1), and their classes: lying, standing, slanting."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    rows, columns = np.mgrid[:SIDE, :SIDE]
    images = np.empty((count, SIDE, SIDE, 1), np.uint8)
    for number, label in enumerate(labels):
        across = (rows, columns, (rows + columns) / 2)[label]
        bar = np.abs(across - generator.uniform(7, 17)) < generator.uniform(1.5, 4)
        texture = generator.integers(-8, 9, (SIDE, SIDE))
        shade = generator.uniform(0, 60) + generator.uniform(0, 1) * rows + generator.uniform(0, 1) * columns
        images[number, :, :, 0] = (shade + bar * generator.uniform(80, 140) + texture).clip(0, 255)
    return images, labels.astype(np.int64)


def of(kind: str, found: Audit | list[Finding]) -> list[int]:
    """Return the images that have a finding of a kind."""
    findings = found.findings if isinstance(found, Audit) else found
    return [each.image for each in findings if each.kind == kind]


def as_jpeg(image: np.ndarray) -> np.ndarray:
    """Return a grey image as a JPEG file gives it back."""
    stream = BytesIO()
    Image.fromarray(image[:, :, 0]).save(stream, "JPEG", quality=90)
    return np.asarray(Image.open(stream))[:, :, None]


def test_the_same_pixels_are_found_and_one_other_pixel_is_none():
    images, _ = drawn(30)
    images[20], images[25], images[7] = images[3], images[3], images[3]
    images[7, 0, 0] ^= 1
    found = duplicates.duplicates(duplicates.first_copies(images))
    assert [(each.image, each.related) for each in found] == [(20, 3), (25, 3)]


def test_two_hundred_identical_pictures_in_two_classes_are_reported():
    images, labels = drawn(600)
    images[:200] = images[0]
    labels[:200] = np.arange(200) % 2
    found = audit(images, labels)
    assert of("contradicting-labels", found) == list(range(200))
    assert of("duplicate", found) == list(range(1, 200))
    assert {each.note for each in found.findings if each.kind == "contradicting-labels"} == {
        "200 identical images in 2 classes"
    }
    for each in found.findings:
        if each.kind == "contradicting-labels":
            assert each.related is not None and labels[each.related] != labels[each.image]
    assert of("contradicting-labels", audit(images, None)) == []


@pytest.mark.parametrize("way", ["hash", "neighbours"])
def test_near_duplicates_are_found_by_either_way_alone(way: str, monkeypatch: pytest.MonkeyPatch):
    images, _ = drawn(60)
    images[50] = as_jpeg(images[4])
    images[51] = images[5] // 2  # darker
    images[52] = np.roll(images[6], 3, 0)  # another place: another picture
    if way == "hash":
        monkeypatch.setattr(duplicates, "MAX_COMPARED", 0)
    else:
        monkeypatch.setattr(duplicates, "hash_pairs", lambda hashes: np.zeros((0, 2), np.int64))
    pairs, similarity = duplicates.near_pairs(images, np.arange(60))
    assert pairs.tolist() == [[4, 50], [5, 51]]
    expected = [np.corrcoef(images[a].ravel(), images[b].ravel())[0, 1] for a, b in pairs]
    np.testing.assert_allclose(similarity, expected, atol=1e-5)
    found = duplicates.near_duplicates(pairs, similarity)
    assert [(each.image, each.related) for each in found] == [(50, 4), (51, 5)]


def test_near_duplicates_of_other_classes_contradict_each_other():
    labels, first = np.array([0, 1, 1, 1]), np.arange(4)
    pairs, similarity = np.array([[0, 1], [2, 3]]), np.array([0.995, 0.999], np.float32)
    found = duplicates.contradictions(labels, first, pairs, similarity)
    assert [(each.image, each.related) for each in found] == [(0, 1), (1, 0)]


def test_a_near_duplicate_stands_beside_the_one_that_it_resembles_most():
    pairs, similarity = np.array([[0, 3], [1, 3], [2, 3]]), np.array([0.995, 0.999, 0.997], np.float32)
    (found,) = duplicates.near_duplicates(pairs, similarity)
    assert (found.image, found.related) == (3, 1) and found.score == pytest.approx(0.999)


def test_the_perceptual_hash_is_the_signs_of_low_frequencies():
    images, _ = drawn(5)
    for image, code in zip(images, duplicates.perceptual_hash(images), strict=True):
        low = np.asarray(scipy.fft.dctn(image[:, :, 0].astype(float), norm="ortho"))[:8, :8].ravel()
        low[0] = 0
        bits = [int(code) >> place & 1 for place in range(64)]
        assert bits == (low > np.median(low)).astype(int).tolist()


def test_hashes_that_differ_in_few_bits_are_paired_and_their_number_is_bounded():
    generator = np.random.default_rng(0)
    hashes = generator.integers(0, 2**64, 500, np.uint64)
    hashes[499] = hashes[10] ^ np.uint64(1 << 62 | 1 << 40 | 1)
    assert {tuple(sorted(pair)) for pair in duplicates.hash_pairs(hashes).tolist()} == {(10, 499)}
    assert len(duplicates.hash_pairs(np.zeros(1000, np.uint64))) <= 1000 * duplicates.WINDOW * len(duplicates.TURNS)


def test_constant_images_are_those_in_which_nothing_is_seen():
    images, _ = drawn(12)
    images[3], images[4], images[5] = 200, 0, 90
    images[5, ::2] += 3  # a deviation of 1.5 grey levels
    images[6, :, :, 0] = 90
    images[6, ::2] += 6  # of 3
    assert of("constant", pixels.constant(pixels.PixelStatistics(images))) == [3, 4, 5]


def test_constant_images_are_not_compared_with_each_other():
    images, _ = drawn(12)
    faint = np.arange(SIDE, dtype=np.uint8)[None, :, None] // 8
    images[3], images[7] = 90 + faint, 40 + faint
    found = audit(images)
    assert of("constant", found) == [3, 7] and of("near-duplicate", found) == []


@pytest.mark.parametrize("deviation", [5.0, 20.0])
def test_the_noise_level_is_the_deviation_of_noise_on_a_slope(deviation: float):
    slope = np.arange(64, dtype=np.float32)[None, :, None] + np.arange(64, dtype=np.float32)
    noise = np.random.default_rng(0).normal(0, deviation, (4, 64, 64)).astype(np.float32)
    np.testing.assert_allclose(pixels.noise_level(slope + noise), deviation, rtol=0.1)
    np.testing.assert_array_equal(pixels.noise_level(slope), 0)


def test_noise_is_found_inside_a_frame_and_texture_is_not():
    images, _ = drawn(60)
    images[7] = np.random.default_rng(1).integers(0, 256, images[7].shape)
    images[8, :, : SIDE // 3] = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE // 3, 1))  # in a part only
    framed = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    assert pixels.varied_part(framed) == (slice(4, 28), slice(4, 28))
    for some in (images, framed):
        assert of("noise", pixels.noise(pixels.PixelStatistics(some))) == [7]


def test_a_set_of_texture_is_no_set_of_noise():
    images = np.random.default_rng(0).integers(0, 256, (50, SIDE, SIDE, 1), np.uint8)
    assert of("noise", pixels.noise(pixels.PixelStatistics(images))) == []


@pytest.mark.parametrize("way", [Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.NEAREST])
def test_enlarged_images_are_found(way: Image.Resampling):
    images, _ = drawn(40)
    for number, side in ((5, 8), (6, 16)):  # threefold, and half as much again
        small = Image.fromarray(images[number, :, :, 0]).resize((side, side), Image.Resampling.BOX)
        images[number, :, :, 0] = np.asarray(small.resize((SIDE, SIDE), way))
    images[7] = 100
    found = pixels.enlarged(pixels.PixelStatistics(images))
    assert of("enlarged", found) == [5]
    assert found[0].note.startswith("repeated" if way == Image.Resampling.NEAREST else "no detail")


def test_the_cosine_transform_is_scipys():
    rows = np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32)
    expected = np.asarray(scipy.fft.dct(rows, norm="ortho"))
    np.testing.assert_allclose(rows @ pixels.cosines(12).T, expected, atol=1e-5)
    np.testing.assert_array_equal(pixels.cosines(12, 4), pixels.cosines(12)[:4])


@pytest.mark.parametrize("solid", [False, True])
def test_a_patch_at_one_place_is_found_with_its_images(solid: bool):
    images, _ = drawn(400)
    chosen = np.arange(50, 90)
    pattern = np.random.default_rng(3).integers(0, 2, (4, 4, 1)) * 255
    images[chosen, 19:23, 2:6] = 255 if solid else pattern
    found = patches.repeated_patches(images)
    assert len(found) == 1
    assert found[0].images.tolist() == chosen.tolist()
    assert found[0].box == (19, 2, 23, 6)
    framed = patches.repeated_patches(np.pad(images, ((0, 0), (3, 0), (5, 1), (0, 0))))
    assert [each.box for each in framed] == [(22, 7, 26, 11)]
    assert [each.image for each in patches.patch_findings(found)] == chosen.tolist()
    assert "in 40 images" in patches.patch_findings(found)[0].note


def test_a_patch_in_few_images_or_at_any_place_is_none():
    images, _ = drawn(400)
    pattern = np.random.default_rng(3).integers(0, 2, (4, 4, 1)) * 255
    images[: patches.MIN_IMAGES - 1, 0:4, 0:4] = pattern
    for number in range(100, 180):
        images[number, number % 20 : number % 20 + 4, 2:6] = pattern
    assert patches.repeated_patches(images) == []


def test_black_borders_and_frames_are_no_patches():
    images, _ = drawn(200)
    images[:, :5] = 0
    assert patches.repeated_patches(images) == []
    assert patches.repeated_patches(np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))) == []


def test_a_patch_of_large_images_is_found_where_it_is():
    images = np.random.default_rng(0).integers(0, 256, (60, 128, 128, 3), np.uint8)
    images[:30, 100:110, 100:110] = (255, 0, 0)
    (found,) = patches.repeated_patches(images)
    assert found.images.tolist() == list(range(30))
    top, left, bottom, right = found.box
    assert 98 <= top <= 102 and 98 <= left <= 102 and 108 <= bottom <= 112 and 108 <= right <= 112


def test_flipped_labels_are_found_and_their_class_is_named():
    images, labels = drawn(300)
    labels[30] = 1  # was 0
    labels[61] = 2  # was 1
    found = classes.mislabelled(features.patch_features(images), labels, ["lying", "standing", "slanting"])
    assert [(each.image, each.note) for each in found] == [(30, "looks like lying"), (61, "looks like standing")]


@pytest.mark.parametrize("size", [19, 20])
def test_classes_that_are_too_small_are_neither_checked_nor_looked_like(size: int):
    labels = np.repeat([0, 1, 2], [100, 100, size])
    given = np.eye(3, dtype=np.float32)[labels] + np.random.default_rng(0).normal(0, 0.05, (len(labels), 3))
    given[0] = (0, 0, 1)  # of class 0, like class 2
    given[-1] = (0, 1, 0)  # of class 2, like class 1
    found = [(each.image, each.note) for each in classes.mislabelled(given, labels, ["0", "1", "2"])]
    assert found == ([] if size < 20 else [(0, "looks like 2"), (219, "looks like 1")])
    assert classes.mislabelled(given[:119], np.repeat([0, 1], [100, 19]), ["0", "1"]) == []


def test_predictions_come_from_ridge_regression_on_other_parts_with_the_best_penalty():
    generator = np.random.default_rng(0)
    points, labels = generator.normal(size=(60, 12)).astype(np.float32), generator.integers(0, 3, 60)
    points[:, 0] += labels
    scaled = np.concatenate([(points - points.mean(0)) / points.std(0), np.ones((60, 1))], 1)
    fold = np.random.default_rng(0).permutation(60) % classes.FOLDS
    expected, errors = [], []
    for penalty in classes.PENALTIES:
        root, values = np.sqrt(penalty * 60) * np.eye(13), np.zeros((60, 3))
        for part in range(classes.FOLDS):
            kept = fold != part
            targets = np.concatenate([np.eye(3)[labels[kept]], np.zeros((13, 3))])
            weights = np.linalg.lstsq(np.concatenate([scaled[kept], root]), targets, rcond=None)[0]
            values[fold == part] = scaled[fold == part] @ weights
        expected.append(values)
        errors.append(((values - np.eye(3)[labels]) ** 2).mean())
    assert np.argmin(errors) > 0  # not the first that is tried
    np.testing.assert_allclose(classes.held_out_predictions(points, labels), expected[np.argmin(errors)], atol=1e-4)


def test_a_picture_of_something_else_is_an_outlier_of_its_class_and_of_a_set_without_labels():
    images, labels = drawn(600)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    images[100, :, :, 0] = 200 * ((rows // 3 + columns // 3) % 2)  # a chess board
    described = features.patch_features(images)
    for groups in (labels, np.zeros(600, np.int64)):
        found = classes.outliers(described, groups)
        assert max(found, key=lambda each: each.score).image == 100
        assert len(found) < 30


def test_the_robust_distance_is_that_of_the_bulk():
    generator = np.random.default_rng(0)
    points = generator.normal(size=(4000, 3)) * (1, 2, 3)
    points[:400] = generator.normal(size=(400, 3)) + 30  # a tenth, all at one place
    distance = classes.robust_distance(points)
    true = (points**2 / np.array([1, 4, 9])).sum(1)
    ratio = distance[400:] / true[400:]
    # The nearest three quarters vary less than all: one factor, which the comparison with the median takes out.
    assert np.quantile(ratio, 0.95) / np.quantile(ratio, 0.05) < 1.4
    assert distance[:400].min() > distance[400:].max()


def test_balance_names_empty_small_and_tiny_classes():
    labels = np.repeat([0, 1, 2, 4], [500, 500, 25, 3])
    lines = classes.balance(labels, ["a", "b", "c", "d", "e"])
    assert lines == [
        "1 class without images: d",
        "2 classes with less than 10% of the median class: c, e",
        "1 class of less than 20 images, not compared by features: e",
    ]
    assert classes.balance(np.repeat([0, 1], 50), ["a", "b"]) == []


@pytest.mark.parametrize(("total", "count"), [(1000, 5), (300, 1), (3, 4), (1, 4)])
def test_nearest_neighbours_are_those_of_all_distances(total: int, count: int):
    points = np.random.default_rng(0).normal(size=(total, 6)).astype(np.float32)
    distance = ((points[:, None] - points) ** 2).sum(2)
    np.fill_diagonal(distance, np.inf)
    expected = np.argsort(distance, 1)[:, : min(count, total - 1)]
    np.testing.assert_array_equal(features.nearest(points, count), expected)


def test_components_are_those_of_largest_variance():
    points = (np.random.default_rng(0).normal(size=(500, 5)) * (5, 4, 3, 2, 1)).astype(np.float32)
    expected = np.linalg.svd(points - points.mean(0), full_matrices=False)
    np.testing.assert_allclose(
        np.abs(features.components(points, 2)), np.abs(expected[0][:, :2] * expected[1][:2]), atol=1e-3
    )


def test_shrunk_averages_and_blocks_cover_a_set():
    images = np.arange(2 * 9 * 8, dtype=np.uint8).reshape(2, 9, 8, 1)
    small = shrunk(images, 4)
    assert small.shape == (2, 3, 2, 1)  # by 3, and the last two columns are cut off
    assert small[1, 2, 1, 0] == images[1, 6:9, 3:6, 0].mean()
    many = np.zeros((5000, 32, 32, 1), np.uint8)
    parts = [part for part, _ in blocks(many)]
    assert parts[0].start == 0 and parts[-1].stop == 5000 and len(parts) == 3
    assert all(one.stop == other.start for one, other in pairwise(parts))


def test_excess_is_in_deviations_of_normal_scores():
    scores = np.random.default_rng(0).normal(7, 2, 100_000)
    np.testing.assert_allclose(excess(scores), (scores - 7) / 2, atol=0.1)
    np.testing.assert_array_equal(excess(np.array([1.0, 1, 1])), 0)


def test_equal_sets_have_equal_audits():
    images, labels = drawn(120)
    images[40] = images[3]
    one, other = audit(images, labels), audit(images.copy(), labels.copy())
    assert one.findings == other.findings and one.warnings == other.warnings
    assert one.findings == sorted(one.findings, key=lambda each: (list(one.counts()).index(each.kind), each.image))
    assert one.counts()["duplicate"] == 1 and one.indices("duplicate") == {40}


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_sets_are_audited(count: int, channels: int):
    images = np.repeat(drawn(count)[0], channels, 3)
    assert audit(images, np.zeros(count, np.int64)).counts()["duplicate"] == 0
    assert audit(np.zeros_like(images)).counts()["constant"] == count


def test_features_that_are_given_take_the_place_of_the_pixels():
    images, labels = drawn(90)
    given = np.eye(3, dtype=np.float32)[labels] + np.random.default_rng(0).normal(0, 0.05, (90, 3))
    given[8] = given[9]  # 8 is of class 2, 9 of class 0
    assert of("mislabelled", audit(images, labels, features=given)) == [8]


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((3, 9, 9), np.uint8), None, "images: found uint8"),
        (np.zeros((3, 9, 9, 1)), None, "images: found float64"),
        (np.zeros((3, 7, 9, 1), np.uint8), None, "at least 8 pixels"),
        (np.zeros((3, 9, 9, 1), np.uint8), np.zeros(2, np.int64), "labels: found 2"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(images: np.ndarray, labels: np.ndarray | None, words: str):
    with pytest.raises(ValueError, match=words):
        audit(images, labels)
