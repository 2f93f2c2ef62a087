"""The worker's side of the delivery protocol, a step at a time; each rule can be taken out by its name."""

from tests.delivery.broker import DEAD, Broker, Label, Letter, Snapshot, Transaction
from tests.delivery.group import Group
from tests.delivery.holding import Grave, Holding, Segment, Send
from tests.delivery.windows import Window


class Worker:
    """One incarnation of a worker: it polls, cuts, infers, publishes and commits as the schedule says."""

    def __init__(
        self, broker: Broker, group: Group, outputs: int, exactly_once: bool, room: int, without: frozenset[str]
    ) -> None:
        self.broker = broker
        self.group = group
        self.outputs = outputs
        self.exactly_once = exactly_once
        self.room = room
        self.without = without
        # The client's, which the coordinator changes behind the worker's back.
        self.generation = 0
        self.frozen = self.dead = self.stale = False
        self.revoking: set[int] = set()
        self.incoming: set[int] = set()
        # The worker's own.
        self.told_generation = 0  # as of the last callback that it has seen through
        self.held: dict[int, Holding] = {}
        self.frames: list[Send] = []
        self.ready: list[Send] = []
        self.flying: list[Send] = []
        self.transaction: Transaction | None = None
        self.carried: list[Send] = []  # acknowledged within the open transaction
        self.chosen: dict[int, Snapshot] | None = None  # what the transaction is about to commit
        self.offsets_sent = False

    # -- the group

    def notice(self, now: int) -> None:
        """Learn what has become of the assignment: the lost and assigned callbacks."""
        if self.stale or self not in self.group.members:
            self.stale = False
            self._lose_all()
        for partition in self.incoming:
            self.held[partition] = self._holding(partition, self.group.assignments[partition], now)
        self.incoming = set()
        self.told_generation = self.generation

    def _lose_all(self) -> None:
        for holding in self.held.values():
            holding.alive = False
        self.held = {}
        if self.transaction is not None and "a lost partition aborts the transaction" not in self.without:
            self.abort()

    def revoke(self, give_up: bool) -> None:
        """Go on with the revoke callback: it returns once all is settled, or at its deadline."""
        if not self.revoking or self.stale or self not in self.group.members:
            return
        self.told_generation = self.generation
        leaving = [self.held[partition] for partition in self.revoking if partition in self.held]
        for holding in leaving:
            if holding.state == "live":
                holding.seal()
        if not self.exactly_once:
            self.commit()
        settled = not any(holding.owed for holding in leaving) and self.transaction is None
        if not settled and not give_up:
            return
        if self.transaction is not None and "end the transaction in the revoke callback" not in self.without:
            self.abort()
        for holding in leaving:
            if "rings die with the assignment" not in self.without:
                holding.alive = False
            del self.held[holding.partition]
        self.group.revoked(self)

    # -- recovery

    def recover(self, partition: int, now: int) -> None:
        """Go one step on from the assignment to the replay."""
        holding = self.held.get(partition)
        if holding is None:
            return
        if holding.state == "offsets":
            self._fetch_offsets(holding)
        elif holding.state == "end":
            holding.end = len(self.broker.logs[partition % self.outputs])
            self.broker.reread[partition] = now
            holding.state = "labels"
        elif holding.state == "labels":
            self._reread_labels(holding)

    def _fetch_offsets(self, holding: Holding) -> None:
        broker, partition = self.broker, holding.partition
        if "own sends first, then reread" not in self.without and any(
            send.holding.partition == partition for send in self.flying
        ):
            return
        if self.exactly_once and "stable offsets" not in self.without and broker.has_pending_offsets(partition):
            return
        start, end = broker.starts[partition], len(broker.inputs[partition])
        snapshot = broker.committed.get(partition)
        if snapshot is None or not start <= snapshot.position <= end:
            labels_from = 0
            if snapshot is None and "without a commit, labels from the start" in self.without:
                labels_from = len(broker.logs[partition % self.outputs])
            snapshot = Snapshot(start, start, labels_from)
        else:
            holding.committed = snapshot
        holding.position = snapshot.position
        holding.next = max(snapshot.rewind_to, start)
        holding.labels_from = snapshot.labels_from
        holding.tombstones = dict(snapshot.tombstones)
        holding.graves = [Grave(name, -1, last) for name, last in snapshot.tombstones]
        holding.origin = snapshot
        holding.state = "end"

    def _reread_labels(self, holding: Holding) -> None:
        broker, place, end = self.broker, holding.partition % self.outputs, holding.end
        stable = broker.last_stable(place)
        if stable < end and self.exactly_once and "committed labels only" not in self.without:
            if "wait for the high watermark" not in self.without:
                return
            end = stable
        for offset in range(holding.labels_from, end):
            entry = broker.logs[place][offset]
            label = entry.what
            if not isinstance(label, Label) or label.partition != holding.partition:
                continue  # a marker, or another input's label: inputs may share an output
            if "committed labels only" in self.without or broker.is_committed(place, entry):
                holding.said.setdefault(label.identity, (offset, label.source))
        holding.known_end = holding.end
        holding.state = "live" if holding.next >= holding.position else "replay"

    # -- records to windows

    def poll(self, partition: int, count: int, now: int) -> None:
        """Take in up to ``count`` records of a partition."""
        holding = self.held.get(partition)
        if holding is None or self.revoking or holding.state not in ("replay", "live"):
            return
        log = self.broker.inputs[partition]
        if holding.next < self.broker.starts[partition]:
            self.abort()
            self.start_over(holding, now)
            return
        holding.hear(now, len(log))
        for offset in range(holding.next, min(holding.next + count, len(log))):
            self._push(holding, offset, now)
        if holding.state == "replay" and holding.next >= holding.position:
            holding.state = "live"

    def _push(self, holding: Holding, offset: int, now: int) -> None:
        record = self.broker.inputs[holding.partition][offset]
        mute = offset < holding.position and "mute replay" not in self.without
        holding.next = offset + 1
        if record.device is None:
            if not mute:
                self._promise_letter(holding, offset)
            return
        if holding.tombstones.get(record.device, -1) >= offset:
            return
        for window in holding.windower.push(record, offset, now):
            found = (
                window.identity in holding.said
                and "windows found among the labels are not said again" not in self.without
            )
            if "drop reread labels when time closes them" not in self.without:
                holding.said.pop(window.identity, None)
            if not mute and not found and window.complete:
                self._promise(holding, window)

    def fall_silent(self, partition: int, now: int) -> None:
        """Close the windows of the devices that have fallen silent, and take a snapshot."""
        holding = self.held.get(partition)
        if holding is None or self.revoking or holding.state != "live":
            return
        until = now if "silence against the log" in self.without else holding.heard()
        silent = holding.windower.silent(until)
        for name in silent:
            for window in holding.fall_silent(name):
                self._promise(holding, window)
        if silent and "a snapshot after a silence" not in self.without:
            holding.seal()

    def seal(self, partition: int) -> None:
        """Take a snapshot."""
        holding = self.held.get(partition)
        if holding is not None and (
            holding.state == "live" or (holding.state == "replay" and "no commit in a replay" in self.without)
        ):
            holding.seal()

    def _promise(self, holding: Holding, window: Window) -> None:
        what = Label(holding.partition, *window.identity, window.content, window.source)
        holding.open.owed += 1
        self.frames.append(Send(holding, holding.open, what, holding.partition % self.outputs))

    def _promise_letter(self, holding: Holding, offset: int) -> None:
        send = Send(holding, holding.open, Letter(holding.partition, offset), DEAD)
        if self.exactly_once and "dead letters only before the position" not in self.without:
            holding.open.letters.append(send)
        else:
            holding.open.owed += 1
            self.ready.append(send)

    # -- windows to labels

    def infer(self, which: int) -> None:
        """Get one result from the model."""
        send = self.frames.pop(which % len(self.frames))
        if send.holding.alive:
            self.ready.append(send)
        elif "epochs" in self.without:
            if send.holding.partition in self.held:
                send.holding = self.held[send.holding.partition]
                send.segment = send.holding.open
                send.segment.owed += 1
            self.ready.append(send)

    def send(self, now: int) -> None:
        """Hand to the producer what is ready; a transaction about to commit takes no more."""
        if self.exactly_once:
            if self.chosen is not None or not self.ready:
                return
            if self.transaction is None:
                self._begin()
        for send in self.ready:
            if send.holding.alive or "epochs" in self.without:
                self._fly(send, now)
        self.ready = []

    def _begin(self) -> None:
        ahead = "the generation of the last callback" in self.without
        self.transaction = self.broker.begin(self, self.generation if ahead else self.told_generation)
        self.carried = []

    def _fly(self, send: Send, now: int) -> None:
        send.transaction = self.transaction
        send.offset = None
        send.sent_at = now
        self.flying.append(send)

    def acknowledge(self) -> None:
        """Take in one acknowledgement, the oldest."""
        for send in self.flying:
            if send.offset is not None:
                self.flying.remove(send)
                send.segment.owed -= 1
                if send.place != DEAD:
                    send.holding.known_end = max(send.holding.known_end, send.offset + 1)
                if send.transaction is not None:
                    self.carried.append(send)
                return

    def lose(self, which: int, now: int) -> Send | None:
        """Give up waiting for an answer; return what may still land."""
        if not self.flying:
            return None
        send = self.flying[which % len(self.flying)]
        if self.exactly_once:
            self.abort()
            return None
        self.flying.remove(send)
        send.lost = True
        if send.holding.alive:
            if "an unknown fate is not sent again" in self.without:
                self._fly(Send(send.holding, send.segment, send.what, send.place), now)
            else:
                self.start_over(send.holding, now)
        return send if send.offset is None else None

    def start_over(self, holding: Holding, now: int) -> None:
        """Recover a partition that is still held."""
        holding.alive = False
        self.held[holding.partition] = self._holding(holding.partition, holding.assignment, now)

    def _holding(self, partition: int, assignment: int, now: int) -> Holding:
        holding = Holding(partition, assignment, self.room, self.without, now)
        holding.given_up = self.broker.given_up
        return holding

    # -- commits

    def commit(self) -> None:
        """At least once: commit each partition's newest snapshot before which all is acknowledged."""
        for partition, holding in self.held.items():
            segment = holding.committable(letters_first=True)
            if segment is None or not self.group.accepts(self, self.generation):
                continue
            snapshot = self._told(holding, segment)
            self.broker.commit(partition, snapshot)
            holding.settle(snapshot)

    def _told(self, holding: Holding, segment: Segment) -> Snapshot:
        snapshot = segment.snapshot
        assert snapshot is not None
        if "the output's end when the snapshot was taken" in self.without and not (holding.said or holding.remembered):
            snapshot = segment.snapshot = snapshot._replace(labels_from=holding.known_end)
        return snapshot

    def advance_transaction(self, now: int, answer_lost: bool = False) -> None:
        """Exactly once: take the transaction one step further to its commit."""
        if self.transaction is not None and self.transaction.state != "open":
            self.fenced(now)
        elif self.chosen is None:
            self._choose(now)
        elif not self.offsets_sent:
            self._send_offsets()
        elif not self.flying:
            self._end(now, answer_lost)

    def _choose(self, now: int) -> None:
        """Choose what to commit, and send the dead letters that go with it."""
        segments = {
            partition: segment
            for partition, holding in self.held.items()
            if (segment := holding.committable(letters_first=False)) is not None
        }
        if self.transaction is None:
            if not segments:
                return
            self._begin()
        self.chosen = {partition: self._told(self.held[partition], segment) for partition, segment in segments.items()}
        for partition, last in segments.items():
            for segment in self.held[partition].segments:
                for send in segment.letters:
                    segment.owed += 1
                    self._fly(send, now)
                segment.letters = []
                if segment is last:
                    break
        if "offsets of every partition labelled" not in self.without:
            for send in [*self.carried, *self.flying]:
                holding = send.holding
                unchanged = holding.committed or holding.origin
                if holding.partition not in self.chosen and holding.alive and unchanged is not None:
                    self.chosen[holding.partition] = unchanged

    def _send_offsets(self) -> None:
        assert self.chosen is not None
        assert self.transaction is not None
        if any(send.place == DEAD for send in self.flying):
            return
        generation = self.transaction.generation
        if "group metadata from the transaction's beginning" in self.without:
            generation = self.generation
        if self.chosen and not self.group.accepts(self, generation):
            self.abort()
            return
        if self.chosen:
            self.broker.add_offsets(self.transaction, self.chosen)
        self.offsets_sent = True

    def _end(self, now: int, answer_lost: bool) -> None:
        assert self.chosen is not None
        assert self.transaction is not None
        self.broker.end(self.transaction, "commit")
        if answer_lost:
            self.fenced(now)
            return
        for partition, snapshot in self.chosen.items():
            if partition in self.held:
                self.held[partition].settle(snapshot)
        self._forget_transaction()

    def abort(self) -> None:
        """Abort the transaction; what it carried is owed again, and sent again."""
        if self.transaction is None:
            return
        self.broker.end(self.transaction, "abort")
        again = [send for send in self.flying if send.transaction is self.transaction]
        if "an abort takes acknowledgements back" not in self.without:
            for send in self.carried:
                send.segment.owed += 1
            again += self.carried
        self.flying = [send for send in self.flying if send.transaction is not self.transaction]
        self._forget_transaction()
        for send in again:
            if send.place == DEAD and "dead letters only before the position" not in self.without:
                send.segment.owed -= 1
                send.segment.letters.append(send)
            else:
                self.ready.append(send)

    def fenced(self, now: int) -> None:
        """Learn that the transaction is out of this worker's hands: its fate is the log's to tell."""
        if "recover when fenced" in self.without:
            self.abort()
            return
        self.flying, self.ready = [], []
        self._forget_transaction()
        for holding in list(self.held.values()):
            self.start_over(holding, now)

    def _forget_transaction(self) -> None:
        self.transaction, self.chosen, self.offsets_sent, self.carried = None, None, False, []
