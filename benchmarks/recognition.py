"""How often a bundle recognises the synthetic people, class by class.

    python -m benchmarks.recognition [--bundle har-cnn] [--devices 300] [--seconds 400] [--seed 1]

prints the table of `docs/synthetic.md`. Windows are cut as the service cuts them; in the table those count that lie
within one stretch of one activity, without its first moments, when the wearer still changes over. The predictions for
windows that span two activities are counted below it.
"""

import argparse

import numpy as np

from inference.bundle import Bundle, find_bundle, load_bundle
from service.replay.fleet import FleetReadings
from service.replay.synthesiser import BLEND_MS, SyntheticFleet
from training.evaluation.evaluate import answers
from training.evaluation.spanning import SpanningScores, SpanningWindows, score_spanning
from training.fitting.scores import Scores, score
from windowing import WINDOW_MS, cut

BLOCK_MS = 20_000


def main() -> None:
    """Score the bundle named on the command line and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="har-cnn")
    parser.add_argument("--devices", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=400.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    bundle = load_bundle(find_bundle(options.bundle))
    scores, spanning = recognise(bundle, options.devices, seconds=options.seconds, seed=options.seed)
    print(as_markdown(scores, f"{bundle.title}, {options.devices} devices, {options.seconds:g} s, seed {options.seed}"))
    print(f"\nOf {spanning.windows:,} windows that span two activities {spanning}.")


def recognise(bundle: Bundle, devices: int, *, seconds: float, seed: int) -> tuple[Scores, SpanningScores]:
    """Score a bundle of the six activities on the windows of a synthetic fleet against the fleet's truth.

    The scores are of windows of one activity; the predictions for windows that span two are counted separately.
    """
    frames, truth, spanning = windows_of(SyntheticFleet(devices, seed), seconds * 1000)
    labels = tuple(bundle.manifest.labels)
    return (
        score(labels, truth, answers(bundle, frames)),
        score_spanning(spanning, answers(bundle, spanning.values), labels),
    )


def windows_of(fleet: SyntheticFleet, length_ms: float) -> tuple[np.ndarray, np.ndarray, SpanningWindows]:
    """Frames float32[m, 80, 3] that show one activity each, which one, int64[m], and those that show two."""
    blocks = np.arange(0, length_ms, BLOCK_MS)
    readings = FleetReadings.joined([fleet.readings(start, min(start + BLOCK_MS, length_ms)) for start in blocks])
    frames, truth, changing = [], [], []
    for device, device_id in enumerate(fleet.device_ids):
        own = readings[readings.device == device]
        start_ms, values = cut(own.timestamp_ms, own.xyz, device_id.encode())
        which = np.full(len(start_ms), device)
        # A stretch is longer than a window: whoever does the same before, at its start and at its end never changed.
        moments = [start_ms - BLEND_MS, start_ms, start_ms + WINDOW_MS / 2, start_ms + WINDOW_MS]
        before, first, middle, last = (fleet.activities(which, np.asarray(at, float)) for at in moments)
        steady = (before == first) & (first == last)
        frames.append(values[steady])
        truth.append(first[steady])
        # No wearer changes twice in a window: in its middle is what lasts longer.
        spans = (before == first) & (first != last)
        changing.append((values[spans], middle[spans], np.where(middle == first, last, first)[spans]))
    return (
        np.concatenate(frames),
        np.concatenate(truth),
        SpanningWindows(*map(np.concatenate, zip(*changing, strict=True))),
    )


def as_markdown(scores: Scores, title: str) -> str:
    """A confusion matrix in shares of each true activity, with the number of windows."""
    shares = scores.confusion / scores.support[:, None]
    lines = [
        f"{title}: {scores.accuracy:.1%} of {scores.support.sum():,} windows.",
        "",
        f"| true activity | windows | {' | '.join(scores.labels)} |",
        f"|---|---:|{'---:|' * len(scores.labels)}",
    ]
    for label, windows, row in zip(scores.labels, scores.support, shares, strict=True):
        lines.append(f"| {label} | {windows:,} | {' | '.join(f'{share:.1%}' for share in row)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
