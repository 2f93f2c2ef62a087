"""What was compressed by kafka-python, and what was made to look so."""

import gzip
import struct
import zlib

import lz4.frame
import pytest
import snappy
import zstandard
from kafka import codec

from ingest.record_batches import decompression
from ingest.record_batches.decompression import Undecompressable, decompress

CODECS = {1: codec.gzip_encode, 2: codec.snappy_encode, 3: codec.lz4_encode, 4: codec.zstd_encode}
RAW_SNAPPY = {2: snappy.compress}


@pytest.mark.parametrize("content", [b"", b"x", b"some records " * 20_000])
@pytest.mark.parametrize(("number", "encode"), [*CODECS.items(), *RAW_SNAPPY.items()])
def test_what_was_compressed_comes_back(number: int, encode: object, content: bytes) -> None:
    assert decompress(number, encode(content)) == content  # type: ignore[operator]


def test_members_of_gzip_and_frames_of_zstd_are_read_one_after_the_other() -> None:
    assert decompress(1, gzip.compress(b"a") + gzip.compress(b"b")) == b"ab"
    frames = [zstandard.ZstdCompressor().compress(part) for part in (b"a", b"b")]
    assert decompress(4, b"".join(frames)) == b"ab"


def test_very_many_members_of_gzip_are_read_in_time_that_grows_with_their_size() -> None:
    """All that follows a member was copied when it ended: of 4 MB of empty ones that took 16 s, and of 10 MB, 100."""
    empty, large = gzip.compress(b""), gzip.compress(bytes(100_000), 0)
    assert decompress(1, empty * 200_000) == b""
    assert decompress(1, (large + empty * 3 + gzip.compress(b"a")) * 5 + b"what follows") == (bytes(100_000) + b"a") * 5


@pytest.mark.parametrize(("number", "encode"), [*CODECS.items(), *RAW_SNAPPY.items()])
def test_a_few_bytes_that_stand_for_more_than_there_is_room_for_are_refused(
    number: int, encode: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decompression, "LARGEST", 1 << 20)
    assert len(decompress(number, encode(bytes(1 << 20)))) == 1 << 20  # type: ignore[operator]
    with pytest.raises(Undecompressable, match="stand for more than 1 MB"):
        decompress(number, encode(bytes((1 << 20) + 1)))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("number", "content"),
    [
        (1, b""),
        (1, b"not gzip"),
        (1, gzip.compress(b"cut short", mtime=0)[:-3]),
        (1, zlib.compress(b"of another kind")),
        (2, b""),
        (2, snappy.compress(b"cut short")[:-3]),
        (2, codec.snappy_encode(b"")[:16] + struct.pack(">i", -4)),
        (2, codec.snappy_encode(b"")[:16] + b"\0"),
        (3, b""),
        (3, lz4.frame.compress(b"cut short")[:-3]),
        (4, b"not zstd"),
        (5, b"of a codec that there isn't"),
    ],
)
def test_what_is_no_such_thing_is_refused_with_one_error(number: int, content: bytes) -> None:
    with pytest.raises(Undecompressable):
        decompress(number, content)
