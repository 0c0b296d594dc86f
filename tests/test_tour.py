import re
import sys
from importlib import import_module
from pathlib import Path

import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec
from nbformat import NotebookNode

sys.path.append(str(Path(__file__).parents[1] / "examples"))
execute = import_module("execute")

Outline = dict[str, list[tuple[str, ...]]]


@pytest.fixture
def stored() -> NotebookNode:
    tour = nbformat.read(execute.TOUR, as_version=4)
    nbformat.validate(tour)
    return tour


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders where the tour must leave nothing; what Jupyter keeps goes to a home of its own."""
    work, temporary, home, jupyter = (tmp_path / name for name in ("work", "temporary", "home", "jupyter"))
    for folder in (work, temporary, home):
        folder.mkdir()
    write_kernel_spec(jupyter / "kernels" / "python3")  # this interpreter, whatever python3 is elsewhere
    environment = {"HOME": home, "TMPDIR": temporary, "JUPYTER_PATH": jupyter, "JUPYTER_PLATFORM_DIRS": 1}
    environment["TORCHINDUCTOR_CACHE_DIR"] = home  # torch makes a folder of that cache when it is imported
    offline = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")  # where nobody answers
    for name, value in (environment | offline).items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("DIGITSUM_DATA", raising=False)
    return [work, temporary]


def outputs(tour: NotebookNode) -> Outline:
    """Kinds and words of each cell's outputs: numbers depend on the processor, pixels on the fonts."""
    return {cell.id: [outline(output) for output in cell.outputs] for cell in code(tour)}


def outline(output: NotebookNode) -> tuple[str, ...]:
    if output.output_type == "stream":
        return output.name, *words(output.text)
    return output.output_type, *sorted(output.data), *words(output.data["text/plain"])


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z_]+", re.sub(r"<Figure.*>", "", text))


def code(tour: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in tour.cells if cell.cell_type == "code"]


@pytest.mark.docs
def test_the_tour_runs_and_says_what_is_stored(stored: NotebookNode, places: list[Path]) -> None:
    executed = execute.execute(places[0])  # a cell that fails or takes too long raises
    assert outputs(executed) == outputs(stored)
    assert [list(place.iterdir()) for place in places] == [[], []]


def test_the_stored_tour_is_whole_and_says_nothing_of_a_machine(stored: NotebookNode) -> None:
    cells = code(stored)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs) >= 10
    assert not [cell.id for cell in cells if any(output.get("name") == "stderr" for output in cell.outputs)]
    assert not [cell.id for cell in stored.cells if cell.metadata]
    assert stored.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    text = execute.TOUR.read_text()
    assert not re.search(r"(?<![\w.])/(home|root|tmp|usr|var|work|Users)\b", text)
    assert len(text) < 700_000


def test_each_exercise_has_its_solution_behind_a_fold(stored: NotebookNode) -> None:
    (text,) = [cell.source for cell in stored.cells if cell.id == "exercises"]
    exercises = re.findall(r"^\d(?=\. )", text, re.MULTILINE)
    assert re.findall(r"<details>\n<summary>Solution of exercise (\d)</summary>\n\n", text) == exercises
    assert text.count("\n\n</details>") == len(exercises)
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        compile(code, "a solution", "exec")


def test_the_tours_links_lead_to_files(stored: NotebookNode) -> None:
    text = "\n".join(cell.source for cell in stored.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert not [link for link in links if not (execute.TOUR.parent / link).exists()]
