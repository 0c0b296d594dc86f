"""A few examples for each target of benchmarks/fuzzing.py, which has them by the thousand."""

import resource
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
fuzzing = import_module("fuzzing")

EXAMPLES = {"config": 20, "evaluation": 12, "metrics": 12, "words": 40}  # others are quicker
# no example may take so many CPU seconds, nor all add so much to this process: many times what any needs
SECONDS, KILOBYTES = 50, 2_000_000


@st.composite
def changed(draw: st.DrawFn, target: str) -> bytes:
    """Change good bytes in a few places, or cut them."""
    data: bytes = draw(st.sampled_from(fuzzing.seeds(target)))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.integers(0, 8) | st.just(len(data)))
        data = data[:start] + draw(st.binary(max_size=8)) + data[end:]
    return data


WORDS = st.lists(st.sampled_from(fuzzing.WORDS) | st.text(max_size=5), max_size=8)
LINES = WORDS.map(lambda words: "\n".join(words).encode(errors="surrogatepass"))


@pytest.mark.parametrize(
    "target", sorted(fuzzing.TARGETS.keys() - {"onnx"})
)  # whose example takes seconds to make
def test_whatever_is_read_gives_an_answer_or_a_documented_error(target: str) -> None:
    @settings(
        max_examples=EXAMPLES.get(target, 100),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(LINES if target == "words" else changed(target) | st.binary(max_size=100))
    def check(data: bytes) -> None:
        start = time.process_time()
        fuzzing.TARGETS[target](data)
        assert time.process_time() - start < SECONDS

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < KILOBYTES
