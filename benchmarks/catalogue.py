"""The benchmarks by name, in the order in which `make bench` runs them. Each is a module of this package."""

NAMES = (
    *("drain", "snapshot", "flat", "discovery", "slices", "wal", "partitions", "letters", "folders", "night"),
    *("accounts", "sessions", "overdue", "kept", "ordinary", "hops", "archive"),
)
