"""float64 in JAX for every test here, one thread for torch, and all tests of a configuration one after the other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks import FRAMEWORKS, HERE

FOLDER = Path(__file__).parent
# Every test here compares the two.
collect_ignore_glob = [] if HERE == FRAMEWORKS else ["test_*.py"]


def pytest_report_header() -> str | None:
    """Print why nothing here is run."""
    missing = [name for name in FRAMEWORKS if name not in HERE]
    return f"parity_tests are left out: {' and '.join(missing)} is not installed" if missing else None


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    import jax
    import torch

    jax.config.update("jax_enable_x64", True)
    torch.set_num_threads(1)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let one worker run a configuration in all files, so that it is traced and compiled once; those come first.

    Workers begin with a piece of the list each, and one that is done takes over the end of another's. A process that is
    alone keeps the order of the files, in which the mutation matrix asks the quick tests before whole steps.
    """
    if HERE != FRAMEWORKS or not hasattr(config, "workerinput"):
        return
    from gan_parity.configurations import CONFIGS

    order = {name: place for place, name in enumerate(CONFIGS)}

    def place(item: Any) -> int:
        parameters: dict[str, Any] = (
            item.callspec.params if item.path.parent == FOLDER and hasattr(item, "callspec") else {}
        )
        return order.get(str(parameters.get("name")), len(order))

    items.sort(key=place)
