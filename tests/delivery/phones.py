"""The devices, and what they may send: everything messy but the residues that the design documents.

A reading that comes when its device may have fallen silent must be further on than any window that the device
has begun. So nothing depends on whether the silence was noticed, and the windows that are expected follow from
the log alone. Left out are, therefore, readings that come late or again after their device fell silent, clocks
that pass twice over the same time, and devices split over two partitions.
"""

from tests.delivery.windows import IDLE, RING, WIDTH, Record, first_open

NAMES = ("abc", "xyz")  # of each partition's devices
FIRST_SLOT = 100


class Phone:
    """What one device has sent."""

    __slots__ = ("floor", "newest", "sent")

    def __init__(self) -> None:
        self.newest = FIRST_SLOT - 1
        self.floor = 0
        self.sent: dict[int, int] = {}  # slot to when its first reading was sent

    def may_be_silent(self, name: str, now: int) -> bool:
        first = first_open(name, self.newest)
        return any(at <= now - IDLE for slot, at in self.sent.items() if slot >= first)


class Phones:
    """All devices of all partitions."""

    def __init__(self) -> None:
        self._phones: dict[str, Phone] = {}

    def send(self, partition: int, device: int, ahead: int, count: int, value: int, now: int) -> Record | None:
        """Return a record of ``count`` readings from ``ahead`` of the device's newest on; None if it may not come."""
        names = NAMES[partition]
        name = names[device % len(names)]
        phone = self._phones.setdefault(name, Phone())
        start = max(phone.newest + ahead, FIRST_SLOT)
        silent = phone.may_be_silent(name, now)
        if silent and start < phone.newest + WIDTH:
            return None
        floor = phone.newest + WIDTH if silent else phone.floor
        newest = phone.newest
        for slot in range(start, start + count):
            if first_open(name, newest) <= slot < floor:
                return None
            newest = max(newest, slot)
        phone.floor = floor
        phone.newest = newest
        for slot in range(start, start + count):
            phone.sent.setdefault(slot, now)
        phone.sent = {slot: at for slot, at in phone.sent.items() if slot > newest - 2 * RING}
        return Record(name, tuple((slot, (value >> slot % 3) & 1) for slot in range(start, start + count)))
