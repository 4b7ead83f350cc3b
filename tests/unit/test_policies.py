"""Policy files: what an entry may say, and one sentence with file, line, policy and key for all that is wrong.

Seen to fail: an entry with `extra="ignore"`, a line that is counted from 0, a redaction that is always taken to end, a
problem of one entry that leaves the others out, and `_comes_back` that is always false.
"""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.policies import registry
from app.policies.forms import Disposition, Entry, Retention
from app.policies.reading import MOST_BYTES, read
from app.policies_reference import PAGE, with_reference

GOOD = """\
[verify-codes]
table = "verify_codes"
age = "created_at"
retention = { hours = 24 }
every = "hour"
then = "delete"

[job-files]
table = "jobs"
age = ["scheduled_for", "created_at"]
retention = { days = 7, of_service_for = "template_id.template_type" }
where = { archived = false }
files = { bucket = "csv-upload", key = "service-{service_id}-notify/{id}.csv" }
then = { redact = { archived = true } }
"""
LINE_OF = {"table": 2, "age": 3, "retention": 4, "every": 5, "then": 6}

names = st.from_regex(r"[a-z]{1,12}", fullmatch=True)
scalars = st.one_of(st.booleans(), st.integers(-9, 9), st.floats(-9, 9), names)
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2))


def toml(value: Any) -> str:
    """A value as TOML writes it on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return repr(value).replace("'", '"') if isinstance(value, str) else repr(value)


def test_entries_are_read():
    found = read("mine.toml", GOOD)
    assert found.problems == ()
    codes, jobs = found.policies
    assert (codes.name, codes.entry.table, codes.entry.age) == ("verify-codes", "verify_codes", ("created_at",))
    assert codes.entry.retention == Retention(hours=24)
    assert codes.entry.then == Disposition(delete=True)
    assert jobs.entry.age == ("scheduled_for", "created_at")
    assert jobs.entry.files is not None
    assert jobs.entry.files.parts == (("service-", "service_id"), ("-notify/", "id"), (".csv", None))


@given(key=st.sampled_from(sorted(LINE_OF)), value=anything)
def test_a_value_that_no_key_takes_is_a_sentence_with_file_line_policy_and_key(key, value):
    lines = GOOD.splitlines()
    lines[LINE_OF[key] - 1] = f"{key} = {toml(value)}"
    found = read("mine.toml", "\n".join(lines))
    assert "job-files" in {policy.name for policy in found.policies}, "it stops none of the others"
    if len(found.policies) == 2:
        assert not found.problems
        return
    assert found.problems
    for problem in found.problems:
        assert (problem.source, problem.line, problem.policy) == ("mine.toml", LINE_OF[key], "verify-codes")
        assert (problem.key or "").split(".")[0] == key
        assert str(problem).startswith(f"mine.toml, line {LINE_OF[key]}: [verify-codes] {key}")
        assert problem.sentence
        assert "\n" not in str(problem)


@given(key=names.filter(lambda key: key not in Entry.model_fields), value=anything)
def test_a_key_that_there_is_not_is_named(key, value):
    found = read("mine.toml", GOOD.replace('every = "hour"', f"{key} = {toml(value)}"))
    assert [str(problem) for problem in found.problems] == [
        f"mine.toml, line 5: [verify-codes] {key}: there is no such key"
    ]


@given(st.sampled_from(["table", "age", "retention", "then"]))
def test_a_key_that_is_missing_is_named(key):
    lines = [line for line in GOOD.splitlines() if not line.startswith(f"{key} =")]
    problems = read("mine.toml", "\n".join(lines)).problems
    assert {(problem.key, problem.sentence) for problem in problems} == {(key, "it is missing")}
    assert {problem.policy for problem in problems} == {"verify-codes", "job-files"}


@given(st.text(max_size=200))
def test_no_text_raises(text):
    found = read("mine.toml", text)
    try:
        document = tomllib.loads(text)
    except ValueError:
        assert [problem.policy for problem in found.problems] == [None]
        return
    assert {problem.policy for problem in found.problems} == document.keys()
    assert found.policies == ()


@given(st.integers(0, len(GOOD)), st.text(min_size=1, max_size=5))
def test_no_slip_of_a_hand_raises_and_every_problem_is_on_a_line_that_there_is(at, slip):
    text = GOOD[:at] + slip + GOOD[at:]
    for problem in read("mine.toml", text).problems:
        assert 1 <= problem.line <= text.count("\n") + 1
        assert problem.sentence


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ('age = "a.b.c.d.e"', "it is no column"),
        ('age = "a; DROP TABLE users"', "it is no column"),
        ('table = "a.b.c"', "it is no table"),
        ("retention = { days = 0 }", "greater than or equal to 1"),
        ("retention = { days = true }", "valid integer"),
        ("retention = { days = 7, hours = 1 }", "give one of days, hours, minutes"),
        ('retention = { hours = 7, of_service_for = "sms" }', "of_service_for needs days"),
        ('then = "archive"', "archive is not for policies yet"),
        ('then = "purge"', "it must be"),
        ('then = { move = "a", delete = true }', "give one of delete, move, redact"),
        ("then = { redact = {} }", "at least 1"),
        ("then = { redact = { a = { to = 1, now = true } } }", "give one of to, now, null, column"),
        ("where = { a = { is = 1, not = 2 } }", "give one of is, not"),
        ("where = { a = { like = 1 } }", "there is no such key"),
        ("where = { a = 1979-05-27 }", "it must be a text, a number, true or false"),
        ("where = { a = nan }", "finite"),
        ("where = { a = 99999999999999999999 }", "too large"),
        ('where = { a = "\\u0000" }', "U+0000"),
        ("where = { a = { in = [] } }", "at least 1"),
        ('files = { bucket = "bucket", key = "plain" }', "it must name a column in braces"),
        ('files = { bucket = "bucket", key = "{id" }', "its braces do not match"),
        ('files = { bucket = "bucket", key = "{id!r}" }', "only paths may stand in braces"),
        ('files = { bucket = "bucket", key = "{}" }', "it is no column"),
        ('files = { key = "{id}" }', "it is missing"),
        ('every = "week"', "'night' or 'hour'"),
    ],
)
def test_what_is_wrong_is_said(entry, sentence):
    given = dict(line.split(" = ", 1) for line in GOOD.splitlines()[1:6])
    key, _, value = entry.partition(" = ")
    text = "[mine]\n" + "\n".join(f"{name} = {one}" for name, one in {**given, key: value}.items())
    found = read("mine.toml", text)
    assert not found.policies
    assert sentence in str(found.problems[0])
    assert str(found.problems[0]).startswith("mine.toml, line ")


@pytest.mark.parametrize(
    ("where", "redact", "ends"),
    [
        ("{ a = false }", "{ a = true }", True),
        ("{ a = false }", "{ a = false }", False),
        ("{ a = false }", "{ b = true }", False),
        ('{ a = { not = "deleted" } }', '{ a = "deleted" }', True),
        ('{ a = { not = "deleted" } }', '{ a = "gone" }', False),
        ('{ a = { in = ["x", "y"] } }', '{ a = "z" }', True),
        ('{ a = { in = ["x", "y"] } }', '{ a = "y" }', False),
        ('{ a = { not_in = ["x"] } }', '{ a = "x" }', True),
        ("{ a = { above = 3 } }", "{ a = 3 }", True),
        ("{ a = { above = 3 } }", "{ a = 4 }", False),
        ("{ a = { below = 3 } }", "{ a = 3 }", True),
        ("{ a = { below = 3 } }", '{ a = "three" }', False),
        ("{ a = { set = true } }", "{ a = { null = true } }", True),
        ("{ a = { set = false } }", "{ a = { null = true } }", False),
        ("{ a = { set = false } }", "{ a = { now = true } }", True),
        ("{ a = { set = false } }", "{ a = 1 }", True),
        ("{ a = { set = false } }", '{ a = { column = "b" } }', False),
        ("{ a = 1 }", "{ a = { null = true } }", True),
        ("{ a = 1 }", '{ a = { column = "b" } }', False),
        ("{ b = 1 }", "{ created_at = { now = true } }", True),
        ("{ b = 1 }", "{ created_at = { null = true } }", True),
    ],
)
def test_a_redaction_must_make_its_own_condition_false(where, redact, ends):
    text = f"""[mine]
