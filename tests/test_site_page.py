"""The folder of static files in a real browser, and its preparation of pictures beside Python's."""

import base64
import functools
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from drawing import PAGE, drawn, encoded, page_of, png
from numpy.random import Generator
from PIL import Image
from playwright import sync_api
from test_page import (
    ONE,
    SEVEN,
    ZERO,
    best,
    contradictory_image,
    draw,
    draw_number,
    expect,
    expect_contradiction,
    expect_no_contradiction,
    expect_sentence,
    see_the_networks_at_work,
)
from test_prepare import photo, shade, transparent, transparent_white, unchanged

from digitsum import mnist
from digitsum.prediction import Predictor
from digitsum.reading.imaging import read_picture
from digitsum.reading.strips import read_row
from digitsum.serving.site import write_site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ANSWER = """async ([picture, addend]) => {
  const bytes = Uint8Array.from(atob(picture), letter => letter.charCodeAt(0));
  const answer = await predict(new Blob([bytes]), addend);
  return JSON.parse(JSON.stringify(answer, (_, value) => ArrayBuffer.isView(value) ? [...value] : value));
}"""


def answer_of(page: "Page", picture: bytes, addend: int = 5) -> dict[str, Any]:
    """What the site says of a picture: what `Prediction.to_dict` does, and what the network sees."""
    answer: dict[str, Any] = page.evaluate(ANSWER, [base64.b64encode(picture).decode(), str(addend)])
    return answer


def seen_in(answer: dict[str, Any]) -> np.ndarray:
    seen = answer["seen"]
    return np.array(seen["pixels"]).reshape(seen["height"], seen["width"])


