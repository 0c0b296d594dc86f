#!/usr/bin/env bash
# The package as a user gets it, on each Python from 3.11 to 3.14 that can be run here, those of version managers too,
# which the PATH may not show: a new virtual environment, the wheel with its base needs from the package index, a
# prediction outside the checkout. `make package` runs it.
set -euo pipefail
wheel=$(realpath "$1")
cd "$(mktemp --directory)"
trap 'rm -rf "$PWD"' EXIT
draw='import PIL.Image as P; one = P.new("L", (200, 200), 230); one.paste(40, (94, 30, 106, 170)); one.save("one.png")'
for version in 3.11 3.12 3.13 3.14; do
  pythons=$(for python in "python$version" {/usr,/usr/local}/bin/"python$version" \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python \
    "${XDG_DATA_HOME:-$HOME/.local/share}"/uv/python/cpython-"$version".*/bin/python; do
    "$python" -c 'import os, sys; print(os.path.realpath(sys.executable))' 2>/dev/null || true
  done | sort --unique)
  if [ -z "$pythons" ]; then
    echo "Python $version isn't here"
  fi
  for python in $pythons; do
    rm -rf venv
    "$python" -m venv venv
    venv/bin/pip install --quiet --disable-pip-version-check "$wheel"
    venv/bin/python -c "$draw"
    answer=$(venv/bin/digitsum predict one.png --addend 6 --json)
    if [[ $answer != *'"number": "1", "addend": "6", "sum": "7",'* ]] || venv/bin/python -c 'import torch' 2>/dev/null; then
      echo "$python: torch is there, or a wrong answer: $answer"
      exit 1
    fi
    echo "Python $(venv/bin/python -V | cut -d ' ' -f 2), $python: right"
  done
done
