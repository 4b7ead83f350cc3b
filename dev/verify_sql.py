"""The statements of the verification. The rules are here anew, in SQL, with PostgreSQL's own time zones.

The schema `verification` holds what was there before: `live` and `history` a row for each row, with a digest
of the columns that history keeps, `owners` where each letter's files may be, `files` what S3 listed then and
`files_after` what it lists now.
"""

SCHEMA = """
DROP SCHEMA IF EXISTS verification CASCADE;
CREATE SCHEMA verification;
CREATE TABLE verification.files (bucket text, key text, prefix text);
CREATE TABLE verification.files_after (LIKE verification.files);
"""

# What history keeps, by name: {digest} is a digest of these columns, in one order for both tables.
COLUMNS = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name = 'notification_history'
ORDER BY column_name
"""

PERSONAL = ("to", "normalised_to", "_personalisation", "reply_to_text", "unsubscribe_link")

# `created_at` is naive UTC. The cut-off is the local midnight of today less the days, as naive UTC, too.
TAKE_LIVE = """
CREATE TABLE verification.live AS
WITH days AS (
    SELECT s.id AS service_id, t.type, coalesce(r.days_of_retention, %(default_days)s) AS days
    FROM services AS s
    CROSS JOIN unnest(enum_range(NULL::notification_type)) AS t (type)
    LEFT JOIN service_data_retention AS r ON r.service_id = s.id AND r.notification_type = t.type
),
cutoffs AS (
    SELECT *, (date_trunc('day', %(now)s::timestamptz AT TIME ZONE %(zone)s) - days * interval '1 day')
              AT TIME ZONE %(zone)s AT TIME ZONE 'UTC' AS cutoff
    FROM days
)
SELECT n.id, n.notification_type::text AS type, n.service_id, n.key_type = 'test' AS test,
       n.notification_status AS status, n.created_at, n.reference,
       CASE
           WHEN n.service_id IS NULL THEN 'no service'
           WHEN c.days <= 0 THEN 'refused'
           WHEN n.created_at >= c.cutoff THEN 'newer'
           WHEN n.notification_type = 'letter'
                AND (n.notification_status IN (
                         'sent', 'delivered', 'failed', 'technical-failure', 'temporary-failure', 'permanent-failure',
                         'validation-failed', 'virus-scan-failed', 'cancelled', 'returned-letter'
                     )) IS NOT TRUE
               THEN 'not final'
           WHEN n.notification_type = 'letter' AND btrim(n.reference) <> ''
                AND n.reference !~ '^[A-Za-z0-9_-]+$'
               THEN 'ambiguous'
           WHEN n.key_type = 'test' THEN 'deleted'
           ELSE 'moved'
       END AS expected,
       coalesce(n.updated_at, n.created_at) AS touched_at,
       {digest} AS digest
FROM notifications AS n
LEFT JOIN cutoffs AS c ON c.service_id = n.service_id AND c.type = n.notification_type;
ALTER TABLE verification.live ADD PRIMARY KEY (id);
"""

TAKE_HISTORY = """
CREATE TABLE verification.history AS
SELECT n.id, n.key_type = 'test' AS test, coalesce(n.updated_at, n.created_at) AS touched_at,
       {digest} AS digest
FROM notification_history AS n;
ALTER TABLE verification.history ADD PRIMARY KEY (id);
"""

TAKE_OWNERS = """
CREATE TABLE verification.owners AS
WITH letters AS (
    SELECT id, coalesce(status, '') AS status, test, 'NOTIFY.' || upper(reference) || '.' AS name,
           created_at AT TIME ZONE 'UTC' AT TIME ZONE %(folder_zone)s AS local
    FROM verification.live
    WHERE type = 'letter' AND btrim(reference) <> ''
)
SELECT l.id, place.bucket, place.prefix
FROM letters AS l
CROSS JOIN LATERAL (VALUES
    (l.test, %(test)s, l.name),
    (l.status = 'validation-failed', %(invalid)s, l.name),
    (NOT l.test AND l.status = 'virus-scan-failed', %(scan)s, 'FAILURE/' || l.name),
    (NOT l.test AND l.status = 'technical-failure', %(scan)s, 'ERROR/' || l.name),
    (NOT l.test AND l.status <> 'validation-failed', %(letters)s,
     to_char(l.local + CASE WHEN l.local::time > '17:30:00' THEN interval '1 day' ELSE interval '0' END,
             'YYYY-MM-DD/') || l.name)
) AS place (holds, bucket, prefix)
WHERE place.holds;
CREATE INDEX ON verification.owners (bucket, prefix);
CREATE INDEX ON verification.owners (id);
"""

# A letter's file is a prefix that ends in the dot after the reference, and a rest of this very form.
NAME_PREFIXES = r"""
UPDATE verification.{files}
SET prefix = substring(key FROM '^(.*\.)D\.[0-9A-Z]+\.C\.[0-9]{{14}}\.PDF$');
CREATE INDEX ON verification.{files} (bucket, key);
ANALYZE verification.{files};
"""

# What waits on purpose, with a reason: a letter of its own, or one of a bucket that is out of reach.
DEFERRED = """
CREATE TEMP TABLE deferred ON COMMIT DROP AS
SELECT notification_id AS id FROM retention.deferred_rows WHERE reason <> ''
UNION
SELECT o.id
FROM retention.deferred_buckets AS d
JOIN verification.live AS l ON l.service_id = d.service_id
JOIN verification.owners AS o ON o.id = l.id AND o.bucket = d.bucket
WHERE d.reason <> '' AND (d.kind = 'test') = l.test
"""

# Where every row is now, and what history should say of it: the newer of two, the live one on a tie.
NOW = """
CREATE TEMP TABLE after ON COMMIT DROP AS
SELECT id, b.type, coalesce(b.test, h.test) AS test, b.status, b.expected,
       b.id IS NOT NULL AS was_live, h.id IS NOT NULL AS was_history,
       n.id IS NOT NULL AS live, m.id IS NOT NULL AS history, d.id IS NOT NULL AS deferred,
       CASE
           WHEN b.id IS NULL OR (h.id IS NOT NULL AND (n.id IS NOT NULL OR h.touched_at > b.touched_at))
               THEN h.digest
           ELSE b.digest
       END AS digest,
       m.digest AS digest_now
