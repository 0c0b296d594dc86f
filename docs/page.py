"""Take docs/page.png, a picture of the page in a real browser: python docs/page.py."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent
sys.path.append(str(DOCS.parent / "tests"))

from conftest import FLAGS  # noqa: E402
from service import serving  # noqa: E402
from test_page import ONE, SEVEN, ZERO, draw, expect_sentence  # noqa: E402


def main() -> None:
    """Draw 170 on the page of a service of its own, and take the picture once it is answered."""
    with serving() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(
            viewport={"width": 980, "height": 760},
            device_scale_factor=2,
            reduced_motion="reduce",
            bypass_csp=True,  # for `wait_for_function`
        )
        page.goto(address)
        for i, points in enumerate((ONE, SEVEN, ZERO)):
            draw(page, [(0.5 + 0.3 * (i - 1) + (x - 0.5) / 2, 0.25 + y / 2) for x, y in points])
        page.wait_for_function("!question")  # page.js asks while it is drawn, and once it is
        expect_sentence(page, 170, 5, 175)
        page.screenshot(path=DOCS / "page.png")


if __name__ == "__main__":
    main()
