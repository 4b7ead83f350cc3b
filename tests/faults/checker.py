"""The judgement of a run, from what was there before and what is there after it, by the platform's own rules. Shares no
code with `app`.

Three kinds of findings: rows that are `lost`, files that are `orphaned`, what is `stuck`; and `records` that
don't say what happened.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from tests.faults.data import SAFE, Data
from tests.faults.world import FileName, Row, World

SETTLES_WITHIN = timedelta(seconds=1)
PERSONAL = {"to", "normalised_to", "_personalisation", "reply_to_text", "unsubscribe_link"}
UNHEARD = ("OutOfTime", "Unreachable")
"""Outcomes of steps that did not wait for all of S3's answers."""
STAYS, MOVES, GOES, WAITS = "stays", "moves", "goes", "waits"


@dataclass
class Rules:
    """What the run was to do: the night, its cut-offs and owners of files are the data's."""

    data: Data
    before_limit: datetime | None = None
    """Naive UTC: no row at or after it may move, whatever its retention says."""
    may_wait: set[UUID] = field(default_factory=set)
    """Letters that may be held back at the end, since what is in their way does not end with the fault."""
    statuses: dict[UUID, str] = field(default_factory=dict)
    """The last status that a receipt wrote."""
    files_are_exact: bool = True
    """No step was undone, and no answer of S3 lost, after files had gone. Else steps may record fewer than went."""
    resting: set[str] = field(default_factory=set)
    """Reasons for which chains may rest at the end."""


@dataclass
class Findings:
    """One sentence for each violation, of ids and names alone."""

    lost: list[str] = field(default_factory=list)
    orphaned: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    records: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[str]:
        kinds = {"lost": self.lost, "orphaned": self.orphaned, "stuck": self.stuck, "records": self.records}
        return [f"{kind}: {finding}" for kind, findings in kinds.items() for finding in findings]


def judge(before: World, after: World, rules: Rules) -> Findings:
    """Every promise that can be seen from outside."""
    findings = Findings()
    for id_, row in before.live.items():
        findings.lost += _lost(row, before.history.get(id_), after, rules)
        findings.stuck += _kept_too_long(row, after, rules)
    findings.lost += _strangers(before, after)
    findings.lost += _referring(before, after, rules)
    findings.orphaned += _orphaned(before, after, rules)
    findings.stuck[:0] = _unfinished(after, rules)
    findings.records += _miscounted(before, after, rules)
    return findings


def fate(row: Row, rules: Rules) -> str:
    """What must become of a live row."""
    service, kind, policy = row["service_id"], row["notification_type"], rules.data.policy
    if row["id"] in rules.data.kept_by_others():
        return STAYS
    if service is None or rules.data.days.get((service, kind), 1) <= 0:
        return STAYS
    cutoff = rules.data.cutoff(service, kind)
    if row["created_at"] >= (min(cutoff, rules.before_limit) if rules.before_limit else cutoff):
        return STAYS
    if kind == "letter" and policy.keeps(row):
        return STAYS
    if kind == "letter" and policy.buckets and (set(row["reference"]) - set(SAFE) or policy.is_anywhere(row)):
        return WAITS
    return GOES if row["key_type"] == "test" else MOVES


def _lost(row: Row, old_history: Row | None, after: World, rules: Rules) -> Iterator[str]:
    id_, must = row["id"], fate(row, rules)
    live, history = after.live.get(id_), after.history.get(id_)
    what = f"{row['notification_type']} {id_} ({row['key_type']}, created {row['created_at']}, {must})"
    if live is None and must in (STAYS, WAITS):
        yield f"{what} has left notifications"
    if live is not None and _changed(live, row, rules.statuses.get(id_), set(live)):
        yield f"{what} is another row in notifications than it was"
    if must == GOES or row["key_type"] == "test":
        if history is not None and old_history is None:
            yield f"{what} is a test row, and is in history"
    elif live is None and history is None:
        yield f"{what} is in neither table"
    elif live is not None and history is not None and old_history is None:
        yield f"{what} is in both tables"
    if history is not None and live is None and must == MOVES:
        expected = _newer(row, old_history)
        if _changed(history, expected, rules.statuses.get(id_), set(history)):
            yield f"{what} has other values in history than it should"
    if history is not None and live is not None and old_history is not None and history != old_history:
        yield f"{what} has not moved, but its row in history has changed"
    if history is None and old_history is not None:
        yield f"{what} has left history"


def _newer(row: Row, old_history: Row | None) -> Row:
    """Which of two versions history keeps: the one changed last, the live one on a tie."""
    if old_history is None:
        return row
    live_at, history_at = ((one["updated_at"] or one["created_at"]) for one in (row, old_history))
    return old_history if history_at > live_at else row


def _changed(now: Row, was: Row, status: str | None, columns: set[str]) -> list[str]:
    """Columns that differ. A receipt may change the status, to the last one that it wrote, and updated_at."""
    excused = {"updated_at"} if status else set()
    expected = was | {"notification_status": status} if status else was
    return [name for name in sorted(columns - excused) if now[name] != expected[name]]


def _strangers(before: World, after: World) -> Iterator[str]:
    known = before.live.keys() | before.history.keys()
    yield from (f"{id_} was never there" for id_ in (after.live.keys() | after.history.keys()) - known)
    for id_ in before.history.keys() - before.live.keys():
        if after.history.get(id_) != before.history[id_]:
            yield f"{id_} was in history alone, and is changed or gone"
    for row in after.history.values():
        if PERSONAL & row.keys():
            yield f"history keeps {PERSONAL & row.keys()}"
            return


