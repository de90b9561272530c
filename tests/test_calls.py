"""Steps several at a time, images by their indices, a profile: none of them changes a number."""

# Loops over steps run at least once, which pyright cannot know.
# pyright: reportPossiblyUnboundVariable=false

import gzip
import json

import numpy as np
import pytest

from gan_shared import checkpoint
from gan_shared.backend import StepValues
from gan_shared.config import Config
from gan_shared.data import Dataset
from gan_shared.data.batches import batch_at
from gan_shared.draws import draw
from gan_shared.hooks import Every, call_length
from gan_shared.schedules import schedule_values
from tests.fixtures import ANY, EACH
from tests.fixtures import TRAIN_MAINS as MAINS

SIZE = ["--resolution", "16", "--width", "0.0625", "--latent-size", "8", "--batch-size", "8", "--device", "cpu"]
NAMES = pytest.mark.parametrize("name", EACH)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Twenty random grey images, so that every epoch ends within a batch."""
    file = tmp_path_factory.mktemp("data") / "noise.npy"
    np.save(file, np.random.default_rng(3).integers(0, 256, (20, 16, 16, 1), np.uint8))
    return file


def train(name, run, data, *options):
    assert MAINS[name](["--data", str(data), *SIZE, "--run-dir", str(run), *options]) == 0
    newest = checkpoint.load_newest(run)
    return newest.step, {key: value.tobytes() for key, value in newest.tensors.items()}


def test_a_call_ends_where_a_hook_is_due():
    config = Config().with_options(steps=100, steps_per_call=8)
    hooks = [Every(n, print, at_end=True) for n in (20, None, 50, 33)]
    lengths, step = [], 0
    while step < 100:
        lengths.append(call_length(hooks, config, step))
        step += lengths[-1]
    # After 20, 33, 40, 50, 60, 66, 80, 99 and 100 steps.
    assert lengths == [8, 8, 4, 8, 5, 7, 8, 2, 8, 2, 6, 8, 6, 8, 8, 3, 1]
    assert call_length(hooks, config.with_options(steps=3), 0) == 3
    assert call_length([], config, 95) == 5 and call_length(hooks[1:2], config, 0) == 8


@NAMES
def test_steps_per_call_change_nothing(tmp_path, pictures, name):
    cadence = ["--steps", "11", "--log-every", "5", "--sample-every", "100", "--save-every", "8"]
    one = train(name, tmp_path / "one", pictures, *cadence)
    several = train(name, tmp_path / "several", pictures, *cadence, "--steps-per-call", "4")
    assert one == several
    lines = [(tmp_path / run / "scalars.jsonl").read_text().splitlines() for run in ("one", "several")]
    seen = [[json.loads(line) | {"images_per_second": 0} for line in each] for each in lines]
    assert seen[0] == seen[1] and [line["step"] for line in seen[0]] == [5, 8, 10, 11]


@NAMES
def test_a_run_goes_on_with_other_calls(tmp_path, pictures, name):
    whole = train(name, tmp_path / "whole", pictures, "--steps", "7")
    train(name, tmp_path / "half", pictures, "--steps", "4", "--steps-per-call", "4")
    more = ["--resume", "--run-dir", str(tmp_path / "half"), "--steps", "7", "--steps-per-call", "3"]
    assert MAINS[name]([*more, "--data-on", "device"]) == 0
    newest = checkpoint.load_newest(tmp_path / "half")
    assert (newest.step, {key: value.tobytes() for key, value in newest.tensors.items()}) == whole


@NAMES
@pytest.mark.parametrize("options", [[], ["--loss", "relativistic"]], ids=["bce", "relativistic"])
def test_data_on_the_device_is_the_same_data(tmp_path, pictures, name, options):
    runs = {
        place: train(name, tmp_path / place, pictures, "--steps", "4", "--data-on", place, *options)
        for place in ("host", "device")
    }
    assert runs["host"] == runs["device"]


@NAMES
def test_stacked_data_on_the_device_is_the_same_data(tmp_path, name):
    places = ("host", "device")
    runs = [train(name, tmp_path / place, "stacked-mnist", "--steps", "2", "--data-on", place) for place in places]
    assert runs[0] == runs[1]


@NAMES
def test_profiling_writes_three_calls_and_changes_nothing(capsys, tmp_path, pictures, name):
    plain = train(name, tmp_path / "plain", pictures, "--steps", "7")
    assert train(name, tmp_path / "profiled", pictures, "--steps", "7", "--profile") == plain
    folder = tmp_path / "profiled" / "profile"
    assert f"profile of three calls in {folder}" in capsys.readouterr().out
    patterns = {"torch": "*.pt.trace.json", "jax": "perfetto_trace.json.gz"}
    (file,) = folder.rglob(patterns[name])
    text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    events = [event for event in json.loads(text)["traceEvents"] if event.get("ph") == "X"]
    assert len(events) > 100 and all(event["dur"] >= 0 for event in events)


def test_a_run_too_short_for_a_profile_says_so(capsys, tmp_path, pictures):
    train(ANY, tmp_path / "run", pictures, "--steps", "2", "--profile")
    assert "no profile" in capsys.readouterr().out and not (tmp_path / "run" / "profile").exists()


@pytest.mark.jax
@pytest.mark.parametrize("every", [1, 2])
def test_a_scan_has_the_same_bits_for_any_number_of_steps(pictures, every):
    """What a GPU runs, run here: four steps as 4, as 2 and 2, and one by one."""
    import jax

    import gan_jax.backend

    small = Config().with_options(
        resolution=16, width=0.0625, latent_size=8, batch_size=8, channels=1, steps=4, device="cpu", data=str(pictures)
    )
    if every > 1:
        lazy = {"penalties": ("r1",), "gamma": 1.0, "penalty_every": every, "discriminator_norm": "none"}
        small = small.with_options(**lazy, precision="float64")
    backend = gan_jax.backend.Backend(small)
    scan = jax.jit(gan_jax.backend._make_scan(small, backend.components))

    def scanned(*given):
        with backend.precision_scope():
            return scan(*given)

    data = Dataset("noise", np.load(pictures), None, (), "noise")
    given = [
        backend._inputs(StepValues(batch_at(data, small, step), draw(small, step), schedule_values(small, step)))
        for step in range(4)
    ]
    ends = []
    for length in (1, 2, 4):
        state = backend.init()
        for first in range(0, 4, length):
            stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *given[first : first + length])
            state, scalars = scanned(state, *stacked, None)
        ends.append([value.tobytes() for value in backend.export(state).values()] + [float(scalars["generator_loss"])])
    assert ends[0] == ends[1] == ends[2]
    if every > 1:
        taken = backend.init()
        for step in range(4):
            values = StepValues(batch_at(data, small, step), draw(small, step), schedule_values(small, step))
            taken, _ = backend.steps(taken, [values])
        # XLA compiles what is in a scan to another order of sums, which Adam amplifies in four steps.
        for name, value in backend.export(taken).items():
            np.testing.assert_allclose(backend.export(state)[name], value, rtol=1e-6, atol=1e-9, err_msg=name)
