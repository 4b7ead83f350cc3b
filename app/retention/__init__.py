"""The policy of retention, on top of `app.dao` (SQL) and `app.storage` (letter files).

Read it in this order:

    nightly.py        the night: which services get a chain, and what keeps chains awake
    chains.py         one message: take the lease, do a step, decide, advance
    traffic.py        … or wait, while live traffic needs the database
    steps.py          one step: holds, cut-off, rows, record
    messages.py       … for emails and text messages
    letters.py        … for letters, whose files go first
    missing_files.py  … and the guard against looking in the wrong place
    next_step.py      what comes next, as one pure function
    cutoffs.py        what is past its retention

Beside them: `plan.py` (what tonight would do), `operations.py` (what operators do), `arguments.py` (what is refused).
"""

from app.retention.steps import delete_test_notifications, move_notifications_to_notification_history

__all__ = ["delete_test_notifications", "move_notifications_to_notification_history"]
