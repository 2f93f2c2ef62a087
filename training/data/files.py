"""Data files: opened whatever their compression, with a bound on their size.

DataError             a data file that cannot be used; its text says where and what to do
"""

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import rich.progress
from rich.console import Console
from rich.markup import escape

MAX_CONTENT_BYTES = 4 << 30
BLOCK_BYTES = 4 << 20

# The errors that reading a damaged file may raise.
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError)


class DataError(ValueError):
    """A data file that cannot be used as it is."""


def reason(error: BaseException) -> str:
    """Return an error's text without the path that an OSError repeats."""
    return getattr(error, "strerror", None) or str(error)


def sha256(path: Path) -> str:
    """Return the SHA-256 of the file as stored, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def opened(path: Path, console: Console | None = None) -> Iterator[io.BufferedReader]:
    """Open a file's content, decompressed if it is gzip, bzip2 or xz, showing progress on `console` if given.

    Reading past `MAX_CONTENT_BYTES` raises `DataError`; a damaged file raises one of `READ_ERRORS`.
    """
    quiet = console is None or not console.is_terminal  # elsewhere a bar leaves an empty line
    with rich.progress.open(
        path, "rb", description=f"Reading {escape(path.name)}", console=console, disable=quiet, transient=True
    ) as raw:
        yield io.BufferedReader(_Bounded(_decompressed(raw)), BLOCK_BYTES)


def _decompressed(raw: IO[bytes]) -> IO[bytes]:
    head = raw.read(6)
    raw.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(raw))
    if head.startswith(b"BZh"):
        return bz2.open(raw)
    if head.startswith(b"\xfd7zXZ\x00"):
        return lzma.open(raw)
    return raw


class _Bounded(io.RawIOBase):
    """A stream that raises `DataError` past `MAX_CONTENT_BYTES`: a small archive may hold a huge file."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._left = MAX_CONTENT_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        data = self._stream.read(len(view))
        self._left -= len(data)
        if self._left < 0:
            raise DataError(f"the content is larger than {MAX_CONTENT_BYTES:,} bytes once decompressed")
        view[: len(data)] = data
        return len(data)
