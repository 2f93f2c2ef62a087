"""Fits the figures of the synthetic people (`service/replay/synthetic_people.json`) to recorded ones.

    python -m training.fit_synthesiser WISDM_FILE MOTIONSENSE_FILE [--out service/replay/synthetic_people.json]

reads users 1 to 28 of WISDM (29 to 36 are the test set, and nothing here may know them) and everybody in
MotionSense. What goes into the table are figures over people: means, a few principal components and spreads.
No reading of anybody does.

A gait is taken as a sequence of strides. Each stride is a vector: the first eight Fourier coefficients of the
three axes over the stride, and their means. To compare people, phones are first turned upright in their own
plane, and strides are lined up in phase, in which way the screen faces and in which leg carries the phone, by
matching them with a template that is re-estimated from all people until it settles (the spirit of Generalised
Procrustes analysis; Gower, Psychometrika 1975). Then the stride vector has a mean over people, a spread between
people and a spread from stride to stride within a person; each spread is kept as a few principal components and
what those leave over, coefficient by coefficient (probabilistic principal components in the diagonal form of
factor analysis; Tipping & Bishop, JRSS B 1999). Phase relations between axes and harmonics are in the means
and the components, so they survive the averaging.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.data.datasets import read_files
from training.data.recordings import ACTIVITIES, Recording

HARMONICS = 8
AXES = ("x", "y", "z")
SLOT_MS = 50
PIECE = 64  # readings: 3.2 s, over which a cadence is taken as constant
LONGEST_STEP_MS = 150
UPRIGHT = 4.0  # m/s²: with less gravity in its plane, a phone does not say which way is up
EDGE = 40  # readings left out at either end of a recording: the phone goes into the pocket and comes out
LAST_TRAINING_USER = 28

STRIDE_HZ = {
    "Downstairs": (0.65, 1.3),
    "Jogging": (1.1, 1.65),
    "Upstairs": (0.6, 1.15),
    "Walking": (0.75, 1.2),
}
STILL = ("Sitting", "Standing")
BETWEEN = 6
WITHIN = 4
COMMON_PIECES = 6.0  # of a person: the common template weighs as much as so many
ROUNDS = 4  # of matching; nothing moves after that
TRIMMED = 0.1  # of each person's strides, those furthest from the person's median: steps missed by the matching
LOG_HZ_WEIGHT = 10.0  # brings the logarithm of the cadence to the size of the coefficients

_ORDERS = np.arange(1, HARMONICS + 1)
_THETA = np.arange(32) / 32  # of a stride
_TURNS = np.exp(-2j * np.pi * _THETA[:, None] * _ORDERS)  # what a shift in phase does to the coefficients
_SIDE_TURNED = np.array([-1.0] * 2 * HARMONICS + [1.0] * 2 * HARMONICS + [-1.0] * 2 * HARMONICS + [-1.0, 1.0, -1.0])
_SIDE_CHANGED = np.array([3, 2, 1, 0])
_POSES = np.array([(x, 1, z) for x in (1, -1) for z in (1, -1)], np.float64)  # other leg; screen to the other side


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pieces of one activity.

    `xyz` float64[s, PIECE, 3], rotated upright; `person` int[s]; `angle` float64[s], the rotation of each phone in its
    plane, radians.
    """

    xyz: np.ndarray
    person: np.ndarray
    angle: np.ndarray


