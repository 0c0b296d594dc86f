import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from digitsum.config import PRESETS, Config
from digitsum.errors import InputError
from digitsum.evaluation import Evaluation, evaluate
from digitsum.networks import NETWORKS, load
from digitsum.reporting import page as report
from digitsum.training.loop import fit
from digitsum.training.state import load_parts

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SECTIONS = [
    *("training", "evaluation", "answers", "network", "data", "losses"),
    *("figures", "settings", "log"),  # folded up
]
CONCAT = pytest.mark.parametrize("written", ["concat"], indirect=True)


@pytest.fixture(scope="module")
def runs(finished_run: Path, once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of each kind of network, to write into."""

    def train(folder: Path) -> None:
        shutil.copytree(finished_run, folder / "concat")
        for network in ("exact", "fast"):
            config = Config(
                network=network, epochs=1, width=4, augment=False, train_fraction=0.9, precision="32-true"
            )
            fit(config, folder / network)
            _, held_out = load_parts(config)
            evaluation = evaluate(load(folder / network), held_out, config.data, "held-out")
            evaluation.save(folder / network / "evaluation.json")

    return shutil.copytree(once("kinds", train), tmp_path_factory.mktemp("runs") / "kinds")


@pytest.fixture(scope="module", params=NETWORKS)
def written(runs: Path, request: pytest.FixtureRequest) -> Path:
    """A run folder with its report."""
    run = runs / str(request.param)
    assert report.write_report(run) == []
    return run


@pytest.fixture
def copy(finished_run: Path, tmp_path: Path) -> Path:
    """A run folder to change."""
    return shutil.copytree(finished_run, tmp_path / "run")


def change(run: Path, file: str, **values: object) -> None:
    """Change what a JSON file of a run says, as one does by hand."""
    path = run / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    (run / "SHA256SUMS").unlink(missing_ok=True)


class Sections(HTMLParser):
    """The words of each section of a page, and the problems it names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: dict[str, str] = {}
        self.problems: dict[str, str] = {}
        self.section, self.in_problem = "", False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self.section = dict(attributes)["id"] or ""
            self.words[self.section] = ""
        self.in_problem = ("class", "problem") in attributes

    def handle_data(self, data: str) -> None:
        if self.section:
            self.words[self.section] += data
        if self.in_problem:
            self.problems[self.section] = data

    def handle_endtag(self, tag: str) -> None:
        self.in_problem = False


def test_the_page_tells_what_the_run_folder_holds(written: Path) -> None:
    page = (written / "report.html").read_text()
    sections = Sections(page)
    assert list(sections.words) == SECTIONS
    evaluation = Evaluation.load(written / "evaluation.json")
    assert f"{100 * evaluation.digit_accuracy:.2f}\N{NO-BREAK SPACE}%" in sections.words["figures"]
    trained, held_out = ("4,000", "1,000") if written.name == "concat" else ("4,500", "500")
    assert f"{trained} to train on and {held_out} held out" in sections.words["data"]
    said = re.sub(r"\s", "", sections.words["settings"])
    assert "width4Channels" in said
    assert "augmentno" in said
    assert not re.search("True|False|None", sections.words["settings"])
    for setting in fields(Config):
        assert (setting.metadata["shown"]["help"].replace("**", "") in sections.words["settings"]) == (
            setting.default is not None
        )
    for row in (written / "metrics.csv").read_text().splitlines()[1:]:
        assert f"{float(row.split(',')[1]):.4f}" in sections.words["log"]
    assert re.findall(r'<section id="(\w+)">\n<details>', page) == ["figures", "settings", "log"]
    assert page.index("digit right") < page.index("<nav>") < page.index("<section")
    assert len(page.encode()) < 2_000_000
    assert "<script" not in page
    links = re.findall(r"(?:src|href)=\"([^\"]*)\"", page)
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)


def test_the_command_repeats_the_run() -> None:
    config = Config(width=4, epochs=2, augment=False, precision="32-true")
    concat = "digitsum train --no-augment --width 4 --epochs 2 --precision 32-true"  # the default network
    exact = concat.replace("--no", "--train-fraction 0.9 --no").replace("--width", "--network exact --width")
    assert report.command(config) == concat
    assert report.command(replace(config, network="exact", train_fraction=0.9)) == exact


