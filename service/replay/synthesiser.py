"""Synthetic people: phones in the pockets of generated wearers, with known activities.

Everything is generated from a table of statistics (`synthetic_people.json`) that `training.fit_synthesiser` fitted to
recorded people: posture, cadence, the harmonics of a stride on each axis with their phase relations, how these vary
between people and from stride to stride, and how still people sit and stand. `docs/synthetic.md` says what that can and
cannot stand for.

A fleet is a pure function of its seed, the device and the time. Its random numbers are hashes of those
(`keyed_random`), so there is no state, any moment can be computed at any time, and the division of a stream into blocks
changes nothing.
"""

import functools
import importlib.resources
import json
from typing import Any

import numpy as np

from service.replay.fleet import FleetReadings
from service.replay.keyed_random import Purpose, Random, normal
from training.data.recordings import ACTIVITIES

RATE_HZ = 20
PERIOD_MS = 1000 // RATE_HZ
HARMONICS = 8
BLEND_MS = 600.0  # from one activity to the next
LARGEST_JITTER_MS = 24.0  # under half a period: readings keep their order
CLOCK_OFFSET_MS = 100.0  # standard deviation of a phone's clock after synchronisation
LEVEL_KNOT_MS = 3200.0  # how long a still wearer's level of movement lasts
SWAY_KNOT_MS = 400.0

_GAITS = ("Downstairs", "Jogging", "Upstairs", "Walking")
_ORDERS = np.arange(1, HARMONICS + 1)


