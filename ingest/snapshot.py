"""The metadata of a commit: what a worker needs, beside the position, to carry on where another one stopped.

It travels in the ``metadata`` field of the offset commit (KIP-211 keeps it as long as the offset), a few dozen
bytes of JSON; brokers allow 4096.
"""

import msgspec

VERSION = 2
_MAX_OFFSET = 2**63 - 1


class Snapshot(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """What is committed beside a partition's position, taken at a record boundary.

    ``rewind_to`` is the offset of the oldest record whose reading a window still open at the position holds;
    the position itself where none is open. ``topic`` and ``partition`` are where the labels went, of ``partitions``
    that the topic had. No label that a successor must know lies before ``labels_from`` there; where that is below 0,
    some are in other partitions. ``buried`` names devices whose readings a replay must pass over, by the hash of
    their ids, each up to a record, counted from ``rewind_to``. ``rules`` are the settings that decide which readings
    count and when a window closes, in the writer's own words. Where the partition is to be read up to an ``end`` alone,
    that is the first record that isn't to be read.
    """

    rewind_to: int
    topic: str
    partition: int
    partitions: int
    labels_from: int
    buried: dict[str, int] = {}
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
    return msgspec.json.encode(snapshot).decode()


def decode(metadata: str, position: int) -> Snapshot | Foreign:
    """Read the metadata of a commit at ``position``: a snapshot, or what is known of another version's.

    Raises SnapshotError when it is neither.
    """
    snapshot: Snapshot | Foreign
    try:
        snapshot = msgspec.json.decode(metadata, type=Snapshot)
    except (msgspec.MsgspecError, RecursionError):
        snapshot = _decode_foreign(metadata)
    else:
        if snapshot.v != VERSION:
            snapshot = Foreign(snapshot.rewind_to)
    if not 0 <= snapshot.rewind_to <= position <= _MAX_OFFSET:
        raise SnapshotError(f"rewind_to {snapshot.rewind_to} is not between 0 and the position {position}")
    return snapshot


def _decode_foreign(metadata: str) -> Foreign:
    try:
        return msgspec.json.decode(metadata, type=Foreign)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise SnapshotError(f"{metadata[:200]!r} is no snapshot: {error}") from None
