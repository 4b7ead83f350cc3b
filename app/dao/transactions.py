"""Numbers of transactions. A row keeps the lower half of the number of the one that wrote it."""

NUMBERS_PER_EPOCH = 2**32


def whole_number(xmin: int, last: int) -> int:
    """The 64-bit number, at most, of the transaction that wrote a row: `xmin` is what the row has of it, and `last`
    the latest (64-bit) that can have written it.

    It is exact for rows that are not frozen: less than 2^31 transactions may pass before they are. A frozen one keeps
    what it had, and is of that number or of one a whole number of epochs earlier.
    """
    return last - (last - xmin) % NUMBERS_PER_EPOCH
