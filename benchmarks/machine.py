"""What every result records of its circumstances: the machine, the versions, the date."""

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from gan_shared.machine import processor

PACKAGES = ("twin-gan", "numpy", "torch", "jax", "jaxlib", "flax", "optax")


def describe() -> dict[str, str | int | None]:
    """Return processor, cores that this process may use, memory in bytes, operating system, Python and the date."""
    affinity = getattr(os, "sched_getaffinity", None)
    names = getattr(os, "sysconf_names", {})
    known = "SC_PHYS_PAGES" in names and "SC_PAGE_SIZE" in names
    return {
        "processor": processor(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def slug(name: str) -> str:
    """Return a device's name as part of a file name: lower case, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", " ", name.lower())).strip("-")


@contextmanager
def cache_in(folder: str) -> Iterator[None]:
    """Let this process decode data into ``folder`` for the length of a block."""
    before = os.environ.get("TWIN_GAN_CACHE")
    os.environ["TWIN_GAN_CACHE"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["TWIN_GAN_CACHE"]
        else:
            os.environ["TWIN_GAN_CACHE"] = before
