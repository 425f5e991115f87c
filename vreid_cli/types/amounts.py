"""How many of something, in words."""

from __future__ import annotations


def amount(number: int, one: str, several: str | None = None) -> str:
    """A number with what it counts: in the singular if it is 1.

    Args:
        number: How many.
        one: What one is called; a verb may follow, if ``several`` is given.
        several: What several are called; by default ``one`` with its plural ending.

    Examples:
        >>> amount(1, "image"), amount(1234, "query"), amount(0, "box")
        ('1 image', '1,234 queries', '0 boxes')
        >>> amount(2, "epoch"), amount(2, "batch"), amount(2, "pass")
        ('2 epochs', '2 batches', '2 passes')
        >>> amount(1, "image is", "images are")
        '1 image is'
    """
    return f"{number:,} {one if number == 1 else several or _plural(one)}"


def _plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "tch", "sh")) else f"{noun}s"
