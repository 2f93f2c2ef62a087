"""A finding of a check: a sentence, and whether anything has to be done."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

LISTED = 3
"""How many items a finding names."""


class Verdict(enum.StrEnum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"  # worth a look: labels are made, but perhaps not those that people expect
    WRONG = "wrong"  # something doesn't work, or is lost


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; if something is wrong, `text` says what to do."""

    verdict: Verdict
    text: str


def ok(text: str) -> Finding:
    """Return a finding for something as it should be."""
    return Finding(Verdict.OK, text)


def note(text: str) -> Finding:
    """Return a finding that is worth a look."""
    return Finding(Verdict.NOTE, text)


def wrong(text: str) -> Finding:
    """Return a finding that must be fixed."""
    return Finding(Verdict.WRONG, text)


def counted(number: int, thing: str) -> str:
    """Return a number with its noun, in the singular or plural."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def listed(things: Sequence[object], count: int | None = None) -> str:
    """List the first few of several things; `count` is their number, if not all are given."""
    named = ", ".join(map(str, things[:LISTED]))
    total = len(things) if count is None else count
    return f"{named} and {total - LISTED:,} more" if total > LISTED else named


def listed_partitions(partitions: Sequence[int]) -> str:
    """Name the first few partitions."""
    if 1 < len(partitions) <= LISTED:
        named = f"{', '.join(map(str, partitions[:-1]))} and {partitions[-1]}"
    else:
        named = listed(partitions)
    return f"partition{'' if len(partitions) == 1 else 's'} {named}"
