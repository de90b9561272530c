"""How often XLA compiles, counted by what it reports itself: traces would hide compilations (docs/design.md)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# Runs in a process of its own, so that nothing is compiled before the count begins.
COUNT = """
import json, sys
import jax

compiled = []

def record(event, seconds, **facts):
    if event == "/jax/core/compile/backend_compile_duration":
        compiled.append(facts.get("fun_name", "?"))

jax.monitoring.register_event_duration_secs_listener(record)

def taken():
    names = list(compiled)
    compiled.clear()
    return names
"""
# Every kind of input that a step gets: fresh, stepped and restored states, other schedule values, other data.
STEPS = """
import numpy as np
from gan_jax.backend import Backend
from gan_shared.backend import StepValues
from gan_shared.config import Config
from gan_shared.data.batches import batches
from gan_shared.data.dataset import Dataset
from gan_shared.draws import draw
from gan_shared.schedules import schedule_values

size = dict(width=0.0625, batch_size=8, latent_size=8, resolution=16, channels=1, num_classes=2, device="cpu", steps=9)
objective = dict(class_conditional=True, loss="relativistic", penalties=("gradient-penalty", "r1"))
# Every scheduled number changes in every step.
rates = dict(generator_learning_rate=(2e-4, 1e-4), discriminator_learning_rate=(2e-4, 1e-4), gamma=(1.0, 0.1))
decays = dict(generator_beta2=(0.9, 0.99), discriminator_beta2=(0.9, 0.99), ema_half_life_nimg=(0.0, 100.0))
adaptive = dict(augment_probability=(0.0, 0.5), augment_target=0.6, augment_adapt_nimg=100, burn_in_nimg=72)
config = Config().with_options(**size, **objective, **rates, **decays, **adaptive, augment=("flip", "cutout"))
images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 1), np.uint8)
labels = np.arange(20) % 2
backend = Backend(config)
state = backend.init()
taken()
counts, seen = [], set()
for step, batch in batches(Dataset("noise", images, labels, ("0", "1"), "0"), config, 0):
    wanted = schedule_values(config, step)
    assert not seen & set(wanted)
    seen |= set(wanted)
    if step % 3 == 1:
        changed = config.with_options(generator_learning_rate=1e-3, gamma=0.0, ema_half_life_nimg=0.0)
        wanted = schedule_values(changed, step)
    if step % 3 == 2:
        tensors = backend.export(state)
        state = backend.restore({name: np.array(value) for name, value in tensors.items()})
        taken()
    state, scalars = backend.steps(state, [StepValues(batch, draw(config, step), wanted)])
    counts.append(taken())
    float(scalars["generator_loss"])
    taken()
print(json.dumps(counts))
"""
RUNS = """
from gan_jax import train
run = sys.argv[2]
size = "--resolution 16 --width 0.0625 --latent-size 8 --batch-size 8 --device cpu".split()
every = "--log-every 1 --sample-every 2 --save-every 3".split()
assert train.main(["--data", sys.argv[1], *size, *every, "--run-dir", run, "--steps", "5"]) == 0
begun = taken()
assert train.main(["--resume", "--run-dir", run, "--steps", "9"]) == 0
print(json.dumps([begun, taken()]))
"""


LIBRARY = """
import numpy as np
from gan_jax import GAN
images = np.random.default_rng(0).integers(0, 256, (20, 16, 16), np.uint8)
gan = GAN(resolution=16, width=0.0625, latent_size=8, batch_size=8, log_every=1, device="cpu")
taken()
gan = gan.fit(images, steps=2)
gan.sample(3)
begun = taken()
gan = gan.fit(images, steps=2)
gan.sample(70, ema=False)
gan.sample(1, ema=True)
print(json.dumps([begun, taken()]))
"""

pytestmark = pytest.mark.jax


def counted(script: str, *arguments: str) -> list[list[str]]:
    """Run a script and return the names of what it compiled, as it reports them."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", COUNT + script, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_only_the_first_step_compiles_and_only_once():
    first, *later = counted(STEPS)
    assert first == ["jit(call)"]
    assert later == [[]] * 8


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[list[str]]:
    """What a run compiles, and what it compiles when it is resumed."""
    folder: Path = tmp_path_factory.mktemp("compilations")
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16), np.uint8)
    np.save(folder / "images.npy", images)
    return counted(RUNS, str(folder / "images.npy"), str(folder / "run"))


@pytest.mark.parametrize("resumed", [0, 1], ids=["begun", "resumed"])
@pytest.mark.parametrize("function", ["jit(call)", "jit(make_images)"])
def test_a_run_compiles_its_step_and_its_sampler_once(runs, resumed, function):
    assert runs[resumed].count(function) == 1


def test_a_gan_compiles_its_step_and_its_sampler_once():
    begun, later = counted(LIBRARY)
    assert begun.count("jit(call)") == begun.count("jit(make_images)") == 1
    assert not {"jit(call)", "jit(make_images)"} & set(later), later
