"""S3 refuses, slows down, breaks off, or keeps versions."""

from datetime import UTC, datetime, timedelta
from random import Random

from tests.faults.run import Run, fault
from tests.faults.s3_proxy import Request, Verdict
from tests.variants.policies import LETTERS, SCAN, TESTS

BUSY = (LETTERS, LETTERS, TESTS, SCAN)
MORE = 60
"""Rows that give the largest service's letters several slices."""


def busy_bucket(run: Run) -> str:
    """What one of the platform's buckets is for."""
    return run.random.choice([role for role in BUSY if role in run.lab.buckets])


def sometimes(run: Run, share: float, verdict: Verdict, *, deletes_only: bool = False) -> None:
    """The verdict for a share of the requests of the first seconds."""
    chance = Random(run.random.random())

    def rule(request: Request) -> Verdict | None:
        is_hit = chance.random() < share and (request.is_delete or not deletes_only)
        return verdict if is_hit else None

    run.s3(rule, 0, run.random.uniform(1.5, 2.5))


@fault("S3 refuses single keys for a while")
def keys_refused(run: Run) -> None:
    refuse_keys(run, 0.3, run.random.choice(("AccessDenied", "InternalError")), 2.0)


@fault("S3 refuses single keys for good")
def keys_refused_for_good(run: Run) -> None:
    refuse_keys(run, 0.1, "AccessDenied", None)


def refuse_keys(run: Run, share: float, code: str, seconds: float | None) -> None:
    """A share of the keys is refused in 200 answers, for so many seconds, or as long as the run lasts."""
    refused: dict[str, str] = {}
    run.options.big = MORE

    def choose() -> None:
        for (_, key), owner in run.data.files.items():
            if owner is not None and run.random.random() < share:
                refused[key] = code
                if seconds is None:
                    run.waits_for_ever({owner})

    def rule(request: Request) -> Verdict | None:
        found = {key: refused[key] for key in request.keys if key in refused}
        return Verdict(refused=found) if found else None

    run.when_seeded(choose)
    if seconds is None:
        run.when_seeded(lambda: run.lab.proxy.rules.append(rule))
        run.undo(run.lab.proxy.rules.clear)
    else:
        run.s3(rule, 0, seconds)


@fault("every key of a bucket is refused for a while")
def all_keys_refused(run: Run) -> None:
    run.options.big = MORE
    role = busy_bucket(run)

    def rule(request: Request) -> Verdict | None:
        if request.bucket != run.lab.buckets[role] or not request.keys:
            return None
        return Verdict(refused=dict.fromkeys(request.keys, "AccessDenied"))

    run.s3(rule, 0, 2)


@fault("S3 says SlowDown")
def slow_down(run: Run) -> None:
    sometimes(run, 0.6, Verdict(status=503, code="SlowDown"))


@fault("S3 says SlowDown of single keys")
def slow_down_keys(run: Run) -> None:
    def rule(request: Request) -> Verdict | None:
        later = request.keys[len(request.keys) // 2 :]
        return Verdict(refused=dict.fromkeys(later, "SlowDown")) if later else None

    run.s3(rule, 0, 2)


@fault("S3 answers 5xx")
def server_errors(run: Run) -> None:
    sometimes(run, 0.4, Verdict(status=500, code="InternalError"))


@fault("S3 answers 500 for a single letter's file for good")
def one_file_fails(run: Run) -> None:
    """The whole request fails, whatever else it names: nothing in the answer says which file is to blame."""
    run.options.big = MORE
    failing: set[str] = set()

    def rule(request: Request) -> Verdict | None:
        return None if failing.isdisjoint(request.keys) else Verdict(status=500, code="InternalError")

    def begin() -> None:
        overdue = {row["id"] for row in run.overdue("letter")}
        files = [(key, owner) for (_, key), owner in run.data.files.items() if owner in overdue]
        key, owner = run.random.choice(files)
        failing.add(key)
        run.waits_for_ever({owner})
        run.lab.proxy.rules.append(rule)

    run.when_seeded(begin)
    run.undo(run.lab.proxy.rules.clear)


@fault("S3 is slow")
def slow(run: Run) -> None:
    run.inexact_files()
    sometimes(run, 0.4, Verdict(seconds=run.random.choice((0.3, 0.6, 1.2))))


@fault("S3 breaks off half-way")
def cut(run: Run) -> None:
    run.inexact_files()
    sometimes(run, 0.5, Verdict(is_cut=True))


@fault("S3 breaks off half-way through deletes")
def cut_deletes(run: Run) -> None:
    run.inexact_files()
    sometimes(run, 0.8, Verdict(is_cut=True), deletes_only=True)


@fault("wrong credentials")
def credentials(run: Run) -> None:
    run.options.big = MORE
    code = run.random.choice(("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "ExpiredToken"))
    sometimes(run, 1, Verdict(status=400 if code == "ExpiredToken" else 403, code=code))


@fault("credentials that may list, not delete")
def may_list(run: Run) -> None:
    run.options.big = MORE
    sometimes(run, 1, Verdict(status=403, code="AccessDenied"), deletes_only=True)


@fault("a bucket is missing for a while")
def bucket_missing(run: Run) -> None:
    run.options.big = MORE
    role = busy_bucket(run)

    def rule(request: Request) -> Verdict | None:
        return Verdict(status=404, code="NoSuchBucket") if request.bucket == run.lab.buckets[role] else None

    run.s3(rule, 0, 2.5)


@fault("a bucket is missing for good")
def bucket_missing_for_good(run: Run) -> None:
    run.options.big = MORE
    role = busy_bucket(run)
    run.buckets_may_wait.add(role)

    def rule(request: Request) -> Verdict | None:
        return Verdict(status=404, code="NoSuchBucket") if request.bucket == run.lab.buckets[role] else None

    def begin() -> None:
        run.lab.proxy.rules.append(rule)
        run.waits_for_ever({row["id"] for row in run.before.live.values() if run.is_out_of_reach(row)})

    run.when_seeded(begin)
    run.undo(run.lab.proxy.rules.clear)


@fault("buckets that keep versions")
def versions(run: Run) -> None:
    """Two versions of some files, a marker over others; a test letters' bucket was suspended since.

    No markers there: moto answers 500 to every delete of a file that has one in a suspended bucket.
    """
    run.options.versioned = set(run.lab.buckets)

    def add() -> None:
        for role, key in list(run.data.files):
            chance = run.random.random()
            if run.data.files[role, key] is None or chance > 0.45:
                continue
            if chance < 0.3 or role == TESTS:
                run.lab.s3.put_object(Bucket=run.lab.buckets[role], Key=key, Body=b"another version")
            else:
                run.lab.s3.delete_object(Bucket=run.lab.buckets[role], Key=key)
            run.before.files[role, key] += 1
        if TESTS in run.lab.buckets:
            suspended = run.lab.buckets[TESTS]
            run.lab.s3.put_bucket_versioning(Bucket=suspended, VersioningConfiguration={"Status": "Suspended"})
        run.hits += 1

    run.when_seeded(add)


@fault("files under object lock")
def object_lock(run: Run) -> None:
    run.options.locked = {LETTERS, TESTS} & run.lab.buckets.keys()

    def lock() -> None:
        until = datetime.now(UTC) + timedelta(days=30)
        for (role, key), owner in run.data.files.items():
            if owner is not None and role in run.options.locked and run.random.random() < 0.1:
                run.lab.s3.put_object_retention(
                    Bucket=run.lab.buckets[role], Key=key, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": until}
                )
                run.waits_for_ever({owner})
                run.hits += 1

    run.when_seeded(lock)