def assert_same(answer: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    """Assert that the site answers as the predictor does, but for probabilities that differ a little."""
    shown, wanted = dict(answer), expected | {"digits": list(expected["digits"])}
    assert shown.pop("seen").keys() == {"height", "width", "pixels"}
    pairs = [(shown, wanted), *zip(shown.pop("digits"), wanted.pop("digits"), strict=True)]
    for one, other in pairs:
        assert one.keys() == other.keys()
        for name, value in other.items():
            if "probabilit" in name and value is not None:
                assert one[name] == pytest.approx(value, abs=tolerance)
            else:
                assert one[name] == (list(value) if isinstance(value, tuple) else value)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Files:
    """A server of files that doesn't know the site, which lies in a sub-folder."""

    def __init__(self, folder: Path) -> None:
        handler = functools.partial(Quiet, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/sub/site/"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, onnxruntime_web: None) -> Path:
    folder = tmp_path_factory.mktemp("served")
    write_site(folder / "sub" / "site")
    write_site(folder / "sub" / "concat", "concat")
    return folder


@pytest.fixture(scope="module")
def files(folder: Path) -> Iterator[Files]:
    files = Files(folder)
    yield files
    files.stop()


@pytest.fixture(scope="module")
def page(files: Files, browser: "Browser") -> Iterator["Page"]:
    """One page for all tests, as loading the network takes a second; nothing may complain in it."""
    page = browser.new_page(viewport={"width": 1200, "height": 900}, reduced_motion="reduce")
    page.set_default_timeout(50_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(files.url)
    expect(page.locator("#about")).to_contain_text("Model: row, ")
    yield page
    page.close()
    assert errors == []
    assert all(url.startswith((files.url, "blob:", "data:")) for url in asked)


@pytest.fixture(autouse=True)
def _cleared(request: pytest.FixtureRequest) -> None:
    if "page" in request.fixturenames:
        page = request.getfixturevalue("page")
        page.keyboard.press("Delete")
        page.keyboard.press("5")
        expect_sentence(page, "?", 5, "?")


# The page


def test_a_file_that_is_no_picture_is_refused(page: "Page") -> None:
    page.locator("#file").set_input_files({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"seven"})
    expect(page.locator("#refusal")).to_have_text(
        "The picture can't be read: it is damaged, or in no format that this browser reads;"
        " save it as PNG or JPEG."
    )
    expect(page.locator("#gone")).to_be_hidden()
    draw(page, SEVEN)
    expect_sentence(page, 7, 5, 12)
    expect(page.locator("#refusal")).to_be_empty()


def test_the_page_predicts_without_its_server_once_it_is_loaded(page: "Page", tmp_path: Path) -> None:
    assert page.evaluate("ofOneDigit().then(Boolean)")
    page.context.set_offline(True)
    see_the_networks_at_work(page, contradictory_image(tmp_path), 1, 6)
    page.get_by_role("button", name="A four that may be a nine").click()
    expect_sentence(page, "4 or 9", 3, "7 or 12")
    page.locator("#typed").fill("3.5")
    expect_sentence(page, "?", "?", "?")
    page.locator("#typed").fill("5")
    page.get_by_role("button", name="Clear").click()
    draw(page, SEVEN)
    expect_sentence(page, 7, 5, 12)
    page.get_by_role("button", name="Clear").click()
    draw_number(page, SEVEN, ONE, ZERO)
    page.locator("#typed").fill(str(10**20))
    expect_sentence(page, 710, str(10**20), str(10**20 + 710))
    page.locator(".marks").get_by_role("radio", name="0: ").click()
    assert best(page, "digits")[0] == 0
    page.context.set_offline(False)


def test_over_a_slow_line_the_page_says_how_far_it_is_and_answers_what_was_drawn_meanwhile(
    files: Files, browser: "Browser"
) -> None:
    page = browser.new_page()
    line = page.context.new_cdp_session(page)
    line.send("Network.enable")
    slow = {"offline": False, "latency": 20, "downloadThroughput": 1_000_000, "uploadThroughput": 1_000_000}
    line.send("Network.emulateNetworkConditions", slow)  # 8 Mbit/s
    page.goto(files.url)
    expect(page.locator("#loading")).to_have_text(
        re.compile(r"Loading the network\s+[1-9]\.\d of \d\d\.\d MB"), timeout=10_000
    )
    shown = page.evaluate_handle("""() => {
      const seen = [], [refusal, gone] = ["#refusal", "#gone"].map(name => document.querySelector(name));
      const look = () => seen.push([refusal.textContent, gone.hidden]);
      new MutationObserver(look).observe(document.body, {subtree: true, childList: true, attributes: true});
      return seen;
    }""")
    draw(page, SEVEN)
    page.wait_for_timeout(300)  # in which it is asked
    expect_sentence(page, "?", 5, "?")
    line.send(
        "Network.emulateNetworkConditions", slow | {"downloadThroughput": -1}
    )  # so that the test is short
    expect_sentence(page, 7, 5, 12)
    expect(page.locator("#loading")).to_be_hidden()
    assert {tuple(each) for each in shown.json_value()} == {("", True)}
    page.close()


def test_a_network_that_cant_be_loaded_is_named_and_tried_again(files: Files, browser: "Browser") -> None:
    page = browser.new_page()
    page.clock.install()
    lost = [True]  # the route stays: a request that is on its way as it ends may hang
    page.route("**/model.onnx", lambda route: route.fulfill(status=503) if lost else route.continue_())
    page.goto(files.url)
    draw(page, SEVEN)
    expect(page.locator("#gone")).to_have_text("The network can't be loaded. The page keeps trying.")
    expect(page.locator("#gone")).to_be_visible()
    lost.clear()
    page.clock.fast_forward(2000)  # after which it tries again
    expect_sentence(page, 7, 5, 12)
    expect(page.locator("#gone")).to_be_hidden()
    page.close()


def test_a_page_opened_as_a_file_says_what_it_needs(folder: Path, browser: "Browser") -> None:
    page = browser.new_page()
    page.goto((folder / "sub" / "site" / "index.html").as_uri())
    draw(page, SEVEN)
    expect(page.locator("#gone")).to_contain_text("python -m http.server")
    expect(page.locator("#gone")).to_be_visible()
    page.close()


@pytest.fixture(scope="module")
def concat(files: Files, browser: "Browser") -> Iterator["Page"]:
    page = browser.new_page(reduced_motion="reduce")
    page.goto(f"{files.url}../concat/")
    expect(page.locator("#about")).to_contain_text("Model: concat, ")
    yield page
    page.close()


def test_the_page_shows_the_networks_sum_and_says_where_it_contradicts_the_digit(
    concat: "Page", tmp_path: Path
) -> None:
    expect_contradiction(concat, contradictory_image(tmp_path), 1, 3, 6)
    expect_no_contradiction(concat)


@pytest.mark.parametrize("addend", [*range(10), 10])
def test_the_sites_sums_of_a_contradictory_digit_are_the_predictors(
    concat: "Page", tmp_path: Path, addend: int
) -> None:
    picture = contradictory_image(tmp_path)
    expected = Predictor("concat").predict_number(picture, addend).to_dict()
    answer = answer_of(concat, picture.read_bytes(), addend)
    assert_same(answer, expected, 1e-4)
    np.testing.assert_array_equal(seen_in(answer), read_picture(picture))


def test_several_digits_are_refused_by_a_network_of_one(concat: "Page") -> None:
    row = png(page_of(*mnist.load().images[:2, 0]))
    with pytest.raises(sync_api.Error, match="the picture can't be read: it shows 2 digits, not one; the "):
        answer_of(concat, row)


@pytest.mark.parametrize("addend", [7, 10**20])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_the_site_answers_for_a_row_as_the_predictor_does(page: "Page", count: int, addend: int) -> None:
    picture = png(page_of(*mnist.load().images[20 : 20 + count, 0]))
    answer = answer_of(page, picture, addend)
    assert_same(answer, Predictor().predict_number(picture, addend).to_dict(), 1e-4)
    np.testing.assert_array_equal(seen_in(answer), read_row(picture).strip)


def test_marks_and_what_was_left_out_are_doubted_as_by_the_predictor(page: "Page") -> None:
    marked = page_of(*mnist.load().images[20:22, 0])
    marked[130:142, 146:158] = 0  # a point
    beside = page_of(*mnist.load().images[20:22, 0])
    beside[90:140, -8:] = 0  # half as tall as a digit
    for pixels in (marked, beside):
        expected = Predictor().predict_number(png(pixels), 3)
        assert expected.doubt
        assert_same(answer_of(page, png(pixels), 3), expected.to_dict(), 1e-4)


def test_a_row_in_which_the_network_sees_no_digit_is_refused(page: "Page") -> None:
    line = np.full((200, 300), 255, np.uint8)
    line[95:98, 40:260] = 0
    refusal = "the picture can't be read: it shows nothing that looks like a digit"
    with pytest.raises(ValueError, match=f"^{refusal}$"):
        Predictor().predict_number(line, 5)
    with pytest.raises(sync_api.Error, match=refusal):
        answer_of(page, png(line))


@pytest.mark.parametrize("probabilities", ["NaN", "-0.5", "1.5"])
def test_a_model_whose_answers_are_no_probabilities_is_refused(page: "Page", probabilities: str) -> None:
    with pytest.raises(sync_api.Error, match="the model isn't one of digitsum: its probabilities are not "):
        page.evaluate(f"check([0, 1, 1 / 3, {probabilities}])")
    page.evaluate("check([0, 1, 1.00001])")


# What the browser decodes; test_prepare.py has the rest of the preparation


@pytest.mark.parametrize("way", [unchanged, photo, transparent, transparent_white])
def test_the_browser_prepares_and_reads_a_picture_as_python_does(
    page: "Page", way: Callable[[np.ndarray, Generator], np.ndarray]
) -> None:
    rng, digits, predictor = np.random.default_rng(0), mnist.load(), Predictor()
    for number, image in enumerate(digits.images[:3, 0]):
        picture = png(way(image, rng))
        answer, expected = (
            answer_of(page, picture, number),
            predictor.predict_number(picture, number).to_dict(),
        )
        difference = np.abs(seen_in(answer) - read_row(picture).strip)
        assert difference.max() <= 1  # canvases round half-transparent pixels differently
        assert (difference > 0).mean() < 0.01
        assert_same(answer, expected, 0.02)


def test_a_photo_is_turned_as_its_exif_data_say(page: "Page") -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    file = encoded(Image.fromarray(PAGE).transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif)
    strip = seen_in(answer_of(page, file))
    assert np.abs(strip - read_row(file).strip).max() <= 8  # decoders round differently
    assert np.abs(strip - read_row(PAGE).strip).max() <= 8


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("shape", [(1204, 1003), (1211, 3023)])
def test_a_large_picture_is_shrunk_as_python_does(page: "Page", shape: tuple[int, int], kind: str) -> None:
    rng = np.random.default_rng(0)
    ink = np.asarray(Image.fromarray(drawn(mnist.load().images[7, 0], rng)).resize(shape[::-1]))
    paper = 230 * (1 - 0.8 * ink) * shade(ink) + rng.normal(0, 4, shape)
    picture = Image.fromarray(np.uint8(paper.clip(0, 255)[..., np.newaxis] * [1, 0.95, 0.85]))
    file = encoded(picture, kind, compress_level=1, quality=90)
    # decoders of JPEG differ by a level, which can move a digit by a pixel, though none of these
    difference = np.abs(seen_in(answer_of(page, file)) - read_row(file).strip)
    assert difference.max() <= (1 if kind == "PNG" else 8)
