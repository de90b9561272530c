"""Who may import whom (DESIGN, law 2), in processes where what is forbidden cannot be imported."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# Packages of each framework, and of its twin here.
FORBIDDEN = {
    "gan_torch": ("jax", "jaxlib", "flax", "optax", "gan_jax"),
    "gan_jax": ("torch", "torchvision", "gan_torch"),
    "gan_shared": ("torch", "torchvision", "jax", "jaxlib", "flax", "optax", "gan_torch", "gan_jax"),
}

# Runs before anything else in the subprocess. Other packages may try a forbidden one and do without it.
BLOCK = """
import sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in FORBIDDEN:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Wall())
"""
# The last line of every script: the wall held.
HELD = """
reached = FORBIDDEN & {name.partition(".")[0] for name in sys.modules}
assert not reached, reached
"""
WALK = """
import importlib, pkgutil, gan_shared
names = [module.name for module in pkgutil.walk_packages(gan_shared.__path__, "gan_shared.")]
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


def script(package: str, body: str, wall: bool) -> str:
    forbidden = f"FORBIDDEN = set({FORBIDDEN[package]!r})\n"
    return forbidden + (BLOCK if wall else "import sys\n") + body + HELD


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        timeout=240,
    )


@pytest.mark.parametrize("wall", [False, True], ids=["open", "blocked"])
def test_no_module_of_gan_shared_imports_a_framework(wall):
    done = python(script("gan_shared", WALK, wall))
    assert done.returncode == 0, done.stderr
    walked = done.stdout.split()
    assert {"gan_shared.cli", "gan_shared.train", "gan_shared.data.batches"} <= set(walked)
    sources = {path.stem for path in Path(__file__).parents[1].joinpath("gan_shared").glob("[a-z]*.py")}
    assert {name.rpartition(".")[2] for name in walked} >= sources


@pytest.mark.parametrize("twin", ["gan_torch", "gan_jax"])
def test_a_backend_trains_resumes_samples_and_loads_without_the_other(twin, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16), np.uint8)
    np.save(tmp_path / "images.npy", images)
    # The resumed run and the samples take what the first run compiled; PyTorch does not look.
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    done = python(script(twin, USE.format(twin=twin), wall=True), str(tmp_path), **compiled)
    assert done.returncode == 0, done.stderr


def test_the_wall_blocks():
    done = python(script("gan_torch", "import gan_jax.backend\n", wall=True))
    assert done.returncode == 1 and "is blocked" in done.stderr
