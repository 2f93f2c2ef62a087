"""A picture of accelerometer readings with the labels of their windows."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ingest.messages.decode import Readings
from service.without_kafka.classify import Label, LabelledReadings, beginnings
from service.without_kafka.files import ClassifyError
from windowing import SLOT_MS, STRIDE_SLOTS, WINDOW_SLOTS

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise ClassifyError(
        "pictures are drawn with matplotlib, which is not installed: pip install '.[train]' in the checkout"
    ) from error

MAX_DEVICES = 6
STRIDE_S = STRIDE_SLOTS * SLOT_MS / 1000
# Windows overlap, so each colours only the stride around its middle.
AHEAD_S = (WINDOW_SLOTS - STRIDE_SLOTS) * SLOT_MS / 2000
# Okabe and Ito, Color Universal Design (2008): colours that colour-blind people can tell apart. Black is left out,
# because the signal has it.
PALETTE = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#cc79a7", "#d55e00")

SPAN_ALPHA = 0.45


def refuse_unwritable(path: Path) -> None:
    """Raise ClassifyError if no picture can be written to the path; leaves an existing file unchanged."""
    try:
        is_new = not path.exists()
        path.open("ab").close()
    except OSError as error:
        raise _unwritable(path, error) from None
    if is_new:
        path.unlink()


def save_picture(path: Path, labelled: LabelledReadings, max_gap_ms: int) -> None:
    """Draw a PNG file; raises ClassifyError if there are too many devices or it can't be written."""
    try:
        with matplotlib.rc_context({"agg.path.chunksize": 10_000}):  # else hours of readings are too long a line
            draw(labelled, max_gap_ms).savefig(path, dpi=100, format="png")
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> ClassifyError:
    return ClassifyError(f"cannot write {path}: {error.strerror or error}")


def draw(labelled: LabelledReadings, max_gap_ms: int) -> Figure:
    """Draw each device's signal, coloured by its labels, with their confidence below."""
    begins = beginnings(labelled.readings)
    if len(begins) > MAX_DEVICES:
        raise ClassifyError(
            f"a picture has room for {MAX_DEVICES} devices, and there are {len(begins):,}: draw a file of some of them"
        )
    figure = Figure(figsize=(12, 4 * len(begins)), layout="constrained")
    panels = figure.subplots(2 * len(begins), 1, squeeze=False, height_ratios=[3, 1] * len(begins))[:, 0]
    colours = dict(zip(labelled.names, itertools.cycle(PALETTE), strict=False))
    for row, (device, begin) in enumerate(begins.items()):
        signal, confidence = panels[2 * row], panels[2 * row + 1]
        own = [label for label in labelled.labels if label.fields["device_id"] == device]
        _draw_spans(signal, own, begin, colours)
        _draw_signal(signal, labelled.readings, device, begin, max_gap_ms)
        _draw_confidence(confidence, own, begin, colours)
        confidence.sharex(signal)
        if len(begins) > 1:
            signal.set_title("".join(c for c in device if c.isprintable()).replace("$", r"\$"))
    return figure


def spans(labels: Sequence[Label], begin: int) -> dict[str, list[tuple[float, float]]]:
    """Return the spans of each label as (start, length) in seconds since `begin`; adjoining windows are one span."""
    found: dict[str, list[tuple[float, float]]] = {}
    last, end = "", -np.inf
    for label in labels:
        name, start = label.fields["activity"], (label.fields["window_start"] - begin) / 1000 + AHEAD_S
        own = found.setdefault(name, [])
        if name == last and abs(start - end) < SLOT_MS / 2000:
            own[-1] = (own[-1][0], own[-1][1] + STRIDE_S)
        else:
            own.append((start, STRIDE_S))
        last, end = name, start + STRIDE_S
    return found


def _draw_spans(axes: Axes, labels: Sequence[Label], begin: int, colours: dict[str, str]) -> None:
    for name, where in sorted(spans(labels, begin).items()):
        bars = axes.broken_barh(where, (0, 1), transform=axes.get_xaxis_transform(), color=colours[name], label=name)
        bars.set(alpha=SPAN_ALPHA, linewidth=0)


def _draw_signal(axes: Axes, readings: Readings, device: str, begin: int, max_gap_ms: int) -> None:
    wanted = device.encode()
    rows = np.flatnonzero([each == wanted for each in readings.device_ids()])
    rows = rows[np.argsort(readings.timestamp_ms[rows], kind="stable")]
    seconds = (readings.timestamp_ms[rows] - begin) / 1000
    holes = np.flatnonzero(np.diff(readings.timestamp_ms[rows]) > max_gap_ms) + 1  # no line is drawn across
    for axis, style in enumerate(("-", "--", ":")):
        values = np.insert(readings.xyz[rows, axis].astype(float), holes, np.nan)
        axes.plot(np.insert(seconds, holes, np.nan), values, style, color="0.15", linewidth=0.8, label="xyz"[axis])
    axes.set_ylabel("m/s²")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _draw_confidence(axes: Axes, labels: Sequence[Label], begin: int, colours: dict[str, str]) -> None:
    middle = [(label.fields["window_start"] - begin) / 1000 + AHEAD_S + STRIDE_S / 2 for label in labels]
    confidence = [label.fields["confidence"] for label in labels]
    axes.scatter(middle, confidence, s=12, c=[colours[label.fields["activity"]] for label in labels], ec="0.3", lw=0.4)
    axes.set(ylim=(0, 1.05), ylabel="confidence", xlabel="seconds")
    axes.grid(alpha=0.3)
