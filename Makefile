# `make train` and `make test` need nothing but Python 3.11 or later and a package index:
# each first makes a virtual environment in .venv, once, and installs the pinned packages there.
PYTHON ?= python3
BIN := .venv/bin
API := docs/api
# three at a time also on two cores: tests wait for programs that they start, all of which would compile again what
# they import where Python is told to keep no bytecode
unexport PYTHONDONTWRITEBYTECODE
PYTEST = $(BIN)/pytest --numprocesses 3 --dist worksteal

.PHONY: train test test-docs test-slow lint check docs tour weights package format clean

train: .venv/installed  ## train the reference network on the embedded images, then evaluate it
	$(BIN)/digitsum train

test: .venv/installed  ## run the tests and every example in a docstring
	$(PYTEST) -m "not docs and not weights and not slow"

test-docs: .venv/installed  ## run every example of the README and the tour
	$(PYTEST) -m docs

test-slow: .venv/installed  ## kill trainings, attack the service, fuzz what is read, cut the cable of two hosts: minutes
	$(PYTEST) -m slow

lint: .venv/installed  ## format, style, the walls between the wings, types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports
	$(BIN)/mypy

check: lint test test-docs  ## what a change must pass

docs: .venv/installed  ## write the API reference, made from the docstrings, into docs/api
	$(BIN)/python -W error -m pdoc --docformat numpy --output-directory $(API) digitsum digitsum.data.mnist

weights: .venv/installed  ## train the networks that come with the package, on MNIST: long
	$(BIN)/python benchmarks/weights.py exact concat row
	$(PYTEST) -m weights

tour: .venv/installed  ## execute the tour and store it with its outputs
	$(BIN)/python examples/execute.py

package: .venv/installed  ## build the package in dist, and try it on each Python that is here
	rm -rf dist
	$(BIN)/hatchling build
	tests/pythons.sh dist/*.whl

format: .venv/installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf .venv dist $(API)

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,serve,batch,dev]'
	touch $@
