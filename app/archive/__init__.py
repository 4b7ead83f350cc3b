"""The archive: history ends in object storage, provably, and can be used afterwards.

    policy.py      which table, by which age, in which windows: a declaration
    windows.py     windows of time, and the keys of their files
    parquet.py     rows from CSV to Parquet and back; the only module that imports pyarrow
    checksums.py   what is compared of a file that was read back
    files.py       one file: written, read back and compared, deleted
    work.py        from state to state: writing → written → verified → deleting → done
    upkeep.py      verified again, expired, redacted
    using.py       found and restored
    duck.py        DuckDB on archived files; the only module that imports it

Nothing is deleted from the table before the file was read back from the bucket and compared. What leaves the table is
exactly the versions of rows that were archived.
"""
