"""`python -m benchmarks.page`: put what the last full runs printed into docs/benchmarks.md and docs/scaling.md.

Between `<!-- NAME -->` and `<!-- end -->` a page has the tables of benchmarks/results/NAME.txt; all else is prose.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / name for name in ("benchmarks.md", "scaling.md")]
RESULTS = ROOT / "benchmarks" / "results"
PLACE = re.compile(r"<!-- (?P<name>\w+) -->\n.*?<!-- end -->", re.DOTALL)
PROGRESS = "·"


def tables(printed: str) -> str:
    """A run's output without its heading, its progress and its RESULT line."""
    lines = printed.splitlines()[2:]
    kept = [line.rstrip() for line in lines if not line.startswith((PROGRESS, "RESULT "))]
    return "\n".join(kept).strip()


def page(text: str, results: dict[str, str]) -> str:
    """The page with its tables written anew, where there are results."""

    def place(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in results:
            return found[0]
        return f"<!-- {name} -->\n```\n{tables(results[name])}\n```\n<!-- end -->"

    return PLACE.sub(place, text)


if __name__ == "__main__":
    results = {path.stem: path.read_text() for path in RESULTS.glob("*.txt")}
    for one in PAGES:
        one.write_text(page(one.read_text(), results))
