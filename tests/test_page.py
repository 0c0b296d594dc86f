"""The page in a real browser: Debian's chromium, driven by playwright."""

import base64
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from drawing import PAGE, encoded, page_of, png
from PIL import Image
from playwright import sync_api
from service import serving

from digitsum import mnist
from digitsum.prediction import Predictor
from digitsum.reading.imaging import read_picture
from digitsum.reading.strips import read_row
from digitsum.types import UInt8Array

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

expect = sync_api.expect
expect.set_options(timeout=50_000)  # ms, ten times what a busy machine takes

Points = list[tuple[float, float]]
ONE: Points = [(0.5, 0.2), (0.48, 0.8)]
SEVEN: Points = [(0.3, 0.25), (0.7, 0.25), (0.6, 0.5), (0.45, 0.8)]
ANGLES = np.linspace(0, 2 * np.pi, 12)
ZERO: Points = [(0.5 + 0.18 * np.sin(angle), 0.5 - 0.28 * np.cos(angle)) for angle in ANGLES]

FOUR = {
    "digit": 4,
    "probability": 0.6,
    "probabilities": [0, 0, 0, 0, 0.6, 0, 0, 0, 0, 0.4],
    "place": [1, 2],
}
SURE = FOUR | {"probability": 1.0, "probabilities": [0, 0, 0, 0, 1.0, 0, 0, 0, 0, 0]}
ANSWER = {
    "number": "4",
    "addend": "5",
    "sum": "9",
    "probability": 0.6,
    "sum_probability": 0.6,
    "consistent": True,
    "uncertain": True,
    "doubt": None,
    "sum_probabilities": [0] * 9 + [0.6, 0, 0, 0, 0, 0.4] + [0] * 4,
    "digits": [FOUR],
    "seen": {"height": 1, "width": 3, "pixels": "AAAA"},
}


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.fixture(scope="module")
def tab(browser: "Browser") -> "Page":
    """One for all tests, as a new one takes half a second."""
    tab = browser.new_page(reduced_motion="reduce")
    tab.set_default_timeout(50_000)
    tab.clock.install()  # whose timers a test can bring forward
    return tab


@pytest.fixture
def page(tab: "Page", service: str) -> Iterator["Page"]:
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.set_viewport_size({"width": 1200, "height": 900})
    tab.goto(service)
    yield tab
    tab.unroute_all()
    assert errors == []


def box_of(page: "Page", part: str) -> "sync_api.FloatRect":
    box = page.locator(part).bounding_box()
    assert box
    return box


def draw_number(page: "Page", *digits: Points) -> None:
    """Draw digits side by side, each half as large."""
    for i, points in enumerate(digits):
        draw(page, [((i + 0.5 + (x - 0.5)) / len(digits), 0.25 + y / len(digits)) for x, y in points])


def draw(page: "Page", points: Points) -> None:
    press(page, *points)
    page.mouse.up()


