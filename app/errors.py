"""What is said of arguments that make no sense, wherever they come from: a message, a shell, a command."""

SHOWN_CHARACTERS = 60


class BadArgument(ValueError):
    """An argument is refused, with one sentence that says how to fix it.

    `BadArgument("{} is not a night; it must be a date", value)`: whoever gave the value reads it in the sentence,
    on one line and cut short. A log must not repeat what came in, so that `for_log` leaves it out.
    """

    def __init__(self, sentence: str, *given: object) -> None:
        super().__init__(sentence.format(*map(_shown, given)))
        self.for_log = sentence.format(*("what was given" for _ in given))


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