def main() -> None:
    """Read the files named on the command line, fit, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("service/replay/synthetic_people.json"))
    options = parser.parse_args()
    files = read_files(options.data)
    recordings = [recording for file in files for recording in file.recordings if _may_be_used(recording)]
    table = fit(recordings)
    table["fitted_to"] = [f"{file.dataset}: sha256 {file.sha256}" for file in files]
    options.out.write_text(as_json(table))


def _may_be_used(recording: Recording) -> bool:
    return not recording.dataset.startswith("WISDM") or int(recording.person) <= LAST_TRAINING_USER


def fit(recordings: Sequence[Recording]) -> dict[str, object]:
    """Fit the table of statistics to recordings of phones at 20 Hz or more, in the six activities."""
    pieces = {activity: _pieces(recordings, activity) for activity in ACTIVITIES}
    gaits = {activity: _Gait.match(pieces[activity], *STRIDE_HZ[activity]) for activity in STRIDE_HZ}
    return {
        "columns": [f"{axis} {part} {order}" for axis in AXES for part in ("cos", "sin") for order in _ORDERS]
        + [f"{axis} mean" for axis in AXES]
        + [f"{LOG_HZ_WEIGHT:g} ln(strides/s)"],
        "log_hz_weight": LOG_HZ_WEIGHT,
        "carrying": _carrying(pieces, gaits),
        "gaits": {activity: gait.figures() for activity, gait in gaits.items()},
        "still": {activity: _still_figures(pieces[activity]) for activity in STILL},
    }


# --- pieces of one activity ----------------------------------------------------------------------


def _pieces(recordings: Sequence[Recording], activity: str) -> Pieces:
    found: list[np.ndarray] = []
    people: list[int] = []
    numbers: defaultdict[tuple[str, str], int] = defaultdict(lambda: len(numbers))
    for recording in recordings:
        for run in _runs(recording, ACTIVITIES.index(activity)):
            cut = len(run) // PIECE * PIECE
            found.append(run[:cut].reshape(-1, PIECE, 3))
            people += [numbers[recording.dataset, recording.person]] * (cut // PIECE)
    xyz = np.concatenate(found)
    means = xyz.mean(axis=1)
    angle = np.arctan2(means[:, 0], means[:, 1])
    if activity == "Sitting":  # the phone lies flat, and its plane says nothing of up and down
        return Pieces(_turned(xyz, np.zeros(len(xyz))), np.array(people), angle)
    upright = np.hypot(means[:, 0], means[:, 1]) > UPRIGHT
    return Pieces(_turned(xyz, angle)[upright], np.array(people)[upright], angle[upright])


def _runs(recording: Recording, activity: int) -> Iterator[np.ndarray]:
    """Yield unbroken segments of one activity at 20 Hz: in each slot of 50 ms, the reading nearest its centre."""
    wanted = recording.activity == activity
    breaks = np.flatnonzero((np.diff(recording.t_ms) > LONGEST_STEP_MS) | (np.diff(wanted.astype(np.int8)) != 0)) + 1
    for rows in np.split(np.arange(len(wanted)), breaks):
        if not len(rows) or not wanted[rows[0]]:
            continue
        t_ms = recording.t_ms[rows]
        centres = np.arange(t_ms[0], t_ms[-1] + 1, SLOT_MS)
        after = np.clip(np.searchsorted(t_ms, centres), 1, max(1, len(t_ms) - 1))
        nearest = after - (centres - t_ms[after - 1] <= t_ms[np.minimum(after, len(t_ms) - 1)] - centres)
        xyz = recording.xyz[rows][nearest].astype(np.float64)
        yield xyz[EDGE:-EDGE] if len(xyz) > 8 * EDGE else xyz


def _turned(xyz: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Rotate each piece in the plane of its phone, by its own angle."""
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, y, z = np.moveaxis(xyz, -1, 0)
    return np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=-1)


