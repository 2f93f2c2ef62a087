"""The rules of delivery, by the names under which the model knows them, and what each is for."""

from typing import NamedTuple


class Rule(NamedTuple):
    """What goes wrong without a rule, and what the rule is for.

    ``alone`` says whether something goes wrong if this rule alone is taken out. ``stand_in`` names the rule that
    otherwise has the same effect, and that is taken out with it.
    """

    consequence: str
    purpose: str = "correctness"
    alone: bool = True
    stand_in: str | None = None


METADATA = "use the group metadata of the transaction's beginning"

RULES = {
    # The snapshot.
    "rewind to the oldest record in an open window": Rule("the first half of an open window is lost with its worker"),
    "commit after acknowledgement": Rule("a label that was not written is never published"),
    "send dead letters with the position after them": Rule("the next owner reads the bad record and reports it again"),
    "take a snapshot after a silence": Rule("without new records, the rewind never ends", "growth"),
    # labels_from.
    "windows closed by silence hold labels_from": Rule(
        "a replay, which notices no silence, finds the windows open and publishes them again"
    ),
    "remember windows closed by silence until the rewind has passed": Rule(
        "the second snapshot after a silence forgets what the first one knew"
    ),
    "read-back labels hold labels_from": Rule(
        "after a second crash, the third owner doesn't read back what the first one published"
    ),
    "labels_from is the output's end when the snapshot was taken": Rule(
        "labels published between snapshot and commit are not read back"
    ),
    "tombstones for devices that strayed": Rule(
        "a replay takes a late reading for the newest, and opens windows that time had closed"
    ),
    "hold the rewind back where tombstones have no room": Rule(
        "the same, for a device for which the metadata has no room"
    ),
    "keep tombstones until the rewind has passed": Rule("the second snapshot, or the next owner's first, omits them"),
    "drop read-back labels once the rewind has passed them": Rule(
        "a label whose window never closes here is read back for ever", "growth"
    ),
    "drop read-back labels when time closes their windows": Rule(
        "they are dropped later, when the rewind has passed them", "growth", False
    ),
    "keep read-back labels of windows open or remembered": Rule(
        "nothing: such a window has a record that the rewind has not passed", "caution", False
    ),
    # Recovery.
    "windows whose label was read back are not published again": Rule(
        "what was published after the last commit is published again"
    ),
    "without a commit, read back labels from the start": Rule(
        "what a worker published before its first commit is published again"
    ),
    "read back up to the high watermark": Rule(
        "the marker of the offsets is written first: labels of a committed transaction are not seen"
    ),
    "read back committed labels only": Rule("a label of an aborted transaction counts as published"),
    "wait for pending commits of offsets": Rule("the next owner starts before a commit that is under way"),
    "replay mutely": Rule("windows that close in a replay are published again, or with half their readings"),
    "no commit during a replay": Rule("the position goes back to before windows that labels_from no longer covers"),
    "wait for own sends before the read-back": Rule("a send of the worker itself is written after its own read-back"),
    "judge silence by fetch progress": Rule(
        "a worker that lags takes devices for silent whose records it has not read yet"
    ),
    # Epochs.
    "drop results of an earlier assignment": Rule("they are published beside those of the new assignment"),
    "open windows die with the assignment": Rule("the old worker goes on publishing a partition that it gave up"),
    "use the generation of the last callback": Rule(
        "a worker that is back, and hasn't been told of its loss yet, commits an old position"
    ),
    METADATA: Rule("a zombie that has joined again commits what its successor has published"),
    "end the transaction in the revoke callback": Rule(
        "the next owner waits for the old one's transaction", "liveness", False, stand_in=METADATA
    ),
    "a lost partition aborts the transaction": Rule("its labels are committed beside those of its new owner"),
    # The two modes.
    "a send of unknown fate is not repeated": Rule("both sends are written"),
    "commit an offset for every partition with labels": Rule(
        "a frozen worker's transaction commits, because the broker checks nothing in it"
    ),
    "an abort takes acknowledgements back": Rule("labels of an aborted transaction are never published"),
    "recover when fenced": Rule(
        "a transaction had committed without the worker's knowledge: its labels are published again"
    ),
}
