"""What the tests of one backend share: a cache of decoded data of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the user's cache out of the tests; one folder per process, so that mnist-5k is decoded once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWIN_GAN_CACHE", str(folder))
        yield folder


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give one test an empty cache."""
    monkeypatch.setenv("TWIN_GAN_CACHE", str(tmp_path / "fresh"))
    return tmp_path / "fresh"
