"""The night's index of letter folders: which files each holds, by reference; and how many have no row.

An index is known by its store (the S3 server), bucket and folder. A builder has it leased and adds a few pages at a
time, each time with how far it has come in the same commit. `complete` is set with the last page.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection, text

from app import clock
from app.dao import leases, platform_dao
from app.dao.leases import Lease, LeasedTable
from app.dao.platform_dao import READ_IN_INDEX_ORDER
from app.models.types import LETTER

COLUMNS = ("id", "folder", "worth_pages", "pages", "begun_at", "listed_to", "files", "orphans", "attempts", "complete")
# What was listed begins to grow old with the first page, whoever goes on with it. The snapshot is this statement's,
# committed before that page is asked for: what wrote a row and has a number below its xmin had ended by then.
FOLDERS = LeasedTable(
    "retention.indexed_folders",
    "id",
    open=("NOT complete",),
    returns=COLUMNS[1:],
    on_lease="""
        begun_at = CASE WHEN pages = 0 THEN :now ELSE begun_at END,
        begun_xmin = CASE WHEN pages = 0 THEN CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)
                          ELSE begun_xmin END
    """,
)

LISTED = ", ".join(COLUMNS)
FIND = text(
    f"""
    SELECT {LISTED} FROM retention.indexed_folders
    WHERE store = :store AND bucket = :bucket AND folder = ANY (:folders)
    """  # noqa: S608 - constants of this module
)
OPEN = text(
    """
    INSERT INTO retention.indexed_folders (store, bucket, folder, worth_pages, begun_at, due_at)
    VALUES (:store, :bucket, :folder, :worth_pages, :now, :now)
    ON CONFLICT DO NOTHING
    """
)

ADD_FILES = text(
    """
    INSERT INTO retention.indexed_files (folder_id, reference, rest)
    SELECT :id, named.reference, named.rest
    FROM unnest(string_to_array(:references, ','), string_to_array(:rests, ',')) AS named (reference, rest)
    """
)

# Keys are in upper case, references need not be; ANY of both, so that the planner can't hash the whole table.
COUNT_ORPHANS = """
    SELECT count(*) FROM unnest(string_to_array(:references, ',')) AS named (reference)
    WHERE NOT EXISTS (SELECT FROM {notifications} AS n
                      WHERE {reference} = ANY (ARRAY[named.reference, lower(named.reference)]))
    """
RECORD_COUNTS = text(
    """
    INSERT INTO retention.folder_counts (night, bucket, folder, listed_at, files, orphans)
    VALUES (:night, :bucket, :folder, :listed_at, :files, :orphans)
    ON CONFLICT (night, bucket, folder)
    DO UPDATE SET listed_at = :listed_at, files = :files, orphans = :orphans
    """
)

# One statement, so that an index which is emptied meanwhile is whole or not there. OFFSET 0 keeps the planner to
# one look into the index per reference, whatever it believes about a table that was empty an hour ago. A number that
# this server has not come to is another's: the index came with a dump.
LOOK_UP = text(
    """
    SELECT wanted.folder, wanted.reference, i.begun_at, i.begun_xmin, f.rest
    FROM unnest(string_to_array(:folders, ','), string_to_array(:references, ',')) AS wanted (folder, reference)
    JOIN retention.indexed_folders AS i
      ON i.store = :store AND i.bucket = :bucket AND i.folder = wanted.folder AND i.complete
     AND i.begun_xmin <= (SELECT CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint))
    LEFT JOIN LATERAL (
        SELECT rest FROM retention.indexed_files
        WHERE folder_id = i.id AND reference = wanted.reference
        OFFSET 0
    ) AS f ON true
    """
)
FORGET = text(
    """
    DELETE FROM retention.indexed_files AS f
    USING retention.indexed_folders AS i,
          unnest(string_to_array(:folders, ','), string_to_array(:references, ','), string_to_array(:rests, ','))
              AS gone (folder, reference, rest)
    WHERE i.store = :store AND i.bucket = :bucket AND i.folder = gone.folder
      AND f.folder_id = i.id AND f.reference = gone.reference AND f.rest = gone.rest
    """
)

# One probe of the index on (service_id, notification_type, created_at) per service.
LETTERS_OF_SERVICES = """
    SELECT seen.letters, seen.overdue
    FROM {services} AS s
    LEFT JOIN {retentions} AS r
           ON r.service_id = s.id AND r.notification_type = CAST(:letter_retention AS {retention_type})
    LEFT JOIN unnest(CAST(:days AS integer[]), CAST(:cutoffs AS timestamp[])) AS c (days, created_before)
           ON c.days = coalesce(r.days_of_retention, :default_days)
    CROSS JOIN LATERAL (
        SELECT count(*) AS letters, count(*) FILTER (WHERE n.created_at < c.created_before) AS overdue
        FROM {notifications} AS n
        WHERE n.service_id = s.id AND n.notification_type = CAST(:letter AS {type})
          AND n.created_at >= :made_from AND n.created_at < :made_before
    ) AS seen
    WHERE seen.letters > 0
    """

IS_TO_BE_EMPTIED = text(
    """
    SELECT EXISTS (SELECT FROM retention.indexed_folders)
       AND (NOT EXISTS (SELECT FROM retention.chains WHERE state = 'waiting' AND notification_type = 'letter')
            OR EXISTS (SELECT FROM retention.indexed_folders WHERE begun_at < :begun_before))
    """
)
EMPTY = text("TRUNCATE retention.indexed_folders, retention.indexed_files")


@dataclass(frozen=True)
class FolderIndex:
    """An index as it was read. It is built while it is worth it: `worth_pages` is the most that it may take."""

    id: int
    folder: str
    worth_pages: int
    pages: int
    begun_at: datetime
    listed_to: str | None
    """The last key listed; do not log."""
    files: int
    orphans: int
    attempts: int
    """Leases taken since the last page was added."""
    complete: bool


@dataclass(frozen=True)
class Found:
    """What an index knows of a reference in a folder: the rests of its files' names, perhaps none.

    It was begun at that time (aware), when every transaction with a number below `begun_xmin` had ended.
    """

    begun_at: datetime
    begun_xmin: int
    rests: list[str]


def find(connection: Connection, store: str, bucket: str, folders: Collection[str]) -> dict[str, FolderIndex]:
    """The indexes of these folders that there are, complete or not."""
    rows = connection.execute(FIND, {"store": store, "bucket": bucket, "folders": list(folders)})
    return {index.folder: index for index in (FolderIndex(*row) for row in rows)}


def open_index(
    connection: Connection, store: str, bucket: str, folder: str, *, worth_pages: int, now: datetime
) -> FolderIndex:
    """The folder's index, a new one if there is none."""
    values = {"store": store, "bucket": bucket, "folder": folder, "worth_pages": worth_pages, "now": now}
    connection.execute(OPEN, values)
    return find(connection, store, bucket, [folder])[folder]


