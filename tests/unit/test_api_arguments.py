"""What a request to the API may hold.

Seen to fail: a text of the most characters refused, one of a character more taken, an empty one taken.
"""

import pytest
from flask import Flask

from app.api.arguments import json_strings
from app.api.errors import ApiError


@pytest.mark.parametrize(("characters", "is_taken"), [(0, False), (1, True), (8, True), (9, False)])
def test_a_text_has_one_character_to_the_most(characters, is_taken):
    value = "é" * characters
    with Flask(__name__).test_request_context(json={"name": value}):
        if is_taken:
            assert json_strings("name", most_characters=8) == [value]
        else:
            with pytest.raises(ApiError):
                json_strings("name", most_characters=8)