@CONCAT
@pytest.mark.usefixtures("undrawn")
def test_the_page_says_on_which_images_the_probabilities_were_calibrated(written: Path, copy: Path) -> None:
    words = Sections((written / "report.html").read_text()).words
    for section in ("figures", "answers"):
        assert re.search(r"temperatures that .*were found on these same images", words[section])
    assert "On others the calibration error and the loss may be larger." in words["figures"]
    change(copy, "evaluation.json", joint_accuracy=1.0)  # then training leaves the probabilities as they are
    report.write_report(copy)
    assert "temperatures" not in (copy / "report.html").read_text()


def test_the_most_confident_errors_come_first() -> None:
    """A 1 read as 7 with 0.8; a 2 misadded with one addend and 0.85; a right 3; a 4 read as 9 with 0.9.

    Of the sum, which is always surer than the digit, nothing depends.
    """
    label = np.array([1, 2, 3, 4])
    digit = np.array([[7] * 10, [2] * 10, [3] * 10, [9] * 10])
    sum_ = digit + np.arange(10)
    sum_[1, 6] = 0
    sure = np.array([[0.8] * 10, [0.85] * 10, [1.0] * 10, [0.9] * 10])
    sum_sure = np.array([[0.999] * 10, [0.998] * 10, [1.0] * 10, [0.997] * 10])
    trials = report.Trials(label, digit, sure, sure, sum_, sum_sure, sure)
    errors = report._most_confident_errors(trials, np.zeros((4, 1, 28, 28), np.uint8))
    assert [(error.label, error.addend, error.digit, error.sum) for error in errors] == [
        (4, 0, 9, 9),
        (2, 6, 2, 0),
        (1, 0, 7, 7),
    ]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("network", ["concat", "exact"])
