"""The metadata of a commit: what a worker needs, beside the position, to go on where another one stopped.

It is JSON of a few dozen bytes in the ``metadata`` field of the offset commit. Kafka keeps it as long as the offset
(KIP-211); brokers allow 4096 bytes. docs/delivery.md describes the fields under "The snapshot".
"""

import base64
from collections.abc import Mapping

import msgspec

VERSION = 3
MOST_CHARACTERS = 4096
"""Kafka's ``offset.metadata.max.bytes``, unless an operator set it."""

NAME_SIZE = 6
_MAX_OFFSET = 2**63 - 1


class Snapshot(msgspec.Struct, frozen=True):
    """What is committed beside a partition's position, taken at a record boundary.

    ``rewind_to`` is the offset of the oldest record with a reading in a window that is open at the position; the
    position itself if none is open. Labels went to ``partition`` of ``topic``, which had ``partitions`` of them. All
    labels that a successor must know lie there, at ``labels_from`` or after it; if that is below 0, some lie in other
    partitions. ``skip_until`` names devices whose readings a replay must skip, each up to a record: the keys are
    `NAME_SIZE` bytes of a hash of the device's id, the records are counted from ``rewind_to``. ``rules`` are the
    settings that decide which readings count and when a window closes, in the writer's own words. ``end``, if there is
    one, is the first record that is not to be read.
    """

    rewind_to: int
    topic: str
    partition: int
    partitions: int
    labels_from: int
    skip_until: Mapping[bytes, int] = {}
    rules: str = ""
    end: int | msgspec.UnsetType = msgspec.UNSET


class _Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """A snapshot as JSON; ``buried`` holds ``skip_until``, packed."""

    rewind_to: int
    topic: str
    partition: int
    partitions: int
    labels_from: int
    buried: str = ""
    rules: str = ""
    end: int | msgspec.UnsetType = msgspec.UNSET
    v: int = VERSION


class Foreign(msgspec.Struct, frozen=True):
    """What can be read of another version's snapshot: all versions so far have a ``rewind_to``."""

    rewind_to: int


class SnapshotError(ValueError):
    """Commit metadata that no version of this program wrote."""


def encode(snapshot: Snapshot) -> str:
    """Encode a snapshot as commit metadata."""
    fields = msgspec.structs.asdict(snapshot)
    skip_until = fields.pop("skip_until")
    written = _Written(**fields)
    room = MOST_CHARACTERS - len(msgspec.json.encode(written))
    written = msgspec.structs.replace(written, buried=_pack(skip_until, room))
    return msgspec.json.encode(written).decode()


def decode(metadata: str, position: int) -> Snapshot | Foreign:
    """Decode the metadata of a commit at ``position``: a snapshot, or what is known of another version's.

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
    if written.v != VERSION:
        return Foreign(written.rewind_to)
    try:
        skip_until = _unpack(written.buried)
        if max(skip_until.values(), default=0) > _MAX_OFFSET - written.rewind_to:
            raise ValueError("there is no such record")
    except ValueError:  # damaged: no version wrote it
        return Foreign(written.rewind_to)
    fields = msgspec.structs.asdict(written)
    del fields["v"], fields["buried"]
    return Snapshot(**fields, skip_until=skip_until)


def _decode_foreign(metadata: str) -> Foreign:
    try:
        return msgspec.json.decode(metadata, type=Foreign)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise SnapshotError(f"{metadata[:200]!r} is no snapshot: {error}") from None


def _pack(skip_until: Mapping[bytes, int], room: int) -> str:
    """Encode names in the order of their records, each after its distance from the record before, as base85.

    A distance is a varint: groups of 7 bits, the lowest first, all but the last with the 8th bit set. The text has at
    most ``room`` characters; devices that don't fit are left out. That takes a rewind of hundreds of millions of
    records.
    """
    packed, before = bytearray(), 0
    for record, name in sorted((record, name) for name, record in skip_until.items() if record >= 0):
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
    """Decode what `_pack` wrote; raise ValueError for anything else."""
    packed = base64.b85decode(text)
    skip_until, record, at = dict[bytes, int](), 0, 0
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
        skip_until[packed[at + 1 : end]] = record
        at = end
    return skip_until
