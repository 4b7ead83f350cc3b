"""What a request brings, checked: what makes no sense is refused with a sentence, before anything is done."""

from uuid import UUID

from flask import request
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from app.api.errors import ApiError

LARGEST_BODY_BYTES = 64 * 1024


def checked_id(value: str) -> UUID:
    """An id as it is written in addresses. Raises ApiError."""
    try:
        found = UUID(value)
    except ValueError:
        found = None
    if found is None or str(found) != value.lower():
        raise ApiError(400, "malformed-id", "That is not an id; it must be a UUID with hyphens.")
    return found


def json_strings(*names: str, most_characters: int) -> list[str]:
    """These strings of the request's JSON object. Raises ApiError for anything else."""
    try:
        body = request.get_json()
    except UnsupportedMediaType:
        raise ApiError(415, "not-json", "Send a JSON object, with Content-Type: application/json.") from None
    except (BadRequest, RecursionError):
        raise ApiError(400, "malformed-json", "The body is not JSON.") from None
    values = [body.get(name) for name in names] if isinstance(body, dict) else []
    texts = [value for value in values if isinstance(value, str) and _is_text(value, most_characters)]
    if len(texts) != len(names):
        listed = " and ".join(names)
        raise ApiError(
            400, "malformed-request", f"The JSON object must have {listed}: text of 1 to {most_characters} characters."
        )
    return texts


def _is_text(value: str, most_characters: int) -> bool:
    """Neither the database nor a hash takes a NUL or half of a surrogate pair."""
    is_unicode = not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value)
    return is_unicode and 0 < len(value) <= most_characters
