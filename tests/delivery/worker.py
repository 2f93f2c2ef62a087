"""The worker, a step at a time: assignment, recovery, windows, publishing, commits in both modes.

The service has this in ``service/delivery`` and ``ingest/consumer/rebalance_listener.py``. A rule is taken out by its
name.
"""

from tests.delivery.broker import DEAD_LETTERS, Broker, Label, Letter, Snapshot, Transaction
from tests.delivery.group import Group
from tests.delivery.partition import Mark, Partition, Segment, Send, Silence
from tests.delivery.windower import Window


class Worker:
    """One process of a worker: it polls, cuts windows, infers, publishes and commits as the schedule says."""

    def __init__(
        self, broker: Broker, group: Group, outputs: int, exactly_once: bool, room: int, without: frozenset[str]
    ) -> None:
        self.broker = broker
        self.group = group
        self.outputs = outputs
        self.exactly_once = exactly_once
        self.room = room
        self.without = without
        # The Kafka client's: the coordinator changes it without the worker's thread.
        self.generation = 0
        self.frozen = self.dead = self.rejoined = False
        self.revoking: set[int] = set()
        self.assigning: set[int] = set()
        # The worker's thread's own.
        self.callback_generation = 0  # as of the last rebalance callback that has run
        self.held: dict[int, Partition] = {}
        self.frames: list[Send] = []
        self.ready: list[Send] = []
        self.in_flight: list[Send] = []
        self.transaction: Transaction | None = None
        self.acknowledged: list[Send] = []  # acknowledged within the open transaction
        self.offsets: dict[int, Snapshot] | None = None  # what the transaction is about to commit
        self.offsets_sent = False

    # -- the group: ingest/consumer/rebalance_listener.py

    def run_callbacks(self, now: int) -> None:
        """Run the callbacks for lost and for assigned partitions, if they are due."""
        if self.rejoined or self not in self.group.members:
            self.rejoined = False
            self._on_partitions_lost()
        for source in self.assigning:
            self.held[source] = self._new_partition(source, self.group.assignments[source], now)
        self.assigning = set()
        self.callback_generation = self.generation

    def _on_partitions_lost(self) -> None:
        for partition in self.held.values():
            partition.alive = False
        self.held = {}
        if self.transaction is not None and "a lost partition aborts the transaction" not in self.without:
            self.abort()

    def on_partitions_revoked(self, deadline_passed: bool) -> None:
        """Go on with the revoke callback: it returns when all is settled, or when its deadline has passed."""
        if not self.revoking or self.rejoined or self not in self.group.members:
            return
        self.callback_generation = self.generation
        leaving = [self.held[source] for source in self.revoking if source in self.held]
        for partition in leaving:
            if partition.state == "live":
                partition.seal()
        if not self.exactly_once:
            self.commit()
        is_settled = not any(partition.owed for partition in leaving) and self.transaction is None
        if not is_settled and not deadline_passed:
            return
        if self.transaction is not None and "end the transaction in the revoke callback" not in self.without:
            self.abort()
        for partition in leaving:
            if "open windows die with the assignment" not in self.without:
                partition.alive = False
            del self.held[partition.source]
        self.group.revoked(self)

    # -- recovery: service/delivery/recovery_thread.py

    def recover(self, source: int, now: int) -> None:
        """Take the next step of a recovery: read the commit, find the output's end, read back labels."""
        partition = self.held.get(source)
        if partition is None:
            return
        if partition.state == "read commit":
            self._read_commit(partition)
        elif partition.state == "find output end":
            partition.read_back_end = len(self.broker.logs[source % self.outputs])
            self.broker.read_back_at[source] = now
            partition.state = "read back"
        elif partition.state == "read back":
            self._read_back(partition)

    def _read_commit(self, partition: Partition) -> None:
        broker, source = self.broker, partition.source
        if "wait for own sends before the read-back" not in self.without and any(
            send.owner.source == source for send in self.in_flight
        ):
            return
        if (
            self.exactly_once
            and "wait for pending commits of offsets" not in self.without
            and broker.has_pending_offsets(source)
        ):
            return
        start, end = broker.log_starts[source], len(broker.inputs[source])
        snapshot = broker.committed.get(source)
        if snapshot is None or not start <= snapshot.position <= end:
            labels_from = 0
            if snapshot is None and "without a commit, read back labels from the start" in self.without:
                labels_from = len(broker.logs[source % self.outputs])
            snapshot = Snapshot(start, start, labels_from)
        else:
            partition.committed = snapshot
        partition.live_from = snapshot.position
        partition.position = max(snapshot.rewind_to, start)
        partition.labels_from = snapshot.labels_from
        partition.skip_until = dict(snapshot.skip_until)
        partition.silences = [Silence(name, -1, last) for name, last in snapshot.skip_until]
        partition.committed_before = snapshot
        partition.state = "find output end"

    def _read_back(self, partition: Partition) -> None:
        broker, output, end = self.broker, partition.source % self.outputs, partition.read_back_end
        stable = broker.last_stable_offset(output)
        if stable < end and self.exactly_once and "read back committed labels only" not in self.without:
            if "read back up to the high watermark" not in self.without:
                return
            end = stable
        for offset in range(partition.labels_from, end):
            entry = broker.logs[output][offset]
            label = entry.value
            if not isinstance(label, Label) or label.source_partition != partition.source:
                continue  # a marker, or a label of another input partition: several may share an output partition
            if "read back committed labels only" in self.without or broker.is_committed(output, entry):
                partition.read_back.setdefault(label.identity, Mark(offset, label.source_offset))
        partition.output_end = partition.read_back_end
        partition.state = "live" if partition.position >= partition.live_from else "replay"

    # -- records to windows

    def poll(self, source: int, count: int, now: int) -> None:
        """Take in up to ``count`` records of a partition."""
        partition = self.held.get(source)
        if partition is None or self.revoking or partition.state not in ("replay", "live"):
            return
        log = self.broker.inputs[source]
        if partition.position < self.broker.log_starts[source]:
            self.abort()
            self.start_over(partition, now)
            return
        partition.note_response(now, len(log))
        for offset in range(partition.position, min(partition.position + count, len(log))):
            self._push(partition, offset, now)
        if partition.state == "replay" and partition.position >= partition.live_from:
            partition.state = "live"

    def _push(self, partition: Partition, offset: int, now: int) -> None:
        record = self.broker.inputs[partition.source][offset]
        mute = offset < partition.live_from and "replay mutely" not in self.without
        partition.position = offset + 1
        if record.device is None:
            if not mute:
                self._promise_letter(partition, offset)
            return
        if partition.skip_until.get(record.device, -1) >= offset:
            return
        for window in partition.windower.push(record, offset, now):
            found = (
                window.identity in partition.read_back
                and "windows whose label was read back are not published again" not in self.without
            )
            if "drop read-back labels when time closes their windows" not in self.without:
                partition.read_back.pop(window.identity, None)
            if not mute and not found and window.complete:
                self._promise(partition, window)

    def check_silence(self, source: int, now: int) -> None:
        """Close the windows of devices that have fallen silent, and take a snapshot."""
        partition = self.held.get(source)
        if partition is None or self.revoking or partition.state != "live":
            return
        caught_up_at = now if "judge silence by fetch progress" in self.without else partition.caught_up_at()
        silent = partition.windower.silent_devices(caught_up_at)
        for name in silent:
            for window in partition.fall_silent(name):
                self._promise(partition, window)
        if silent and "take a snapshot after a silence" not in self.without:
            partition.seal()

    def seal(self, source: int) -> None:
        """Take a snapshot."""
        partition = self.held.get(source)
        if partition is not None and (
            partition.state == "live" or (partition.state == "replay" and "no commit during a replay" in self.without)
        ):
            partition.seal()

    def _promise(self, partition: Partition, window: Window) -> None:
        label = Label(partition.source, *window.identity, window.content, window.source_offset)
        partition.open.owed += 1
        self.frames.append(Send(partition, partition.open, label, partition.source % self.outputs))

    def _promise_letter(self, partition: Partition, offset: int) -> None:
        send = Send(partition, partition.open, Letter(partition.source, offset), DEAD_LETTERS)
        if self.exactly_once and "send dead letters with the position after them" not in self.without:
            partition.open.letters.append(send)
        else:
            partition.open.owed += 1
            self.ready.append(send)

    # -- windows to labels

    def infer(self, which: int) -> None:
        """Get one result from the model."""
        send = self.frames.pop(which % len(self.frames))
        if send.owner.alive:
            self.ready.append(send)
        elif "drop results of an earlier assignment" in self.without:
            if send.owner.source in self.held:
                send.owner = self.held[send.owner.source]
                send.segment = send.owner.open
                send.segment.owed += 1
            self.ready.append(send)

    def send(self, now: int) -> None:
        """Send what is ready; a transaction that is about to commit takes no more."""
        if self.exactly_once:
            if self.offsets is not None or not self.ready:
                return
            if self.transaction is None:
                self._begin()
        for send in self.ready:
            if send.owner.alive or "drop results of an earlier assignment" in self.without:
                self._send(send, now)
        self.ready = []

    def _begin(self) -> None:
        ahead = "use the generation of the last callback" in self.without
        self.transaction = self.broker.begin(self, self.generation if ahead else self.callback_generation)
        self.acknowledged = []

    def _send(self, send: Send, now: int) -> None:
        send.transaction = self.transaction
        send.offset = None
        send.sent_at = now
        self.in_flight.append(send)

    def acknowledge(self) -> None:
        """Process the oldest acknowledgement."""
        for send in self.in_flight:
            if send.offset is not None:
                self.in_flight.remove(send)
                send.segment.owed -= 1
                if send.destination != DEAD_LETTERS:
                    send.owner.output_end = max(send.owner.output_end, send.offset + 1)
                if send.transaction is not None:
                    self.acknowledged.append(send)
                return

    def lose_answer(self, which: int, now: int) -> Send | None:
        """Give up waiting for an answer; return the send that may still be written."""
        if not self.in_flight:
            return None
        send = self.in_flight[which % len(self.in_flight)]
        if self.exactly_once:
            self.abort()
            return None
        self.in_flight.remove(send)
        send.fate_unknown = True
        if send.owner.alive:
            if "a send of unknown fate is not repeated" in self.without:
                self._send(Send(send.owner, send.segment, send.value, send.destination), now)
            else:
                self.start_over(send.owner, now)
        return send if send.offset is None else None

    def start_over(self, partition: Partition, now: int) -> None:
        """Recover a partition that is still held."""
        partition.alive = False
        self.held[partition.source] = self._new_partition(partition.source, partition.assignment, now)

    def _new_partition(self, source: int, assignment: int, now: int) -> Partition:
        partition = Partition(source, assignment, self.room, self.without, now)
        partition.overflow = self.broker.overflow
        return partition

    # -- commits

    def commit(self) -> None:
        """At least once: commit each partition's newest snapshot before which all output is acknowledged."""
        for source, partition in self.held.items():
            segment = partition.committable(letters_first=True)
            if segment is None or not self.group.accepts(self, self.generation):
                continue
            snapshot = self._to_commit(partition, segment)
            self.broker.commit(source, snapshot)
            partition.note_commit(snapshot)

    def _to_commit(self, partition: Partition, segment: Segment) -> Snapshot:
        snapshot = segment.snapshot
        assert snapshot is not None
        if "labels_from is the output's end when the snapshot was taken" in self.without and not (
            partition.read_back or partition.remembered
        ):
            snapshot = segment.snapshot = snapshot._replace(labels_from=partition.output_end)
        return snapshot

    def advance_transaction(self, now: int, answer_lost: bool = False) -> None:
        """Exactly once: take the transaction one step further to its commit."""
        if self.transaction is not None and self.transaction.state != "open":
            self.fenced(now)
        elif self.offsets is None:
            self._choose(now)
        elif not self.offsets_sent:
            self._send_offsets()
        elif not self.in_flight:
            self._end(now, answer_lost)

    def _choose(self, now: int) -> None:
        """Choose the snapshots to commit, and send the dead letters that go with them."""
        segments = {
            source: segment
            for source, partition in self.held.items()
            if (segment := partition.committable(letters_first=False)) is not None
        }
        if self.transaction is None:
            if not segments:
                return
            self._begin()
        self.offsets = {source: self._to_commit(self.held[source], segment) for source, segment in segments.items()}
        for source, last in segments.items():
            for segment in self.held[source].segments:
                for send in segment.letters:
                    segment.owed += 1
                    self._send(send, now)
                segment.letters = []
                if segment is last:
                    break
        if "commit an offset for every partition with labels" not in self.without:
            for send in [*self.acknowledged, *self.in_flight]:
                partition = send.owner
                unchanged = partition.committed or partition.committed_before
                if partition.source not in self.offsets and partition.alive and unchanged is not None:
                    self.offsets[partition.source] = unchanged

    def _send_offsets(self) -> None:
        assert self.offsets is not None
        assert self.transaction is not None
        if any(send.destination == DEAD_LETTERS for send in self.in_flight):
            return
        generation = self.transaction.generation
        if "use the group metadata of the transaction's beginning" in self.without:
            generation = self.generation
        if self.offsets and not self.group.accepts(self, generation):
            self.abort()
            return
        if self.offsets:
            self.broker.add_offsets(self.transaction, self.offsets)
        self.offsets_sent = True

    def _end(self, now: int, answer_lost: bool) -> None:
        assert self.offsets is not None
        assert self.transaction is not None
        self.broker.end(self.transaction, "commit")
        if answer_lost:
            self.fenced(now)
            return
        for source, snapshot in self.offsets.items():
            if source in self.held:
                self.held[source].note_commit(snapshot)
        self._forget_transaction()

    def abort(self) -> None:
        """Abort the transaction; what it had acknowledged is owed again, and sent again."""
        if self.transaction is None:
            return
        self.broker.end(self.transaction, "abort")
        again = [send for send in self.in_flight if send.transaction is self.transaction]
        if "an abort takes acknowledgements back" not in self.without:
            for send in self.acknowledged:
                send.segment.owed += 1
            again += self.acknowledged
        self.in_flight = [send for send in self.in_flight if send.transaction is not self.transaction]
        self._forget_transaction()
        for send in again:
            if (
                send.destination == DEAD_LETTERS
                and "send dead letters with the position after them" not in self.without
            ):
                send.segment.owed -= 1
                send.segment.letters.append(send)
            else:
                self.ready.append(send)

    def fenced(self, now: int) -> None:
        """Recover every partition: how the transaction ended is unknown, so labels are read back."""
        if "recover when fenced" in self.without:
            self.abort()
            return
        self.in_flight, self.ready = [], []
        self._forget_transaction()
        for partition in list(self.held.values()):
            self.start_over(partition, now)

    def _forget_transaction(self) -> None:
        self.transaction, self.offsets, self.offsets_sent, self.acknowledged = None, None, False, []