def test_the_page_says_how_far_to_trust_the_probability_of_a_sum(
    copy: Path, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a digit that is a guess, the sum of `concat` is sure and wrong; that of `exact` has its doubt."""
    label = np.arange(10)
    sure = np.repeat([0.5, *[1.0] * 9], 10).reshape(10, 10)
    sum_sure = np.full((10, 10), 0.9875) if network == "concat" else sure
    digit = np.repeat([6, *range(1, 10)], 10).reshape(10, 10)
    trials = report.Trials(label, digit, sure, sure, digit + np.arange(10), sum_sure, sure)
    monkeypatch.setattr(report, "run_trials", lambda *_: trials)
    monkeypatch.setattr(report, "load", lambda _: None)
    change(copy, "config.json", network=network)
    report.write_report(copy)
    said = Sections((copy / "report.html").read_text()).words["answers"].replace("\N{NO-BREAK SPACE}", " ")
    if network == "concat":
        assert "90.00 % of all sums are right, and their mean probability is 98.75 %." in said
        assert "have a probability of 98.75 to 98.75 %" in said
        assert (
            "Of the 10 trials whose digit has less than 92 %, sums claim 98.8 %, and 0.0 % are right." in said
        )
    else:
        assert "sums claim 50.0 % on average, and 0.0 % are right." in said


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("content", [None, b"[1, 2, 3]", "cut"])
@pytest.mark.parametrize(
    ("file", "lost"),
    [
        ("config.json", ["answers", "network", "data", "losses", "settings"]),
        ("metrics.csv", ["training", "log"]),
        ("evaluation.json", ["evaluation", "figures"]),
        ("model.safetensors", ["answers"]),
    ],
)
def test_a_missing_or_damaged_file_is_named_and_the_rest_shown(
    copy: Path, content: bytes | str | None, file: str, lost: list[str]
) -> None:
    whole = (copy / file).read_bytes()
    (copy / file).unlink()
    if content:
        (copy / file).write_bytes(content if isinstance(content, bytes) else whole[: len(whole) // 2])
    (problem,) = report.write_report(copy)
    assert file in problem
    sections = Sections((copy / "report.html").read_text())
    assert list(sections.words) == SECTIONS
    assert sections.problems == dict.fromkeys(lost, problem)


@pytest.mark.usefixtures("undrawn")
def test_a_file_that_can_t_be_read_is_named_once_and_in_words(copy: Path) -> None:
    log, evaluation = copy / "metrics.csv", copy / "evaluation.json"
    log.unlink()
    assert report.write_report(copy) == [f"{log} can't be read: No such file or directory"]
    log.mkdir()
    evaluation.unlink()
    assert report.write_report(copy) == [
        f"{log} is a folder, a device or the like, not a file",
        f"{evaluation} is missing: a training writes it at its end",
    ]


@pytest.mark.usefixtures("undrawn")
def test_a_change_by_hand_is_shown_and_lost_data_cost_only_what_shows_them(copy: Path) -> None:
    change(copy, "config.json", sum_weight=0.01)
    log = copy / "metrics.csv"
    log.write_text(log.read_text().replace("\n", "\r\n"))
    assert report.write_report(copy) == []
    assert "--sum-weight 0.01" in (copy / "report.html").read_text()
    change(copy, "config.json", data="<script>\udcff")  # a name that isn't UTF-8
    (problem,) = report.write_report(copy)
    assert "<script>" in problem
    page = (copy / "report.html").read_text()
    assert "--data &#39;&lt;script&gt;\\udcff&#39;" in page
    assert "<script" not in page
    assert list(Sections(page).problems) == ["answers", "data"]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("epoch", "loss", "why"),
    [
        ("3", "1e31", "expected rows of epoch, "),
        ("3", "nan", "expected rows of epoch, "),
        ("1.5", "1", "an epoch isn't a whole number"),
        ("1e29", "1", "an epoch isn't a whole number"),
    ],
)
def test_figures_that_can_t_be_drawn_are_damage(copy: Path, epoch: str, loss: str, why: str) -> None:
    with (copy / "metrics.csv").open("a") as file:
        file.write(",".join([epoch, *[loss] * 8]) + "\n")
    (problem,) = report.write_report(copy)
    assert problem.startswith(f"{copy / 'metrics.csv'} is damaged: {why}")


@pytest.mark.usefixtures("undrawn")
def test_an_environment_that_is_no_object_is_damage(copy: Path) -> None:
    change(copy, "config.json", environment=[1])
    why = f"{copy / 'config.json'} is damaged: its environment isn't an object"
    assert report.write_report(copy) == [why]


@pytest.mark.usefixtures("undrawn")
def test_of_other_data_than_the_run_was_trained_on_nothing_is_scored(pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(Config(data=str(pictures), epochs=1, width=4, precision="32-true"), run)
    shutil.copy(pictures / "3" / "0.png", pictures / "3" / "new.png")
    unfinished, problem = report.write_report(run)
    assert problem.startswith(f"{pictures} isn't what {run} was trained on any more: other images, ")
    assert "evaluation.json" in unfinished
    problems = Sections((run / "report.html").read_text()).problems
    assert problems == {
        **dict.fromkeys(("data", "answers"), problem),
        **dict.fromkeys(("evaluation", "figures"), unfinished),
    }


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"^{tmp_path} isn't a run folder: it has none of config.json, "):
        report.write_report(tmp_path)
    assert not list(tmp_path.iterdir())


# Comparing


@pytest.fixture
def other(finished_run: Path, tmp_path: Path) -> Path:
    """A run like the finished one, but for three settings and a figure."""
    run = shutil.copytree(finished_run, tmp_path / "other")
    change(run, "config.json", epochs=1, augment=True, data_dir="elsewhere")
    change(run, "evaluation.json", parameters=123, sum_accuracy=0.5)
    first = (run / "metrics.csv").read_text().splitlines(keepends=True)[:2]
    (run / "metrics.csv").write_text("".join(first))
    return run


def test_a_comparison_shows_figures_curves_and_the_settings_that_differ(
    finished_run: Path, other: Path, tmp_path: Path
) -> None:
    table = report.compare([finished_run, other], tmp_path / "comparison.html")
    assert list(table.index) == [finished_run.name, "other"]
    evaluation = Evaluation.load(finished_run / "evaluation.json")
    assert table["parameters"].tolist() == [evaluation.parameters, 123]
    assert table["sum_accuracy"].tolist() == [evaluation.sum_accuracy, 0.5]
    assert table["epochs"].tolist() == [2, 1]
    page = (tmp_path / "comparison.html").read_text()
    differing = page[page.index("Settings that differ") : page.index("<h2>Training")]
    rows = re.findall(r"<tr><td>(\w+)</td><td>(\w+)</td><td>(\w+)</td></tr>", differing)
    assert rows == [("data_dir", "none", "elsewhere"), ("augment", "no", "yes"), ("epochs", "2", "1")]
    assert "<td>2 epochs, " in page
    assert "<td>1 epoch, " in page
    assert "All runs held out the same images." in page
    assert page.count("<svg") == 4


@pytest.mark.usefixtures("undrawn")
def test_a_comparison_notices_other_held_out_images(finished_run: Path, other: Path, tmp_path: Path) -> None:
    page = tmp_path / "comparison.html"
    for changed, says in (
        ({"data_sha256": "of other images"}, "The runs held out different images"),
        ({"data_sha256": None}, "All runs held out the same images."),  # as earlier versions leave it
        ({"seed": 4}, "The runs held out different images"),
    ):
        change(other, "config.json", **changed)
        report.compare([finished_run, other], page)
        assert says in page.read_text()


@pytest.mark.usefixtures("undrawn")
def test_runs_of_one_name_are_told_apart_by_paths(finished_run: Path, copy: Path, tmp_path: Path) -> None:
    twin = copy.rename(tmp_path / finished_run.name)
    table = report.compare([finished_run, twin], tmp_path / "comparison.html")
    assert list(table.index) == [str(finished_run), str(twin)]


def test_an_unfinished_run_or_one_that_is_named_twice_is_not_compared(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(copy)
    for again in (copy, tmp_path / "link", copy / ".." / "run"):
        with pytest.raises(InputError, match=rf"^{again} and {copy} are one run: name each run once$"):
            report.compare([copy, again], tmp_path / "comparison.html")
    (copy / "evaluation.json").unlink()
    with pytest.raises(
        InputError, match=rf"^{copy / 'evaluation.json'} is missing: a training writes it at "
    ):
        report.compare([copy], tmp_path / "comparison.html")
    assert not (tmp_path / "comparison.html").exists()


def test_a_run_of_the_network_of_rows_is_not_compared(copy: Path, tmp_path: Path) -> None:
    PRESETS["row"].save(copy)
    with pytest.raises(InputError, match=rf"^{copy} is a run of the network row: networks of one digit are "):
        report.compare([copy], tmp_path / "comparison.html")


@pytest.mark.usefixtures("undrawn")
def test_a_comparison_replaces_only_earlier_ones(finished_run: Path, other: Path, tmp_path: Path) -> None:
    page = tmp_path / "comparison.html"
    report.compare([finished_run], page)
    report.compare([finished_run, other], page)
    assert "2 runs compared" in page.read_text()
    for file in (other / "report.html", other / "config.json"):
        before = file.read_bytes()
        with pytest.raises(InputError, match=rf"^{file} isn't an earlier comparison: choose another file "):
            report.compare([finished_run, other], file)
        assert file.read_bytes() == before


# In a browser


CUT = """() => [...document.querySelectorAll("body *")].filter(element => {
  const box = element.getBoundingClientRect();
  const outside = box.right > innerWidth + 1 || box.left < -1;
  const scrolls = element.matches(".wide") && element.scrollWidth > element.clientWidth + 1;
  return box.width && (outside || scrolls);
}).map(element => element.outerHTML.slice(0, 80))"""

OVERLAPPING = """() => [...document.querySelectorAll("svg")].flatMap(svg => {
  const boxes = [...svg.querySelectorAll("text")].filter(text => text.textContent.trim())
    .map(text => [text.getBoundingClientRect(), text.textContent]);
  return boxes.flatMap(([a, what], i) => boxes.slice(i + 1)
    .filter(([b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1.5
                     && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 5)
    .map(([, other]) => what + " / " + other));
})"""

SMALLEST = """() => Math.min(...[...document.querySelectorAll("svg text, svg tspan")]
  .filter(text => text.textContent.trim() && !text.children.length)
  .map(text => [getComputedStyle(text).fontSize, text.closest("text").getScreenCTM()])
  .map(([size, shown]) => parseFloat(size) * Math.hypot(shown.a, shown.b)))"""

STICKING_OUT = """() => [...document.querySelectorAll(".network g")].flatMap(group => {
  const box = group.querySelector("rect").getBoundingClientRect();
  return [...group.querySelectorAll("text")].filter(text => {
    const own = text.getBoundingClientRect();
    return own.left < box.left || own.right > box.right || own.top < box.top || own.bottom > box.bottom;
  }).map(text => text.textContent);
})"""


@pytest.fixture
def page(browser: "Browser") -> Iterator["Page"]:
    page = browser.new_page()
    yield page
    page.close()


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_cut_overlapping_or_too_small(page: "Page", written: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto((written / "report.html").as_uri())
    assert page.evaluate(CUT) == []
    assert page.evaluate(OVERLAPPING) == []
    assert page.evaluate(SMALLEST) >= 8  # pixels
    assert page.evaluate(STICKING_OUT) == []


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_of_a_comparison_is_cut_or_overlapping(
    page: "Page", finished_run: Path, tmp_path: Path, width: int
) -> None:
    twin = shutil.copytree(finished_run, tmp_path / f"{finished_run.name}-20260101-120000")
    report.compare([finished_run, twin], tmp_path / "comparison.html")
    page.set_viewport_size({"width": width, "height": 900})
    page.goto((tmp_path / "comparison.html").as_uri())
    assert page.evaluate(CUT) == []
    assert page.evaluate(OVERLAPPING) == []


def luminance(colour: str) -> float:
    """As WCAG 2 defines it."""
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@CONCAT
def test_the_page_loads_its_pictures_breaks_no_rule_of_its_own_and_is_legible_in_light_and_dark(
    page: "Page", written: Path
) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto((written / "report.html").as_uri())
    assert page.evaluate("[...document.images].every(image => image.naturalWidth == 28)")
    assert page.locator("img").count() >= report.SAMPLES
    assert complaints == []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colours = page.evaluate(
            """() => ["body", "figure svg text", "small"]
            .map(name => getComputedStyle(document.querySelector(name))).flatMap((style, i) =>
            i ? [style.fill != "rgb(0, 0, 0)" ? style.fill : style.color] : [style.backgroundColor])"""
        )
        ground, *texts = map(luminance, colours)
        for text in texts:
            assert (max(ground, text) + 0.05) / (min(ground, text) + 0.05) > 4.5


@pytest.mark.parametrize("written", ["exact"], indirect=True)  # which has the most layers
def test_the_page_is_printed_whole_in_the_colours_of_paper(page: "Page", written: Path) -> None:
    page.set_viewport_size({"width": round(180 / 25.4 * 96), "height": 900})  # A4 within its margins
    page.goto((written / "report.html").as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(CUT) == []
    assert page.evaluate(STICKING_OUT) == []
    assert page.evaluate("document.querySelector('.log').checkVisibility({contentVisibilityAuto: true})")
    colours = page.evaluate(
        """() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,
        getComputedStyle(document.querySelector(".module rect")).stroke,
        getComputedStyle(document.images[0]).filter]"""
    )
    assert colours == ["rgb(255, 255, 255)", "rgb(26, 27, 31)", "rgb(36, 86, 204)", "none"]
    whole = """() => ["p", "tr", "figure", ".figures", ".drawn", ".pictures"]
        .map(name => getComputedStyle(document.querySelector(name)).breakInside)"""
    assert page.evaluate(whole) == ["avoid"] * 6
    assert not page.locator("nav").is_visible()
    assert 5 <= len(re.findall(rb"/Type /Page\b", page.pdf(format="A4"))) <= 8
