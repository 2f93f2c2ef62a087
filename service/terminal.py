"""What a terminal may show of what strangers sent: no character that moves its cursor or changes its colours."""

import codecs

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
BYTES = 48
"""So many are shown of what is no text."""


def printable(text: str) -> str:
    """Return a text of the same length."""
    return "".join(c if c.isprintable() else REPLACEMENT for c in text)


def beginning(raw: bytes | None, characters: int) -> str:
    """Return the beginning of bytes, at most so many characters of it where it is UTF-8, else hexadecimal digits."""
    if raw is None:
        return "null"
    looked_at = raw[: 4 * (characters + 1)]  # no character has more than four bytes
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(looked_at, final=len(looked_at) == len(raw))
    except UnicodeDecodeError:
        return f"{raw[:BYTES].hex(' ')}{' …' if len(raw) > BYTES else ''} ({len(raw):,} bytes)"
    return printable(text) if len(text) <= characters else f"{printable(text[:characters])}… ({len(raw):,} bytes)"
