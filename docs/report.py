"""Take docs/report.png, the top of a run's report in a real browser: python docs/report.py RUN."""

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent


def main() -> None:
    """Take the picture of the report of a run, down to the worst errors."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": 1040, "height": 900})
        page.goto((Path(sys.argv[1]) / "report.html").resolve().as_uri())
        end = page.locator("#answers .pictures").evaluate("shown => shown.getBoundingClientRect().bottom")
        shown = {"x": 0, "y": 0, "width": 1040, "height": end + 24}
        page.screenshot(path=DOCS / "report.png", full_page=True, clip=shown)
    Image.open(DOCS / "report.png").quantize(256).save(DOCS / "report.png", optimize=True)


if __name__ == "__main__":
    main()
