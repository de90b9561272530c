"""The README's library example runs as it is printed, in either backend; the options page is that of the code."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import EACH

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


def example() -> str:
    """Return the indented block under the heading of the Python API."""
    section = README.read_text(encoding="utf-8").split("## As a library", 1)[1].split("\n## ", 1)[0]
    lines = [line[4:] for line in section.splitlines() if line.startswith("    ") or not line]
    return "\n".join(lines).strip()


@pytest.mark.parametrize("name", EACH)
def test_the_library_example_runs(name, tmp_path):
    code = example()
    assert code.startswith("from gan_torch import GAN") and "or: from gan_jax import GAN" in code
    code = code.replace("from gan_torch import", f"from gan_{name} import", 1)
    code, shortened = re.subn(r"steps=\d+", "steps=3", code)  # the same lines, sooner
    assert shortened == 1
    code += "\nassert samples.shape == gan.sample(64).shape == (64, 32, 32, 1) and gan.steps_done == 3\n"
    code += "assert (samples == gan.sample(64)).all()\n"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_committed_options_page_has_the_declared_options():
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    tables = runpy.run_path(str(ROOT / "scripts" / "options_page.py"))["tables"]()
    assert f"\n\n{tables}\n\n" in page, "options have changed: run python scripts/options_page.py"
