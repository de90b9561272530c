"""Holding out a share of one's own images: chosen by content alone, and kept apart from training to the end."""

import json
import shutil
import tracemalloc
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_shared import checkpoint
from gan_shared.data import collection, load, load_held_out
from gan_shared.data.holdout import is_held_out
from gan_shared.data.source import CHUNK_BYTES
from gan_shared.errors import UserError
from tests.fixtures import ANY, TRAIN_MAINS
from tests.image_files import cifar_files, idx, noise, refused_held_out, saved, tarred

COUNT = 40
SHARE = 0.3


@pytest.fixture
def pictures(tmp_path: Path, fresh: Path) -> Path:
    """Forty pictures in two classes, and an empty cache."""
    for number, pixels in enumerate(noise(COUNT, 16, 16, 3)):
        path = tmp_path / "pictures" / ("even", "odd")[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "pictures"


def below(content: bytes, holdout: float) -> bool:
    """The definition, in exact numbers."""
    return Fraction(int.from_bytes(sha256(content).digest()[:8], "big"), 2**64) < Fraction(holdout)


def parts(data: object, resolution: int = 16, holdout: float = SHARE) -> tuple[set[bytes], set[bytes]]:
    """The images that are trained on, and those that are held out."""
    both = (loaded(str(data), resolution, None, holdout).images for loaded in (load, load_held_out))
    trained, held_out = ({image.tobytes() for image in images} for images in both)
    return trained, held_out


# --- which images -------------------------------------------------------------------------------------------


def test_a_picture_is_held_out_by_the_hash_of_its_file(pictures: Path):
    files = sorted(pictures.rglob("*.png"))
    chosen = np.array([below(path.read_bytes(), SHARE) for path in files])
    assert 0 < chosen.sum() < COUNT
    whole = load(str(pictures), 16, 3)
    for loaded, rows in ((load, ~chosen), (load_held_out, chosen)):
        dataset = loaded(str(pictures), 16, 3, SHARE)
        np.testing.assert_array_equal(dataset.images, whole.images[rows])
        assert dataset.labels is not None and whole.labels is not None and whole.keys is not None
        np.testing.assert_array_equal(dataset.labels, whole.labels[rows])
        np.testing.assert_array_equal(dataset.keys, whole.keys[rows])
        assert dataset.class_names == ("even", "odd")
        assert dataset.name == str(pictures)


def test_an_image_of_an_array_is_held_out_by_the_hash_of_its_pixels_whatever_its_file(tmp_path: Path, fresh: Path):
    images, labels = noise(COUNT, 32, 32, 3), np.arange(COUNT, dtype=np.uint8) % 10
    chosen = np.array([below(image.tobytes(), SHARE) for image in images])
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    (tmp_path / "images-idx4-ubyte").write_bytes(idx(images))
    sources = {
        saved(tmp_path / "a.npy", images): False,
        saved(tmp_path / "fortran.npy", np.asfortranarray(images)): False,
        tmp_path / "a.npz": True,
        tmp_path / "images-idx4-ubyte": False,
        tarred(tmp_path / "a.tar.gz", cifar_files(labels, images)): True,
    }
    for path, labelled in sources.items():
        for loaded, rows in ((load, ~chosen), (load_held_out, chosen)):
            dataset = loaded(str(path), 32, None, SHARE)
            np.testing.assert_array_equal(dataset.images, images[rows])
            assert (dataset.labels is not None) == labelled == bool(dataset.class_names)
            if dataset.labels is not None:
                np.testing.assert_array_equal(dataset.labels, labels[rows])
                assert len(dataset.class_names) == 10


@pytest.mark.parametrize(("resolution", "channels"), [(8, None), (32, 3), (16, 1)])
def test_the_parts_do_not_depend_on_resolution_or_colours(pictures: Path, resolution: int, channels: int | None):
    for loaded in (load, load_held_out):
        first, other = loaded(str(pictures), 16, 3, SHARE), loaded(str(pictures), resolution, channels, SHARE)
        np.testing.assert_array_equal(other.keys, first.keys)
        np.testing.assert_array_equal(other.labels, first.labels)


def test_a_border_of_zeros_does_not_change_the_parts(tmp_path: Path, fresh: Path):
    path = saved(tmp_path / "a.npy", noise(COUNT, 28, 28))
    held_out = [load_held_out(str(path), size, None, SHARE).images for size in (28, 32)]
    np.testing.assert_array_equal(held_out[0], held_out[1][:, 2:-2, 2:-2])


def test_a_copy_lies_on_the_side_of_its_original(pictures: Path):
    before = parts(pictures)
    for path in sorted(pictures.rglob("*.png")):
        shutil.copy(path, path.with_name(f"copy-of-{path.name}"))
    assert parts(pictures) == before and not before[0] & before[1]
    assert len(load(str(pictures), 16, None, SHARE).images) == 2 * len(before[0])


def test_pictures_that_are_added_or_removed_move_no_other(pictures: Path):
    trained, held_out = parts(pictures)
    for number, pixels in enumerate(np.random.default_rng(1).integers(0, 256, (COUNT, 16, 16, 3), np.uint8)):
        Image.fromarray(pixels).save(pictures / "even" / f"new-{number:02}.png")
    more_trained, more_held_out = parts(pictures)
    assert trained < more_trained and held_out < more_held_out
    shutil.rmtree(pictures / "odd")
    fewer_trained, fewer_held_out = parts(pictures)
    assert fewer_trained < more_trained and fewer_held_out < more_held_out


def test_a_larger_share_holds_out_what_a_smaller_one_did(pictures: Path):
    held_out = [parts(pictures, holdout=share)[1] for share in (0.1, 0.3, 0.7)]
    assert held_out[0] < held_out[1] < held_out[2]


def test_the_share_is_that_of_the_images():
    keys = np.frombuffer(np.random.default_rng(2).bytes(8 * 10_000), np.uint64)
    for share in (0.01, 0.1, 0.5):
        # Five standard deviations of a binomial distribution.
        assert abs(is_held_out(keys, share).mean() - share) < 5 * (share * (1 - share) / 10_000) ** 0.5


@pytest.mark.parametrize("share", [0.0, 5e-324, 2**-64, 2**-53, 0.1, 0.5, 1 - 2**-53])
def test_the_limit_is_exact(share: float):
    limit = Fraction(share) * 2**64
    keys = [key for key in {0, 1, 2**64 - 1, *(int(limit) + step for step in (-1, 0, 1))} if 0 <= key < 2**64]
    expected = [key < limit for key in keys]
    assert is_held_out(np.array(keys, np.uint64), share).tolist() == expected


# --- fingerprints and the cache -----------------------------------------------------------------------------


def test_a_part_has_the_fingerprint_of_its_images_and_labels(pictures: Path):
    whole = load(str(pictures), 16, None)
    seen = {whole.fingerprint}
    for loaded in (load, load_held_out):
        dataset = loaded(str(pictures), 16, None, SHARE)
        assert dataset.labels is not None
        expected = sha256(json.dumps(dataset.images.shape).encode() + dataset.images.tobytes())
        expected.update(f"[{len(dataset.labels)}]".encode() + dataset.labels.tobytes())
        assert dataset.fingerprint == expected.hexdigest()
        seen.add(dataset.fingerprint)
    assert len(seen) == 3
    assert load(str(pictures), 16, None, 0.0).fingerprint == whole.fingerprint


def test_parts_are_copied_from_the_whole_set_and_mapped(pictures: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch):
    load(str(pictures), 16, None)
    monkeypatch.setattr(collection, "read_resized", lambda *_: pytest.fail("decoded again"))
    for loaded in (load, load_held_out, load, load_held_out):
        assert isinstance(loaded(str(pictures), 16, None, SHARE).images, np.memmap)
    assert len(list((fresh / "decoded").iterdir())) == 3
    load(str(pictures), 16, None, 0.5)
    assert len(list((fresh / "decoded").iterdir())) == 4


def test_a_picture_that_changes_is_held_out_by_what_it_is_now(pictures: Path):
    before = parts(pictures)
    inverted = ~noise(COUNT, 16, 16, 3)
    for number, pixels in enumerate(inverted):
        Image.fromarray(pixels).save(pictures / ("even", "odd")[number % 2] / f"{number:02}.png")
    after = parts(pictures)
    assert after[0] | after[1] == {image.tobytes() for image in inverted}
    assert not (before[0] | before[1]) & (after[0] | after[1])


def test_a_part_of_a_large_set_takes_the_memory_of_a_few_chunks(tmp_path: Path, fresh: Path):
    path = saved(tmp_path / "a.npy", np.random.default_rng(5).integers(0, 256, (8000, 64, 64), np.uint8))  # 33 MB
    load(str(path), 64, None)
    tracemalloc.start()
    try:
        trained = load(str(path), 64, None, 0.1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 7000 < len(trained.images) < 7400
    assert peak < 3 * CHUNK_BYTES + 10**6


# --- refusals -----------------------------------------------------------------------------------------------


NAMES = ["mnist-5k", "mnist", "fashion-mnist", "cifar10", "stacked-mnist", "stacked-mnist-60k"]


@pytest.mark.parametrize("name", NAMES)
def test_a_set_with_a_test_split_takes_no_holdout(fresh: Path, name: str):
    expected = f"holdout: found 0.1 beside data {name}, expected 0, as that set has a test split of its own"
    assert refused_held_out(name, 0.1) == expected
    with pytest.raises(UserError) as raised:
        load(name, 32, None, 0.1)
    assert str(raised.value) == expected
    assert not fresh.exists()


def test_held_out_images_of_a_path_without_a_holdout_are_refused_with_the_ways_on(pictures: Path, fresh: Path):
    assert refused_held_out(pictures) == (
        f"data: found no held-out images of {pictures}, as the holdout is 0, expected images that were not trained on; "
        "choices: train with --holdout, --real DATA"
    )
    assert not fresh.exists()


@pytest.mark.parametrize(("share", "kept", "other"), [(1e-9, "none", "larger"), (1 - 1e-9, "all", "smaller")])
def test_a_share_that_leaves_no_image_on_one_side_is_refused(pictures: Path, share: float, kept: str, other: str):
    expected = (
        f"holdout: found {share:g}, which keeps {kept} of the 40 images of {pictures} out of training, "
        f"expected a {other} share"
    )
    assert refused_held_out(pictures, share) == expected
    with pytest.raises(UserError) as raised:
        load(str(pictures), 16, None, share)
    assert str(raised.value) == expected


def test_grey_stacked_digits_are_refused_as_those_to_train_on(fresh: Path):
    with pytest.raises(UserError, match=r"^channels: found 1, expected 3 \(RGB\), as data stacked-mnist has"):
        load_held_out("stacked-mnist", 32, 1)
    assert not fresh.exists()


# --- runs ---------------------------------------------------------------------------------------------------

SIZE = ["--resolution", "16", "--width", "0.0625", "--latent-size", "8", "--batch-size", "8", "--device", "cpu"]


def train(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Train and return the line of error, empty where there is none."""
    status, message = TRAIN_MAINS[ANY]([*arguments]), capsys.readouterr().err
    assert (status == 0) == ("error: " not in message)
    return message.removeprefix("error: ").rstrip("\n") if status else ""


def test_a_run_is_trained_on_the_part_that_is_not_held_out(capsys, pictures: Path, tmp_path: Path):
    run, begin = tmp_path / "run", ["--data", str(pictures), *SIZE, "--run-dir", str(tmp_path / "run")]
    trained = load(str(pictures), 16, None, SHARE)
    few = str(len(trained.images) + 1)
    message = train(capsys, *begin, "--holdout", "0.3", "--batch-size", few)
    assert message.startswith(f"batch_size: found {few}, expected at most the {len(trained.images)} images of ")
    assert train(capsys, *begin, "--holdout", "0.3", "--steps", "1") == ""
    saved_run = checkpoint.load_newest(run)
    names = ["even", "odd"]
    assert saved_run.data == {"name": str(pictures), "fingerprint": trained.fingerprint, "class_names": names}
    assert saved_run.config.data.holdout == 0.3
    resume = ["--resume", "--run-dir", str(run), "--steps", "2"]
    for other in ("0.2", "0"):
        message = train(capsys, *resume, "--holdout", other)
        assert f"holdout (saved 0.3, now {float(other)})" in message and message.startswith(f"{run}: resumed with a")
    moved = shutil.copytree(pictures, tmp_path / "moved")
    assert train(capsys, *resume, "--data", str(moved)) == ""
    (next(moved.rglob("*.png"))).unlink()
    Image.new("RGB", (16, 16)).save(moved / "even" / "black.png")
    assert "data: found other images in" in train(capsys, *resume[:-1], "3", "--data", str(moved))


def test_a_run_of_a_named_set_refuses_a_holdout_before_it_begins(capsys, tmp_path: Path):
    message = train(capsys, *SIZE, "--run-dir", str(tmp_path / "run"), "--holdout", "0.1")
    assert message == "holdout: found 0.1 beside data mnist-5k, expected 0, as that set has a test split of its own"
    assert not (tmp_path / "run").exists()
