"""Accounts and sessions: what is deleted, who is warned, what is sent.

The deletion of an account, in the order in which to read it:

    plan.py          what becomes of each column that holds a user's id
    requests.py      the mark that starts it
    managers.py      … and what forbids it: a live service that nobody else can manage
    deletion.py      who does the work: the request itself, or a worker's task, under a lease
    steps.py         the work: one table at a time, in bounded batches, the user's row last
    files.py         … and the user's files
    confirmation.py  the email that says that it is done
    preview.py       what a deletion would do
"""
