"""Makes text from strangers safe for a terminal: no characters that move the cursor or change colours."""

import codecs

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
BYTES = 48
"""How many bytes are shown of content that is no text."""


def printable(text: str) -> str:
    """Return the text with every unprintable character replaced; its length stays the same."""
    return "".join(c if c.isprintable() else REPLACEMENT for c in text)


def beginning(raw: bytes | None, characters: int) -> str:
    """Return the beginning of bytes: at most so many characters if they are UTF-8, else hexadecimal digits."""
    if raw is None:
        return "null"
    looked_at = raw[: 4 * (characters + 1)]  # no character has more than four bytes
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(looked_at, final=len(looked_at) == len(raw))
    except UnicodeDecodeError:
        return f"{raw[:BYTES].hex(' ')}{' …' if len(raw) > BYTES else ''} ({len(raw):,} bytes)"
    return printable(text) if len(text) <= characters else f"{printable(text[:characters])}… ({len(raw):,} bytes)"
