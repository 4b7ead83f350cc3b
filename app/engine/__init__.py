"""The engine: how any kind of data leaves, whatever its table.

    stops.py       holds and the pause: the first question of every transaction that destroys
    batch.py       have the database accept a removal before anything irreversible is done
    isolation.py   find the rows that it refuses, in a bounded number of trials

It knows no table. What is special about a kind of data is behind `batch.Rows`.
"""
