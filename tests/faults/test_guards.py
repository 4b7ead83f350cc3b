"""What `python -m tests.faults.guards` takes out is there to be taken out.

Seen to fail: a piece of a guard with a word changed.
"""

import pytest

from dev.product import ROOT
from tests.faults.guards import GUARDS, Guard


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_every_piece_of_a_guard_is_in_its_file(guard: Guard):
    assert [text for file, text, _ in guard.pieces if text not in (ROOT / file).read_text()] == []