class SyntheticFleet:
    """Devices that send 20 readings a second, and whose wearers change their activity from time to time.

    The ids hold the seed: another seed is another fleet. Each device has a wearer drawn from the distribution over
    people, an orientation, a clock (offset, and jitter of 5 to 20 ms) and a schedule: all six activities in its own
    order, again and again, each for half to one and a half times `dwell_s` seconds. Times are in ms since the start of
    the stream, by the device's own clock.
    """

    length_ms: float | None = None

    def __init__(self, devices: int, seed: int = 0, *, dwell_s: float = 30.0) -> None:
        if devices < 1:
            raise ValueError(f"a fleet has at least 1 device, not {devices}")
        if not dwell_s >= 2:
            raise ValueError(f"an activity lasts at least 2 s (dwell_s), not {dwell_s:g}")
        self.device_ids = [f"synthetic-{seed}-{number:05d}" for number in range(1, devices + 1)]
        self.period_ms = np.full(devices, float(PERIOD_MS))
        self.gap_ms = self.period_ms + 2 * LARGEST_JITTER_MS
        self._dwell_ms = dwell_s * 1000.0
        self._random = Random(seed)
        every = np.arange(devices)
        # What does not change with time is computed once.
        self._phase_ms = PERIOD_MS * self._random.uniform(every, Purpose.PHASE)
        self._shift_ms = self._dwell_ms * self._random.uniform(every, Purpose.SHIFT)
        self._jitter_ms = 5.0 + 15.0 * self._random.uniform(every, Purpose.JITTER_SPREAD)
        self._offset_ms = CLOCK_OFFSET_MS * self._random.normal(every, Purpose.CLOCK, count=1)[:, 0].astype(float)
        self._orientation = _orientation(self._random, every)
        self._wearers = {
            activity: _Walker(figures(), activity, self._random, every)
            if activity in _GAITS
            else _StillWearer(figures(), activity, self._random, every)
            for activity in ACTIVITIES
        }

    def readings(self, start_ms: float, stop_ms: float) -> FleetReadings:
        """Return all readings due in [start_ms, stop_ms), in that order."""
        first = max(0, int((start_ms - LARGEST_JITTER_MS) // PERIOD_MS) - 1)
        last = max(first, int((stop_ms + LARGEST_JITTER_MS) // PERIOD_MS) + 1)
        device, number = (grid.ravel() for grid in np.indices((len(self.device_ids), last - first)))
        number += first
        jitter = self._random.normal(device, Purpose.JITTER, number, count=1)[:, 0] * self._jitter_ms[device]
        taken_ms = self._phase_ms[device] + PERIOD_MS * number + np.clip(jitter, -LARGEST_JITTER_MS, LARGEST_JITTER_MS)
        rows = np.flatnonzero((taken_ms >= start_ms) & (taken_ms < stop_ms))
        rows = rows[np.argsort(taken_ms[rows], kind="stable")]
        device, number, taken_ms = device[rows], number[rows], taken_ms[rows]
        timestamp_ms = np.floor(taken_ms + self._offset_ms[device] + 0.5).astype(np.int64)
        xyz = self._measured(device, number, taken_ms)
        return FleetReadings(device.astype(np.int32), taken_ms, timestamp_ms, xyz)

    def truth(self, device: int, t_ms: float) -> str:
        """Return the activity of a device's wearer at a moment of the device's clock."""
        return ACTIVITIES[int(self.activities(np.array([device]), np.array([t_ms]))[0])]

    def activities(self, device: np.ndarray, t_ms: np.ndarray) -> np.ndarray:
        """Return the activities in bulk: int64[n], indices into `ACTIVITIES`."""
        return self._activity(device, self._segment(device, t_ms - self._offset_ms[device])[0])

    def _segment(self, device: np.ndarray, t_ms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which segment of one activity a moment belongs to, and for how many ms it has lasted."""
        near = np.floor((t_ms + self._shift_ms[device]) / self._dwell_ms).astype(np.int64)
        segment = near - (t_ms < self._begin_ms(device, near))
        segment += t_ms >= self._begin_ms(device, segment + 1)
        return segment, t_ms - self._begin_ms(device, segment)

    def _begin_ms(self, device: np.ndarray, segment: np.ndarray) -> np.ndarray:
        wander = 0.5 * (self._random.uniform(device, Purpose.SCHEDULE, segment) - 0.5)
        return np.asarray((segment + wander) * self._dwell_ms - self._shift_ms[device])

    def _activity(self, device: np.ndarray, segment: np.ndarray) -> np.ndarray:
        """Return each segment's activity: every six are a permutation, and no two successive ones are the same."""
        # Thousands of readings share a few segments: compute each once.
        pairs, row = np.unique((device.astype(np.int64) << 32) + segment + 1, return_inverse=True)
        device, segment = pairs >> 32, (pairs & 0xFFFFFFFF) - 1
        rounds, place = np.divmod(segment, len(ACTIVITIES))
        order = self._order(device, rounds)
        repeats = order[:, 0] == self._order(device, rounds - 1)[:, -1]
        order[repeats, :2] = order[repeats, 1::-1]
        return np.asarray(order[np.arange(len(order)), place][row])

    def _order(self, device: np.ndarray, rounds: np.ndarray) -> np.ndarray:
        keys = [self._random.uniform(device, Purpose.ORDER, rounds, np.full_like(rounds, at)) for at in range(6)]
        return np.argsort(np.stack(keys, axis=1), axis=1)

    def _measured(self, device: np.ndarray, number: np.ndarray, t_ms: np.ndarray) -> np.ndarray:
        segment, since_ms = self._segment(device, t_ms)
        xyz = self._motion(device, number, t_ms, segment)
        changing = np.flatnonzero(since_ms < BLEND_MS)
        if len(changing):
            before = self._motion(device[changing], number[changing], t_ms[changing], segment[changing] - 1)
            share = since_ms[changing, None] / BLEND_MS
            xyz[changing] = (1 - share) * before + share * xyz[changing]
        return np.asarray(np.einsum("nij,nj->ni", self._orientation[device], xyz), np.float32)

    def _motion(self, device: np.ndarray, number: np.ndarray, t_ms: np.ndarray, segment: np.ndarray) -> np.ndarray:
        """Return float32[n, 3] in the axes of an upright phone, screen out, in the pocket that most people use."""
        activity = self._activity(device, segment)
        xyz = np.empty((len(device), 3), np.float32)
        for code in np.unique(activity):
            rows = np.flatnonzero(activity == code)
            wearer = self._wearers[ACTIVITIES[code]]
            xyz[rows] = wearer.motion(device[rows], number[rows], t_ms[rows], segment[rows])
        return xyz


@functools.cache
def figures() -> dict[str, Any]:
    """Return the table that was fitted to recorded people."""
    table: dict[str, Any] = json.loads(
        importlib.resources.files("service.replay").joinpath("synthetic_people.json").read_text()
    )
    return table


# --- what wearers do -----------------------------------------------------------------------------


class _Walker:
    """A gait: a stride vector for each wearer, and random deviations of each stride."""

    def __init__(self, table: dict[str, Any], activity: str, random: Random, every: np.ndarray) -> None:
        of_gait = table["gaits"][activity]
        self._random = random
        self._code = ACTIVITIES.index(activity)
        spread, rest = (np.array(of_gait[key], np.float32) for key in ("between_people", "between_people_rest"))
        drawn = random.normal(every, Purpose.WEARER, np.full_like(every, self._code), count=len(spread) + len(rest))
        own = (
            np.array(of_gait["mean"], np.float32)
            + _row_product(drawn[:, : len(spread)], spread)
            + drawn[:, len(spread) :] * rest
        )
        self._stride, self._hz = own[:, :-1], np.exp(own[:, -1] / table["log_hz_weight"]).astype(float)
        self._spread = np.array(of_gait["between_strides"], np.float32)
        self._residual = np.array(of_gait["between_strides_rest"], np.float32)
        self._wander = of_gait["cadence_wander"] * np.sqrt(2 / 3)
        self._wander_hz = np.array([0.02, 0.06, 0.15]) * (
            0.7 + 0.6 * random.uniform(every[:, None], Purpose.WANDER, np.arange(3))
        )

    def motion(self, device: np.ndarray, number: np.ndarray, t_ms: np.ndarray, segment: np.ndarray) -> np.ndarray:
        phase = self._phase(device, segment, t_ms / 1000)
        stride = np.floor(phase - 0.5).astype(np.int64)
        vector = self._stride[device] + self._deviation(device, segment, stride, phase - 0.5 - stride)
        turn = np.exp(2j * np.pi * np.mod(phase, 1.0)).astype(np.complex64)
        waves = np.cumprod(np.broadcast_to(turn[:, None], (len(turn), HARMONICS)), axis=1)
        waves[self._hz[device, None] * _ORDERS >= RATE_HZ / 2] = 0
        both = np.concatenate([waves.real, waves.imag], axis=1)
        shape = vector[:, : 6 * HARMONICS].reshape(len(turn), 3, 2 * HARMONICS)
        return np.asarray(np.einsum("nap,np->na", shape, both) + vector[:, 6 * HARMONICS :])

    def _phase(self, device: np.ndarray, segment: np.ndarray, t_s: np.ndarray) -> np.ndarray:
        """Return the phase in strides. The cadence is the wearer's own, and varies slowly around it."""
        turns = 2 * np.pi * self._wander_hz[device]
        shift = 2 * np.pi * self._random.uniform(device[:, None], Purpose.WANDER, segment[:, None], np.arange(3))
        wandered = (np.sin(turns * t_s[:, None] + shift) / turns).sum(axis=1)
        start = self._random.uniform(device, Purpose.STRIDE, segment)
        return np.asarray(start + self._hz[device] * (t_s + self._wander * wandered))

    def _deviation(self, device: np.ndarray, segment: np.ndarray, stride: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Return the deviation, which blends from that of one stride to that of the next between their middles."""
        key = self._random.bits(device, Purpose.STRIDE, segment, stride)
        next_key = self._random.bits(device, Purpose.STRIDE, segment, stride + 1)
        strides, row = np.unique(np.concatenate([key, next_key]), return_inverse=True)
        drawn = normal(strides, len(self._spread) + len(self._residual))
        deviations = (
            _row_product(drawn[:, : len(self._spread)], self._spread) + drawn[:, len(self._spread) :] * self._residual
        )
        # Cosine and sine weights keep the variance of the sum of two independent deviations constant.
        fade = (share * (np.pi / 2)).astype(np.float32)[:, None]
        return np.asarray(np.cos(fade) * deviations[row[: len(key)]] + np.sin(fade) * deviations[row[len(key) :]])


class _StillWearer:
    """Someone who sits or stands: a posture, and small movements."""

    def __init__(self, table: dict[str, Any], activity: str, random: Random, every: np.ndarray) -> None:
        of_posture = table["still"][activity]
        self._random = random
        self._code = ACTIVITIES.index(activity)
        spread = np.array(of_posture["between_people"])
        drawn = random.normal(every, Purpose.WEARER, np.full_like(every, self._code), count=5)
        self._posture = np.array(of_posture["posture"]) + _row_product(drawn[:, :3], spread)
        self._gravity = of_posture["gravity"][0] + of_posture["gravity"][1] * drawn[:, 3]
        self._level = of_posture["ln_motion"] + of_posture["ln_motion_between_people"] * drawn[:, 4]
        self._within = np.array(of_posture["within_person"])
        self._level_within = of_posture["ln_motion_within_person"]
        self._axes = np.array(of_posture["share_of_axis"])
        self._smooth = of_posture["smoothness"]

    def motion(self, device: np.ndarray, number: np.ndarray, t_ms: np.ndarray, segment: np.ndarray) -> np.ndarray:
        shift = self._random.normal(device, Purpose.POSTURE, segment, count=3)
        posture = self._posture[device] + self._within * shift
        posture *= (self._gravity[device] / np.linalg.norm(posture, axis=1))[:, None]
        level = self._smooth_noise(Purpose.LEVEL, device, t_ms / LEVEL_KNOT_MS, 1)[:, 0]
        size = np.exp(self._level[device] + self._level_within * np.clip(level, -2, 2))
        sway = self._smooth_noise(Purpose.SWAY, device, t_ms / SWAY_KNOT_MS, 3)
        tremble = self._random.normal(device, Purpose.TREMBLE, number, count=3)
        motion = np.sqrt(self._smooth) * sway + np.sqrt(1 - self._smooth) * tremble
        return np.asarray(posture + size[:, None] * self._axes * motion)

    def _smooth_noise(self, draw: int, device: np.ndarray, at: np.ndarray, count: int) -> np.ndarray:
        """Return noise that changes smoothly from one integer to the next, with the same variance everywhere."""
        knot = np.floor(at).astype(np.int64)
        fade = ((at - knot) * (np.pi / 2))[:, None]
        before, after = (self._random.normal(device, draw, knot + step, count=count) for step in (0, 1))
        return np.asarray(np.cos(fade) * before + np.sin(fade) * after)


def _orientation(random: Random, every: np.ndarray) -> np.ndarray:
    """Return float64[devices, 3, 3], from a wearer's axes to the phone's: which leg, which side out, the rotation."""
    carrying = figures()["carrying"]
    choice = random.uniform(every[:, None], Purpose.ORIENTATION, np.arange(3))
    turned = carrying["turned_in_plane_spread_deg"] * random.normal(every, Purpose.ORIENTATION, every, count=1)[:, 0]
    angle = np.radians(np.where(choice[:, 0] < carrying["upside_down_share"], turned + 180, turned))
    leg = np.where(choice[:, 1] < carrying["other_leg_share"], -1.0, 1.0)
    side = np.where(choice[:, 2] < carrying["other_screen_side_share"], -1.0, 1.0)
    matrix = np.zeros((len(every), 3, 3))
    matrix[:, 0, 0], matrix[:, 0, 1] = np.cos(angle) * leg * side, np.sin(angle)
    matrix[:, 1, 0], matrix[:, 1, 1] = -np.sin(angle) * leg * side, np.cos(angle)
    matrix[:, 2, 2] = side
    return matrix


def _row_product(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Multiply with einsum rather than BLAS, so that a row's result doesn't depend on the others, on this thread."""
    return np.asarray(np.einsum("nk,kj->nj", rows, matrix))
