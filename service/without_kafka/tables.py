"""Tables of labels for a terminal: a row a text, or a row a window."""

from collections.abc import Callable, Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from service.host.terminal import printable
from service.without_kafka.classify import LabelledReadings, LabelledTexts, beginnings

SHOWN_CHARACTERS = 60  # of a text

_COLUMNS: Mapping[str, Callable[[dict[str, Any], int], str]] = {
    "device": lambda fields, _: fields["device_id"],
    "from s": lambda fields, begin: f"{(fields['window_start'] - begin) / 1000:.2f}",
    "to s": lambda fields, begin: f"{(fields['window_end'] - begin) / 1000:.2f}",
    "activity": lambda fields, _: fields["activity"],
    "smoothed": lambda fields, _: fields["smoothed_activity"] or "–",
    "confidence": lambda fields, _: f"{fields['confidence']:.3f}",
    "familiarity": lambda fields, _: f"{fields['familiarity']:.3f}",
    "measured": lambda fields, _: f"{fields['coverage']:.0%}",
}
"""Columns from a window's label and the time of its device's first reading."""
_WORDS = ("device", "activity", "smoothed")
_FIELDS = {"smoothed": "smoothed_activity", "familiarity": "familiarity"}


def _narrow_table() -> Table:
    """Return a table without lines between columns: all of a window's would not fit into 80 characters."""
    return Table(box=box.SIMPLE_HEAD, padding=0)


def text_table(labelled: LabelledTexts) -> Table:
    """Return a table with a row a text: its id, beginning and label; with many labels, also the runner-up."""
    table = _narrow_table()
    table.add_column("id", overflow="fold", min_width=2)
    table.add_column("text", min_width=16)
    table.add_column("label", no_wrap=True)
    table.add_column("confidence", justify="right", no_wrap=True)
    several = len(labelled.labels[0].fields["probabilities"]) > 2
    if several:
        table.add_column("next", overflow="fold", min_width=10)
    for text, label in zip(labelled.texts, labelled.labels, strict=True):
        fields = label.fields
        row = [fields["id"], _shortened(text), fields["label"], f"{fields['confidence']:.3f}"]
        table.add_row(*map(_plain, row + [_runner_up(fields)] * several))
    return table


def activity_table(labelled: LabelledReadings) -> Table:
    """Return a table with a row a window: its times, in seconds since the device's first reading, and its label.

    A column without values is omitted.
    """
    begins = beginnings(labelled.readings)
    table = _narrow_table()
    shown = dict(_COLUMNS)
    if len(begins) == 1:
        del shown["device"]
    for name in ("smoothed", "familiarity"):
        if all(label.fields[_FIELDS[name]] is None for label in labelled.labels):
            del shown[name]
    for title in shown:
        table.add_column(title, justify="left" if title in _WORDS else "right", no_wrap=True)
    for label in labelled.labels:
        begin = begins[label.fields["device_id"]]
        table.add_row(*(_plain(show(label.fields, begin)) for show in shown.values()))
    return table


def _runner_up(fields: dict[str, Any]) -> str:
    others = {name: share for name, share in fields["probabilities"].items() if name != fields["label"]}
    name = max(others, key=others.__getitem__)
    return f"{name} {others[name]:.3f}"


def _shortened(text: str) -> str:
    """Return the beginning of a text, on one line; the rest of it is not processed."""
    begins = " ".join(text[: 4 * SHOWN_CHARACTERS].split())
    return begins if len(begins) <= SHOWN_CHARACTERS else begins[: SHOWN_CHARACTERS - 1] + "…"


def _plain(cell: str) -> Text:
    """Return a text without markup and control characters, for a terminal."""
    return Text(printable(cell))
