"""The night's index of folders at scale: a look costs what is asked for, not what is there.

A table of the night's, filled within the hour: no statistics.
"""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, NullPool, create_engine, text

from app.config import psycopg2_url
from app.dao import folders_dao
from tests.plans import explained
from tests.servers import migrated_database

FOLDERS = [f"2026-03-{day:02}/" for day in (1, 2, 3)]
FILES = 300_000
WANTED = 5_000
# Down the index, and to the row.
BUFFERS_OF_A_REFERENCE = 5
OF_NONE_ELSE = 200

FILL_FOLDERS = text(
    """
    INSERT INTO retention.indexed_folders (store, bucket, folder, worth_pages, begun_at, due_at, complete)
    SELECT 'store', 'letters', folder, 1000, now(), now(), true FROM unnest(CAST(:folders AS text[])) AS folder
    """
)
FILL_FILES = text(
    """
    INSERT INTO retention.indexed_files (folder_id, reference, rest)
    SELECT f.id, upper(left(md5(i::text), 16)), 'D.2.C.20260301120000.PDF'
    FROM generate_series(1, CAST(:files AS int)) AS i JOIN retention.indexed_folders AS f ON f.folder = :folder
    ORDER BY 2
    """
)
REFERENCES = text("SELECT reference FROM retention.indexed_files LIMIT :wanted")


@pytest.fixture(scope="module")
def engine(environment: dict[str, str]) -> Iterator[Engine]:
    """A database of its own with a few large folders in the index."""
    with migrated_database(environment["DATABASE_URL"]) as url:
        made = create_engine(psycopg2_url(url), poolclass=NullPool)
        with made.begin() as connection:
            connection.execute(text("ALTER TABLE retention.indexed_files SET (autovacuum_enabled = false)"))
            connection.execute(FILL_FOLDERS, {"folders": FOLDERS})
            for folder in FOLDERS:
                connection.execute(FILL_FILES, {"files": FILES // len(FOLDERS), "folder": folder})
        yield made


@pytest.fixture
def wanted(engine: Engine) -> list[tuple[str, str]]:
    with engine.connect() as connection:
        references = connection.execute(REFERENCES, {"wanted": WANTED}).scalars().all()
    return [(FOLDERS[number % 3], reference) for number, reference in enumerate(references)]


def test_a_look_costs_what_it_asks_for(engine, wanted):
    found = {}
    [plan] = explained(
        engine,
        lambda connection: found.update(folders_dao.look_up(connection, "store", "letters", wanted)),
        of="retention.indexed_files",
    )
    assert (len(found), plan.rows) == (WANTED, WANTED)
    assert {len(of_one.rests) for of_one in found.values()} == {1}
    assert plan.buffers <= BUFFERS_OF_A_REFERENCE * WANTED + OF_NONE_ELSE


def test_forgetting_costs_what_is_forgotten(engine, wanted):
    files = [(folder, reference, "D.2.C.20260301120000.PDF") for folder, reference in wanted]
    [plan] = explained(
        engine,
        lambda connection: folders_dao.forget(connection, "store", "letters", files),
        of="retention.indexed_files",
    )
    # The row is also marked as deleted.
    assert plan.buffers <= (BUFFERS_OF_A_REFERENCE + 1) * WANTED + OF_NONE_ELSE
