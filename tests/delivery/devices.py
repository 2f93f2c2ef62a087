"""The simulated devices, and what they may send: anything except what the documented residues are about.

A reading that comes when its device may have fallen silent must lie beyond every window that the device has begun. So
nothing depends on whether the silence was noticed, and the expected windows follow from the log alone. Therefore
devices never send late or again after they fell silent, their clocks never pass twice over the same time, and no device
is split over two partitions.
"""

from tests.delivery.windower import IDLE_TIMEOUT, RING_SLOTS, WINDOW_SLOTS, Record, first_open

NAMES = ("abc", "xyz")  # of each partition's devices
FIRST_SLOT = 100


class SimulatedDevice:
    """What one device has sent."""

    __slots__ = ("floor", "newest", "sent")

    def __init__(self) -> None:
        self.newest = FIRST_SLOT - 1
        self.floor = 0
        self.sent: dict[int, int] = {}  # slot to when its first reading was sent

    def may_be_silent(self, name: str, now: int) -> bool:
        first = first_open(name, self.newest)
        return any(at <= now - IDLE_TIMEOUT for slot, at in self.sent.items() if slot >= first)


class SimulatedDevices:
    """All devices of all partitions."""

    def __init__(self) -> None:
        self._devices: dict[str, SimulatedDevice] = {}

    def send(self, partition: int, device: int, ahead: int, count: int, value: int, now: int) -> Record | None:
        """Return a record of ``count`` readings, from ``ahead`` of the device's newest on; None if it can't be sent."""
        names = NAMES[partition]
        name = names[device % len(names)]
        simulated = self._devices.setdefault(name, SimulatedDevice())
        start = max(simulated.newest + ahead, FIRST_SLOT)
        silent = simulated.may_be_silent(name, now)
        if silent and start < simulated.newest + WINDOW_SLOTS:
            return None
        floor = simulated.newest + WINDOW_SLOTS if silent else simulated.floor
        newest = simulated.newest
        for slot in range(start, start + count):
            if first_open(name, newest) <= slot < floor:
                return None
            newest = max(newest, slot)
        simulated.floor = floor
        simulated.newest = newest
        for slot in range(start, start + count):
            simulated.sent.setdefault(slot, now)
        simulated.sent = {slot: at for slot, at in simulated.sent.items() if slot > newest - 2 * RING_SLOTS}
        return Record(name, tuple((slot, (value >> slot % 3) & 1) for slot in range(start, start + count)))
