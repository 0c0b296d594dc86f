"""Take docs/page.png and docs/strip.png, pictures of the page in a real browser: python docs/page.py."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent
sys.path.append(str(DOCS.parent / "tests"))

from conftest import FLAGS  # noqa: E402
from service import serving  # noqa: E402
from test_page import SEVEN, draw, expect, expect_sentence  # noqa: E402


def main() -> None:
    """Draw a 7 on the page of a service of its own, and take the pictures once `concat` is seen at work."""
    with serving() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(
            viewport={"width": 980, "height": 760},  # and as much below
            device_scale_factor=2,
            reduced_motion="reduce",
        )
        page.goto(address)
        draw(page, SEVEN)
        expect_sentence(page, 7, 5, 12)
        expect(page.locator("#strip .sums .best .tick")).to_have_text("12")  # asked once the pen is up
        page.locator("#strip [value=concat]").check()
        page.screenshot(path=DOCS / "page.png", full_page=True)
        page.locator("#work").screenshot(path=DOCS / "strip.png")  # which the tour shows


if __name__ == "__main__":
    main()