# --- gaits ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Gait:
    """Aligned strides: `strides` float64[n, 51], `person` int[n]; and each piece's person and cadence.

    `pose` int[people] is an index into `_POSES`.
    """

    strides: np.ndarray
    person: np.ndarray
    piece_person: np.ndarray
    log_hz: np.ndarray
    pose: np.ndarray

    @classmethod
    def match(cls, pieces: Pieces, lowest_hz: float, highest_hz: float) -> "_Gait":
        """Align the strides of all pieces with each other."""
        hz = np.arange(lowest_hz, highest_hz, 0.0125)
        centred = pieces.xyz - pieces.xyz.mean(axis=1, keepdims=True)
        spectra = _spectra(centred, hz)
        template = _common_template(spectra, pieces.person, centred)
        pose = _poses(spectra, pieces.person, template)
        posed = spectra * _POSES[pose[pieces.person]][:, None, :, None]
        own = np.repeat(template[None], pose.size, axis=0)
        at, theta = _best_match(posed, own[pieces.person])
        for _ in range(ROUNDS):
            aligned = _aligned(posed, at, theta)
            own = np.stack([_shrunk(aligned[pieces.person == one], template) for one in range(pose.size)])
            at, theta = _best_match(posed, own[pieces.person])
        xyz = pieces.xyz * _POSES[pose[pieces.person]][:, None, :]
        phase = _THETA[theta][:, None] + hz[at][:, None] * np.arange(PIECE) * SLOT_MS / 1000
        strides, piece = _strides(xyz, phase)
        if strides[:, -1].mean() < 0:  # a thigh in a gait leans so that the screen, facing out, looks up: z > 0
            strides, pose = strides * _SIDE_TURNED, _SIDE_CHANGED[pose]
        return cls(strides, pieces.person[piece], pieces.person, np.log(hz[at]), pose)

    def figures(self) -> dict[str, object]:
        """Return statistics over people, each with the same weight however long they were recorded."""
        people = [one for one in range(self.pose.size) if (self.person == one).sum() >= 8]
        own, deviations, wander = [], [], []
        for one in people:
            strides = _typical(self.strides[self.person == one])
            log_hz = self.log_hz[self.piece_person == one]
            own.append(np.append(strides.mean(axis=0), LOG_HZ_WEIGHT * np.median(log_hz)))
            deviations.append((strides - strides.mean(axis=0)) / np.sqrt(len(strides) * len(people)))
            wander.append(_spread(log_hz))
        vectors = np.stack(own)
        components, rest = _components((vectors - vectors.mean(axis=0)) / np.sqrt(len(own) - 1), BETWEEN)
        within, within_rest = _components(np.concatenate(deviations), WITHIN)
        return {
            "people": len(people),
            "strides": len(self.strides),
            "cadence_wander": float(np.median(wander)),
            "mean": vectors.mean(axis=0),
            "between_people": components,
            "between_people_rest": rest,
            "between_strides": within,
            "between_strides_rest": within_rest,
        }


def _spectra(xyz: np.ndarray, hz: np.ndarray) -> np.ndarray:
    """Return each piece's coefficients for each possible cadence: complex64[s, len(hz), 3, HARMONICS]."""
    t = np.arange(PIECE) * SLOT_MS / 1000
    waves = np.exp(-2j * np.pi * hz[:, None, None] * _ORDERS * t[:, None])  # cadence, reading, order
    waves *= (hz[:, None] * _ORDERS < 500 / SLOT_MS)[:, None, :] * 2 / PIECE
    return np.asarray(np.einsum("sna,fnh->sfah", xyz, waves), np.complex64)


