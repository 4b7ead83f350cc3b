"""`python -m tests.faults.guards`: take out one guard of the product at a time, in a copy, and see the fault find it.

Each entry names the guard, the text that is it, what it is replaced by, and the fault under which the laboratory
must then find something. README.md has the results.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dev.product import ROOT
from tests.variants import OWN

COPIED = ("app", "deploy", "migrations", "tests", "pyproject.toml")
DAO = "app/dao/notifications_dao.py"
LEASES = "app/dao/leases.py"
LETTERS = "app/retention/letters.py"
SEARCH = "app/retention/letter_search.py"
TIMES = 3
SECONDS_MOST = 400


@dataclass(frozen=True)
class Guard:
    """`pieces` are (file, text, replacement)."""

    name: str
    fault: str
    pieces: tuple[tuple[str, str, str], ...]
    seed: int = 1
    variant: str = OWN


GUARDS = (
    Guard(
        "the lease's token is compared when a chain advances",
        "a worker that outlives its lease",
        (
            (
                LEASES,
                "WHERE {key} = :key AND lease_token = :token RETURNING",
                "WHERE {key} = :key RETURNING",
            ),
        ),
    ),
    Guard(
        "chosen rows are locked, and the rows deleted are counted",
        "eight chains for one service",
        (
            (DAO, "FOR UPDATE OF n SKIP LOCKED\n", ""),
            (DAO, "    if deleted != batch.rows:", "    if False:"),
            (DAO, "    if taken != len(ids):", "    if False:"),
        ),
    ),
    Guard(
        "chosen rows are locked until they are moved",
        "receipts arrive for rows that a step has",
        ((DAO, "FOR UPDATE OF n SKIP LOCKED\n", ""),),
    ),
    Guard(
        "a row that a trigger keeps from replacing its like in history has not arrived there",
        "the database refuses single rows",
        ((DAO, "updated_at, h.created_at) > coalesce(b.", "updated_at, h.created_at) >= coalesce(b."),),
        seed=3,
    ),
    Guard(
        "a status that finds no live row goes to history",
        "receipts arrive for rows that a step has",
        ((DAO, "if connection.execute(platform.clause(UPDATE_HISTORY), values).rowcount:", "if False:"),),
    ),
    Guard(
        "files go before the row: only letters whose files are gone move",
        "S3 refuses single keys for good",
        ((LETTERS, "if id_ in deletion.gone or not files[id_]", "if True"),),
    ),
    Guard(
        "the database is asked before the first file goes",
        "the database refuses single rows",
        (
            (
                LETTERS,
                "    prepared = _prepare(batch, answered)\n",
                "    files = {id_: found.search.files[id_] for id_ in answered}\n"
                "    batch.tools.files.delete(files, batch.deadline)\n"
                "    prepared = _prepare(batch, answered)\n",
            ),
        ),
    ),
    Guard(
        "a row that the database refuses is isolated",
        "the database refuses single rows",
        (
            (
                "app/engine/batch.py",
                "    if not refusal.may_be_one_row:\n        raise Refused(refusal)\n    found",
                "    raise Refused(refusal)\n    found",
            ),
        ),
    ),
    Guard(
        "a file that S3 refused is not taken for gone",
        "S3 refuses single keys for good",
        (("app/storage/deletion.py", "if not code or code in ALREADY_GONE:", "if True:"),),
    ),
    Guard(
        "what is about to be deleted is written ahead",
        "SIGKILL after the files + SIGKILL after the history insert + SIGKILL before the commit",
        ((SEARCH, "    if not ids:\n        return None", "    return None"),),
    ),
    Guard(
        "the dispatcher wakes what is due",
        "messages are lost",
        (("app/retention/nightly.py", "wakes += [Wake(*row) for row in due_chains]", ""),),
    ),
    Guard(
        "a lost fan-out is sent again",
        "an error in the night's start",
        (
            (
                "app/celery/nightly_tasks.py",
                "for night, notification_type in types:",
                "for night, notification_type in ():",
            ),
        ),
    ),
    Guard(
        "deferred letters are tried again",
        "S3 refuses single keys for a while",
        (
            (
                "app/retention/nightly.py",
                "deferred_dao.due(connection, now, SERVICES_PER_LOOK)",
                "[]",
            ),
        ),
    ),
    Guard(
        "versions and markers are files",
        "buckets that keep versions",
        (("app/storage/listing.py", 'never_versioned = "Status" not in state', "never_versioned = True"),),
    ),
    Guard(
        "the newer of two versions wins in history",
        "none",
        ((DAO, "WHERE coalesce(excluded.updated_at", "WHERE true OR coalesce(excluded.updated_at"),),
    ),
    Guard(
        "test rows never reach history",
        "none",
        ((DAO, """REAL: "n.key_type <> 'test'\"""", 'REAL: "true"'),),
    ),
    Guard(
        "letters that are not final stay",
        "none",
        (
            (
                DAO,
                "  AND (%(statuses_final)s::{status}[] IS NULL OR n.notification_status = ANY "
                "(%(statuses_final)s::{status}[]))\n",
                "",
            ),
        ),
    ),
    Guard(
        "what a retention reaches counts from its night",
        "the clock: tasks are executed a day late",
        (("app/celery/nightly_tasks.py", "fan_out(EMAIL, checked_night(night, tools().settings))", "fan_out(EMAIL)"),),
    ),
    Guard(
        "a task's own cut-off counts where it is the earlier one",
        "a cut-off that is not midnight",
        (("app/retention/cutoffs.py", "return min(argument, cutoff(", "return max(argument, cutoff("),),
    ),
    Guard(
        "days are the calendar's, not 24 hours",
        "the clock: a night in spring, an hour is missing",
        (
            (
                "app/retention/cutoff_rules.py",
                "return clock.first_instant(night - days * ONE_DAY, zone)",
                "return clock.first_instant(night, zone) - days * ONE_DAY",
            ),
        ),
        seed=37,
    ),
    Guard(
        "on B: a day is over when its last microsecond is",
        "none",
        (("app/retention/cutoff_rules.py", "time.max, UTC", "time(), UTC"),),
        variant="gc-notify",
    ),
    Guard(
        "on D: a letter's folder goes by the date on which it was sent",
        "none",
        (
            (
                "app/storage/folders.py",
                "return [_named(sent_at.astimezone(UTC).date())]",
                "return [_named(created_at.astimezone(UTC).date())]",
            ),
        ),
        variant="va-notify",
    ),
    Guard(
        "on D: what a row of another table refers to stays",
        "none",
        (("app/dao/referring.py", 'if key.table in deleted else "defer"', 'if key.table in deleted else "cascade"'),),
        variant="va-notify",
    ),
)


