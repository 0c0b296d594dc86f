import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from digitsum import report
from digitsum.config import Config
from digitsum.evaluation import Evaluation, evaluate
from digitsum.networks import load
from digitsum.training import fit, load_parts

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SECTIONS = ["settings", "data", "network", "losses", "log", "evaluation", "answers"]
WIDTHS = [360, 1280]


def train(config: Config, run: Path) -> Path:
    fit(config, run)
    _, held_out = load_parts(config)
    evaluate(load(run), held_out, config.data, "held-out").save(run / "evaluation.json")
    return run


@pytest.fixture(scope="module", params=["concat", "exact"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    small = {"epochs": 2, "width": 4, "augment": False, "precision": "32-true"}
    config = Config(network=request.param, seed=3, **small)
    return train(config, tmp_path_factory.mktemp("runs") / request.param)


# of a test of what is the same for every network
ONE = pytest.mark.parametrize("run", ["concat"], indirect=True)


@pytest.fixture(scope="module")
def written(run: Path) -> Path:
    """A run folder with its report."""
    assert report.write_report(run) == []
    return run


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A run folder to damage."""
    return shutil.copytree(run, tmp_path / "run")


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
    assert f"{100 * evaluation.digit_accuracy:.2f}\N{NO-BREAK SPACE}%" in sections.words["evaluation"]
    assert "4,000 to train on and 1,000 held out" in sections.words["data"]
    assert "seed3" in re.sub(r"\s", "", sections.words["settings"])
    for setting in fields(Config):
        assert (setting.metadata["shown"]["help"].replace("**", "") in sections.words["settings"]) == (
            setting.default is not None
        )
    for row in (written / "metrics.csv").read_text().splitlines()[1:]:
        assert f"{float(row.split(',')[1]):.4f}" in sections.words["log"]


def test_the_page_needs_nothing_else(written: Path) -> None:
    page = (written / "report.html").read_text()
    assert len(page.encode()) < 2_000_000
    assert "<script" not in page
    links = re.findall(r"(?:src|href)=\"([^\"]*)\"", page)
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)


def test_the_command_repeats_the_run(run: Path) -> None:
    network = "" if run.name == "concat" else " --network exact"  # concat is the default
    expected = f"digitsum train --no-augment{network} --width 4 --epochs 2 --precision 32-true --seed 3"
    assert report.command(Config.load(run)) == expected


def test_a_report_takes_five_seconds_at_most(run: Path) -> None:
    start = time.process_time()  # of the processor: on a busy machine the clock tells of the others' work
    report.write_report(run)
    assert time.process_time() - start < 5


def test_the_most_confident_errors_come_first() -> None:
    """A 1 read as 7 with 0.8; a 2 misadded with one addend and 0.95; a right 3; a 4 read as 9 with 0.9."""
    label = np.array([1, 2, 3, 4])
    digit = np.array([[7] * 10, [2] * 10, [3] * 10, [9] * 10])
    sum_ = digit + np.arange(10)
    sum_[1, 6] = 0
    sure = np.array([[0.8] * 10, [0.5] * 10, [1.0] * 10, [0.9] * 10])
    sum_sure = sure.copy()
    sum_sure[1, 6] = 0.95
    trials = report.Trials(label, digit, sure, sure, sum_, sum_sure, sure)
    errors = report._most_confident_errors(trials, np.zeros((4, 1, 28, 28), np.uint8))
    assert [(error.label, error.addend, error.digit, error.sum) for error in errors] == [
        (2, 6, 2, 0),
        (4, 0, 9, 9),
        (1, 0, 7, 7),
    ]


def remove(file: Path) -> None:
    file.unlink()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def fill_with_words(file: Path) -> None:
    file.write_text("[1, 2, 3]")


@ONE
@pytest.mark.parametrize("damage", [remove, cut, fill_with_words])
@pytest.mark.parametrize(
    ("file", "lost"),
    [
        ("config.json", ["settings", "data", "network", "losses", "answers"]),
        ("metrics.csv", ["log"]),
        ("evaluation.json", ["evaluation"]),
        ("model.safetensors", ["answers"]),
    ],
)
def test_a_missing_or_damaged_file_is_named_and_the_rest_shown(
    copy: Path, damage: Callable[[Path], None], file: str, lost: list[str]
) -> None:
    damage(copy / file)
    (problem,) = report.write_report(copy)
    assert file in problem
    sections = Sections((copy / "report.html").read_text())
    assert list(sections.words) == SECTIONS
    assert sections.problems == dict.fromkeys(lost, problem)


@ONE
def test_data_that_are_gone_cost_only_what_shows_them(copy: Path) -> None:
    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(settings | {"data": "gone"}))
    (copy / "SHA256SUMS").unlink()
    (problem,) = report.write_report(copy)
    assert "gone" in problem
    assert list(Sections((copy / "report.html").read_text()).problems) == ["data", "answers"]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"^{tmp_path} isn't a run folder: it has none of config.json, "):
        report.write_report(tmp_path)
    assert not list(tmp_path.iterdir())


@ONE
def test_names_are_escaped(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "<script>alert(1)"
    folder.mkdir()
    (folder / "evaluation.json").write_bytes((run / "evaluation.json").read_bytes())
    report.write_report(folder)
    assert "<script" not in (folder / "report.html").read_text()


@ONE
def test_a_folder_of_pictures_whose_name_isn_t_utf_8_is_shown(copy: Path) -> None:
    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(settings | {"data": "\udcff"}))
    (copy / "SHA256SUMS").unlink()
    report.write_report(copy)
    assert "--data &#39;\\udcff&#39;" in (copy / "report.html").read_text()


@ONE
@pytest.mark.parametrize("value", ["1e31", "-1e31", "nan", "inf"])
def test_figures_that_can_t_be_drawn_are_damage(copy: Path, value: str) -> None:
    with (copy / "metrics.csv").open("a") as file:
        file.write(",".join([value] * 8) + "\n")
    (copy / "SHA256SUMS").unlink()
    (problem,) = report.write_report(copy)
    assert problem.startswith(f"{copy / 'metrics.csv'} is missing or damaged: expected rows of epoch, ")


@ONE
@pytest.mark.parametrize("environment", [[1], "text", 5])
def test_an_environment_that_is_no_object_is_damage(copy: Path, environment: object) -> None:
    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(settings | {"environment": environment}))
    (copy / "SHA256SUMS").unlink()
    assert report.write_report(copy) == [
        f"{copy / 'config.json'} is damaged: its environment isn't an object"
    ]


@ONE
@pytest.mark.usefixtures("weasyprint")
def test_a_pdf_is_written_beside_the_page(run: Path) -> None:
    report.write_report(run, pdf=True)
    assert (run / "report.pdf").read_bytes().startswith(b"%PDF-")


@ONE
def test_a_pdf_that_cannot_be_written_leaves_the_page(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    (run / "report.pdf").unlink(missing_ok=True)
    with pytest.raises(OSError, match=rf"^{run / 'report.pdf'} can't be written: WeasyPrint ends with "):
        report.write_report(run, pdf=True)
    assert (run / "report.html").is_file()
    assert not (run / "report.pdf").exists()


@ONE
def test_a_pdf_without_weasyprint_says_what_to_install(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "find_spec", lambda _: None)
    with pytest.raises(
        ModuleNotFoundError, match=r"^No module named 'weasyprint': pip install 'digitsum\[pdf\]'$"
    ):
        report.write_report(run, pdf=True)
    assert (run / "report.html").is_file()


# Comparing


@ONE
def test_a_comparison_shows_figures_curves_and_the_settings_that_differ(run: Path, tmp_path: Path) -> None:
    config = Config.load(run)
    other = train(replace(config, epochs=1, width=2), tmp_path / "other")
    table = report.compare([run, other], tmp_path / "comparison.html")
    assert list(table.index) == [run.name, "other"]
    for name, folder in ((run.name, run), ("other", other)):
        evaluation = Evaluation.load(folder / "evaluation.json")
        assert table.loc[name, "parameters"] == evaluation.parameters
        assert table.loc[name, "sum_accuracy"] == evaluation.sum_accuracy
    assert table["epochs"].tolist() == [2, 1]
    page = (tmp_path / "comparison.html").read_text()
    differing = page[page.index("Settings that differ") : page.index("<h2>Training")]
    assert re.findall(r"<tr><td>(\w+)</td>", differing) == ["width", "epochs"]
    assert "<td>2 epochs, " in page
    assert "<td>1 epoch, " in page
    assert "All runs held out the same images." in page
    assert page.count("<svg") == 4


@ONE
def test_a_comparison_says_when_runs_held_out_other_images(run: Path, tmp_path: Path) -> None:
    other = train(replace(Config.load(run), seed=4, epochs=1), tmp_path / "other")
    report.compare([run, other], tmp_path / "comparison.html")
    assert "The runs held out different images" in (tmp_path / "comparison.html").read_text()


@ONE
def test_runs_of_one_name_are_told_apart_by_their_paths(run: Path, copy: Path, tmp_path: Path) -> None:
    twin = copy.rename(tmp_path / run.name)
    table = report.compare([run, twin], tmp_path / "comparison.html")
    assert list(table.index) == [str(run), str(twin)]


@ONE
def test_an_unfinished_run_is_not_compared(run: Path, copy: Path, tmp_path: Path) -> None:
    (copy / "evaluation.json").unlink()
    with pytest.raises(ValueError, match=rf"^{copy / 'evaluation.json'} isn't the file of an evaluation: "):
        report.compare([run, copy], tmp_path / "comparison.html")
    assert not (tmp_path / "comparison.html").exists()


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


@pytest.fixture
def page(browser: "Browser", written: Path, request: pytest.FixtureRequest) -> Iterator["Page"]:
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    page.goto((written / "report.html").as_uri())
    yield page
    page.close()


@pytest.mark.parametrize("page", WIDTHS, indirect=True)
def test_nothing_is_cut_overlapping_or_too_small(page: "Page") -> None:
    assert page.evaluate(CUT) == []
    assert page.evaluate(OVERLAPPING) == []
    assert page.evaluate(SMALLEST) >= 8  # pixels


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_of_a_comparison_is_cut_or_overlapping(
    browser: "Browser", run: Path, tmp_path: Path, width: int
) -> None:
    twin = shutil.copytree(run, tmp_path / f"{run.name}-20260101-120000")
    report.compare([run, twin], tmp_path / "comparison.html")
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto((tmp_path / "comparison.html").as_uri())
    assert page.evaluate(CUT) == []
    assert page.evaluate(OVERLAPPING) == []
    page.close()


@pytest.mark.parametrize("page", WIDTHS, indirect=True)
def test_the_page_loads_every_picture_and_breaks_no_rule_of_its_own(page: "Page") -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.reload()
    assert page.evaluate("[...document.images].every(image => image.naturalWidth == 28)")
    assert page.locator("img").count() >= report.SAMPLES
    assert complaints == []


@pytest.mark.parametrize("page", WIDTHS, indirect=True)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_page_in_light_and_dark(page: "Page", scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    colours = page.evaluate(
        """() => [document.body, document.querySelector("figure svg text"), document.querySelector("small")]
        .map(element => getComputedStyle(element)).flatMap((style, i) =>
          i ? [style.fill != "rgb(0, 0, 0)" ? style.fill : style.color] : [style.backgroundColor])"""
    )
    ground, *texts = (luminance(colour) for colour in colours)
    for text in texts:
        assert (max(ground, text) + 0.05) / (min(ground, text) + 0.05) > 4.5


def luminance(colour: str) -> float:
    """As WCAG 2 defines it."""
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))
