"""Devices that fell silent, for as long as a replay could see what they sent before: it must take them for dead.

A replay hears no silence. From between a device's newest reading and its last record it would take a straggler of it
for a younger device, and find windows open that were closed by time long ago; and one whose clock was set back, and
which came back after its silence, it would take for late. So a commit's metadata buries such devices: their readings in
records up to their last one are passed over. There is room for `MOST`; labels that are remembered (`said.py`) do for
those that neither strayed nor came back, and for those that a replay sees from their newest reading on.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.snapshot import NAME_SIZE

MOST = 320
"""About 11 characters each, of the 4096 that a commit's metadata may have."""

REMEMBERED = 16_384
"""Of those that strayed: what a snapshot takes to make is bounded by it, some 10 ms."""

NO_RECORD = 2**63 - 1


def name_of(device_id: bytes) -> bytes:
    """Return what stands on a device's grave: 48 bits of a hash.

    A replay that sees 100,000 devices takes one of them for one of the dead once in ten million recoveries.
    """
    return hashlib.blake2b(device_id, digest_size=8).digest()[:NAME_SIZE]


@dataclass(slots=True, eq=False)
class _Grave:
    """One silence of a device, which may have others: ``newest`` holds its newest slot, ``last`` is its last record.

    The labels that are remembered don't do for one that ``strayed``, where a replay begins between the two, nor for one
    that ``came_back``. ``number`` tells devices apart in this process.
    """

    name: bytes
    number: int
    newest: int
    last: int
    strayed: bool
    came_back: bool = False


class Graves:
    """Who fell silent in one partition; ``buried`` are those that a commit's metadata told of."""

    def __init__(self, buried: Mapping[bytes, int] | None = None) -> None:
        self._told = dict(buried or {})
        # Of those nobody knows the newest slot's record: they keep their place before all others.
        self._graves = [_Grave(name, -1, -1, last, strayed=True) for name, last in self._told.items()]
        self._by_number: dict[int, _Grave] = {}  # each device's latest
        self._strayed = len(self._graves)
        self._soonest = min(self._told.values(), default=NO_RECORD)  # the first of their last records
        self._held = 0
        self._unburied = 0

    def __len__(self) -> int:
        return len(self._graves)

    def last_record(self, device_id: bytes) -> int:
        """Return the record up to which a device's readings are to be passed over in a replay; -1 for none."""
        return self._told.get(name_of(device_id), -1)

    def bury(
        self,
        device_ids: Sequence[bytes],
        numbers: Sequence[int],
        newest: Sequence[int],
        lasts: Sequence[int],
        strayed: Sequence[bool],
    ) -> None:
        """Note devices that fell silent: the record of each one's newest slot, its last one, and whether it strayed."""
        for device_id, number, one, last, has_strayed in zip(device_ids, numbers, newest, lasts, strayed, strict=True):
            if has_strayed and self._strayed >= REMEMBERED:
                self._unburied += 1
                continue
            if not has_strayed and len(self._graves) - self._strayed >= MOST:
                continue
            grave = _Grave(name_of(device_id), number, one, last, has_strayed)
            self._graves.append(grave)
            self._by_number[number] = grave
            self._strayed += has_strayed
            self._soonest = min(self._soonest, last)

    def came_back(self, numbers: NDArray[np.uint64]) -> None:
        """Note devices that are there again, anew."""
        for number in numbers.tolist() if self._by_number else ():
            grave = self._by_number.get(number)
            if grave is not None:
                grave.came_back = True

    def hold(self, rewind_to: int) -> int:
        """Return the rewind point, held back where too many have strayed for the room that there is.

        It is held where a replay sees the newest readings of enough of them: of devices that one from ``rewind_to``
        itself would see in part, not of those that it would see in part for being held. So one waits for no other, and
        it is held for no longer than a device takes to fall silent. Where there is no such point, those that find no
        room are given up. Drops what the rewind point has passed.
        """
        self._held = self._place(rewind_to)
        if self._soonest < self._held:
            self._keep([grave for grave in self._graves if grave.last >= self._held])
        return self._held

    def buried(self) -> dict[bytes, int]:
        """Return what the metadata of a commit with the rewind point held has to tell: who, and up to which record.

        First those that strayed and that a replay from there sees in part, which all find room; then those that came
        back.
        """
        seen: list[_Grave] = []
        back: list[_Grave] = []
        others: list[_Grave] = []
        for grave in self._graves:
            in_part = grave.strayed and grave.newest < self._held
            (seen if in_part else back if grave.came_back else others).append(grave)
        told: dict[bytes, int] = {}
        for grave in [*seen, *back, *others][:MOST]:
            told[grave.name] = max(grave.last, told.get(grave.name, -1))
        return told

    def unburied(self) -> int:
        """Return how many have been given up since the last call."""
        count, self._unburied = self._unburied, 0
        return count

    def _place(self, rewind_to: int) -> int:
        if self._strayed <= MOST:
            return rewind_to
        strayed = [grave for grave in self._graves if grave.strayed]
        newest = np.array([grave.newest for grave in strayed])
        last = np.array([grave.last for grave in strayed])
        seen = (newest < rewind_to) & (rewind_to <= last)
        if np.count_nonzero(seen) <= MOST:
            return rewind_to
        lowest = newest[seen & (newest >= self._held)].min(initial=rewind_to)
        places = np.unique(newest[(lowest <= newest) & (newest < rewind_to)])
        in_part = np.searchsorted(np.sort(newest), places) - np.searchsorted(np.sort(last), places)
        if (in_part <= MOST).any():
            return int(places[in_part <= MOST][-1])
        # Those stay that have been buried, for the rewind point may not go back; then those that it passes soonest.
        by_need = sorted(
            (strayed[i] for i in np.flatnonzero(seen)), key=lambda grave: (grave.newest >= self._held, grave.last)
        )
        given_up = set(map(id, by_need[MOST:]))
        self._keep([grave for grave in self._graves if id(grave) not in given_up])
        self._unburied += len(given_up)
        return rewind_to

    def _keep(self, graves: list[_Grave]) -> None:
        self._graves = graves
        kept = set(map(id, graves))
        self._by_number = {number: grave for number, grave in self._by_number.items() if id(grave) in kept}
        self._strayed = sum(grave.strayed for grave in graves)
        self._soonest = min((grave.last for grave in graves), default=NO_RECORD)
