"""The least that the pipeline's role needs of the pipeline's own tables, in our own database and in an adopted one.

deploy/postgres/retention_worker.sql says the same to psql; a test compares them.
"""

OF_OWN_TABLES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("runs", "SELECT INSERT DELETE", ()),
    ("run_types", "SELECT INSERT UPDATE DELETE", ()),
    ("chains", "SELECT INSERT UPDATE DELETE", ()),
    ("steps", "SELECT INSERT DELETE", ()),
    ("steps", "UPDATE", ("counted",)),
    ("letter_looks", "SELECT INSERT DELETE", ()),
    ("accepted_missing", "SELECT INSERT DELETE", ()),
    ("intents", "SELECT INSERT DELETE", ()),
    ("deferred_letters", "SELECT INSERT UPDATE DELETE", ()),
    ("deferred_buckets", "SELECT INSERT UPDATE DELETE", ()),
    ("holds", "SELECT INSERT DELETE", ()),
    ("folder_counts", "SELECT INSERT UPDATE DELETE", ()),
    ("indexed_folders", "SELECT INSERT UPDATE TRUNCATE", ()),
    ("indexed_files", "SELECT INSERT DELETE TRUNCATE", ()),
    ("audits", "SELECT INSERT UPDATE DELETE", ()),
    ("audit_findings", "SELECT INSERT", ()),
    ("audit_deletions", "SELECT INSERT UPDATE", ()),
    ("audited_letters", "SELECT INSERT TRUNCATE", ()),
    ("session_batches", "SELECT DELETE", ()),
    ("ops_actions", "SELECT INSERT DELETE", ()),
    ("totals", "SELECT INSERT UPDATE", ()),
    ("heartbeats", "SELECT INSERT UPDATE DELETE", ()),
)
"""Tables of the schema `retention`, privileges, and the columns that they are for; none: the whole table."""

OF_REVISIONS = "SELECT"
"""To say whether the migrations are at their newest; in an adopted database the table is one of `retention`, too."""
