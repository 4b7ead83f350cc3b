"""The names of the points, for both sides: the workers, which have the functions, and the laboratory."""

BEFORE, AFTER = "before", "after"

# The point's name, the function's module and path in it, and whether the point is before or after it.
FUNCTIONS = (
    ("after the lease", "app.retention.chains", "take_step", BEFORE),
    ("after the choice", "app.dao.notifications_dao", "choose_letters", AFTER),
    ("after the choice", "app.dao.notifications_dao", "take_messages", AFTER),
    ("after the choice", "app.dao.many_services_dao", "take", AFTER),
    ("after the intent", "app.storage.files", "LetterFiles.delete", BEFORE),
    ("after the files", "app.storage.files", "LetterFiles.delete", AFTER),
    ("after the history insert", "app.dao.notifications_dao", "copy_batch_into_history", AFTER),
    ("before the commit", "app.retention.chains", "_advance", AFTER),
    ("in the night's start", "app.retention.nightly", "start_run", AFTER),
    ("in the fan-out", "app.retention.nightly", "open_chains_of_many", AFTER),
    ("in the fan-out", "app.retention.nightly", "open_chains_of_each", AFTER),
    ("in the fan-out", "app.retention.nightly", "open_chains", AFTER),
    ("while lost messages are given back", "kombu.transport.redis", "QoS.restore_by_tag", BEFORE),
    ("in the dispatcher", "app.retention.nightly", "dispatch", AFTER),
)
HALF_WAY = "half-way through the files"
COMMITTED = "after the commit and before the enqueue"
ENQUEUED = "after the enqueue and before the acknowledgement"
STEP_POINTS = (
    "after the lease",
    "after the choice",
    "after the intent",
    HALF_WAY,
    "after the files",
    "after the history insert",
    "before the commit",
    COMMITTED,
    ENQUEUED,
)
POINTS_WITH_FILES = ("after the intent", HALF_WAY, "after the files")
