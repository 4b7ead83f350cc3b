"""Adopting a database that is there already: whether the pipeline can work on it, and what it would do.

`report.look` only looks and explains: it reads the catalogue (`app.dao.catalogue_dao`), says which preconditions do not
hold (`app.state`), and asks each module what it finds: `unseen` (rows that would stay for ever), `choice` (the indexes,
with what they cost from `indexes`), `referring` (tables that point at notifications), `policy` (what the platform does
today, beside what is configured) and `grants` (the least privileges). `installation` makes the pipeline's own tables
and takes them away again, unless something is not over (`concerns`). Nothing here writes to a table of the platform's.
"""
