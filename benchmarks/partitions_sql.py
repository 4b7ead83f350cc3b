"""The prototype's statements: a day's partition becomes one of history, or is emptied row by row."""

from benchmarks.reference import HISTORY_COLUMNS

# What stays: letters (their files go first, the present way), and services on hold or with a longer retention. Test
# notifications go with the day.
STAYS = "(n.notification_type = 'letter' OR n.service_id = ANY (%(kept_services)s::uuid[]))"
GOES = f"(NOT {STAYS} AND n.key_type <> 'test')"

SET_UP = """
CREATE TABLE by_day (LIKE notifications INCLUDING DEFAULTS) PARTITION BY RANGE (created_at);
CREATE TABLE history_by_day (LIKE notification_history INCLUDING DEFAULTS) PARTITION BY RANGE (created_at)
"""
FILL_DAY = """
CREATE TABLE {day} (LIKE notifications INCLUDING DEFAULTS INCLUDING INDEXES);
INSERT INTO {day} SELECT * FROM notifications WHERE created_at >= %(begins)s AND created_at < %(ends)s;
ALTER TABLE by_day ATTACH PARTITION {day} FOR VALUES FROM (%(begins)s) TO (%(ends)s);
ANALYZE {day}
"""

# Ahead of the swap, in short transactions, into a table that nobody sees yet.
NEW_HISTORY = """
CREATE TABLE {history} (LIKE notification_history INCLUDING DEFAULTS,
                        CHECK (created_at >= %(begins)s AND created_at < %(ends)s));
CREATE UNLOGGED TABLE {copied} (id uuid, version text)
"""
BOUNDS = """
SELECT created_at FROM (SELECT created_at, row_number() OVER (ORDER BY created_at) AS n FROM {day}) AS numbered
WHERE n %% %(rows)s = 1 ORDER BY n
"""
# Each row's version is noted in the same snapshot: the number of the transaction that wrote it.
COPY_AHEAD = f"""
WITH noted AS (
    INSERT INTO {{copied}}
    SELECT n.id, n.xmin::text FROM {{day}} AS n WHERE created_at >= %(from)s AND created_at < %(to)s AND {GOES}
)
INSERT INTO {{history}} ({HISTORY_COLUMNS})
SELECT {HISTORY_COLUMNS} FROM {{day}} AS n
WHERE created_at >= %(from)s AND created_at < %(to)s AND {GOES}
"""
INDEX = (
    "ALTER TABLE {history} ADD PRIMARY KEY (id)",
    "CREATE INDEX ON {history} (created_at)",
    "CREATE INDEX ON {history} (reference)",
    "CREATE INDEX ON {history} (service_id, key_type, notification_type, created_at)",
    "CREATE TABLE {kept} (LIKE {day} INCLUDING DEFAULTS INCLUDING INDEXES, "
    "CHECK (created_at >= %(begins)s AND created_at < %(ends)s))",
)

# The swap: one transaction, and nobody writes to the day from its first statement on.
LOCK = "SET LOCAL lock_timeout = '2s'; LOCK TABLE {day} IN ACCESS EXCLUSIVE MODE"
# A version is compared for equality, never by order: numbers wrap. `updated_at` says nothing: not every writer sets it.
CATCH_UP = f"""
INSERT INTO {{history}} ({HISTORY_COLUMNS})
SELECT {HISTORY_COLUMNS} FROM {{day}} AS n
WHERE {GOES} AND (n.id, n.xmin::text) NOT IN (SELECT id, version FROM {{copied}})
ON CONFLICT (id) DO UPDATE SET notification_status = excluded.notification_status, updated_at = excluded.updated_at;
DROP TABLE {{copied}}
"""
KEEP = f"INSERT INTO {{kept}} SELECT * FROM {{day}} AS n WHERE {STAYS}"
# Promise 3: as many as were to go, or all of it is rolled back.
COUNTS = f"SELECT (SELECT count(*) FROM {{day}} AS n WHERE {GOES}), (SELECT count(*) FROM {{history}})"
SWAP = """
ALTER TABLE by_day DETACH PARTITION {day};
ALTER TABLE by_day ATTACH PARTITION {kept} FOR VALUES FROM (%(begins)s) TO (%(ends)s);
ALTER TABLE history_by_day ATTACH PARTITION {history} FOR VALUES FROM (%(begins)s) TO (%(ends)s);
DROP TABLE {day}
"""

# Row by row: as the product's step, for all services at once, so that batches are full.
TAKE = f"""
CREATE TEMP TABLE batch ON COMMIT DROP AS
SELECT ctid AS row_address, {HISTORY_COLUMNS} FROM notifications AS n
WHERE created_at >= %(begins)s AND created_at < %(ends)s AND {GOES}
ORDER BY created_at
LIMIT %(rows)s
FOR UPDATE SKIP LOCKED
"""
MOVE = (
    f"INSERT INTO notification_history ({HISTORY_COLUMNS}) SELECT {HISTORY_COLUMNS} FROM batch ON CONFLICT DO NOTHING"
)
DELETE = "DELETE FROM notifications WHERE ctid = ANY (ARRAY(SELECT row_address FROM batch))"
DELETE_TEST = f"""
DELETE FROM notifications AS n
WHERE created_at >= %(begins)s AND created_at < %(ends)s AND NOT {STAYS} AND key_type = 'test'
"""

# Receipts that arrive late, between the copy and the swap, from a writer that leaves updated_at alone.
LATE_STATUSES = f"""
UPDATE {{day}} SET notification_status = 'temporary-failure'
WHERE id IN (SELECT id FROM {{day}} AS n WHERE {GOES} ORDER BY id LIMIT %(late)s)
"""
TO_MOVE = f"""
SELECT count(*) FILTER (WHERE {GOES}), count(*) FILTER (WHERE {STAYS}) FROM {{day}} AS n
"""
SEEN = """
SELECT (SELECT count(*) FROM history_by_day WHERE created_at >= %(begins)s AND created_at < %(ends)s),
       (SELECT count(*) FROM by_day WHERE created_at >= %(begins)s AND created_at < %(ends)s),
       (SELECT count(*) FROM by_day JOIN history_by_day USING (id)),
       (SELECT count(*) FROM history_by_day WHERE created_at >= %(begins)s AND created_at < %(ends)s
                                              AND notification_status = 'temporary-failure')
"""
