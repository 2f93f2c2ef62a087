"""Devices that fell silent and whose readings a replay must skip: the tombstones of docs/delivery.md.

A replay doesn't notice silences, which leads to two errors. If it starts between a device's newest reading and its last
record, it takes a straggler for the newest reading and opens windows that time closed long ago. And it takes a device
for late whose clock was set back and which came back after its silence. So the metadata of a commit names such devices,
and a replay skips their readings up to their last record.

There is room for `MOST`. The remembered labels (`published.py`) are enough for devices that neither strayed nor came
back, and for those whose newest reading a replay sees.
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
"""At most so many that strayed are remembered, which bounds the time that a snapshot takes to some 10 ms."""

NO_RECORD = 2**63 - 1


def name_of(device_id: bytes) -> bytes:
    """Return the name of a device in a commit's metadata: 48 bits of a hash of its id.

    A replay that sees 100,000 devices skips one by mistake once in ten million recoveries.
    """
    return hashlib.blake2b(device_id, digest_size=8).digest()[:NAME_SIZE]


@dataclass(slots=True, eq=False)
class _Silence:
    """One silence of a device, which may have several.

    ``newest`` is the record that holds its newest slot, ``last`` its last record. The remembered labels are not enough
    for a device that ``strayed``, if a replay starts between the two, nor for one that ``came_back``. ``number``
    identifies the device within this process.
    """

    name: bytes
    number: int
    newest: int
    last: int
    strayed: bool
    came_back: bool = False


class SilentDevices:
    """The devices of one partition that fell silent; ``skip_until`` holds those in the metadata of the last commit."""

    def __init__(self, skip_until: Mapping[bytes, int] | None = None) -> None:
        self._restored = dict(skip_until or {})
        # The record of their newest slot isn't known: they keep their room before all others.
        self._silences = [_Silence(name, -1, -1, last, strayed=True) for name, last in self._restored.items()]
        self._by_number: dict[int, _Silence] = {}  # each device's latest
        self._strayed = len(self._silences)
        self._soonest = min(self._restored.values(), default=NO_RECORD)  # the lowest of their last records
        self._held = 0
        self._overflow = 0

    def __len__(self) -> int:
        return len(self._silences)

    def last_record(self, device_id: bytes) -> int:
        """Return the last record whose readings of a device a replay skips; -1 for none."""
        return self._restored.get(name_of(device_id), -1)

    def add(
        self,
        device_ids: Sequence[bytes],
        numbers: Sequence[int],
        newest: Sequence[int],
        lasts: Sequence[int],
        strayed: Sequence[bool],
    ) -> None:
        """Add devices that fell silent: the record of each one's newest slot, its last one, and whether it strayed."""
        for device_id, number, one, last, has_strayed in zip(device_ids, numbers, newest, lasts, strayed, strict=True):
            if has_strayed and self._strayed >= REMEMBERED:
                self._overflow += 1
                continue
            if not has_strayed and len(self._silences) - self._strayed >= MOST:
                continue
            silence = _Silence(name_of(device_id), number, one, last, has_strayed)
            self._silences.append(silence)
            self._by_number[number] = silence
            self._strayed += has_strayed
            self._soonest = min(self._soonest, last)

    def came_back(self, numbers: NDArray[np.uint64]) -> None:
        """Note devices that send again after their silence."""
        for number in numbers.tolist() if self._by_number else ():
            silence = self._by_number.get(number)
            if silence is not None:
                silence.came_back = True

    def hold(self, rewind_to: int) -> int:
        """Return the rewind point, held back if more devices strayed than there is room for.

        It is held at a point from which a replay sees the newest readings of enough of them. These are devices that a
        replay from ``rewind_to`` itself would see in part, never those that come into sight only because it is held.
        So no device waits for another, and the point is held for no longer than one device takes to fall silent. If
        there is no such point, the devices without room are counted in `overflow`. Drops what the point has passed.
        """
        self._held = self._place(rewind_to)
        if self._soonest < self._held:
            self._keep([silence for silence in self._silences if silence.last >= self._held])
        return self._held

    def skip_until(self) -> dict[bytes, int]:
        """Return which devices a replay from the held rewind point skips, each up to which record.

        First come those that strayed and that such a replay sees in part: there is room for all of them. Then come
        those that came back.
        """
        seen: list[_Silence] = []
        back: list[_Silence] = []
        others: list[_Silence] = []
        for silence in self._silences:
            in_part = silence.strayed and silence.newest < self._held
            (seen if in_part else back if silence.came_back else others).append(silence)
        found: dict[bytes, int] = {}
        for silence in [*seen, *back, *others][:MOST]:
            found[silence.name] = max(silence.last, found.get(silence.name, -1))
        return found

    def overflow(self) -> int:
        """Return how many devices found no room since the last call."""
        count, self._overflow = self._overflow, 0
        return count

    def _place(self, rewind_to: int) -> int:
        if self._strayed <= MOST:
            return rewind_to
        strayed = [silence for silence in self._silences if silence.strayed]
        newest = np.array([silence.newest for silence in strayed])
        last = np.array([silence.last for silence in strayed])
        seen = (newest < rewind_to) & (rewind_to <= last)
        if np.count_nonzero(seen) <= MOST:
            return rewind_to
        lowest = newest[seen & (newest >= self._held)].min(initial=rewind_to)
        places = np.unique(newest[(lowest <= newest) & (newest < rewind_to)])
        in_part = np.searchsorted(np.sort(newest), places) - np.searchsorted(np.sort(last), places)
        if (in_part <= MOST).any():
            return int(places[in_part <= MOST][-1])
        # First keep those that earlier commits named, because the rewind point may not go back; then those that it
        # passes soonest.
        by_need = sorted(
            (strayed[i] for i in np.flatnonzero(seen)), key=lambda silence: (silence.newest >= self._held, silence.last)
        )
        without_room = set(map(id, by_need[MOST:]))
        self._keep([silence for silence in self._silences if id(silence) not in without_room])
        self._overflow += len(without_room)
        return rewind_to

    def _keep(self, silences: list[_Silence]) -> None:
        self._silences = silences
        kept = set(map(id, silences))
        self._by_number = {number: silence for number, silence in self._by_number.items() if id(silence) in kept}
        self._strayed = sum(silence.strayed for silence in silences)
        self._soonest = min((silence.last for silence in silences), default=NO_RECORD)
