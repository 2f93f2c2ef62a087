"""Counts, lists of people and what is wrong with a value, as a sentence has them."""

from collections.abc import Collection, Sequence

from pydantic import ValidationError

MANY = 10


def in_people(count: int) -> str:
    """Return "1 person", "2 people", and so on."""
    return f"{count:,} {'person' if count == 1 else 'people'}"


def some_of(names: Collection[str], most: int = MANY) -> str:
    """Return the first names, and how many more there are."""
    listed: Sequence[str] = list(names)
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def first_error(error: ValidationError) -> str:
    """Return the first thing that a model found wrong, with its place."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'as a whole'}: {first['msg']}"
