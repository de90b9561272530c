"""Who may import whom (docs/design.md, law 2), in processes where what is forbidden cannot be imported."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.frameworks import FRAMEWORKS, needs

# What stands on both backends, and what is not installed.
ABOVE = ("gan_parity", "gan_app", "parity_tests", "benchmarks", "tests")

# Packages of each framework, and of its twin here.
FORBIDDEN = {
    "gan_torch": ("jax", "jaxlib", "flax", "optax", "gan_jax", *ABOVE),
    "gan_jax": ("torch", "torchvision", "gan_torch", *ABOVE),
    "gan_shared": ("torch", "torchvision", "jax", "jaxlib", "flax", "optax", "gan_torch", "gan_jax", *ABOVE),
    "gan_parity": tuple(name for name in ABOVE if name != "gan_parity"),
    # It imports a backend when somebody asks for images of it.
    "gan_app": ("torch", "jax", "gan_torch", "gan_jax", *(name for name in ABOVE if name != "gan_app")),
}

# Runs before anything else in the subprocess. Other packages may try a forbidden one and do without it.
BLOCK = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in FORBIDDEN:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
"""
# The last line of every script: the import is still blocked.
HELD = """
reached = FORBIDDEN & {name.partition(".")[0] for name in sys.modules}
assert not reached, reached
"""
WALK = """
import importlib, pkgutil
package = importlib.import_module({package!r})
names = [module.name for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    importlib.import_module(name)
print(" ".join(names))
"""
USE = """
from pathlib import Path
from {twin} import GAN, sample, train
root = Path(sys.argv[1])
run = str(root / "run")
size = "--resolution 16 --width 0.0625 --latent-size 8 --batch-size 8 --log-every 1 --device cpu".split()
begin = ["--data", str(root / "images.npy"), *size, "--run-dir", run, "--steps", "2"]
assert train.main(begin) == 0
assert train.main(["--resume", "--run-dir", run, "--steps", "3"]) == 0
assert sample.main([run, "--num-images", "2", "--out", str(root / "grid.png")]) == 0
assert (root / "grid.png").stat().st_size > 0
gan = GAN.load(run)
gan.save(root / "gan")
assert (GAN.load(root / "gan").sample(2) == gan.sample(2)).all()
"""


def script(package: str, body: str, blocked: bool) -> str:
    forbidden = f"FORBIDDEN = set({FORBIDDEN[package]!r})\n"
    return forbidden + (BLOCK if blocked else "import sys\n") + body + HELD


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=240,
    )


def walked(package: str, blocked: bool) -> set[str]:
    """Return the modules of a package, imported one by one without what it must not import."""
    done = python(script(package, WALK.format(package=package), blocked))
    assert done.returncode == 0, done.stderr
    names = set(done.stdout.split())
    sources = {path.stem for path in Path(__file__).parents[1].joinpath(package).glob("[a-z]*.py")}
    assert {name.rpartition(".")[2] for name in names} >= sources
    return names


@pytest.mark.parametrize("blocked", [False, True], ids=["open", "blocked"])
def test_no_module_of_gan_shared_imports_a_framework(blocked):
    assert {"gan_shared.cli", "gan_shared.train", "gan_shared.data.batches"} <= walked("gan_shared", blocked)


def test_gan_parity_imports_nothing_of_the_tests_or_the_benchmarks():
    assert {"gan_parity.locate", "gan_parity.traps", "gan_parity.report"} <= walked("gan_parity", blocked=True)


@pytest.mark.skipif(find_spec("gradio") is None, reason="the extra app is not installed")
def test_the_application_imports_no_framework_before_one_is_asked_for():
    assert {"gan_app.server", "gan_app.page", "gan_app.pages.generate"} <= walked("gan_app", blocked=True)


WITHOUT = """
import sys
from importlib.util import find_spec

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.mark.parametrize("absent", ["torch", "jax"])
def test_gan_parity_without_a_framework_is_one_line_that_names_the_extra(absent, tmp_path):
    done = python(WITHOUT.format(absent=(absent,)) + "import gan_parity.locate")
    line = f'gan_parity: {absent} not installed, expected both frameworks: pip install "twin-gan[parity]"'
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-1] == f"ImportError: {line}"
    # As a command, where Python imports the site's modules first.
    (tmp_path / "sitecustomize.py").write_text(WITHOUT.format(absent=(absent,)))
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    command = [sys.executable, "-m", "gan_parity.locate", "dcgan"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, timeout=60)
    assert (done.returncode, done.stderr) == (2, f"error: {line}\n")


@pytest.mark.parametrize("twin", [pytest.param(f"gan_{name}", marks=needs(name)) for name in FRAMEWORKS])
def test_a_backend_trains_resumes_samples_and_loads_without_the_other(twin, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16), np.uint8)
    np.save(tmp_path / "images.npy", images)
    done = python(script(twin, USE.format(twin=twin), blocked=True), str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_a_blocked_framework_cannot_be_imported():
    done = python(script("gan_torch", "import gan_jax.backend\n", blocked=True))
    assert done.returncode == 1 and "is blocked" in done.stderr
