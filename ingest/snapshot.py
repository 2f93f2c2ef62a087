"""The metadata of a commit: what a worker needs, beside the position, to carry on where another one stopped.

It travels in the ``metadata`` field of the offset commit (KIP-211 keeps it as long as the offset), a few dozen
bytes of JSON; brokers allow 4096.
"""

import msgspec

VERSION = 1
_MAX_OFFSET = 2**63 - 1


class Snapshot(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """What is committed beside a partition's position, taken at a record boundary.

    ``rewind_to`` is the offset of the oldest record whose reading a window still open at the position holds;
    the position itself where none is open. ``topic`` and ``partition`` are where the labels went.
    """

    rewind_to: int
    topic: str
    partition: int
    v: int = VERSION


class SnapshotError(ValueError):
    """Commit metadata that this version didn't write."""


def encode(snapshot: Snapshot) -> str:
    """Write a snapshot as commit metadata."""
    return msgspec.json.encode(snapshot).decode()


def decode(metadata: str, position: int) -> Snapshot:
    """Read the metadata of a commit at ``position``.

    Raises SnapshotError when it isn't a snapshot of this version.
    """
    try:
        snapshot = msgspec.json.decode(metadata, type=Snapshot)
    except msgspec.MsgspecError as error:
        raise SnapshotError(f"{metadata[:200]!r} is no snapshot: {error}") from None
    if snapshot.v != VERSION:
        raise SnapshotError(f"it has version {snapshot.v}, and this worker knows version {VERSION}")
    if not 0 <= snapshot.rewind_to <= position <= _MAX_OFFSET:
        raise SnapshotError(f"rewind_to {snapshot.rewind_to} is not between 0 and the position {position}")
    return snapshot
