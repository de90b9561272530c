"""The name of the processor, which stands beside every measured number."""

import platform
import re
from pathlib import Path


def processor() -> str:
    """Return the model name of the processor."""
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        named = re.search(r"^model name\s*:\s*(.+)$", listing.read_text(), re.MULTILINE)
        if named:
            return named[1].strip()
    return platform.processor() or platform.machine()
