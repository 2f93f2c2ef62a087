"""The metadata of a commit: what a worker needs, beside the position, to carry on where another one stopped.

It travels in the ``metadata`` field of the offset commit (KIP-211 keeps it as long as the offset), a few dozen
bytes of JSON; brokers allow 4096.
"""

import base64
import binascii
from collections.abc import Mapping

import msgspec

VERSION = 3
_BEFORE = 2  # says the same, and the buried as a mapping from 64 bits in base64
MOST_CHARACTERS = 4096
"""Kafka's ``offset.metadata.max.bytes``, unless an operator set it."""

NAME_SIZE = 6
_MAX_OFFSET = 2**63 - 1


class Snapshot(msgspec.Struct, frozen=True):
    """What is committed beside a partition's position, taken at a record boundary.

    ``rewind_to`` is the offset of the oldest record whose reading a window still open at the position holds;
    the position itself where none is open. ``topic`` and ``partition`` are where the labels went, of ``partitions``
    that the topic had. No label that a successor must know lies before ``labels_from`` there; where that is below 0,
    some are in other partitions. ``buried`` names devices whose readings a replay must pass over, by `NAME_SIZE` bytes
    of a hash of their ids, each up to a record, counted from ``rewind_to``. ``rules`` are the settings that decide
    which readings count and when a window closes, in the writer's own words. Where the partition is to be read up to an
    ``end`` alone, that is the first record that isn't to be read.
    """

    rewind_to: int
    topic: str
    partition: int
    partitions: int
    labels_from: int
    buried: Mapping[bytes, int] = {}
    rules: str = ""
    end: int | msgspec.UnsetType = msgspec.UNSET


class _Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """A snapshot as it stands in the commit."""

    rewind_to: int
    topic: str
    partition: int
    partitions: int
    labels_from: int
    buried: str | dict[str, int] = ""
    rules: str = ""
    end: int | msgspec.UnsetType = msgspec.UNSET
    v: int = VERSION


class Foreign(msgspec.Struct, frozen=True):
    """What can be read of a snapshot that another version wrote; all versions so far have said ``rewind_to``."""

    rewind_to: int


class SnapshotError(ValueError):
    """Commit metadata that no version of this program wrote."""


def encode(snapshot: Snapshot) -> str:
    """Write a snapshot as commit metadata."""
    written = _Written(**{**msgspec.structs.asdict(snapshot), "buried": ""})
    room = MOST_CHARACTERS - len(msgspec.json.encode(written))
    written = msgspec.structs.replace(written, buried=_pack(snapshot.buried, room))
    return msgspec.json.encode(written).decode()


def decode(metadata: str, position: int) -> Snapshot | Foreign:
    """Read the metadata of a commit at ``position``: a snapshot, or what is known of another version's.

    Raises SnapshotError when it is neither.
    """
    snapshot: Snapshot | Foreign
    try:
        snapshot = _read(msgspec.json.decode(metadata, type=_Written))
    except (msgspec.MsgspecError, RecursionError):
        snapshot = _decode_foreign(metadata)
    if not 0 <= snapshot.rewind_to <= position <= _MAX_OFFSET:
        raise SnapshotError(f"rewind_to {snapshot.rewind_to} is not between 0 and the position {position}")
    return snapshot


def _read(written: _Written) -> Snapshot | Foreign:
    if written.v not in (VERSION, _BEFORE):
        return Foreign(written.rewind_to)
    try:
        if isinstance(written.buried, str):
            buried = _unpack(written.buried)
        else:
            buried = {_name_before(name): record for name, record in written.buried.items()}
        if max(buried.values(), default=0) > _MAX_OFFSET - written.rewind_to:
            raise ValueError("there is no such record")
    except ValueError:  # damaged: no version wrote it
        return Foreign(written.rewind_to)
    fields = msgspec.structs.asdict(written)
    del fields["v"]
    return Snapshot(**{**fields, "buried": buried})


def _decode_foreign(metadata: str) -> Foreign:
    try:
        return msgspec.json.decode(metadata, type=Foreign)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise SnapshotError(f"{metadata[:200]!r} is no snapshot: {error}") from None


def _pack(buried: Mapping[bytes, int], room: int) -> str:
    """Write names in the order of their records, each after the distance from the one before, in at most so many bytes.

    A distance is in groups of 7 bits, the lowest first, all but the last with the 8th bit set. Whom there is no room
    for is left out: there is none only beyond a rewind of hundreds of millions of records.
    """
    packed, before = bytearray(), 0
    for record, name in sorted((record, name) for name, record in buried.items() if record >= 0):
        distance, one = record - before, bytearray()
        while distance > 0x7F:
            one.append(distance & 0x7F | 0x80)
            distance >>= 7
        one.append(distance)
        if len(packed) + len(one) + NAME_SIZE > room // 5 * 4:
            break
        packed += one + name
        before = record
    return base64.b85encode(packed).decode()


def _unpack(text: str) -> dict[bytes, int]:
    """Read what `_pack` wrote; raise ValueError for anything else."""
    packed = base64.b85decode(text)
    buried, record, at = dict[bytes, int](), 0, 0
    while at < len(packed):
        shift = 0
        while at < len(packed) and packed[at] & 0x80:
            record += (packed[at] & 0x7F) << shift
            shift += 7
            at += 1
        end = at + 1 + NAME_SIZE
        if end > len(packed):
            raise ValueError("it ends within a name")
        record += packed[at] << shift
        buried[packed[at + 1 : end]] = record
        at = end
    return buried


def _name_before(name: str) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(name + "=")
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if len(raw) != 8:
        raise ValueError(f"{name!r} is no name")
    return raw[:NAME_SIZE]
