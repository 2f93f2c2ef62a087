"""Devices that fell silent, for as long as a replay could see what they sent before: it must take them for dead.

A replay hears no silence. From a point after a device's newest reading it would take a straggler of it for a younger
device, and find windows open that were closed by time long ago; and one whose clock was set back, and which came back
after its silence, it would take for late. So a commit's metadata buries such devices: their readings in records up to
their last one are passed over. There is room for `MOST`; labels that are remembered (`said.py`) do for those that
neither strayed nor came back.
"""

import base64
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOST = 128
"""About 20 bytes each, of the 4096 that a commit's metadata may have."""

NO_RECORD = 2**63 - 1


def key_of(device_id: bytes) -> str:
    """Return a device's name on its grave: 64 bits, so that no two of a fleet share one."""
    return base64.urlsafe_b64encode(hashlib.blake2b(device_id, digest_size=8).digest()).rstrip(b"=").decode()


@dataclass(slots=True)
class _Grave:
    """``first`` is the oldest record that the device held, ``last`` its last one.

    The labels that are remembered don't do for one that ``strayed``, or ``came_back``.
    """

    first: int
    last: int
    strayed: bool
    came_back: bool = False


class Graves:
    """Who fell silent in one partition; ``buried`` are those that a commit's metadata told of."""

    def __init__(self, buried: Mapping[str, int] | None = None) -> None:
        # Of those that are told of nobody knows the oldest record: they keep their place before all others.
        self._graves = {key: _Grave(-1, last, strayed=True) for key, last in (buried or {}).items()}
        self._ranked: list[tuple[str, _Grave]] | None = None
        self._soonest = NO_RECORD  # the first of their last records; belongs to the ranking

    def __len__(self) -> int:
        return len(self._graves)

    def last_record(self, device_id: bytes) -> int:
        """Return the record up to which a device's readings are to be passed over in a replay; -1 for none."""
        grave = self._graves.get(key_of(device_id))
        return -1 if grave is None else grave.last

    def bury(
        self, device_ids: Sequence[bytes], firsts: Sequence[int], lasts: Sequence[int], strayed: Sequence[bool]
    ) -> None:
        """Note devices that fell silent: the oldest record each one held, its last, and whether a reading strayed."""
        for device_id, first, last, has_strayed in zip(device_ids, firsts, lasts, strayed, strict=True):
            key = key_of(device_id)
            before = self._graves.get(key)
            if before is not None and before.strayed:  # a replay may see its life before, too
                before.last = last
            elif has_strayed or before is not None or len(self._graves) < MOST:
                self._graves[key] = _Grave(first, last, has_strayed)
            else:
                continue
            self._ranked = None

    def came_back(self, device_ids: Sequence[bytes]) -> None:
        """Note devices that are there again, anew."""
        for device_id in device_ids if self._graves else ():
            grave = self._graves.get(key_of(device_id))
            if grave is not None and not grave.strayed:
                grave.came_back = True
                self._ranked = None

    def hold(self, rewind_to: int) -> int:
        """Return the rewind point, lowered for those that strayed and find no room.

        From the oldest record that such a device held on, a replay sees all that made it what it was. Drops what the
        rewind point has passed.
        """
        held = rewind_to
        while (lower := self._first_held(held)) < held:
            held = lower  # from there on others may be seen in part
        if self._soonest < held:
            self._graves = {key: grave for key, grave in self._graves.items() if grave.last >= held}
            self._ranked = None
        return held

    def _first_held(self, rewind_to: int) -> int:
        """Return the oldest record held by those that strayed and find no room, if a replay from there saw them."""
        for _, grave in itertools.islice(self._by_need(), MOST, None):
            if not grave.strayed:
                break
            if grave.last >= rewind_to:
                return grave.first  # they are in its order
        return rewind_to

    def buried(self) -> dict[str, int]:
        """Return what a commit's metadata has to tell: who, and up to which record."""
        return {key: grave.last for key, grave in self._by_need()[:MOST]}

    def _by_need(self) -> list[tuple[str, _Grave]]:
        """Return those that strayed first, then those that came back, each by the oldest record that they held.

        So nobody who strayed is ever put out by one whose first record the rewind point has passed: it may not go back.
        """
        if self._ranked is None:
            self._ranked = sorted(
                self._graves.items(), key=lambda item: (not item[1].strayed, not item[1].came_back, item[1].first)
            )
            self._soonest = min((grave.last for grave in self._graves.values()), default=NO_RECORD)
        return self._ranked
