"""`python -m benchmarks [NAME …]`: all benchmarks or some. Exit status 0 also when a target was missed."""

import argparse
import importlib
import io
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

import structlog
from rich.console import Console

from benchmarks.bench import SMALL_SCALE, Bench
from benchmarks.catalogue import NAMES
from benchmarks.measures import result_line, table
from dev.environment import isolated_environment, replaced_environment

RESULTS = Path(__file__).parent / "results"


class Tee(io.TextIOBase):
    """Standard output, kept."""

    def __init__(self) -> None:
        self.kept = io.StringIO()

    def write(self, what: str) -> int:
        sys.stdout.write(what)
        sys.stdout.flush()
        return self.kept.write(what)


def main() -> int:
    arguments = _arguments()
    # The product logs each of its thousands of steps; here it has nobody to tell.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    tee = Tee()
    scale = arguments.scale or (SMALL_SCALE if arguments.small else 1.0)
    out = Console(file=cast(IO[str], tee), width=120, highlight=False)
    with (
        replaced_environment(isolated_environment(os.environ)),
        Bench(out, scale=scale, small=arguments.small) as bench,
    ):
        for name in arguments.names or NAMES:
            _run(bench, name)
            if not arguments.small:
                RESULTS.mkdir(exist_ok=True)
                (RESULTS / f"{name}.txt").write_text(tee.kept.getvalue())
            tee.kept = io.StringIO()
    return 0


def _run(bench: Bench, name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    bench.out.rule(name, align="left")
    bench.out.print((module.__doc__ or "").splitlines()[0], soft_wrap=True, markup=False)
    bench.out.print(f"scale {bench.scale:g} of 3 million notifications and 2,000 services")
    began = time.monotonic()
    measures = module.run(bench)
    bench.out.print(table(measures, counts_only=bench.small))
    bench.out.print(f"{time.monotonic() - began:.0f} s")
    bench.out.print(result_line(name, measures, counts_only=bench.small), soft_wrap=True, markup=False)


def _arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *NAMES], metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--scale", type=float, help="times 3 million notifications (default 1; small: 0.02)")
    parser.add_argument("--small", action="store_true", help="minutes instead of an hour, and only counts are judged")
    return parser.parse_args(given)


if __name__ == "__main__":
    sys.exit(main())
