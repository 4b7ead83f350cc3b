"""`python -m tests.faults`: one run by its seed, the short form, or the long one, which prints a table."""

import argparse
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import structlog
from rich.console import Console
from rich.table import Table

from tests.brokers import NAMES, VALKEY
from tests.faults.catalogue import ROUND, SHORT, faults_of, left_out, parse, possible
from tests.faults.laboratory import Laboratory, Outcome, laboratory
from tests.faults.run import FAULTS
from tests.variants import OWN, VARIANTS

LONG_RUNS = 2 * ROUND + 10
MIXED = "mixed"
KINDS = ("lost", "orphaned", "stuck", "records")
SHOWN = 8
Work = tuple[tuple[str, ...], int]


@dataclass
class Line:
    """A line of the table: a fault alone, or all mixes."""

    runs: int = 0
    hits: int = 0
    kills: int = 0
    lost: int = 0
    orphaned: int = 0
    stuck: int = 0
    records: int = 0

    def add(self, outcome: Outcome) -> None:
        self.runs += 1
        self.hits += outcome.hits
        self.kills += outcome.kills
        for kind in KINDS:
            setattr(self, kind, getattr(self, kind) + len(getattr(outcome.findings, kind)))


def main() -> int:
    """Exit status 1 if anything was lost, orphaned, stuck or miscounted."""
    arguments = _arguments()
    # The product's own events are in the workers' logs; here are only those of calls by hand.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    out = Console(width=120, highlight=False)
    began = time.monotonic()
    lines: dict[str, Line] = {}
    failed: list[Outcome] = []
    idle: list[str] = []
    with laboratory(arguments.broker, arguments.variant) as lab:
        for outcome in _outcomes(lab, _work(arguments)):
            name = outcome.names[0] if len(outcome.names) == 1 else MIXED
            for key in (name, "all"):
                lines.setdefault(key, Line()).add(outcome)
            _say(out, outcome)
            if outcome.findings.all:
                failed.append(outcome)
            if outcome.names and not outcome.hits:
                idle.append(f"{' + '.join(outcome.names)} (seed {outcome.seed})")
            if outcome.findings.all and arguments.trace:
                out.print(outcome.trace, soft_wrap=True, markup=False)
    _table(out, arguments.broker, arguments.variant, lines)
    if idle:
        out.print(f"never came about, so that these runs show nothing: {', '.join(idle)}", soft_wrap=True)
    out.print(f"{time.monotonic() - began:.0f} s")
    for outcome in failed:
        out.print(f"replay: {outcome.replay}", soft_wrap=True)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "--broker",
        choices=NAMES,
        default=VALKEY,
        help="run on this one (default %(default)s); redis and rabbitmq where TEST_REDIS_URL and TEST_RABBITMQ_URL "
        "name a server",
    )
    parser.add_argument(
        "--variant",
        choices=(*VARIANTS, OWN),
        default=OWN,
        help="the database: a platform's that has adopted the pipeline, or our own schema (default %(default)s)",
    )
    parser.add_argument("--seed", type=int, help="do the run of this seed")
    parser.add_argument("--fault", help="with this fault, or these: 'one + another'; 'none' for a night without")
    parser.add_argument("--runs", type=int, default=LONG_RUNS, help="runs of the long form (default %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first seed of the long form")
    parser.add_argument("--times", type=int, default=1, help="repeat a single run, whose timing is never the same")
    parser.add_argument("--trace", action="store_true", help="print the chains, steps and workers' logs of failed runs")
    parser.add_argument("--short", action="store_true", help="each fault once")
    return parser.parse_args()


def _work(arguments: argparse.Namespace) -> Iterable[Work]:
    if arguments.seed is not None or arguments.fault:
        seed = arguments.seed or 0
        names = faults_of(seed) if not arguments.fault else () if arguments.fault == "none" else parse(arguments.fault)
        return [(names, seed)] * arguments.times
    if arguments.short:
        return [((name,), seed) for seed, name in enumerate(SHORT)]
    return [(faults_of(seed), seed) for seed in range(arguments.first, arguments.first + arguments.runs)]


def _outcomes(lab: Laboratory, work: Iterable[Work]) -> Iterator[Outcome]:
    for names, seed in work:
        meant = possible(names, lab.kind, lab.variant)
        if meant or not names:
            yield lab.run(meant, seed)


def _say(out: Console, outcome: Outcome) -> None:
    verdict = "FAILED" if outcome.findings.all else "ok"
    out.print(
        f"{outcome.seed:>4} {' + '.join(outcome.names) or 'none'}: {verdict}, {outcome.seconds:.1f} s, "
        f"{outcome.hits} hits, {outcome.kills} kills",
        soft_wrap=True,
        markup=False,
    )
    for kind in KINDS:
        found = getattr(outcome.findings, kind)
        for finding in found[:SHOWN]:
            out.print(f"       {kind}: {finding}", soft_wrap=True, markup=False)
        if len(found) > SHOWN:
            out.print(f"       {kind}: and {len(found) - SHOWN} more")
    sys.stdout.flush()


def _table(out: Console, broker: str, variant: str, lines: dict[str, Line]) -> None:
    where = broker if variant == OWN else f"{broker} and {variant}"
    table = Table(f"fault, on {where}", *(field.name for field in fields(Line)))
    for column in table.columns[1:]:
        column.justify = "right"
    for name in [*FAULTS, MIXED, "none", "all"]:
        if name in lines:
            table.add_row(name, *(str(getattr(lines[name], field.name)) for field in fields(Line)))
    out.print(table)
    reasons: dict[str, list[str]] = {}
    for name, why in left_out(broker, variant).items():
        reasons.setdefault(why, []).append(name)
    for why, names in reasons.items():
        out.print(f"left out, since {why}: {len(names)} ({', '.join(names)})", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
