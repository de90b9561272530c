"""What several files of tests share: which backends can run here, and what they are called."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

# The commands wait for their framework until they need it, so that both can be imported everywhere.
import gan_jax.evaluate
import gan_jax.export
import gan_jax.sample
import gan_jax.train
import gan_torch.evaluate
import gan_torch.export
import gan_torch.sample
import gan_torch.train
from gan_shared.manifest import OWN_HASH, own_hash
from tests.frameworks import FRAMEWORKS, HERE, needs

TRAIN_MAINS: dict[str, Callable[..., int]] = {"torch": gan_torch.train.main, "jax": gan_jax.train.main}
SAMPLE_MAINS: dict[str, Callable[..., int]] = {"torch": gan_torch.sample.main, "jax": gan_jax.sample.main}
EVALUATE_MAINS: dict[str, Callable[..., int]] = {"torch": gan_torch.evaluate.main, "jax": gan_jax.evaluate.main}
EXPORT_MAINS: dict[str, Callable[..., int]] = {"torch": gan_torch.export.main, "jax": gan_jax.export.main}
# Parameters of a test that is run once for each backend.
EACH = tuple(pytest.param(name, marks=needs(name)) for name in FRAMEWORKS)
# The backend that runs what needs any of them: torch, which compiles nothing, where it is.
ANY = HERE[0] if HERE else FRAMEWORKS[0]


def edit_manifest(folder: Path, **changes: object) -> None:
    """Change fields of a checkpoint's manifest, and its hash of itself with them."""
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text()) | changes
    file.write_text(json.dumps(manifest | {OWN_HASH: own_hash(manifest)}))


def backend_class(name: str) -> Any:
    """Return the class of a backend; its framework is imported."""
    return import_module(f"gan_{name}.backend").Backend


def gan_class(name: str) -> Any:
    """Return the class GAN of a backend; its framework is imported."""
    return import_module(f"gan_{name}").GAN


def own_modules(name: str) -> Any:
    """Return the modules of one's own that tests give to a backend; its framework is imported."""
    return import_module(f"tests.modules_{name}")
