"""The rules of delivery, by the names under which the model knows them, and what each is for."""

from typing import NamedTuple


class Rule(NamedTuple):
    """A rule; what goes wrong without it; what it is for.

    ``alone`` is whether taking it out is enough to go wrong; ``beside`` names the rule that otherwise stands in for it.
    """

    wrong: str
    purpose: str = "correctness"
    alone: bool = True
    beside: str | None = None


METADATA = "group metadata from the transaction's beginning"

RULES = {
    # The snapshot.
    "rewind to the oldest record held": Rule("the first half of an open window is lost with its worker"),
    "commit after acknowledgement": Rule("a label that was not written is never said"),
    "dead letters only before the position": Rule("the next owner reads the bad record again, and reports it again"),
    "a snapshot after a silence": Rule("with no more records the rewind never ends", "growth"),
    # labels_from.
    "silent devices hold labels_from": Rule("a replay without the silence finds the windows open, and says them again"),
    "remembered until the rewind has passed": Rule("the second snapshot after a silence forgets what the first knew"),
    "reread labels hold labels_from": Rule("a second crash: the third owner doesn't read what the first one said"),
    "the output's end when the snapshot was taken": Rule("labels said between snapshot and commit are not reread"),
    "tombstones for devices heard late": Rule(
        "a replay takes a late reading for the newest, opens what time had closed"
    ),
    "holds where tombstones have no room": Rule("the same, for a device that the metadata has no room for"),
    "tombstones until the rewind has passed": Rule("the second snapshot, or the next owner's first, leaves it out"),
    "drop reread labels that the rewind has passed": Rule(
        "one whose window never closes here is reread for ever", "growth"
    ),
    "drop reread labels when time closes them": Rule("they go later, when the rewind has passed them", "growth", False),
    "keep reread labels of windows open or remembered": Rule(
        "nothing: a window that is held has a record that the rewind has not passed", "caution", False
    ),
    # Recovery.
    "windows found among the labels are not said again": Rule("what was said after the last commit is said again"),
    "without a commit, labels from the start": Rule("what a worker said before its first commit is said again"),
    "wait for the high watermark": Rule("offsets' marker lands first: labels of a committed transaction are not seen"),
    "committed labels only": Rule("a label of an aborted transaction counts as said"),
    "stable offsets": Rule("the next owner starts before a commit that is on its way"),
    "mute replay": Rule("windows that a replay closes are said again, or with half their readings"),
    "no commit in a replay": Rule("the position goes back, to before windows that labels_from no longer covers"),
    "own sends first, then reread": Rule("a send of the worker itself lands after its own rereading"),
    "silence against the log": Rule("a worker that lags takes devices for silent whose records it has not read"),
    # Epochs.
    "epochs": Rule("a result of an earlier assignment is said beside the new one's"),
    "rings die with the assignment": Rule("a partition given up is published on by its old worker"),
    "the generation of the last callback": Rule("one that is back, not yet told of its loss, commits an old position"),
    METADATA: Rule("a zombie that has joined again commits what its successor said"),
    "end the transaction in the revoke callback": Rule(
        "the next owner waits for the old one's transaction", "liveness", False, beside=METADATA
    ),
    "a lost partition aborts the transaction": Rule("its labels are committed beside those of its new owner"),
    # The two ways to deliver.
    "an unknown fate is not sent again": Rule("both sends land"),
    "offsets of every partition labelled": Rule("a frozen worker's transaction commits, for nothing in it is checked"),
    "an abort takes acknowledgements back": Rule("labels of an aborted transaction are never said"),
    "recover when fenced": Rule("a transaction had committed though its end was not heard of: its labels come again"),
}
