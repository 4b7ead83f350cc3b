"""The policy of retention, on top of `app.dao` (SQL) and `app.storage` (letter files).

Read it in this order:

    nightly.py        the night: which services get a chain, and what keeps chains awake
    chains.py         one message: take the lease, do a step, decide, advance
    traffic.py        … or wait, while live traffic needs the database
    readiness.py      … or rest, while something is not as it must be (`app.state`)
    steps.py          one step: holds, cut-off, rows, record
    messages.py       … for emails and text messages, and for letters that have no files
    many_services.py  … and for those of all services that keep them equally long
    letters.py        … for letters, whose files go first
    missing_files.py  … and the guard against looking in the wrong place
    folder_index.py   … and the listing of a day's folder that all services share (folder_rules.py, folder_build.py)
    next_step.py      what comes next, as one pure function
    cutoffs.py        what is past its retention, by the rule that is set (cutoff_rules.py)

Beside them: `plan.py` (what tonight would do), `overdue.py` (what should be gone), `history.py` (what went, when),
`records.py` (how long that is kept), `audit.py` (the buckets compared with the tables: `audit_files.py`,
`audit_judgement.py`, `audit_deletion.py`, `audit_rows.py`), `operations.py` (what operators do),
`arguments.py` (what is refused).
"""

from app.retention.steps import delete_test_notifications, move_notifications_to_notification_history

__all__ = ["delete_test_notifications", "move_notifications_to_notification_history"]
