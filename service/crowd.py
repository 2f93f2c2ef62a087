"""A bound on the devices of a partition: whoever may write to a topic can make up ids, and each costs memory."""

import numpy as np

from ingest.readings import Readings
from ingest.rejections import Reason, Rejection
from windowing import Windower


def has_room(readings: Readings, windower: Windower, most: int) -> bool:
    """Tell whether there is room for each record, were it a device's own: nearly always."""
    record = readings.record
    return len(record) == 0 or bool(record[-1] - record[0] < most - len(windower))


def refuse_the_crowd(readings: Readings, windower: Windower, most: int) -> tuple[Readings, list[Rejection]]:
    """Refuse the records of devices that would have an open window beside ``most`` others; return the other readings.

    Devices that have one are never refused; of the others whoever comes first gets what room is left.
    """
    if has_room(readings, windower, most):
        return readings, []
    room, record = most - len(windower), readings.record  # all readings of a record are of one device
    first = readings[np.flatnonzero(np.diff(record, prepend=-1))]
    first = first[windower.are_absent(first.ids, first.id_at, first.id_end)]
    welcome, refused = set[bytes](), list[int]()
    for device, its_record in zip(first.device_ids(), first.record.tolist(), strict=True):
        if len(welcome) < room:
            welcome.add(device)
        elif device not in welcome:
            refused.append(its_record)
    if not refused:
        return readings, []
    detail = f"{most} other devices of the partition have an open window, which is what activity.max_devices allows"
    rejections = [Rejection(record, Reason.TOO_MANY_DEVICES, detail) for record in refused]
    return readings[~np.isin(record, np.array(refused, np.int32))], rejections
