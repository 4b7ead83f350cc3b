"""Policies as data: what ends, when and how is an entry of a TOML file. Read it in this order:

    forms.py      an entry: its keys, what each may be, and what each means
    reading.py    a file's text becomes policies, and problems with file, line, policy and key
    redaction.py  whether a redaction makes its own condition false
    registry.py   the policies that are built in, and a team's own
    binding.py    a policy against the live catalogue: tables, columns, paths, indexes, keys

A policy with a problem is left out; the others work.
"""