def _referring(before: World, after: World, rules: Rules) -> Iterator[str]:
    """Rows of other tables stay as they are; those that go by themselves go with their notification, not before."""
    for table, rows in before.referring.items():
        for row in rows:
            id_ = row["notification_id"]
            must = table in rules.data.policy.deferring or id_ in after.live
            if must != (row in after.referring[table]):
                yield f"a row of {table} that refers to {id_} {'is gone or changed' if must else 'is still there'}"
        if any(row not in rows for row in after.referring[table]):
            yield f"a row of {table} was never there"


def _kept_too_long(row: Row, after: World, rules: Rules) -> Iterator[str]:
    id_, must = row["id"], fate(row, rules)
    if id_ not in after.live or must == STAYS:
        return
    reason = _reason(row, after)
    if must == WAITS or id_ in rules.may_wait:
        if not reason:
            yield f"{row['notification_type']} {id_} is held back without a reason"
    else:
        yield f"{row['notification_type']} {id_} should be gone ({row['key_type']}), deferred: {reason}"


def _reason(row: Row, after: World) -> str | None:
    """Why a letter is held back: a record of its own, or one of a bucket of its service and kind."""
    own = after.deferred.get(row["id"])
    if own is not None:
        return own["reason"]
    kind = "test" if row["key_type"] == "test" else "real"
    for bucket in after.deferred_buckets:
        if (
            bucket["service_id"] == row["service_id"]
            and bucket["kind"] == kind
            and row["notification_type"] == "letter"
        ):
            return bucket["reason"]
    return None


def _orphaned(before: World, after: World, rules: Rules) -> Iterator[str]:
    for name in before.files.keys() | after.files.keys():
        owner = rules.data.files.get(name)
        is_there = name in after.files
        if owner is None:
            if not is_there or after.files[name] != before.files[name]:
                yield f"{name} is nobody's, and is gone or changed"
        elif owner not in after.live:
            if is_there:
                yield f"{name} is there, its letter {owner} is not"
        elif not is_there and fate(after.live[owner], rules) == STAYS:
            yield f"{name} is gone, its letter {owner} stays"
        elif not is_there and owner not in rules.may_wait:
            yield f"{name} is gone, its letter {owner} is not"


def _unfinished(after: World, rules: Rules) -> Iterator[str]:
    for chain in after.chains:
        what = f"chain {chain['id']} ({chain['notification_type']}, {chain['stage']}, step {chain['step']})"
        if chain["state"] == "waiting":
            yield (
                f"{what} waits until {chain['due_at']}: {chain['reason']}, attempts {chain['attempts']}, "
                f"set-backs {chain['setbacks']}, last error {chain['last_error']}"
            )
        elif chain["state"] == "resting" and chain["reason"] not in rules.resting:
            yield f"{what} rests: {chain['reason']}"
        if chain["lease_until"] is not None:
            yield f"{what} is leased until {chain['lease_until']}"
    for intent in after.intents:
        if not rules.may_wait and not _is_resting(after, intent["chain_id"]):
            yield f"an intent of chain {intent['chain_id']}, step {intent['step']}, is not finished"
    for run_type in after.run_types:
        if run_type["fanned_out_at"] is None:
            yield f"{run_type['notification_type']} was never fanned out"


def _is_resting(after: World, chain_id: int | None) -> bool:
    return any(chain["id"] == chain_id and chain["state"] == "resting" for chain in after.chains)


def _miscounted(before: World, after: World, rules: Rules) -> Iterator[str]:
    gone = [row for id_, row in before.live.items() if id_ not in after.live]
    happened = {
        "moved": Counter(_whose(row) for row in gone if row["key_type"] != "test"),
        "deleted": Counter(_whose(row) for row in gone if row["key_type"] == "test"),
    }
    for column, counts in happened.items():
        recorded: Counter[tuple[UUID, str]] = Counter()
        for step in after.steps:
            recorded += _recorded(step, column)
        if +recorded != counts:
            yield f"steps say {column} {dict(+recorded - counts)} too many, {dict(counts - recorded)} too few"
    twice = [key for key, count in Counter((s["chain_id"], s["step"]) for s in after.steps).items() if count > 1]
    yield from (f"chain {chain}, step {step} was done twice" for chain, step in twice if chain is not None)
    yield from _files_miscounted(before, after, rules)


def _recorded(step: Row, column: str) -> Counter[tuple[UUID, str]]:
    """By service what a step's record says; one over many services lists them, and how many rows of each went."""
    if step["service_id"] is not None:
        return Counter({_whose(step): step[column]})
    if not step[column]:
        return Counter()
    of_each = dict(zip(step["services"], step["removed_of"], strict=True))
    if sum(of_each.values()) != step[column]:
        return Counter({(step["services"][0], "counts that do not add up"): 1})
    return Counter({(service, step["notification_type"]): rows for service, rows in of_each.items()})


def _files_miscounted(before: World, after: World, rules: Rules) -> Iterator[str]:
    """A record is part of the step's transaction, files are not: what a step that was undone, or whose answer
    was lost, had deleted is in no record, and the step after it finds these files gone. Never the other way.

    An answer is also lost that came when the step's time was up, on a machine that is busy: the step says so.
    """
    went = (before.files - after.files).total()
    recorded = sum(step["files_deleted"] for step in after.steps)
    are_exact = rules.files_are_exact and not any(step["outcome"] in UNHEARD for step in after.steps)
    if recorded > went or (are_exact and recorded != went):
        yield f"steps say that {recorded} files were deleted, {went} are gone"


def _whose(row: Row) -> tuple[UUID, str]:
    return row["service_id"], row["notification_type"]


__all__ = ["FileName", "Findings", "Rules", "fate", "judge"]
