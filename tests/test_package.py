"""The package as it is handed out: what its archives hold, what an index shows, what it needs to predict."""

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from PIL import Image

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "digitsum"
README = (ROOT / "README.md").read_text()
FILES = {str(path.relative_to(ROOT / "src")) for path in SOURCE.rglob("*.*") if path.suffix != ".pyc"}


def build(target: str, source: Path, folder: Path) -> Path:
    """Build without a network: the builder is this environment's."""
    command = [sys.executable, "-W", "error", "-m", "hatchling", "build", "--target", target]
    subprocess.run([*command, "--directory", folder], cwd=source, check=True, capture_output=True)
    (archive,) = folder.iterdir()
    return archive


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as an index has it: built from what the source archive holds."""
    with tarfile.open(sdist) as archive:
        for (
            member
        ) in archive:  # each a file; the filter without which extractall warns came with Python 3.11.4
            content, path = archive.extractfile(member), sdist.parent / member.name
            assert content
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read())
    source = sdist.with_name(sdist.name.removesuffix(".tar.gz"))
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def about(wheel: Path) -> Metadata:
    """What the wheel says of itself, valid by the standard for it."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Metadata.from_email(archive.read(name), validate=True)


def test_the_source_archive_holds_the_package_and_no_more(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    others = {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore"}
    assert names == {f"src/{name}" for name in FILES} | others


def test_the_wheel_holds_the_package_and_no_more(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == FILES
    assert {name.split("/", 1)[1] for name in names - FILES} == {
        *("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    }
    files = [f"weights/{name}/{file}" for name in ("exact", "concat") for file in ("model.onnx", "README.md")]
    weights = [f"weights/{name}/model.safetensors" for name in ("exact", "concat")]
    pages = ["serving/static/page.html", "reporting/templates/report.html", "serving/static/prepare.js"]
    assert {f"digitsum/{name}" for name in [*files, *weights, *pages, "py.typed"]} <= names


def test_the_wheel_of_the_checkout_is_that_of_the_source_archive(wheel: Path, tmp_path: Path) -> None:
    assert build("wheel", ROOT, tmp_path).read_bytes() == wheel.read_bytes()


def test_the_licence_is_said_once(about: Metadata) -> None:
    assert about.license_expression == "MIT"
    assert about.license_files == ["LICENSE"]
    assert about.classifiers
    assert not [name for name in about.classifiers if name.startswith("License ::")]


def test_the_pythons_it_names_are_some_that_it_allows(about: Metadata) -> None:
    versions = re.findall(r"Python :: (3\.\d+)", "\n".join(about.classifiers or []))
    assert versions[0] == "3.11"
    assert about.requires_python is not None
    assert [version for version in ("3.10", *versions) if version not in about.requires_python] == ["3.10"]


def parts(tokens: Iterable[Token]) -> Iterator[Token]:
    """Everything in a text, from outside to inside."""
    for token in tokens:
        yield token
        yield from parts(token.children or [])


def targets(text: str) -> set[str]:
    """Where the links and pictures of a text lead to."""
    attributes = [
        part.attrs for part in parts(MarkdownIt().parse(text)) if part.type in ("link_open", "image")
    ]
    return {str(each.get("href", each.get("src"))) for each in attributes}


def words(text: str) -> str:
    """What a text says; a picture says its description."""
    return "".join(part.content for part in parts(MarkdownIt().parse(text)) if not part.children)


def test_the_long_description_has_no_link_or_picture_that_leads_nowhere(about: Metadata) -> None:
    assert about.description_content_type == "text/markdown"
    assert about.description is not None
    assert targets(README) > {"docs/page.png", "benchmarks/RESULTS.md", "examples/tour.ipynb"}
    addresses = {target for target in targets(README) if target.startswith(("http://", "https://"))}
    assert addresses
    assert targets(about.description) == addresses


def test_the_long_description_says_all_that_the_readme_does(about: Metadata) -> None:
    assert about.description is not None
    assert words(about.description).split() == words(README).split()


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with the wheel and its base needs alone: without `site`, Python finds nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target"]
    subprocess.run([*pip, folder / "wheel", wheel], check=True)
    (folder / "needs").mkdir()
    (package,) = metadata.distributions(path=[str(folder / "wheel")])
    for need in needs(package):
        for top in {file.parts[0] for file in need.files or [] if ".." not in file.parts}:
            if not (folder / "needs" / top).exists():
                (folder / "needs" / top).symlink_to(need.locate_file(top))
    return os.environ | {"PYTHONPATH": f"{folder / 'wheel'}{os.pathsep}{folder / 'needs'}"}


def needs(package: metadata.Distribution, extra: str = "") -> Iterator[metadata.Distribution]:
    """What `pip install` of the package, of one of its extras, would bring along."""
    for line in package.requires or []:
        need = Requirement(line)
        if need.marker is None or need.marker.evaluate({"extra": extra}):
            found = metadata.distribution(need.name)
            for name in (None, *need.extras):
                yield from (found, *needs(found, name or ""))


def run(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", "-W", "error", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_it_predicts_with_the_base_needs_alone(installed: dict[str, str], tmp_path: Path) -> None:
    one = Image.new("L", (200, 200), 230)
    one.paste(40, (94, 30, 106, 170))
    one.save(tmp_path / "one.png")
    done = run(installed, tmp_path, "-m", "digitsum", "predict", "one.png", "--addend", "6", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert (answer["number"], answer["sum"], answer["uncertain"]) == ("1", "7", False)


def test_without_an_extra_a_command_says_what_to_install(installed: dict[str, str], tmp_path: Path) -> None:
    done = run(installed, tmp_path, "-m", "digitsum", "train")
    assert done.returncode == 1
    assert re.fullmatch(r"digitsum: .*: pip install 'digitsum\[train\]'\n", done.stderr)
    assert not list(tmp_path.iterdir())


def test_only_the_base_needs_are_found(installed: dict[str, str], tmp_path: Path) -> None:
    program = "import digitsum, importlib.util as u; print(digitsum.__file__, u.find_spec('torch'))"
    done = run(installed, tmp_path, "-c", program)
    assert done.stdout == f"{installed['PYTHONPATH'].split(os.pathsep)[0]}/digitsum/__init__.py None\n"
