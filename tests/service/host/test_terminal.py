"""What is shown of what strangers sent."""

import pytest

from service.host.terminal import beginning, printable


def test_nothing_that_a_terminal_would_obey_is_left() -> None:
    assert printable("a\x1b[31m\r\nb\x9b1m é") == "a�[31m��b�1m é"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (None, "null"),
        (b"", ""),
        (b"abcde", "abcde"),
        ("äöü€😀".encode(), "äöü€😀"),
        (b"abcdef", "abcde… (6 bytes)"),
        (("😀" * 9).encode(), "😀😀😀😀😀… (36 bytes)"),
        (b"a" + "😀".encode() * 9, "a😀😀😀😀… (37 bytes)"),  # what is looked at ends within a character
        (b"\x1b[2J", "�[2J"),
        (b"\xff\x00", "ff 00 (2 bytes)"),
        ("😀".encode()[:2], "f0 9f (2 bytes)"),
        (bytes([255]) * 50, "ff " * 47 + "ff … (50 bytes)"),
    ],
)
def test_the_beginning_is_shown_as_text_or_in_digits(raw: bytes | None, shown: str) -> None:
    assert beginning(raw, 5) == shown
