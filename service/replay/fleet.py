"""Fleets of devices to replay: their readings, when each is due, and what their wearers really did.

`RecordedFleet` plays recordings of people; `service.replay.synthesiser.SyntheticFleet` generates people.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ingest.contract import MAX_DEVICE_ID_BYTES
from training.data.recordings import ACTIVITIES, Recording, is_label

GOLDEN_RATIO = 0.6180339887498949
STAGGER_MS = 50.0
GAP_PERIODS = 1.8


@dataclass(frozen=True, slots=True)
class FleetReadings:
    """Readings of devices, a row each, in the order in which they are to be sent.

    `device` int32[n] indexes the device ids; `due_ms` float64[n], non-decreasing, is when each is to be sent, and
    `timestamp_ms` int64[n] when its device says that it was taken, both in ms since the start of the stream; `xyz`
    float32[n, 3] is in m/s² with gravity.
    """

    device: np.ndarray
    due_ms: np.ndarray
    timestamp_ms: np.ndarray
    xyz: np.ndarray

    def __len__(self) -> int:
        return len(self.device)

    def __getitem__(self, rows: Any) -> "FleetReadings":
        return FleetReadings(self.device[rows], self.due_ms[rows], self.timestamp_ms[rows], self.xyz[rows])

    @staticmethod
    def joined(parts: "Sequence[FleetReadings]") -> "FleetReadings":
        """Concatenate the parts."""
        fields = ("device", "due_ms", "timestamp_ms", "xyz")
        return FleetReadings(*(np.concatenate([getattr(part, field) for part in parts]) for field in fields))


class Fleet(Protocol):
    """Devices to replay. Times are in ms since the start of the stream."""

    @property
    def device_ids(self) -> Sequence[str]:
        """The unique ids of the devices."""

    @property
    def period_ms(self) -> np.ndarray:
        """float64[devices]: the usual time between two readings of each device."""

    @property
    def gap_ms(self) -> np.ndarray:
        """float64[devices]: a longer step between two readings is a gap rather than jitter."""

    @property
    def length_ms(self) -> float | None:
        """When the last reading is due; None for an endless fleet."""

    def readings(self, start_ms: float, stop_ms: float) -> FleetReadings:
        """Return all readings due in [start_ms, stop_ms)."""

    def truth(self, device: int, t_ms: float) -> str | None:
        """Return the wearer's activity at a moment of the device's clock; None if unknown."""


@dataclass(frozen=True, slots=True)
class _Wearer:
    """One person's one device: its recordings in succession, on one clock that starts at 0."""

    name: str
    t_ms: np.ndarray
    xyz: np.ndarray
    activity: np.ndarray
    round_ms: float
    period_ms: float