FROM verification.live AS b
FULL JOIN verification.history AS h USING (id)
FULL JOIN (SELECT id FROM notifications) AS n USING (id)
FULL JOIN (SELECT n.id, {digest} AS digest FROM notification_history AS n) AS m USING (id)
LEFT JOIN deferred AS d USING (id)
"""

LOST = """
SELECT * FROM (SELECT id::text, CASE
    WHEN NOT was_live AND NOT was_history THEN 'was never seeded'
    WHEN test AND history AND NOT was_history THEN 'a test row, is in history'
    WHEN was_live AND NOT live AND NOT history AND NOT test THEN 'is in neither table'
    WHEN NOT was_live AND NOT history THEN 'has left history'
    WHEN live AND history AND NOT was_history THEN 'is in both tables'
    WHEN was_live AND NOT live AND expected NOT IN ('moved', 'deleted')
        THEN 'has left notifications though it should stay: ' || expected
    WHEN history AND digest_now IS DISTINCT FROM digest THEN 'has other values in history than it should'
END AS reason
FROM after) AS row
WHERE reason IS NOT NULL
"""

ORPHANED = """
WITH owned AS (
    SELECT f.bucket, f.key, bool_or(a.live) AS live, bool_or(a.deferred) AS deferred, max(o.id::text) AS id
    FROM {files} AS f
    LEFT JOIN verification.owners AS o ON o.bucket = f.bucket AND o.prefix = f.prefix
    LEFT JOIN after AS a ON a.id = o.id
    GROUP BY f.bucket, f.key
)
SELECT {what}
"""

STILL_THERE = """
bucket || ': ' || key, 'is still there, its letter is not: ' || id
FROM owned WHERE id IS NOT NULL AND NOT live
"""

MISSING = """
bucket || ': ' || key, CASE WHEN id IS NULL THEN 'is gone, and was nobody''s'
                            ELSE 'is gone, its letter is not: ' || id END
FROM owned
WHERE (id IS NULL OR (live AND NOT deferred))
  AND NOT EXISTS (SELECT FROM verification.files_after AS a
                  WHERE a.bucket = owned.bucket AND a.key = owned.key)
"""

KEPT_TOO_LONG = """
SELECT id::text, 'should have been ' || CASE expected WHEN 'ambiguous' THEN 'deferred' ELSE expected END
FROM after WHERE live AND expected IN ('moved', 'deleted', 'ambiguous') AND NOT deferred
"""

FATES = """
SELECT a.id, a.live, a.history, a.deferred, h.notification_status
FROM after AS a LEFT JOIN notification_history AS h USING (id)
WHERE a.id = ANY (%(ids)s::uuid[])
"""

COUNTS = """
SELECT type, count(*),
       count(*) FILTER (WHERE NOT live AND history),
       count(*) FILTER (WHERE NOT live AND test AND NOT history),
       count(*) FILTER (WHERE live AND expected = 'newer'),
       count(*) FILTER (WHERE live AND expected = 'not final'),
       count(*) FILTER (WHERE live AND deferred),
       count(*) FILTER (WHERE live AND expected = 'refused'),
       count(*) FILTER (WHERE live AND expected = 'no service')
FROM after WHERE was_live GROUP BY type
"""

TOTALS = """
SELECT (SELECT count(*) FROM verification.files AS f
        WHERE NOT EXISTS (SELECT FROM verification.files_after AS a
                          WHERE a.bucket = f.bucket AND a.key = f.key)),
       (SELECT count(DISTINCT service_id) FROM verification.live WHERE expected = 'refused')
"""

DUE = """
SELECT type, count(*) FILTER (WHERE expected IN ('moved', 'deleted')),
       (SELECT count(DISTINCT (f.bucket, f.key))
        FROM verification.files AS f
        JOIN verification.owners AS o ON o.bucket = f.bucket AND o.prefix = f.prefix
        JOIN verification.live AS mine ON mine.id = o.id
        WHERE mine.type = l.type AND mine.expected IN ('moved', 'deleted'))
FROM verification.live AS l GROUP BY type
"""
