#!/usr/bin/env bash
# The package as a user gets it, on each Python from 3.11 to 3.14 that can be run here: a new virtual environment, the
# wheel with its base needs from the package index, a prediction outside the checkout. `make package` runs it.
set -euo pipefail
wheel=$(realpath "$1")
cd "$(mktemp --directory)"
trap 'rm -rf "$PWD"' EXIT
draw='import PIL.Image as P; one = P.new("L", (200, 200), 230); one.paste(40, (94, 30, 106, 170)); one.save("one.png")'
for version in 3.11 3.12 3.13 3.14; do
  if ! "python$version" -c '' 2>/dev/null; then
    echo "Python $version isn't here"
    continue
  fi
  "python$version" -m venv "$version"
  "$version/bin/pip" install --quiet --disable-pip-version-check "$wheel"
  "$version/bin/python" -c "$draw"
  answer=$("$version/bin/digitsum" predict one.png --addend 6 --json)
  if [[ $answer != *'"number": 1, "sum": 7,'* ]] || "$version/bin/python" -c 'import torch' 2>/dev/null; then
    echo "Python $version: torch is there, or a wrong answer: $answer"
    exit 1
  fi
  echo "Python $("$version/bin/python" -V | cut -d ' ' -f 2): right"
done