def main() -> int:
    """Exit status 1 if a guard was taken out and nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.guards", description=__doc__)
    parser.add_argument("--only", default="", help="guards whose name has this in it")
    chosen = [guard for guard in GUARDS if parser.parse_args().only in guard.name]
    unseen = 0
    for guard in chosen:
        found = try_without(guard)
        unseen += not found
        print(f"{'found' if found else 'NOT FOUND'}: {guard.name} | {guard.fault} | {found}", flush=True)
    return 1 if unseen else 0


def try_without(guard: Guard) -> str:
    """What the laboratory says first of the product without this guard; empty if it has nothing to say."""
    with tempfile.TemporaryDirectory(prefix="guards-") as directory:
        copy = Path(directory)
        for name in COPIED:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
        for file, text, replacement in guard.pieces:
            before = (copy / file).read_text()
            if text not in before:
                raise LookupError(f"{guard.name}: {file} no longer has {text!r}")
            (copy / file).write_text(before.replace(text, replacement, 1))
        argv = [sys.executable, "-m", "tests.faults", "--seed", str(guard.seed), "--fault", guard.fault]
        argv += ["--variant", guard.variant]
        run = subprocess.run(
            [*argv, "--times", str(TIMES)], cwd=copy, capture_output=True, text=True, timeout=SECONDS_MOST
        )
    finding = re.search(r"^\s+(?:lost|orphaned|stuck|records): .*$", run.stdout, re.MULTILINE)
    if run.returncode and not finding:
        raise RuntimeError(f"{guard.name}: {run.stdout[-2000:]}{run.stderr[-2000:]}")
    return finding[0].strip() if finding else ""


if __name__ == "__main__":
    sys.exit(main())
