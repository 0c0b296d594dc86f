"""The API reference, as `make docs` writes it."""

import os
import re
import shlex
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from pdoc.__main__ import cli
from pdoc.doc import Module
from pdoc.extract import walk_specs

import digitsum

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All pages by name, written by the Makefile's own command, but in this process."""
    folder = tmp_path_factory.mktemp("api")
    make = [
        "make",
        "--no-print-directory",
        "--dry-run",
        "docs",
        "--old-file=.venv/installed",
        f"API={folder}",
    ]
    environment = os.environ | {"MAKEFLAGS": ""}
    command = subprocess.check_output(make, cwd=ROOT, env=environment, text=True)
    program, _, arguments = command.partition(" -m pdoc ")
    assert program == ".venv/bin/python -W error"  # as it is here
    cli(shlex.split(arguments))
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.html")}


def test_the_first_page_is_the_packages(pages: dict[str, str]) -> None:
    assert pages.keys() == {"index.html", "digitsum.html", "digitsum/data/mnist.html"}
    assert "url=./digitsum.html" in pages["index.html"]
    assert "<title>digitsum API documentation</title>" in pages["digitsum.html"]


def test_every_public_name_has_its_place_with_its_docstring(pages: dict[str, str]) -> None:
    for name in digitsum.__all__:
        of_module = isinstance(getattr(digitsum, name), ModuleType)
        page = pages["digitsum/data/mnist.html" if of_module else "digitsum.html"]
        start = 'class="module-info"' if of_module else f'id="{name}"'
        found = re.search(rf"<section {start}>.*?</section>", page, re.DOTALL)
        assert found, name
        assert '<div class="docstring">' in found[0], name


def test_every_function_class_and_method_has_its_place_with_a_docstring(pages: dict[str, str]) -> None:
    for name in walk_specs(["digitsum", "digitsum.data.mnist"]):
        page = pages[f"{name.replace('.', '/')}.html"]
        documented = Module.from_name(name).flattened_own_members
        public = [each for each in documented if not re.search(r"(^|\.)_", each.qualname)]
        assert public
        for each in public:
            assert f'id="{each.qualname}"' in page, each.fullname
            assert each.docstring or each.kind == "variable", each.fullname


def test_examples_are_shown_as_code(pages: dict[str, str]) -> None:
    """Without a heading of its own, an example after a section is taken for a part of its list."""
    assert '<span class="gp">&gt;&gt;&gt; </span>' in pages["digitsum.html"]
    for page in pages.values():
        assert "<strong>&gt;&gt;&gt;" not in page


def test_the_pages_load_nothing_from_elsewhere(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert not re.search(r'<(link|script|img|iframe)[^>]*(src|href)="(https?:)?//', page)
