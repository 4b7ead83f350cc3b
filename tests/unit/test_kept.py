"""What the ops page keeps of its looks, and when it no longer believes it."""

import threading

import pytest

from app.ops.kept import Kept


def test_a_look_is_kept_for_its_time():
    kept = Kept()
    assert kept.get("stops", lambda: "none", 60) == "none"
    assert kept.get("stops", lambda: "a hold", 60) == "none"
    assert kept.get("queues", lambda: "empty", 60) == "empty"


def test_after_a_change_everything_is_looked_at_anew():
    kept = Kept()
    kept.get("stops", lambda: "none", 60)
    kept.forget()
    assert kept.get("stops", lambda: "a hold", 60) == "a hold"


def test_a_look_that_began_before_a_change_is_not_kept_after_it():
    """Another open page was looking while somebody put a hold: what it saw must not come back for a minute."""
    kept = Kept()
    looking, changed = threading.Event(), threading.Event()

    def slow() -> str:
        looking.set()
        assert changed.wait(10)
        return "none"

    seen: list[str] = []
    other = threading.Thread(target=lambda: seen.append(kept.get("stops", slow, 60)))
    other.start()
    assert looking.wait(10)
    kept.forget()
    changed.set()
    other.join(10)
    assert seen == ["none"]
    assert kept.get("stops", lambda: "a hold", 60) == "a hold"


def test_a_look_that_fails_is_not_kept():
    kept = Kept()
    with pytest.raises(ZeroDivisionError):
        kept.get("stops", lambda: 1 // 0, 60)
    assert kept.get("stops", lambda: "none", 60) == "none"