def press(page: "Page", *points: tuple[float, float]) -> None:
    """Draw a stroke, of which the pen stays down."""
    pad = box_of(page, "#pad")
    places = [(pad["x"] + x * pad["width"], pad["y"] + y * pad["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=2)


def expect_sentence(page: "Page", digit: int | str, addend: int | str, sum_: int | str) -> None:
    expect(page.locator("#sentence")).to_have_text(f"{digit} + {addend} = {sum_}")


def best(page: "Page", chart: str) -> tuple[int, float]:
    """Return the highest of a chart's bars and its share of their heights."""
    columns = page.locator(f"#{chart} .best .tick")
    expect(columns).to_have_count(1)
    heights = page.locator(f"#{chart} .bar").evaluate_all(
        "bars => bars.map(bar => bar.getBoundingClientRect().height)"
    )
    assert int(columns.inner_text()) == np.argmax(heights)
    return int(np.argmax(heights)), max(heights) / sum(heights)


def seen(page: "Page") -> UInt8Array:
    """Return what the network sees, uint8 [H, W]: red, of red, green, blue and opacity."""
    script = """canvas => [canvas.height, canvas.width,
      ...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]"""
    height, width, *rgba = page.locator(".seen canvas").evaluate(script)
    return np.array(rgba[::4], np.uint8).reshape(height, width)


def mark(page: "Page", name: str) -> "sync_api.Locator":
    """Return the radio button that marks a digit in what the network sees."""
    return page.locator(".marks").get_by_role("radio", name=f"{name}: ")


@pytest.mark.parametrize(("points", "digit", "addend"), [(SEVEN, 7, 0), (ZERO, 0, 9)])
def test_a_drawn_digit_is_read_and_added(page: "Page", points: Points, digit: int, addend: int) -> None:
    expect_sentence(page, "?", 5, "?")
    draw(page, points)
    page.locator(".addends label").nth(addend).click()
    expect_sentence(page, digit, addend, digit + addend)
    assert page.locator("#digits .bar").count() == 10
    assert page.locator("#sums .bar").count() == 19
    for chart, answer in (("digits", digit), ("sums", digit + addend)):
        highest, share = best(page, chart)
        assert highest == answer
        assert share > 0.5
        label = page.locator(f"#{chart}").get_attribute("aria-label")
        assert label is not None
        assert label.startswith(f"Most probable: {answer}: ")
    page.clock.fast_forward(700)  # of quiet
    expect(page.locator("#spoken")).to_have_text(re.compile(f"{digit} plus {addend} is {digit + addend}$"))


def test_a_drawn_number_is_read_and_added(page: "Page") -> None:
    draw_number(page, SEVEN, ONE, ZERO)
    expect_sentence(page, 710, 5, 715)
    expect(page.locator("#sums")).to_be_hidden()
    expect(page.locator("#whole")).to_have_text(
        re.compile(
            r"[\d.]+ %: the probability that the number is right\."
            r" The sum is exact arithmetic on it, not an output of the network\."
        )
    )
    page.clock.fast_forward(700)  # of quiet
    expect(page.locator("#spoken")).to_have_text(re.compile("710 plus 5 is 715$"))
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Undo").click()
    expect_sentence(page, 7, 5, 12)
    expect(page.locator("#sums")).to_be_visible()
    assert best(page, "sums")[0] == 12


def test_each_digit_of_a_number_is_chosen_to_show_its_probabilities(page: "Page") -> None:
    with page.expect_response("**/predict"):
        draw_number(page, SEVEN, ONE, ZERO)
    expect_sentence(page, 710, 5, 715)
    assert best(page, "digits")[0] == 7
    for digit in (1, 0):
        mark(page, f"{digit}").click()
        assert best(page, "digits")[0] == digit
        (share,) = page.locator("#digits .best .value").all_inner_texts()
        shown = page.locator(".marks span").filter(visible=True)
        expect(shown).to_have_text(share)
        expect(mark(page, f"{digit}")).to_have_accessible_name(f"{digit}: {share}")
    expect(mark(page, "0")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    assert best(page, "digits")[0] == 1
    page.keyboard.press("9")  # the number to add; the digit stays chosen and focused
    expect_sentence(page, 710, 9, 719)
    expect(mark(page, "1")).to_be_focused()


def test_marks_stand_where_the_digits_are(page: "Page") -> None:
    draw_number(page, SEVEN, ONE, ZERO)
    expect_sentence(page, 710, 5, 715)
    strip = seen(page)
    edges = np.flatnonzero(np.diff((strip > 127).any(axis=0), prepend=False, append=False))
    assert len(edges) == 6  # nothing but paper is between the digits
    canvas = box_of(page, ".seen canvas")
    for digit, (start, end) in zip(
        "710", canvas["x"] + canvas["width"] * edges.reshape(3, 2) / strip.shape[1], strict=True
    ):
        place = mark(page, digit).bounding_box()
        assert place
        assert place["x"] <= start
        assert end <= place["x"] + place["width"]
        assert place["y"] == canvas["y"]
        name = page.locator(".marks b", has_text=digit).bounding_box()
        assert name
        assert start <= name["x"] + name["width"] / 2 <= end
        assert name["y"] >= canvas["y"] + canvas["height"]


def test_a_single_digit_has_no_marks(page: "Page") -> None:
    expect(page.locator(".marks label")).to_have_count(0)
    draw(page, SEVEN)
    expect_sentence(page, 7, 5, 12)
    expect(page.locator(".marks label")).to_have_count(0)
    expect(page.locator("#several")).to_be_hidden()
    draw_number(page, ONE, ZERO)
    expect(page.locator(".marks label")).not_to_have_count(0)
    expect(page.locator("#several")).to_be_visible()
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".marks label")).to_have_count(0)
    assert not seen(page).any()


@pytest.mark.parametrize("width", [1200, 360])
def test_a_long_number_is_seen_whole(page: "Page", width: int) -> None:
    digits = mnist.load()
    page.set_viewport_size({"width": width, "height": 740})
    picture = png(page_of(*digits.images[:20, 0]))
    page.locator("#file").set_input_files({"name": "row.png", "mimeType": "image/png", "buffer": picture})
    expect(page.locator("#number")).to_have_text("".join(map(str, digits.labels[:20])) + "?")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    canvas, column, strip = box_of(page, ".seen canvas"), box_of(page, ".sight"), seen(page)
    assert canvas["width"] == pytest.approx(column["width"])
    assert canvas["width"] / canvas["height"] == pytest.approx(strip.shape[1] / 32, rel=0.01)
    for radio in page.locator(".marks").get_by_role("radio").all()[::19]:
        radio.check()
        caption = page.locator(".marks span").filter(visible=True).bounding_box()
        assert caption
        assert caption["x"] >= canvas["x"]
        assert caption["x"] + caption["width"] <= canvas["x"] + canvas["width"]


def test_any_whole_number_is_typed_and_added(page: "Page") -> None:
    draw(page, SEVEN)
    for typed, addend in (("1200", 1200), ("007", 7), (" 12 ", 12), ("9" * 40, 10**40 - 1)):
        page.locator("#typed").fill("")
        page.locator("#typed").press_sequentially(typed)
        expect_sentence(page, 7, str(addend), str(7 + addend))
        expect(page.locator(".addends :checked")).to_have_count(int(addend < 10))
        expect(page.locator("#sums")).to_be_visible(visible=addend < 10)
        page.locator("#typed").fill("")
        expect_sentence(page, 7, str(addend), str(7 + addend))
        page.keyboard.press("Tab")
        expect(page.locator("#typed")).to_have_value(str(addend))
        page.get_by_role("radio", name="3", exact=True).check(force=True)
        expect_sentence(page, 7, 3, 10)
        expect(page.locator("#typed")).to_have_value("3")


@pytest.mark.parametrize("typed", ["3.5", "-3", "1e3", "\u0663", "1" * 1001])
def test_an_addend_that_is_no_whole_number_is_refused_and_nothing_else_is_added(
    page: "Page", typed: str
) -> None:
    draw(page, SEVEN)
    expect_sentence(page, 7, 5, 12)
    page.locator("#typed").fill(typed)
    said = "The number to add has 1001 digits, more than 1000."
    if len(typed) < 1000:
        said = f"The number to add should be a whole number, 0 or more, not {typed}."
    expect(page.locator("#wrong")).to_have_text(said)
    expect_sentence(page, "?", "?", "?")
    page.keyboard.press("Tab")
    expect(page.locator("#typed")).to_have_value(typed)
    expect(page.locator(".addends :checked")).to_have_count(0)
    page.get_by_role("radio", name="3", exact=True).check(force=True)
    expect_sentence(page, 7, 3, 10)
    expect(page.locator("#wrong")).to_be_empty()


def test_buttons_and_keys_choose_undo_and_clear(page: "Page") -> None:
    undo = page.get_by_role("button", name="Undo")
    draw(page, ONE)
    page.keyboard.press("8")
    expect_sentence(page, 1, 8, 9)
    expect(page.get_by_role("radio", name="8", exact=True)).to_be_checked()
    draw(page, [(0.2, 0.5), (0.8, 0.5)])
    undo.click()
    expect_sentence(page, 1, 8, 9)
    page.keyboard.press("Control+z")
    expect_sentence(page, "?", 8, "?")
    draw(page, ONE)
    page.get_by_role("button", name="Clear").click()
    expect_sentence(page, "?", 8, "?")
    expect(undo).to_be_disabled()
    expect(page.locator("#hint")).to_be_visible()


def three(folder: Path) -> Path:
    """Write an embedded image of a three."""
    digits = mnist.load()
    image = digits.images[np.flatnonzero(digits.labels == 3)[0], 0]
    Image.fromarray(image).save(folder / "three.png")
    return folder / "three.png"


def test_a_file_is_read_and_what_the_network_sees_is_drawn(page: "Page", tmp_path: Path) -> None:
    file = three(tmp_path)
    page.locator("#file").set_input_files(file)
    expect_sentence(page, 3, 5, 8)
    np.testing.assert_array_equal(seen(page), read_row(file).strip)
    expect(page.locator("#pad img")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect_sentence(page, "?", 5, "?")


def test_a_file_that_is_no_picture_is_refused_with_the_services_sentence(page: "Page") -> None:
    page.locator("#file").set_input_files({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"seven"})
    expect(page.locator("#refusal")).to_have_text(
        "The picture can't be read: it is none of PNG, JPEG, GIF, BMP, TIFF, WEBP; save it as PNG or JPEG."
    )
    expect_sentence(page, "?", 5, "?")
    draw(page, SEVEN)
    expect_sentence(page, 7, 5, 12)
    expect(page.locator("#refusal")).to_be_empty()


def test_a_photo_of_12_mb_is_made_smaller_and_refusals_speak_of_pictures(page: "Page") -> None:
    large = """(pad, [start, name, type]) => {
      const bytes = Uint8Array.from(atob(start), letter => letter.charCodeAt(0));
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([bytes, new Uint8Array(12e6)], name, {type}));
      pad.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true, cancelable: true}));
    }"""
    photo = base64.b64encode(encoded(Image.fromarray(PAGE), "JPEG")).decode()
    page.locator("#pad").evaluate(large, [photo, "photo.jpg", "image/jpeg"])
    expect_sentence(page, 7, 5, 12)
    expect(page.locator("#strip .sums .best .tick")).to_have_text("12")
    busy = {"error": {"code": "busy", "message": "too many requests at a time; try again soon"}}
    page.route("**/predict", lambda route: route.fulfill(status=429, json=busy))
    page.keyboard.press("6")
    expect(page.locator("#refusal")).to_have_text("The service has too much to do; try again soon.")
    page.unroute("**/predict")
    page.locator("#pad").evaluate(large, ["", "scan.tif", "image/tiff"])
    expect(page.locator("#refusal")).to_have_text("The picture has more than 10 MB; send a smaller one.")


def test_a_dropped_and_a_pasted_picture_are_read(page: "Page") -> None:
    for event, data in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        page.locator("#pad").evaluate(
            """async (pad, [event, data]) => {
              const canvas = new OffscreenCanvas(100, 100), pen = canvas.getContext("2d");
              pen.fillRect(45, 15, 10, 70);
              const files = new DataTransfer();
              files.items.add(new File([await canvas.convertToBlob()], "one.png", {type: "image/png"}));
              const kind = event === "drop" ? DragEvent : ClipboardEvent;
              pad.dispatchEvent(new kind(event, {[data]: files, bubbles: true, cancelable: true}));
            }""",
            [event, data],
        )
        expect_sentence(page, 1, 5, 6)
        page.keyboard.press("Delete")
        expect_sentence(page, "?", 5, "?")


DOUBT = "it shows 4·4: a mark stands between its digits"


def shares(page: "Page", chart: str) -> np.ndarray:
    """Return how high the bars of a chart of the strip are, as shares of its highest."""
    script = """bars => bars.map(bar => Math.abs(bar.style.getPropertyValue("--v"))
      * (bar.getBoundingClientRect().height > 0 || bar.style.getPropertyValue("--v") < 0.02))"""
    return np.array(page.locator(f"#strip {chart} .bar").evaluate_all(script))


def see_the_networks_at_work(page: "Page", picture: Path, digit: int, sum_: int) -> None:
    """Let the strip show a digit on which `concat` contradicts itself for 3."""
    image, read = read_picture(picture), Predictor("exact").predict(picture, 0).number
    exact, concat = (Predictor(name).outputs(image, 3) for name in ("exact", "concat"))
    best, made, verdict = (
        page.locator(f"#strip {part}") for part in (".sums .best .tick", "#made", ".verdict")
    )
    page.locator("#file").set_input_files(picture)
    page.keyboard.press("3")
    expect(best).to_have_text(f"{read + 3}")
    for chart, output in ((".moved", "digit"), (".sums", "sum")):
        np.testing.assert_allclose(shares(page, chart), exact[output], atol=1e-3)
    expect(verdict).to_contain_text("can't contradict each other")

    page.locator("#strip").scroll_into_view_if_needed()
    slider = box_of(page, "#strip [type=range]")  # of which the ends are half a knob from 0 and 9
    page.mouse.move(slider["x"] + slider["width"] / 2, slider["y"] + slider["height"] / 2)
    page.mouse.down()
    page.mouse.move(slider["x"] + slider["width"] - 2, slider["y"] + slider["height"] / 2, steps=4)
    page.mouse.up()
    expect(best).to_have_text(f"{read + 9}")
    expect(page.locator("#addend")).to_have_text("9")  # of the whole page
    page.locator("#strip [type=range]").press("Home")
    expect(best).to_have_text(f"{read}")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(best).to_have_text(f"{read + 3}")
    above, below = (box_of(page, f"#strip {chart} .best .bar") for chart in (".moved", ".sums"))
    assert above["x"] == pytest.approx(below["x"], abs=1)  # the digit's bar stands over its sum's

    bar = box_of(page, f"#strip .sums .column >> nth={read + 2}")
    page.mouse.click(bar["x"] + bar["width"] / 2, bar["y"] + bar["height"] / 2)
    expect(made).to_contain_text(f"The sum is {read + 2} where the digit is {read - 1}, as 3 is added")
    expect(page.locator("#strip .moved .lit")).to_have_count(1)
    assert box_of(page, "#strip .moved .lit")["x"] == pytest.approx(bar["x"] + 0.08 * bar["width"], abs=2)

    page.locator("#strip [name=network][value=exact]").focus()
    page.keyboard.press("ArrowRight")
    expect(verdict).to_have_text(
        f"The two outputs contradict each other: the digit says {digit}, the sum says {sum_}, and"
        f" {digit} + 3 is {digit + 3}."
    )
    np.testing.assert_allclose(shares(page, ".sums"), concat["sum"], atol=0.01)
    scores = np.abs(concat["joined"][:10])
    np.testing.assert_allclose(shares(page, ".signed"), scores / max(1, scores.max()), atol=0.01)
    np.testing.assert_allclose(shares(page, ".joined .chart:not(.signed)"), concat["joined"][10:], atol=0.01)
    page.locator("#strip .sums :checked").focus()
    page.keyboard.press("ArrowRight")
    ahead = concat["terms"][sum_ + 1] - concat["terms"][sum_]
    expect(made).to_contain_text(f"Its score beside that of {sum_}: \u2212{-ahead.sum():.1f}, of which ")
    lit = page.locator("#strip .joined .bar").evaluate_all(
        "bars => bars.map(bar => parseFloat(bar.style.getPropertyValue('--lit')))"
    )
    assert np.argmax(lit) == np.abs(ahead[:30]).argmax()
    page.locator("#strip [name=network][value=exact]").check()


def test_the_networks_of_one_digit_are_seen_at_work(page: "Page", real_mnist: None, tmp_path: Path) -> None:
    six = mnist.load("mnist", "test").images[4571, 0]
    Image.fromarray(six).save(tmp_path / "six.png")
    see_the_networks_at_work(page, tmp_path / "six.png", 8, 9)
    page.locator("#typed").fill("30")  # which they can't add
    expect(page.locator("#strip")).to_be_hidden()
    expect(page.locator("#idle")).to_contain_text("add a number from 0 to 9")


UNCERTAIN = {"number": "44", "sum": "49", "sum_probabilities": None, "digits": [FOUR, SURE]}
DIM = {"probability": 0.11, "sum_probability": 0.11, "digits": [SURE]}
FAIR = {"probability": 0.8, "sum_probabilities": [0] * 9 + [0.8] + [0] * 9, "digits": [SURE]}
NOT_A_DIGIT = "perhaps a 4 (11 %), perhaps not a digit"


@pytest.mark.parametrize(
    ("answer", "number", "sum_", "said"),
    [
        ({}, "4 or 9", "9 or 14", "it may be a 4 (60 %) or a 9 (40 %)"),
        (DIM, "?", "?", NOT_A_DIGIT),
        (DIM | {"probability": 0.09}, "?", "?", "perhaps not a digit"),
        (FAIR, "4?", "9?", "perhaps a 4 (80 %), perhaps not a digit"),
        (UNCERTAIN, "44 or 94", "49 or 99", "it may be 44 (60 %) or 94 (40 %)"),
        (
            FAIR | UNCERTAIN | {"digits": [SURE, SURE]},
            "44?",
            "49?",
            "perhaps 44 (80 %), perhaps digits that touch, or no number",
        ),
        (UNCERTAIN | {"doubt": DOUBT}, "?", "?", DOUBT),
    ],
    ids=["two digits", "no digit", "nothing", "one digit", "two numbers", "touching", "doubt"],
)
def test_an_uncertain_answer_isnt_said_as_if_it_were_known(
    page: "Page", answer: dict[str, Any], number: str, sum_: str, said: str
) -> None:
    page.route("**/predict", lambda route: route.fulfill(json={"predictions": [ANSWER | answer]}))
    draw(page, SEVEN)
    expect(page.locator("#uncertain")).to_have_text(f"Uncertain: {said}")
    expect_sentence(page, number, 5, sum_)
    if (
        "digits" in answer and len(answer["digits"]) == 1
    ):  # which may be none: its bar is as high as that says
        share = "11 %" if answer is DIM else "9 %" if answer["probability"] < 0.1 else "80 %"
        expect(page.locator("#digits .best .value")).to_have_text(share)
    page.clock.fast_forward(700)  # of quiet
    known = "" if number == "?" else f": {number} plus 5 is {sum_}"
    expect(page.locator("#spoken")).to_have_text(f"Uncertain, {said}{known}")


def test_a_mark_between_digits_is_a_doubt(page: "Page") -> None:
    draw_number(page, ONE, SEVEN)
    expect_sentence(page, 17, 5, 22)
    draw(page, [(0.42, 0.66)])
    expect(page.locator("#uncertain")).to_have_text(
        "Uncertain: it shows 1·7: a mark stands between its digits"
    )


def contradictory_image(folder: Path) -> Path:
    """Write an image that is, to `concat`, a 1, whose sum with 3 is 6."""
    Image.fromarray(mnist.load().images[1406, 0]).save(folder / "image.png")
    return folder / "image.png"


def expect_contradiction(page: "Page", picture: Path, digit: int, addend: int, sum_: int) -> None:
    """Let the page read a picture on which `concat` contradicts itself."""
    page.locator("#file").set_input_files(picture)
    page.keyboard.press(str(addend))
    expect(page.locator("#sentence")).to_have_text(f"{digit} + {addend} ≠ {sum_}")
    expect(page.locator("#uncertain")).to_have_text("Uncertain: the two outputs contradict each other")
    assert (best(page, "digits")[0], best(page, "sums")[0]) == (digit, sum_)


def expect_no_contradiction(page: "Page") -> None:
    """Let the page add a number that the network can't, to the same picture."""
    page.locator("#typed").fill("30")
    expect_sentence(page, "1 or 6", 30, "31 or 36")
    expect(page.locator("#uncertain")).to_contain_text("Uncertain: it may be a 1 (")
    page.locator("#typed").blur()  # where further keys would be typed


def test_the_page_shows_the_networks_sum_and_says_where_it_contradicts_the_digit(
    page: "Page", tmp_path: Path
) -> None:
    with serving("concat") as concat:
        page.goto(concat)
        picture = contradictory_image(tmp_path)
        expect_contradiction(page, picture, 1, 3, 6)
        np.testing.assert_array_equal(seen(page), Image.open(picture))
        page.clock.fast_forward(700)  # of quiet
        expect(page.locator("#spoken")).to_have_text(
            "Uncertain, the two outputs contradict each other: 1 plus 3 isn't 6"
        )
        expect_no_contradiction(page)
        page.goto("about:blank")  # which lets go of its connections


DOUBTFUL = UNCERTAIN | {"doubt": "something as tall as a digit was left out at the edge of the row"}
CONTRADICTORY = {"sum": "18", "consistent": False}


@pytest.mark.parametrize(
    ("answer", "shown"),
    [(UNCERTAIN, "44 or 94 + 5 = 49 or 99"), (DOUBTFUL, "? + 5 = ?"), (CONTRADICTORY, "4 + 5 ≠ 18")],
    ids=["uncertain", "doubtful", "contradictory"],
)
def test_what_is_said_of_an_uncertain_answer_covers_nothing(
    page: "Page", answer: dict[str, Any], shown: str
) -> None:
    page.route("**/predict", lambda route: route.fulfill(json={"predictions": [ANSWER | answer]}))
    draw(page, SEVEN)
    expect(page.locator("#sentence")).to_have_text(shown)
    for width, height in ((320, 640), (640, 400), (1200, 900)):
        page.set_viewport_size({"width": width, "height": height})
        said, place = box_of(page, "#uncertain span"), box_of(page, "#uncertain")
        assert said["y"] + said["height"] <= place["y"] + place["height"]
        assert said["x"] + said["width"] <= width - 8


def test_an_answer_that_comes_too_late_is_not_shown(page: "Page") -> None:
    held = []
    page.route("**/predict", lambda route: held.append(route) if not held else route.continue_())
    with page.expect_request("**/predict"):
        draw(page, ONE)
    page.keyboard.press("Delete")
    held[0].fulfill(json={"predictions": [ANSWER]})
    page.wait_for_timeout(100)
    expect_sentence(page, "?", 5, "?")
    draw(page, SEVEN)
    expect_sentence(page, 7, 5, 12)


def test_answers_come_while_the_pen_is_down(page: "Page") -> None:
    press(page, *ONE)
    expect_sentence(page, 1, 5, 6)
    page.mouse.up()


def test_a_stroke_that_begins_outside_the_pad_counts(page: "Page") -> None:
    pad = box_of(page, "#pad")
    page.mouse.move(pad["x"] - 20, pad["y"] + 150)
    page.mouse.down()
    page.mouse.move(pad["x"] + 220, pad["y"] + 100, steps=5)
    page.mouse.move(pad["x"] + 180, pad["y"] + 400, steps=5)
    page.mouse.up()
    expect_sentence(page, 7, 5, 12)
    assert page.evaluate("getSelection().isCollapsed")
    page.get_by_role("button", name="Clear").click()
    expect_sentence(page, "?", 5, "?")


def test_what_is_dragged_over_the_pad_draws_nothing(page: "Page") -> None:
    slider, pad = box_of(page, "#thickness"), box_of(page, "#pad")
    page.mouse.move(slider["x"] + slider["width"] / 2, slider["y"] + slider["height"] / 2)
    page.mouse.down()
    page.mouse.move(pad["x"] + 200, pad["y"] + 200, steps=5)
    page.mouse.up()
    page.mouse.move(pad["x"] + 100, pad["y"] + 100, steps=5)  # nor does a pointer that isn't pressed
    expect(page.locator("#hint")).to_be_visible()


def ink(page: "Page") -> int:
    """Count the pixels that are drawn."""
    script = """pad => {
      const {data} = pad.getContext("2d").getImageData(0, 0, pad.width, pad.height);
      return data.filter((value, i) => i % 4 === 3 && value > 127).length;
    }"""
    return int(page.locator("#pad canvas").evaluate(script))


def test_a_dot_is_drawn_as_a_dot(page: "Page") -> None:
    draw(page, [(0.5, 0.5)])
    width = 0.06 * page.locator("#pad canvas").evaluate("pad => pad.width")
    assert ink(page) == pytest.approx(np.pi * width**2 / 4, rel=0.1)


def test_what_is_refused_while_the_pen_is_down_is_said_once_it_is_up(page: "Page") -> None:
    refusal = {"error": {"code": "invalid", "message": "half a digit"}}
    page.route("**/predict", lambda route: route.fulfill(status=422, json=refusal))
    with page.expect_response("**/predict"):
        press(page, (0.5, 0.2))
    page.wait_for_timeout(100)
    expect(page.locator("#refusal")).to_be_empty()
    page.mouse.up()
    expect(page.locator("#refusal")).to_have_text("Half a digit.")


def test_everything_is_reached_by_tab_and_shows_its_focus(page: "Page") -> None:
    draw(page, ONE)
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        reached.append(focused.evaluate("element => element.id || element.name"))
        shows = "element => getComputedStyle(element.name === 'addend' ? element.nextSibling : element)"
        assert focused.evaluate(f"{shows}.outlineStyle") == "solid"
    assert reached == ["undo", "clear", "open", "thickness", "typed", "addend"]
    page.keyboard.press("ArrowRight")
    expect_sentence(page, 1, 6, 7)


def test_the_first_tab_leads_to_examples_that_fill_the_page(page: "Page") -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="A seven", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect_sentence(page, 7, 5, 12)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="A smiley")).to_be_focused()
    expect(page.locator("#refusal")).to_contain_text("nothing that looks like a digit")
    expect_sentence(page, "?", 5, "?")
    page.get_by_role("button", name="A four that may be a nine").click()
    expect_sentence(page, "4 or 9", 5, "9 or 14")
    page.get_by_role("button", name="The number 35, whose digits touch").click()
    expect_sentence(page, 35, 5, 40)
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="The number 42").click()  # of which undoing took nothing
    expect_sentence(page, 42, 5, 47)