def add(
    connection: Connection,
    index: FolderIndex,
    lease: Lease,
    names: Sequence[tuple[str, str]],
    *,
    pages: int,
    listed_to: str | None,
    complete: bool,
    until: datetime,
) -> FolderIndex:
    """Add so many pages, and the files' names (reference, rest), to an index under lease, which now lasts `until`.

    Raises LeaseLost.
    """
    references = [reference for reference, _ in names]
    orphans = count_orphans(connection, references)
    row = leases.change(
        connection,
        lease,
        add={"pages": pages, "files": len(names), "orphans": orphans},
        listed_to=listed_to,
        complete=complete,
        lease_until=until,
    )
    rests = _joined(rest for _, rest in names)
    connection.execute(ADD_FILES, {"id": index.id, "references": _joined(references), "rests": rests})
    return FolderIndex(**row)


def count_orphans(connection: Connection, references: Sequence[str]) -> int:
    """How many of these, each of a file, are the reference of no row, in upper or lower case."""
    statement = platform_dao.known_in_index_order(connection).clause(COUNT_ORPHANS)
    return int(connection.execute(statement, {"references": _joined(references)}).scalar_one())


def record_counts(connection: Connection, night: date, bucket: str, index: FolderIndex) -> None:
    """Note how many files a folder had when it was indexed, and how many of them without a row."""
    values = {"night": night, "bucket": bucket, "folder": index.folder, "listed_at": index.begun_at}
    connection.execute(RECORD_COUNTS, {**values, "files": index.files, "orphans": index.orphans})


def look_up(
    connection: Connection, store: str, bucket: str, wanted: Collection[tuple[str, str]]
) -> dict[tuple[str, str], Found]:
    """Folder and reference to what is known; only those whose folder has a complete index."""
    folders, references = (_joined(column) for column in zip(*wanted, strict=True))
    found: dict[tuple[str, str], Found] = {}
    connection.exec_driver_sql(READ_IN_INDEX_ORDER)
    values = {"store": store, "bucket": bucket, "folders": folders, "references": references}
    for folder, reference, begun_at, begun_xmin, rest in connection.execute(LOOK_UP, values):
        of_name = found.setdefault((folder, reference), Found(begun_at, begun_xmin, []))
        if rest is not None:
            of_name.rests.append(rest)
    return found


def forget(connection: Connection, store: str, bucket: str, files: Iterable[tuple[str, str, str]]) -> None:
    """Take files (folder, reference, rest) out of their indexes, in the transaction that counts them as gone."""
    folders, references, rests = (_joined(column) for column in zip(*files, strict=True))
    connection.exec_driver_sql(READ_IN_INDEX_ORDER)
    values = {"store": store, "bucket": bucket, "folders": folders, "references": references, "rests": rests}
    connection.execute(FORGET, values)


def letters_of_services(
    connection: Connection,
    made_between: tuple[datetime, datetime],
    cutoff_of_days: Mapping[int, datetime],
    default_days: int,
) -> list[tuple[int, int]]:
    """Letters made between two times (aware), of each service that has any: how many, and how many are overdue."""
    made_from, made_before = map(clock.to_column, made_between)
    platform = platform_dao.known_in_index_order(connection)
    values = {
        "letter": platform.a_type(LETTER),
        "letter_retention": platform.a_type_of_retention(LETTER),
        "made_from": made_from,
        "made_before": made_before,
        "days": list(cutoff_of_days),
        "cutoffs": [clock.to_column(cutoff) for cutoff in cutoff_of_days.values()],
        "default_days": default_days,
    }
    return [(row[0], row[1]) for row in connection.execute(platform.clause(LETTERS_OF_SERVICES), values)]


def is_to_be_emptied(connection: Connection, begun_before: datetime) -> bool:
    """Whether there are indexes that nobody waits for any more, or one that was begun before that time."""
    return bool(connection.execute(IS_TO_BE_EMPTIED, {"begun_before": begun_before}).scalar())


def empty(connection: Connection) -> None:
    """Forget all indexes, both tables in one statement. Waits for every step that has looked into one."""
    connection.execute(EMPTY)


def _joined(values: Iterable[str]) -> str:
    """For string_to_array: PostgreSQL reads it three times faster than an array of thousands of constants.

    No part of a key in a day's folder (`app.storage.naming`) has a comma.
    """
    return ",".join(values)