def _best_match(spectra: np.ndarray, templates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each piece, the cadence and the phase at which it matches its template best (indices)."""
    product = np.einsum("sfah,sah->sfh", spectra, templates.conj())
    score = _turned_scores(product)
    best = score.reshape(len(score), -1).argmax(axis=1)
    at, theta = np.unravel_index(best, score.shape[1:])
    return np.asarray(at), np.asarray(theta)


def _turned_scores(product: np.ndarray) -> np.ndarray:
    """Return float[s, f, phases]: the match of pieces and templates at every phase, from their products."""
    return np.asarray(np.einsum("sfh,th->sft", product, _TURNS).real)


def _aligned(spectra: np.ndarray, at: np.ndarray, theta: np.ndarray) -> np.ndarray:
    return np.asarray(spectra[np.arange(len(spectra)), at] * _TURNS[theta][:, None, :])


def _common_template(spectra: np.ndarray, person: np.ndarray, centred: np.ndarray) -> np.ndarray:
    """Return complex128[3, HARMONICS]: what all people's strides have in common, in one pose."""
    power = (centred**2).mean(axis=(1, 2))
    explained = (np.abs(spectra) ** 2).sum(axis=(2, 3)) / power[:, None] / 6
    lively = power >= np.median(power)
    clearest = int(np.where(lively, explained.max(axis=1), 0).argmax())
    template = spectra[clearest, explained[clearest].argmax()].astype(np.complex128)
    for _ in range(3 * ROUNDS):
        pose = _poses(spectra, person, template)
        posed = spectra * _POSES[pose[person]][:, None, :, None]
        aligned = _aligned(posed, *_best_match(posed, np.broadcast_to(template, (len(posed), *template.shape))))
        template = np.stack([aligned[person == one].mean(axis=0) for one in np.unique(person)]).mean(axis=0)
    return np.asarray(template)


def _poses(spectra: np.ndarray, person: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Return, for each person, the pose (index into `_POSES`) in which all their pieces match the template best."""
    scores = []
    for pose in _POSES:
        product = np.einsum("sfah,ah->sfh", spectra, (template * pose[:, None]).conj())
        best = _turned_scores(product).max(axis=(1, 2))
        scores.append(np.bincount(person, best, minlength=person.max() + 1))
    return np.asarray(np.argmax(scores, axis=0))


def _shrunk(aligned: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Return a person's own template, shrunk towards the common one if there is little data."""
    return np.asarray((aligned.sum(axis=0) + COMMON_PIECES * template) / (len(aligned) + COMMON_PIECES))


def _strides(xyz: np.ndarray, phase: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return whole strides (float64[n, 51]) and their pieces; `phase` float64[s, PIECE] is in strides."""
    vectors, pieces = [], []
    grid = np.arange(32) / 32
    fine = _upsampled(xyz, 8)
    for piece, own_phase in enumerate(phase):
        for stride in range(int(np.ceil(own_phase[0])), int(np.floor(own_phase[-1]))):
            at = np.interp(stride + grid, own_phase, np.arange(PIECE)) * 8
            values = np.stack([np.interp(at, np.arange(len(fine[piece])), axis) for axis in fine[piece].T])
            coefficients = np.fft.rfft(values)[:, : HARMONICS + 1] / len(grid)
            parts = np.stack([2 * coefficients.real, -2 * coefficients.imag], axis=1)[:, :, 1:]
            vectors.append(np.append(parts.reshape(-1), coefficients[:, 0].real))
            pieces.append(piece)
    return np.stack(vectors), np.array(pieces)


def _upsampled(xyz: np.ndarray, times: int) -> np.ndarray:
    """Upsample band-limited: interpolation between readings 50 ms apart would blunt the impacts of the feet."""
    mirrored = np.concatenate([xyz, xyz[:, ::-1]], axis=1)  # without a jump where the ends meet
    spectrum = np.fft.rfft(mirrored, axis=1)
    spectrum[:, -1] /= 2
    return np.asarray(np.fft.irfft(spectrum, n=2 * PIECE * times, axis=1)[:, : PIECE * times] * times)


def _typical(strides: np.ndarray) -> np.ndarray:
    distance = ((strides - np.median(strides, axis=0)) ** 2).sum(axis=1)
    return np.asarray(strides[distance <= np.quantile(distance, 1 - TRIMMED)])


def _components(deviations: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` principal components, scaled by their standard deviations, and the residual deviation."""
    _, lengths, directions = np.linalg.svd(deviations, full_matrices=False)
    components = directions[:count] * lengths[:count, None]
    left = (deviations**2).sum(axis=0) - (components**2).sum(axis=0)
    return components, np.sqrt(np.maximum(left, 0))


def _spread(values: np.ndarray) -> float:
    """Return the standard deviation, from the quartiles: some pieces are matched an octave or a pause away."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float((high - low) / 1.349)


# --- how phones are carried, and people who keep still -------------------------------------------


def _carrying(pieces: dict[str, Pieces], gaits: dict[str, _Gait]) -> dict[str, float]:
    angles = []
    for activity in (*STRIDE_HZ, "Standing"):
        whose = pieces[activity].person
        own = np.exp(1j * pieces[activity].angle)
        angles.append(np.angle([own[whose == one].mean() for one in np.unique(whose)]))
    angle = np.concatenate(angles)
    poses = [_POSES[gait.pose] for gait in gaits.values()]
    return {
        "turned_in_plane_spread_deg": float(np.degrees(angle[np.abs(angle) < np.pi / 2].std())),
        "upside_down_share": float((np.abs(angle) > np.pi / 2).mean()),
        "other_leg_share": float(np.mean([min((p[:, 0] < 0).mean(), (p[:, 0] > 0).mean()) for p in poses])),
        "other_screen_side_share": float(np.mean([min((p[:, 2] < 0).mean(), (p[:, 2] > 0).mean()) for p in poses])),
    }


def _still_figures(pieces: Pieces) -> dict[str, object]:
    means = pieces.xyz.mean(axis=1)
    moving = pieces.xyz - means[:, None]
    if np.median(np.abs(means[:, 2])) > np.median(np.abs(means[:, 1])):  # the phone lies: screens all up
        means *= np.where(means[:, 2:] < 0, [-1.0, 1.0, -1.0], 1.0)
    level = np.log(np.sqrt((moving**2).mean(axis=(1, 2))) + 1e-3)
    people = np.unique(pieces.person)
    posture = np.stack([np.median(means[pieces.person == one], axis=0) for one in people])
    own_level = np.array([np.median(level[pieces.person == one]) for one in people])
    typical = np.abs(level - np.median(level)) < 3 * _spread(level)
    calm = moving[typical]
    centre = np.median(posture, axis=0)
    usual = np.linalg.norm(posture - centre, axis=1) < 3 * np.median(np.linalg.norm(posture - centre, axis=1))
    components, _ = _components((posture[usual] - posture[usual].mean(axis=0)) / np.sqrt(usual.sum() - 1), 3)
    return {
        "people": len(people),
        "posture": posture[usual].mean(axis=0),
        "between_people": components,
        "within_person": [
            float(np.median([_spread(means[pieces.person == one, axis]) for one in people])) for axis in range(3)
        ],
        "gravity": [float(np.linalg.norm(posture, axis=1).mean()), _spread(np.linalg.norm(posture, axis=1))],
        "ln_motion": float(np.median(own_level)),
        "ln_motion_between_people": _spread(own_level),
        "ln_motion_within_person": float(np.median([_spread(level[pieces.person == one]) for one in people])),
        "share_of_axis": np.sqrt((calm**2).mean(axis=(0, 1)) / (calm**2).mean()),
        "smoothness": float((calm[:, 1:] * calm[:, :-1]).mean() / (calm**2).mean()),
    }


# --- the table -----------------------------------------------------------------------------------


def as_json(table: dict[str, object]) -> str:
    """Format as JSON with a row of numbers a line and three decimals, so that diffs are readable."""
    return _json(table, 0) + "\n"


def _json(value: object, depth: int) -> str:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    pad = "  " * (depth + 1)
    if isinstance(value, dict):
        items = [f"{pad}{json.dumps(key)}: {_json(item, depth + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + "\n" + "  " * depth + "}"
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "[\n" + ",\n".join(pad + _json(row, depth + 1) for row in value) + "\n" + "  " * depth + "]"
    if isinstance(value, list):
        return "[" + ", ".join(_json(item, depth) for item in value) + "]"
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else json.dumps(value)


if __name__ == "__main__":
    main()