def test_the_documentation_lets_one_try_the_service(service: str, browser: "Browser", tmp_path: Path) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    violations: list[str] = []
    page.on("console", lambda message: violations.append(message.text) if message.type == "error" else None)
    page.goto(f"{service}/docs")
    page.locator(".opblock-summary-path", has_text="/predict").click()
    file = three(tmp_path)
    page.locator(".opblock-post input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table tbody .response-col_status")).to_have_text("200")
    expect(page.locator(".live-responses-table")).to_contain_text('"number": "3"')
    assert violations == []
    assert all(url.startswith((service, "data:", "blob:")) for url in asked)
    page.close()


def test_on_a_phone_nothing_is_cut(service: str, browser: "Browser") -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(service)
    draw(page, SEVEN)
    page.get_by_role("radio", name="9", exact=True).tap()
    expect_sentence(page, 7, 9, 16)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for part in ("#sentence", "#pad", "#clear", ".addends", "#digits", "#sums", ".seen"):
        box = box_of(page, part)
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
    answer, pad = box_of(page, "#sentence"), box_of(page, "#pad")
    assert answer["y"] + answer["height"] <= pad["y"]  # both are seen without scrolling
    assert pad["y"] + pad["height"] <= 740
    context.close()


@pytest.mark.parametrize(("width", "height"), [(740, 360), (640, 400)])
def test_on_a_low_screen_the_pad_the_answer_and_the_numbers_fit(
    page: "Page", width: int, height: int
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    draw(page, SEVEN)
    expect_sentence(page, 7, 5, 12)
    boxes = [box_of(page, part) for part in ("#pad", "#sentence", ".tools", "#input fieldset")]
    for box in boxes:
        assert box["x"] >= 0
        assert box["y"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["y"] + box["height"] <= height
    assert boxes[0]["width"] == pytest.approx(boxes[0]["height"])
    assert boxes[0]["width"] >= 300
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_large_screen_is_filled(page: "Page") -> None:
    page.set_viewport_size({"width": 2560, "height": 1440})
    assert box_of(page, "main")["width"] > 0.8 * 2560
    addends = box_of(page, ".addends")
    assert 0.9 * 1440 < addends["y"] + addends["height"] <= 1440


def test_on_the_smallest_screen_the_scale_of_the_sums_is_readable(page: "Page") -> None:
    page.set_viewport_size({"width": 320, "height": 640})
    draw(page, SEVEN)
    widths = """ticks => ticks.filter(tick => getComputedStyle(tick).visibility === "visible").map(tick => {
      const range = document.createRange();
      range.selectNodeContents(tick);
      const {left, right} = range.getBoundingClientRect();
      return [tick.textContent, left, right, parseFloat(getComputedStyle(tick).fontSize)];
    })"""
    for addend in (5, 6):  # an even sum, and an odd one
        page.keyboard.press(str(addend))
        expect_sentence(page, 7, addend, 7 + addend)
        ticks = page.locator("#sums .tick").evaluate_all(widths)
        assert str(7 + addend) in [tick[0] for tick in ticks]
        assert all(size >= 12 for *_, size in ticks)
        assert all(after[1] - before[2] >= 4 for before, after in itertools.pairwise(ticks))  # pixels


def test_forced_colours_keep_the_bars_the_marks_and_the_chosen_number(
    service: str, browser: "Browser"
) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": 900}, forced_colors="active")
    page.goto(service)
    draw(page, SEVEN)
    expect_sentence(page, 7, 5, 12)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for part in ("#digits .best .bar", ".addends :checked + span"):
        style = "element => getComputedStyle(element).backgroundColor"
        assert page.locator(part).evaluate(style) not in (ground, "rgba(0, 0, 0, 0)")
    assert ink(page) > 1000
    page.get_by_role("button", name="Clear").click()
    draw_number(page, ONE, SEVEN)
    expect_sentence(page, 17, 5, 22)
    colours = [mark(page, digit).evaluate("radio => getComputedStyle(radio).color") for digit in "17"]
    assert len({ground, *colours}) == 3
    page.close()


def test_the_page_says_when_the_service_is_gone_and_recovers(page: "Page") -> None:
    with serving() as service:
        page.goto(service)
    draw(page, SEVEN)
    expect(page.locator("#gone")).to_be_visible()
    expect_sentence(page, "?", 5, "?")
    page.wait_for_timeout(300)  # until no question is on its way, so that the page has to look again
    with serving(port=int(service.rpartition(":")[2])):
        page.clock.fast_forward(2000)  # after which it looks again
        expect_sentence(page, 7, 5, 12)
        expect(page.locator("#gone")).to_be_hidden()
