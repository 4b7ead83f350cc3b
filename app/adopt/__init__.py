"""Adopting a database that is there already: whether the pipeline can work on it, and what it would do.

`report.look` only looks and explains: it reads the catalogue (`app.dao.catalogue_dao`) and asks
each module what it finds: `tables` (what is missing), `copying` (how columns move), `choice` (the index), `referring`
(tables that point at notifications), `words` (statuses and types), `grants` (the least privileges) and `policy` (what
the platform does today, beside what is configured). `installation` makes the pipeline's own tables and takes them away
again, unless something is not over (`concerns`). Nothing here writes to a table of the platform's.
"""
