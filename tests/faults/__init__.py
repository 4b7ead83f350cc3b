"""The fault laboratory: real worker processes, a real database, broker and S3 server, and faults with a seed.

`python -m tests.faults --seed N --fault NAME` does one run; README.md says how to read its table.

    laboratory.py   the servers and the pool, kept for all runs; one run from seed to verdict
    run.py          what a fault may do in a run: act at a time, arm a point, change the clock, answer for S3
    catalogue.py    the faults by name, from faults_*.py, and which of them a seed means
    data.py         services, rows and files of a seed
    world.py        what is there: plain SQL and S3 listings
    checker.py      … judged against what was there before. Shares no code with `app`
    points.py       loaded into the workers: where in a step they are killed, held up or given another clock
    control.py      … and the directory through which they are told so
    s3_proxy.py     between the workers and S3
    brokers.py      the broker of each kind; broker.py, broker_*.py: what is done to its messages
    tcp_proxy.py    between the workers and a broker that is not ours to restart
    pool.py         the worker processes
"""
