"""The benchmarks in their small form: they run, and no count (buffers, rows, bytes) misses its target.

Times are measured and not judged. Seen to fail: the chain's lower bound taken out (snapshot), test notifications chosen
with the real ones (drain), the swap without its catch-up (partitions), half as many keys in a delete (letters), the
folders' index switched off (folders).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.catalogue import NAMES
from benchmarks.measures import Measure, missed, result_line

ROOT = Path(__file__).parents[2]
SECONDS = 600


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, object]]:
    """What each printed in its last line, from one run of all."""
    command = [sys.executable, "-m", "benchmarks", "--small"]
    run = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=SECONDS)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    lines = [line.removeprefix("RESULT ") for line in run.stdout.splitlines() if line.startswith("RESULT ")]
    return {result["name"]: result for result in map(json.loads, lines)}


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs_and_misses_no_count(results: dict[str, dict[str, object]], name: str) -> None:
    assert results[name]["measures"]
    assert results[name]["missed"] == []


@pytest.mark.parametrize(
    ("value", "at_least", "at_most", "is_missed"),
    [
        (2.1, 2.1, None, False),
        (2.09, 2.1, None, True),
        (0.2, None, 0.2, False),
        (0.21, None, 0.2, True),
        (1.0, 1.0, 1.0, False),
        (0.99, 1.0, 1.0, True),
        (1.01, 1.0, 1.0, True),
        (5.0, None, None, False),
    ],
)
def test_a_target_is_missed_beyond_its_bound(
    value: float, at_least: float | None, at_most: float | None, is_missed: bool
) -> None:
    measure = Measure("one", value, at_least=at_least, at_most=at_most, is_count=True)
    assert missed([measure], counts_only=False) == (["one"] if is_missed else [])


def test_the_small_form_judges_counts_alone() -> None:
    measures = [Measure("time", 9, at_most=1), Measure("count", 9, at_most=1, is_count=True)]
    assert missed(measures, counts_only=True) == ["count"]
    line = result_line("both", measures, counts_only=False)
    assert json.loads(line.removeprefix("RESULT "))["missed"] == ["time", "count"]
