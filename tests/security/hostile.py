"""Strings that were made to break out of SQL, a file's name, a template or a log; and what must not change."""

from typing import Any

from sqlalchemy import Connection, text

HOSTILE = (
    "'; DROP TABLE notifications; --",
    "' OR '1'='1",
    '" OR ""="',
    "\\'; DELETE FROM services; --",
    "$$; DROP SCHEMA retention CASCADE; $$",
    "%s %(service_id)s %",
    ":service_id :night {columns} {0} ${HOME}",
    "../../2026-01-20/NOTIFY.VICTIM",
    "VICTIM.D.2.C.20260120120000.PDF",
    "2026-01-20/NOTIFY.VICTIM.",
    "VICTIM",
    "*",
    "\u202eMITCIV\u202d",
    "VİCTİM ﬁle ß",
    "letter\r\nlevel=error",
    "\x1b[2J\x07",
    "nul\x00nul",
    "\ud800",
    "A" * 10_000,
    "\N{PILE OF POO}" * 2_500,
    "1e400",
    "00000000-0000-0000-0000-000000000000' --",
    "9" * 400,
)


def contents(connection: Connection) -> dict[str, str]:
    """A checksum of every table's rows."""
    tables = connection.execute(
        text("SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('public', 'retention')")
    ).scalars()
    checksum = "SELECT md5(coalesce(string_agg(t::text, chr(10) ORDER BY t::text), '')) FROM {} AS t"
    return {table: connection.execute(text(checksum.format(table))).scalar_one() for table in tables}


def is_a_sentence(words: str) -> bool:
    """One line that a person can read, however long what they typed was."""
    return bool(words) and len(words) <= 300 and words.isprintable()


def shows(value: Any, logged: str) -> bool:
    """Whether a string of the value, long enough to mean something, can be read in the log."""
    if isinstance(value, str):
        return len(value) >= 12 and value[:200] in logged
    if isinstance(value, dict):
        return any(shows(one, logged) for pair in value.items() for one in pair)
    return isinstance(value, list) and any(shows(one, logged) for one in value)
