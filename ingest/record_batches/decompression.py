"""Decompresses a batch's records safely: at most `LARGEST` bytes, and any failure raises Undecompressable.

Brokers don't check compressed content as closely as readers do: a few thousand bytes may decompress to gigabytes, and
anything may follow the end of a gzip member. The codecs are kafka-python's, from the same packages.
"""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Final

import lz4.frame
import zstandard
from kafka import codec

LARGEST: Final = 128 << 20
"""Bytes; `message.max.bytes` is a megabyte unless set, and JSON seldom shrinks to less than a twentieth."""

_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEAD: Final = 16
_GZIP: Final = b"\x1f\x8b"
_GZIP_PIECE: Final = 8192  # the rest of a piece after a member's end is copied, and members may be tiny


class Undecompressable(Exception):
    """A batch's records can't be decompressed; the text says why."""


def decompress(codec_number: int, content: bytes) -> bytes:
    """Decompress content by the number of its codec (a batch's attributes, KIP-98: 1 gzip, 2 snappy, 3 lz4, 4 zstd).

    Raises Undecompressable.
    """
    if codec_number not in _CODECS:
        raise Undecompressable(f"there is no codec {codec_number}")
    name, read = _CODECS[codec_number]
    try:
        found = read(content)
    except Undecompressable:
        raise
    except Exception as error:  # the packages' errors have no common base
        raise Undecompressable(f"{name} refuses it ({type(error).__name__}: {error})") from error
    if len(found) > LARGEST:
        raise Undecompressable(f"{len(content)} bytes of {name} stand for more than {LARGEST >> 20} MB")
    return found


def _gunzip(content: bytes) -> bytes:
    """Decompress gzip members one after the other (RFC 1952); ignore what follows them."""
    found, size, at = list[bytes](), 0, 0
    while content[at : at + 2] == _GZIP or not found:
        member = zlib.decompressobj(wbits=31)
        while not member.eof and size <= LARGEST:
            some = content[at : at + _GZIP_PIECE]
            if not some:
                raise Undecompressable("a gzip member has no end")
            found.append(member.decompress(some, LARGEST + 1 - size))
            size += len(found[-1])
            at += len(some) - len(member.unused_data)
        if size > LARGEST:
            break
    return b"".join(found)


def _unsnap(content: bytes) -> bytes:
    if content.startswith(_XERIAL) and len(content) == _XERIAL_HEAD:  # no blocks
        return b""
    if _snappy_size(content) > LARGEST:
        return bytes(LARGEST + 1)
    return bytes(codec.snappy_decode(content))


def _snappy_size(content: bytes) -> int:
    """Return the decompressed size according to snappy, of one block or of blocks in the format of Java's xerial."""
    if not content.startswith(_XERIAL):
        return _varint(content, 0)
    size, at = 0, _XERIAL_HEAD
    while at < len(content):
        (block,) = struct.unpack_from(">i", content, at)
        if block <= 0:
            raise Undecompressable(f"a snappy block of {block} bytes")
        size += _varint(content, at + 4)
        at += 4 + block
    return size


def _varint(content: bytes, at: int) -> int:
    """Decode a little-endian base-128 number of snappy's format."""
    value = 0
    for shift, byte in enumerate(content[at : at + 5]):
        value |= (byte & 127) << 7 * shift
        if byte < 128:
            break
    return value


def _unlz4(content: bytes) -> bytes:
    frame = lz4.frame.LZ4FrameDecompressor()
    found = frame.decompress(content, max_length=LARGEST + 1)
    if not frame.eof and len(found) <= LARGEST:
        raise Undecompressable("an lz4 frame has no end")
    return bytes(found)


def _unzstd(content: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content), read_across_frames=True) as reader:
        return bytes(reader.read(LARGEST + 1))


_CODECS: Final[dict[int, tuple[str, Callable[[bytes], bytes]]]] = {
    1: ("gzip", _gunzip),
    2: ("snappy", _unsnap),
    3: ("lz4", _unlz4),
    4: ("zstd", _unzstd),
}
