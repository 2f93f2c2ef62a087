"""Is one bundle better than another on the same windows, or is the difference noise?

Windows of one walk are correlated, and so are windows of one person: a bootstrap that resamples single windows gives
far too narrow an interval. So it resamples people, or pieces of recordings of at most a minute where there are few
people.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from inference.bundle import Bundle
from training.data.files import DataError
from training.data.frames import LabelledFrames, served_frames
from training.data.minutes import minutes_of
from training.data.recordings import DataFile, Recording
from training.evaluation.evaluate import answers
from training.wording.markdown import plain, table
from training.wording.phrases import in_people

BOOTSTRAP_SAMPLES = 4000
SEED = 0  # of the bootstrap
BLOCK_MS = 60_000
# With fewer, a bootstrap's interval is far too narrow: with 3 it misses one time in six, with 10 one in eleven.
MIN_CLUSTERS = 10


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference for a class, or for all: shares of `windows` that are right, and a 95 % interval of new - old.

    `clusters` counts the independent groups that the windows come from.
    """

    label: str
    windows: int
    clusters: int
    old: float
    new: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """The verdict in a word: "no telling" where the interval holds 0, "too few" with too few clusters."""
        if self.clusters < MIN_CLUSTERS:
            return "too few"
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "no telling"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences of two bundles, all windows first and then class by class.

    `resampled` names the units that the bootstrap resampled.
    """

    old: str
    new: str
    dataset: str
    differences: tuple[Difference, ...]
    resampled: str


def compare(old: Bundle, new: Bundle, file: DataFile, recordings: Sequence[Recording]) -> Comparison:
    """Compare two bundles on some recordings of `file`.

    The interval is a percentile interval of a cluster bootstrap (Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993, chapters 8 and 13), of accuracy and of each class's recall. Raises `DataError` where there is no
    complete window, or a bundle has other labels.
    """
    check_comparable(old, new)
    if new.manifest.labels != file.labels.names:
        raise DataError(f"{new.title} tells {', '.join(new.manifest.labels)}, but {file.name} was read by others")
    frames = served_frames(recordings)
    if not len(frames):
        raise DataError(f"{file.name} holds no complete window of the people asked for")
    minutes, _ = minutes_of(recordings, file.labels)
    clusters, resampled = _clusters(frames, minutes, separate_recordings=file.kind == "kept")
    before, after = (answers(bundle, frames.values).argmax(axis=1) == frames.activity for bundle in (old, new))
    rng = np.random.default_rng(SEED)
    differences = _differences(file.labels.names, frames.activity, before, after, clusters, rng)
    return Comparison(old.title, new.title, file.dataset, differences, resampled)


def why_incomparable(old: Bundle, new: Bundle) -> str | None:
    """Return why two bundles can't be compared; None if they can."""
    if old.manifest.labels == new.manifest.labels:
        return None
    theirs, ours = (", ".join(bundle.manifest.labels) for bundle in (old, new))
    return f"{old.title} tells {theirs}, and {new.title} tells {ours}: with other labels there is nothing to compare"


def check_comparable(old: Bundle, new: Bundle) -> None:
    """Raise `DataError` for two bundles with different labels."""
    if why := why_incomparable(old, new):
        raise DataError(why)


def compare_bundles(
    old: Bundle,
    new: Bundle,
    files: Sequence[DataFile],
    *,
    people: Collection[str] | None = None,
) -> list[Comparison]:
    """Compare two bundles on each data file, limited to `people` if given. Raises `DataError`."""
    return [
        compare(old, new, file, [r for r in file.recordings if people is None or r.person in people]) for file in files
    ]


def _clusters(frames: LabelledFrames, minutes: float, *, separate_recordings: bool) -> tuple[np.ndarray, str]:
    """Return the cluster int64[m] of each window, and a description of the clusters, which are of so many `minutes`.

    With `separate_recordings`, as for kept windows, each window is a recording of its own: only the clock groups them.
    """
    people, person = np.unique(frames.person.astype(str), return_inverse=True)
    if len(people) >= MIN_CLUSTERS:
        return person, in_people(len(people))
    minute = np.stack(
        [person if separate_recordings else frames.recording, frames.activity, frames.start_ms // BLOCK_MS], axis=1
    )
    blocks, block = np.unique(minute, axis=0, return_inverse=True)
    pieces = f"{len(blocks):,} {'piece' if len(blocks) == 1 else 'pieces'} of at most a minute"
    return block.reshape(-1), (
        f"{pieces}, of {minutes:,.1f} minutes of {in_people(len(people))}: it says little about others"
    )


def _differences(
    labels: Sequence[str],
    activity: np.ndarray,
    old: np.ndarray,
    new: np.ndarray,
    cluster: np.ndarray,
    rng: np.random.Generator,
) -> tuple[Difference, ...]:
    count = int(cluster.max()) + 1
    draws = rng.multinomial(count, np.full(count, 1 / count), BOOTSTRAP_SAMPLES)
    of_class = [("all", np.ones(len(activity), bool))] + [(name, activity == k) for k, name in enumerate(labels)]
    found = []
    for label, mask in of_class:
        if not mask.any():
            continue
        sums = [np.bincount(cluster[mask], weight, minlength=count) for weight in (None, old[mask], new[mask])]
        windows, before, after = (draws @ each for each in sums)
        nonempty = windows > 0
        low, high = np.quantile((after - before)[nonempty] / windows[nonempty], [0.025, 0.975])
        found.append(
            Difference(
                label=label,
                windows=int(mask.sum()),
                clusters=int((sums[0] > 0).sum()),
                old=float(old[mask].mean()),
                new=float(new[mask].mean()),
                low=float(low),
                high=float(high),
            )
        )
    return tuple(found)


# --- the tables ----------------------------------------------------------------------------------

_COLUMNS = ("label", "windows", "old", "new", "difference", "95 % of it", "verdict")


def _rows(comparison: Comparison) -> list[tuple[str, ...]]:
    return [
        (
            each.label,
            f"{each.windows:,}",
            f"{each.old:.3f}",
            f"{each.new:.3f}",
            f"{each.new - each.old:+.3f}",
            f"{each.low:+.3f} to {each.high:+.3f}",
            each.verdict,
        )
        for each in comparison.differences
    ]


def comparison_table(comparison: Comparison) -> Table:
    """Return the comparison as a table for a terminal."""
    table_ = Table(
        title=escape(f"{comparison.new}, beside {comparison.old}, on {comparison.dataset}"),
        caption=f"Share of windows labelled right, with a 95 % interval from {comparison.resampled}.",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),  # else it doesn't fit into 80 characters
    )
    for number, column in enumerate(_COLUMNS):
        table_.add_column(column, justify="left" if number in (0, len(_COLUMNS) - 1) else "right")
    for row in _rows(comparison):
        table_.add_row(*map(escape, row))
    return table_


def comparison_section(comparison: Comparison) -> str:
    """Return the comparison as Markdown."""
    lines = [
        f"## {plain(comparison.new)}, beside {plain(comparison.old)}: {plain(comparison.dataset)}\n",
        f"Share of windows labelled right, with a 95 % interval of the difference from {comparison.resampled}.\n",
        *table(_COLUMNS, _rows(comparison), left=(0, len(_COLUMNS) - 1)),
    ]
    return "\n".join(lines) + "\n"