class RecordedFleet:
    """Recorded people as devices: one each, or as many as asked for.

    With more devices than people, people are repeated. Each copy starts elsewhere in the recordings and continues from
    their beginning. Pauses longer than `longest_pause_s` seconds, and those between recordings, are shortened to that.
    With `repeat`, everybody starts again at the end.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        devices: int | None = None,
        *,
        repeat: bool = False,
        longest_pause_s: float = 2.0,
    ) -> None:
        """Raises ValueError where there is nothing to play, or for fewer than one device."""
        wearers = _wearers(recordings, longest_pause_s * 1000)
        count = len(wearers) if devices is None else devices
        if not wearers or count < 1:
            raise ValueError(f"a replay needs recordings and at least 1 device, not {len(wearers)} and {count}")
        self._wearers = wearers
        self._repeat = repeat
        self._wearer = np.arange(count) % len(wearers)
        copy = np.arange(count) // len(wearers)
        rounds = np.array([wearer.round_ms for wearer in wearers])[self._wearer]
        # Where in the wearer's recordings each device starts. The stagger keeps hundreds of devices, whose clocks start
        # at 0, from sending in the same millisecond.
        self._start_ms = np.floor((copy * GOLDEN_RATIO) % 1.0 * rounds)
        self._stagger_ms = np.floor((np.arange(count) * GOLDEN_RATIO) % 1.0 * STAGGER_MS)
        self.device_ids = [
            _device_id(wearers[which].name, int(nth)) for which, nth in zip(self._wearer, copy, strict=True)
        ]
        self.period_ms = np.array([wearer.period_ms for wearer in wearers])[self._wearer]
        self.gap_ms = GAP_PERIODS * self.period_ms
        self.length_ms = None if repeat else float((rounds + self._stagger_ms).max())

    def readings(self, start_ms: float, stop_ms: float) -> FleetReadings:
        """Return all readings due in [start_ms, stop_ms), by due time."""
        parts = [
            self._of_wearer(which, start_ms, stop_ms) for which in range(min(len(self._wearers), len(self._wearer)))
        ]
        found = FleetReadings.joined(parts)
        return found[np.argsort(found.due_ms, kind="stable")]

    def truth(self, device: int, t_ms: float) -> str | None:
        """Return the wearer's activity at a moment of the device's clock; None if it was not one of the six."""
        wearer = self._wearers[self._wearer[device]]
        at_ms = (t_ms - self._stagger_ms[device] + self._start_ms[device]) % wearer.round_ms
        code = wearer.activity[max(0, int(np.searchsorted(wearer.t_ms, at_ms, side="right")) - 1)]
        return ACTIVITIES[code] if is_label(code) else None

    def _of_wearer(self, which: int, start_ms: float, stop_ms: float) -> FleetReadings:
        """Return the readings of all devices that play one wearer: a range each of its endless repetition."""
        wearer = self._wearers[which]
        devices = np.flatnonzero(self._wearer == which)
        shift = self._start_ms[devices] - self._stagger_ms[devices]
        own_start = self._start_ms[devices]
        begin = _rows_before(wearer, np.maximum(start_ms + shift, own_start))
        end = _rows_before(wearer, np.maximum(stop_ms + shift, own_start))
        if not self._repeat:
            whole = _rows_before(wearer, own_start) + len(wearer.t_ms)
            begin, end = np.minimum(begin, whole), np.minimum(end, whole)
        counts = end - begin
        owner = np.repeat(np.arange(len(devices)), counts)
        row = begin[owner] + np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]
        rounds, row = np.divmod(row, len(wearer.t_ms))
        t_ms = rounds * wearer.round_ms + wearer.t_ms[row] - shift[owner]
        return FleetReadings(devices[owner].astype(np.int32), t_ms, t_ms.astype(np.int64), wearer.xyz[row])


def _rows_before(wearer: _Wearer, t_ms: np.ndarray) -> np.ndarray:
    """int64[n]: how many readings of the endless repetition lie before each moment."""
    rounds, within = np.divmod(t_ms, wearer.round_ms)
    return np.asarray(rounds.astype(np.int64) * len(wearer.t_ms) + np.searchsorted(wearer.t_ms, within))


def _wearers(recordings: Sequence[Recording], longest_pause_ms: float) -> list[_Wearer]:
    own: dict[str, list[Recording]] = {}
    for recording in recordings:
        own.setdefault(f"{recording.dataset}-{recording.person}-{recording.placement}", []).append(recording)
    return [_wearer(name, parts, longest_pause_ms) for name, parts in own.items()]


def _wearer(name: str, parts: Sequence[Recording], longest_pause_ms: float) -> _Wearer:
    steps = np.concatenate([np.diff(part.t_ms, prepend=part.t_ms[0] - int(longest_pause_ms)) for part in parts])
    steps = np.minimum(steps, longest_pause_ms)
    t_ms = np.floor(np.cumsum(steps) - steps[0])
    usual = steps[(steps > 0) & (steps < longest_pause_ms)]
    return _Wearer(
        name,
        t_ms,
        np.concatenate([part.xyz for part in parts]),
        np.concatenate([part.activity for part in parts]),
        float(t_ms[-1] + longest_pause_ms),
        float(np.median(usual)) if len(usual) else STAGGER_MS,
    )


def _device_id(name: str, copy: int) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[: MAX_DEVICE_ID_BYTES - 12]
    return f"{slug}-copy-{copy + 1}" if copy else slug
