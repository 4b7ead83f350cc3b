"""What to do about a state, in a sentence, and the action of the ops page that does it, if one does. Pure."""

from collections.abc import Collection, Iterator

from app.dao.failures_dao import Failure

ANY_ERROR = "Fix what the error names; the workers' logs have it as step-failed."
GO_ON = "The next attempt goes on by itself."
OF_SQLSTATE = {
    "42501": "The role lacks a privilege: apply deploy/postgres/retention_worker.sql again.",
    "25006": "The database takes no changes: name the primary in DATABASE_URL.",
    "55P03": "Somebody holds a lock for long: end what holds it (pg_stat_activity).",
    "57014": "A statement took too long: see what slows the database; batches become smaller.",
    "53": "The database is out of disk, memory or connections: free some.",
    "08": "The connection to the database breaks: see the server, the pooler and the network.",
}
"""By SQLSTATE or by its class."""
OF_ERROR = {
    "SlowDown": "S3 asks for fewer requests. If it lasts, lower LETTERS_PER_STEP or run fewer workers.",
    "Unreachable": "See that the workers reach S3: its address, the network, S3 itself.",
    "OutOfTime": "S3 answers slowly. If it lasts, lower LETTERS_PER_STEP.",
    "WorkerLost": "The batch's worker is killed each time: see its host's memory, and its log.",
    "MemoryError": "The worker has too little memory: give it more, or lower the rows per step.",
}

BLOCKED_BY: dict[str, tuple[str, str, str | None]] = {
    "missing-files": (
        "too many letters have no file",
        "Check the buckets' names and LETTER_FOLDER_TIMEZONE; if they are right: flask retention accept-missing.",
        "accept-missing",
    ),
    "database-refuses": (
        "the database refuses every row",
        "Remove the constraint or trigger that is named, then: flask retention retry.",
        "retry",
    ),
    "rows-refused": (
        "the database refuses too many rows",
        "Correct the rows, or the constraint that is named, then: flask retention retry.",
        "retry",
    ),
}
"""By the reason for which a sweep waits: what that is, what to do, and the action."""
BY_CHOICE = frozenset({"on-hold", "paused", "precondition"})
"""Reasons that have a verdict of their own, or need none: a service's hold is somebody's wish."""

OF_KIND: dict[str, tuple[str, str | None]] = {
    "missing files to be accepted": BLOCKED_BY["missing-files"][1:],
    "retention refused": ("A retention of no days, or fewer, is refused. Set it to 1 day or more.", None),
    "not final": ("Ask those who send these letters what became of them.", None),
    "in no known status": (
        "Name it in LETTER_STATUSES_FINAL if it is a letter's last, else in LETTER_STATUSES_UNFINISHED.",
        None,
    ),
    "on hold": ("Ask whether the hold is still needed. If it is not: flask retention lift.", "lift"),
}
"""Of rows that stay past their retention for a reason."""
OF_REFERENCES = ("AmbiguousReference", "SharedReference")
BY_THE_DATABASE = ("refused by the database", "database-refuses", "rows-refused")
TOLD_ELSEWHERE = frozenset({"on-hold", "missing-files", "precondition"})


def of_failure(failure: Failure) -> str:
    """Of a batch that failed; where the database named what refused, that."""
    state = failure.sqlstate or ""
    known = OF_SQLSTATE.get(state) or OF_SQLSTATE.get(state[:2]) or OF_ERROR.get(failure.s3_code or failure.error_class)
    if known is None and failure.refused_by:
        of_table = f" of table {failure.refused_table}" if failure.refused_table else ""
        known = f"See why {failure.refused_by}{of_table} refuses, and remove or correct it."
    return f"{known or ANY_ERROR} {GO_ON}"


def of_overdue(why: Collection[str], *, is_going: bool) -> tuple[str, str | None]:
    """Of rows that should be gone, by what is known to keep them."""
    found = list(_of_overdue(why, is_going=is_going))
    action = next((action for _, action in found if action is not None), None)
    return " ".join(sentence for sentence, _ in found), action


def _of_overdue(why: Collection[str], *, is_going: bool) -> Iterator[tuple[str, str | None]]:
    if not why:
        if is_going:
            yield "The run is under way, and should take them. Follow it: flask retention status.", None
        else:
            yield "No run is taking it. See that workers are alive, then: flask retention run.", "run"
        return
    references = {word for word in why if word.startswith(OF_REFERENCES)}
    refused = {word for word in why if word.startswith(BY_THE_DATABASE)}
    blocked = {word for word in why if word.partition(":")[0] in TOLD_ELSEWHERE}
    if "paused" in why:
        yield "The pipeline is paused. When the reason is gone: flask retention resume.", "resume"
    if references:
        yield (
            "A letter's reference could reach another letter's file, so nothing was deleted. Delete its own file by "
            "hand, then: flask retention retry.",
            "retry",
        )
    if refused:
        yield (
            "The database refuses to let rows go. Remove the constraint or trigger that is named, or correct the rows; "
            "then: flask retention retry.",
            "retry",
        )
    if set(why) - references - refused - blocked - {"paused"}:
        yield (
            "S3 refuses files, or can't be reached. Fix the bucket or its permissions, then: flask retention retry.",
            "retry",
        )
    if blocked:
        yield "Some of it waits for what is said of blocked sweeps and policies.", None
