"""float64 in JAX for every test here, one thread for torch, and one cache of compiled steps for all workers."""

from collections.abc import Iterator

import jax
import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def compilation_cache(request: pytest.FixtureRequest) -> None:
    """Share compiled steps between the worker processes and between runs: compiling is most of the time."""
    jax.config.update("jax_compilation_cache_dir", str(request.config.cache.mkdir("jax")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    jax.config.update("jax_enable_x64", True)
    torch.set_num_threads(1)
    yield
    jax.config.update("jax_enable_x64", False)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the longest tests, so that no worker is left alone with one at the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path.name not in ("test_trajectories.py", "test_step.py"))
