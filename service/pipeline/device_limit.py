"""The limit on the devices of a partition: each costs memory, and anyone who may write to the topic can make up ids."""

import numpy as np

from ingest.messages.readings import Readings
from ingest.rejections import Reason, Rejection
from windowing import Windower


def has_room(readings: Readings, windower: Windower, most: int) -> bool:
    """Return whether there is room even if each record were of another new device: nearly always."""
    record = readings.record
    return len(record) == 0 or bool(record[-1] - record[0] < most - len(windower))


def refuse_beyond_limit(readings: Readings, windower: Windower, most: int) -> tuple[Readings, list[Rejection]]:
    """Refuse records of devices beyond ``most`` with an open window; return the other readings, and the refusals.

    Devices that have an open window are never refused. The room that is left goes to the others in order of arrival.
    """
    if has_room(readings, windower, most):
        return readings, []
    room, record = most - len(windower), readings.record  # all readings of a record are of one device
    first = readings[np.flatnonzero(np.diff(record, prepend=-1))]
    first = first[windower.are_absent(first.ids, first.id_at, first.id_end)]
    admitted, refused = set[bytes](), list[int]()
    for device, its_record in zip(first.device_ids(), first.record.tolist(), strict=True):
        if len(admitted) < room:
            admitted.add(device)
        elif device not in admitted:
            refused.append(its_record)
    if not refused:
        return readings, []
    detail = f"{most} other devices of the partition have an open window, which is what activity.max_devices allows"
    rejections = [Rejection(record, Reason.TOO_MANY_DEVICES, detail) for record in refused]
    return readings[~np.isin(record, np.array(refused, np.int32))], rejections
