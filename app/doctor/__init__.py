"""`flask doctor`: is everything around the pipeline as it must be? It changes nothing, but for a probe that it removes.

`finding.py` says what a finding is, `examination.py` makes them all; each other module looks at one thing.
"""
