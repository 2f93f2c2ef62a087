"""Labels scored against the synthetic truth, as they arrive."""

import math
from typing import Any

from service.replay.run import Replay


class LabelScores:
    """The labels that have arrived, and how many of them are right."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._numbers = {device_id: number for number, device_id in enumerate(replay.fleet.device_ids)}
        self.latest: dict[str, dict[str, Any]] = {}
        self.labels = 0
        self.scored = 0
        self.right = 0

    def take(self, label: dict[str, Any]) -> None:
        """Take in a label; score it if the wearer's activity is the same at the window's start and end."""
        number = self._numbers.get(label["device_id"])
        if number is None:
            return
        before, after = (self._replay.truth(number, label[edge]) for edge in ("window_start", "window_end"))
        truth = before if before == after else None
        self.labels += 1
        self.latest[label["device_id"]] = {**label, "truth": truth}
        if truth is not None:
            self.scored += 1
            self.right += truth == label["activity"]

    @property
    def agreement(self) -> float:
        """Share of scored labels that are right; NaN before the first."""
        return self.right / self.scored if self.scored else math.nan