table = "t"
age = "created_at"
retention = {{ days = 1 }}
where = {where}
then = {{ redact = {redact} }}
"""
    found = read("mine.toml", text)
    assert bool(found.policies) is ends
    if not ends:
        [problem] = found.problems
        assert (problem.line, problem.key) == (6, "then.redact")
        assert "chosen again for ever" in problem.sentence


def test_keys_of_every_way_of_writing_have_their_lines():
    text = '''[a]
table = """
age = 1
"""
age = "x"
then = "delete"
[a.retention]
# a comment
days = 0
[a.where.b]
like = 1
'''
    assert {(problem.key, problem.line) for problem in read("mine.toml", text).problems} == {
        ("table", 2),
        ("retention.days", 9),
        ("where.b.like", 11),
    }


def test_a_file_that_cannot_be_read_stops_nothing_that_is_built_in(tmp_path: Path):
    built_in = tmp_path / "built_in.toml"
    built_in.write_text(GOOD)
    for name, content, why in (
        ("absent.toml", None, "line 1: the file can't be read: No such file or directory"),
        ("latin.toml", b"a\n\xff", "line 2: the file is not UTF-8"),
        ("broken.toml", b"[a]\nb = ", "line 2: it is no TOML: invalid value"),
        ("deep.toml", b"a = " + b"[" * 100_000, "line 1: it is nested too deeply"),
        ("digits.toml", b"a = " + b"1" * 5000, "line 1: it is no TOML"),
        ("large.toml", b"#" * (MOST_BYTES + 1), "line 1: the file has more than"),
    ):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        found = registry.load(str(path), built_in)
        assert set(found.policies) == {"verify-codes", "job-files"}
        [problem] = found.problems
        assert str(problem).startswith(f"{name}, {why}")


def test_a_name_that_is_built_in_is_refused_and_the_built_in_policy_stays(tmp_path: Path):
    built_in, own = tmp_path / "built_in.toml", tmp_path / "own.toml"
    built_in.write_text(GOOD)
    own.write_text(GOOD.replace("job-files", "other-files").replace('"verify_codes"', '"mine"'))
    found = registry.load(str(own), built_in)
    assert {name: policy.entry.table for name, policy in found.policies.items()} == {
        "verify-codes": "verify_codes",
        "job-files": "jobs",
        "other-files": "jobs",
    }
    [problem] = found.problems
    assert (problem.source, problem.line, problem.policy) == ("own.toml", 1, "verify-codes")


def test_tables_that_move_into_each_other_are_refused(tmp_path: Path):
    entry = '[{}]\ntable = "{}"\nage = "a"\nretention = {{ days = 1 }}\nthen = {{ move = "{}" }}\n'
    own = tmp_path / "own.toml"
    moves = [("one", "a", "b"), ("two", "b", "c"), ("three", "c", "a"), ("four", "d", "a")]
    own.write_text("".join(entry.format(*move) for move in moves))
    found = registry.load(str(own), tmp_path / "none")
    assert set(found.policies) == {"four"}
    assert {(problem.policy, problem.key) for problem in found.problems if problem.policy} == {
        (name, "then.move") for name in ("one", "two", "three")
    }


def test_what_is_built_in_is_right():
    found = registry.load(None)
    assert found.problems == ()


def test_the_page_has_every_key_and_its_examples_are_right():
    page = PAGE.read_text()
    assert with_reference(page) == page, "run: make docs"
    examples = page.split("```toml\n")[1:]
    assert len(examples) >= 2
    for example in examples:
        found = read("docs/policies.md", example.partition("```")[0])
        assert found.problems == ()
        assert found.policies
