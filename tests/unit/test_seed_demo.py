"""The demo's own words and exit codes, without servers."""

import io

import pytest
from rich.console import Console

from dev import __main__ as commands
from dev import demo, up
from dev.progress import Done, NightProgress, SeedProgress
from dev.verify import Counts, Due, Finding, Result

COUNTS = {kind: Counts(10, 5, 1, 2, 1, 1, 0, 0) for kind in ("email", "sms", "letter")}


def result(**found: list[Finding]) -> Result:
    nothing: dict = {"lost": [], "orphaned": [], "kept": [], "wrong_cases": []}
    return Result(**nothing | found, cases=31, counts=COUNTS, files_deleted=7, refused_services=2)


@pytest.mark.parametrize("wrong", ["lost", "orphaned", "kept", "wrong_cases"])
def test_a_single_finding_of_any_kind_makes_a_result_bad(wrong):
    assert result().ok
    bad = result(**{wrong: [Finding("an id", "is wrong")]})
    assert not bad.ok
    assert len(list(bad.details())) == 1


def test_ten_findings_of_a_kind_are_shown_and_the_others_counted():
    lines = list(result(lost=[Finding(str(number), "is gone") for number in range(13)]).details())
    assert len(lines) == 11
    assert lines[-1] == "lost: and 3 more"


@pytest.mark.parametrize(
    ("found", "of_accounts", "status"),
    [({}, [], 0), ({"lost": [Finding("an id", "is gone")]}, [], 1), ({}, ["visited yesterday: deleted, not stays"], 1)],
)
def test_the_demo_ends_with_the_verdict_of_both_verifications(monkeypatch, capsys, found, of_accounts, status):
    class NoStack:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def isolated_environment(self):
            return {}

    monkeypatch.setattr(demo, "Stack", NoStack)
    monkeypatch.setattr(demo, "start_product", lambda *_: "http://127.0.0.1")
    monkeypatch.setattr(demo, "_night", lambda *_: result(**found))
    monkeypatch.setattr(demo.demo_accounts, "run", lambda *_: of_accounts)
    assert demo.run(1) == status
    printed = capsys.readouterr().out
    assert f"{len(found)} rows lost, 0 files orphaned, 0 kept too long" in printed
    assert ("lost: an id is gone" in printed) == bool(found)


def test_a_night_that_does_not_end_is_a_failure_with_its_reason(monkeypatch, capsys):
    class Worker:
        running, name = True, "worker"

        def log_tail(self):
            return "the last line"

    class Stack:
        processes = {"worker": Worker()}  # noqa: RUF012

    with pytest.raises(demo.DemoFailed, match=r"after 10 minutes.*\nthe last line"):
        demo._check(Stack(), seconds=601, most=600)


def test_a_worker_that_ended_is_a_failure_at_once():
    class Beat:
        running, name, status = False, "beat", 3

        def log_tail(self):
            return "why it ended"

    class Stack:
        processes = {"beat": Beat()}  # noqa: RUF012

    with pytest.raises(demo.DemoFailed, match=r"beat ended with status 3(.|\n)*why it ended"):
        demo._check(Stack(), seconds=1, most=600)


def test_without_a_terminal_progress_is_plain_lines():
    out = Console(file=io.StringIO(), width=120)
    with SeedProgress(out) as seeding:
        seeding("letters", 0, 40)
        seeding("files", 0, 60)
        seeding("letters", 40, 40)
    with NightProgress(out, {"letter": Due(rows=40, files=60)}) as night:
        night._lines._last -= 60  # the next line is due
        night.show({"letter": Done(10, 12)})
    lines = out.file.getvalue().splitlines()
    assert lines[0] == "  seeding:  40 %, letters 40 of 40"
    assert lines[1].startswith("  letters 10 of 40; 12 files deleted; ")
    assert lines[1].endswith(" left")


@pytest.mark.parametrize("scale", ["0", "-1", "many", "nan", "1001"])
def test_a_scale_that_makes_no_sense_is_refused(capsys, scale):
    with pytest.raises(SystemExit) as refusal:
        commands.main(["demo", "--scale", scale])
    assert refusal.value.code == 2
    assert "is not a number above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("DATABASE_URL", "CELERY_BROKER_URL"),
        ("CELERY_BROKER_URL", "DATABASE_URL"),
        ("AWS_ENDPOINT_URL_S3", "DATABASE_URL and CELERY_BROKER_URL"),
    ],
)
def test_half_a_stack_is_refused(monkeypatch, capsys, given, missing):
    for name in up.SERVERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(given, "something://somewhere")
    assert commands.main(["up"]) == 1
    assert f"{given} is set and {missing} is not" in capsys.readouterr().err


def test_a_shell_with_nothing_running_says_what_to_start(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    left_behind = tmp_path / "stack.json"
    left_behind.write_text('{"environment": {}}')
    for state in (tmp_path / "none.json", left_behind):
        assert commands.main(["shell", "--state", str(state)]) == 1
        assert capsys.readouterr().err == "Nothing is running: start `make up` in another terminal\n"


def test_settings_of_the_shell_reach_an_embedded_stack_but_servers_and_buckets_do_not(monkeypatch):
    for name in ("DATABASE_URL", "S3_BUCKET_LETTERS_PDF", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.setenv(name, "production")
    monkeypatch.setenv("LETTERS_PER_STEP", "3")
    chosen = up._chosen_settings()
    assert chosen["LETTERS_PER_STEP"] == "3"
    assert "production" not in chosen.values()
