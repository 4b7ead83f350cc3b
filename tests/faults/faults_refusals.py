"""The database refuses the move: single rows, or everything. No live row may lose its file for that."""

import time

from app.retention import operations
from tests.faults.run import Run, fault
from tests.faults.world import list_files

SECONDS = 2.5
ROWS_MOST = 8
"""Of a service and type: past 20 refused rows its chain waits for a person."""

RAISES = "RAISE EXCEPTION 'not this row: %', {row};"
DROPS = "RETURN NULL;"
ROW_FORMS = (
    ("BEFORE INSERT ON notification_history", "", RAISES, "NEW"),
    ("BEFORE INSERT ON notification_history", "", DROPS, "NEW"),
    ("BEFORE DELETE ON notifications", "", RAISES, "OLD"),
    ("BEFORE DELETE ON notifications", "", DROPS, "OLD"),
    ("AFTER INSERT ON notification_history", "DEFERRABLE INITIALLY DEFERRED", RAISES, "NEW"),
)
REFUSE_ROWS = """
    CREATE TABLE laboratory_refused (id uuid PRIMARY KEY);
    GRANT SELECT ON laboratory_refused TO PUBLIC;
    CREATE OR REPLACE FUNCTION laboratory_refuses() RETURNS trigger LANGUAGE plpgsql AS $body$
    BEGIN
        IF EXISTS (SELECT FROM laboratory_refused WHERE id = {row}.id) THEN {what} END IF;
        RETURN {row};
    END $body$;
    CREATE {constraint} TRIGGER laboratory_refuses {event} {when} FOR EACH ROW EXECUTE FUNCTION laboratory_refuses()
"""
REFUSE_NO_MORE = """
    DROP FUNCTION IF EXISTS laboratory_refuses() CASCADE;
    DROP TABLE IF EXISTS laboratory_refused
"""

EVERYTHING = (
    (
        "ALTER TABLE notifications REPLICA IDENTITY NOTHING; CREATE PUBLICATION laboratory FOR TABLE notifications",
        "DROP PUBLICATION IF EXISTS laboratory; ALTER TABLE notifications REPLICA IDENTITY DEFAULT",
    ),
    (
        "ALTER TABLE notification_history ADD CONSTRAINT laboratory CHECK (false) NOT VALID",
        "ALTER TABLE notification_history DROP CONSTRAINT IF EXISTS laboratory",
    ),
    (
        "ALTER TABLE retention.steps ADD CONSTRAINT laboratory CHECK (false) NOT VALID",
        "ALTER TABLE retention.steps DROP CONSTRAINT IF EXISTS laboratory",
    ),
)

LOST = """
    SELECT n.id FROM notifications AS n
    WHERE n.id = ANY (%s::uuid[])
      AND NOT EXISTS (SELECT FROM retention.intents AS i WHERE n.id = ANY (i.notification_ids))
"""


def no_row_loses_its_file(run: Run, seconds: float) -> None:
    """Look again and again, for as long: files first, then rows and intents in one snapshot."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        were = set(run.before.files)  # what arrives while the buckets are listed is not missing there
        there = list_files(run.lab.s3, run.lab.buckets)
        gone = (run.data.files.get(name) for name in were if name not in there)
        owners = [str(owner) for owner in gone if owner is not None]
        lost = run.sql(LOST, (owners,))
        assert not lost, f"live rows lost their files without an unfinished intent: {[row['id'] for row in lost]}"
        time.sleep(0.1)


def retry(run: Run) -> None:
    """As a person does, once the cause is gone: chains that are blocked go on."""
    with run.lab.app.app_context():
        run.hits += 1 + operations.retry()


def for_a_while(run: Run, begin: str, end: str) -> None:
    run.inexact_files()
    run.when_seeded(lambda: run.sql(begin))
    run.at(0, lambda: run.beside(lambda: no_row_loses_its_file(run, SECONDS)))
    run.at(SECONDS, lambda: run.sql(end))
    run.undo(lambda: run.sql(end))
    # Also where single rows are refused: when the three that are tried first are, everything counts as refused.
    run.at(SECONDS + 0.2, lambda: retry(run))
    run.encore(lambda: retry(run))


@fault("the database refuses single rows")
def rows_refused(run: Run) -> None:
    event, when, what, row = run.random.choice(ROW_FORMS)
    values = {"event": event, "when": when, "row": row, "what": what.format(row=row)}
    for_a_while(run, REFUSE_ROWS.format(**values, constraint="CONSTRAINT" if when else ""), REFUSE_NO_MORE)

    def choose() -> None:
        of_service: dict[object, list[str]] = {}
        for one in run.overdue():
            of_service.setdefault((one["service_id"], one["notification_type"]), []).append(str(one["id"]))
        for ids in of_service.values():
            chosen = run.random.sample(ids, min(ROWS_MOST, (len(ids) + 2) // 3))
            run.sql("INSERT INTO laboratory_refused SELECT unnest(%s::uuid[])", (chosen,))
            run.hits += len(chosen)

    run.when_seeded(choose)


@fault("the database refuses every move")
def everything_refused(run: Run) -> None:
    begin, end = run.random.choice(EVERYTHING)
    for_a_while(run, begin, end)
    run.options.big = 40
