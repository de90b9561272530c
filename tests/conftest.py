"""What the tests of one backend share: a cache of decoded data of their own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gan_shared.data.cache import root
from gan_shared.data.downloads import complete
from gan_shared.data.named import MNIST

# Where the user keeps downloads, before the tests have a cache of their own.
USERS_CACHE = os.environ.get("TWIN_GAN_CACHE", "")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the user's cache out of the tests; one folder per process, so that mnist-5k is decoded once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWIN_GAN_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def all_of_mnist(cache: Path) -> None:
    """Give the tests the files of MNIST in the user's cache; a test that needs them is skipped where there are none."""
    package, splits = MNIST.package, (MNIST.training, MNIST.test)
    assert package is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWIN_GAN_CACHE", USERS_CACHE)
        users = root() / "downloads" / "mnist"
    ways = ([package.name], package.files, [name for split in splits for name in split.files])
    names = next((names for names in ways if complete(users, names)), None)
    if names is None:
        pytest.skip(f"MNIST is not in {users}: {package.command} there")
    own = cache / "downloads" / "mnist"
    own.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(users / name, own / name)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give one test an empty cache."""
    monkeypatch.setenv("TWIN_GAN_CACHE", str(tmp_path / "fresh"))
    return tmp_path / "fresh"
