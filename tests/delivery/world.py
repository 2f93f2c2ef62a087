"""Everything that may happen, a step at a time: devices send; workers run, die, freeze; the broker answers or not."""

from typing import NamedTuple

from tests.delivery.broker import Broker
from tests.delivery.devices import SimulatedDevices
from tests.delivery.group import Group
from tests.delivery.partition import Send
from tests.delivery.windower import IDLE_TIMEOUT, Record
from tests.delivery.worker import Worker

INPUTS = 2
WORKERS = 3
TURN = (
    "recover",
    "poll",
    "check_silence",
    "seal",
    "infer",
    "write",
    "acknowledge",
    "commit",
    "commit",
    "write",
    "acknowledge",
    "commit",
)

Step = tuple[str, int, int, int]


class Setting(NamedTuple):
    """What stays the same throughout a schedule."""

    exactly_once: bool
    outputs: int
    survivor: int  # which worker goes on at the end: one of those that exist, or a new one
    room: int  # for how many tombstones there is room in a commit's metadata


class Schedule(NamedTuple):
    setting: Setting
    steps: tuple[Step, ...]


class World:
    """Logs, a group and three workers, under a schedule. A step that is impossible where it comes does nothing."""

    def __init__(self, setting: Setting, without: frozenset[str] = frozenset()) -> None:
        self.setting = setting
        self.without = without
        self.now = 0
        self.broker = Broker(INPUTS, setting.outputs)
        self.group = Group(INPUTS)
        self.workers = [self._worker() for _ in range(WORKERS)]
        self.devices = SimulatedDevices()
        self.orphans: list[tuple[Worker, Send]] = []  # on the network, and no worker waits for their answers
        self.expired: list[tuple[int, int]] = []  # records that were still needed: partition and offset

    def step(self, step: Step) -> None:
        """Execute a step."""
        name, a, b, c = step
        getattr(self, "do_" + name)(a, b, c)

    def _worker(self) -> Worker:
        setting = self.setting
        return Worker(self.broker, self.group, setting.outputs, setting.exactly_once, setting.room, self.without)

    def _awake(self, which: int) -> Worker | None:
        worker = self.workers[which % WORKERS]
        return None if worker.frozen else worker

    # -- devices and time

    def do_send(self, a: int, b: int, c: int) -> None:
        """Partition and device; how far ahead of its newest; how many readings, and their values."""
        record = self.devices.send(a % INPUTS, a // INPUTS, b, 1 + c % 6, c // 6, self.now)
        if record is not None:
            self.broker.inputs[a % INPUTS].append(record)

    def do_send_bad_record(self, a: int, b: int, c: int) -> None:
        self.broker.inputs[a % INPUTS].append(Record(None))

    def do_wait(self, a: int, b: int, c: int) -> None:
        self.now += a

    # -- the steps of a worker

    def do_turn(self, a: int, b: int, c: int) -> None:
        """Run the worker's loop once; each bit of ``c`` says whether a step of TURN is taken."""
        for bit, name in enumerate(TURN):
            if c >> bit & 1:
                if name in ("recover", "poll", "check_silence", "seal"):
                    for partition in range(INPUTS):
                        self.step((name, a, partition, 8))
                else:
                    self.step((name, a, b, 8))

    def do_poll(self, a: int, b: int, c: int) -> None:
        if (worker := self._awake(a)) is not None:
            worker.run_callbacks(self.now)
            worker.poll(b % INPUTS, c, self.now)

    def do_recover(self, a: int, b: int, c: int) -> None:
        if (worker := self._awake(a)) is not None:
            worker.run_callbacks(self.now)
            for _ in range(min(c, 3)):
                worker.recover(b % INPUTS, self.now)

    def do_check_silence(self, a: int, b: int, c: int) -> None:
        if (worker := self._awake(a)) is not None:
            worker.check_silence(b % INPUTS, self.now)

    def do_seal(self, a: int, b: int, c: int) -> None:
        if (worker := self._awake(a)) is not None:
            worker.seal(b % INPUTS)

    def do_infer(self, a: int, b: int, c: int) -> None:
        if (worker := self._awake(a)) is not None:
            for _ in range(min(c, len(worker.frames))):
                worker.infer(b)
            worker.send(self.now)

    def do_acknowledge(self, a: int, b: int, c: int) -> None:
        if (worker := self._awake(a)) is not None:
            for _ in range(min(c, len(worker.in_flight))):
                worker.acknowledge()

    def do_commit(self, a: int, b: int, c: int) -> None:
        if (worker := self._awake(a)) is not None:
            if self.setting.exactly_once:
                worker.advance_transaction(self.now, answer_lost=c == 0)
            else:
                worker.commit()

    def do_revoke(self, a: int, b: int, c: int) -> None:
        if (worker := self._awake(a)) is not None:
            worker.on_partitions_revoked(deadline_passed=c == 0)

    def do_lose_answer(self, a: int, b: int, c: int) -> None:
        if (worker := self._awake(a)) is not None and (send := worker.lose_answer(b, self.now)) is not None:
            self.orphans.append((worker, send))

    def do_abort(self, a: int, b: int, c: int) -> None:
        if (worker := self._awake(a)) is not None:
            worker.abort()

    # -- the network and the broker

    def do_write(self, a: int, b: int, c: int) -> None:
        """Write the producer's records to their logs, in order for each partition."""
        worker = self.workers[a % WORKERS]
        for _ in range(min(c, len(worker.in_flight))):
            waiting = [send for send in worker.in_flight if send.offset is None]
            if waiting:
                destination = waiting[b % len(waiting)].destination
                self._write(worker, next(send for send in waiting if send.destination == destination))

    def do_write_orphan(self, a: int, b: int, c: int) -> None:
        if self.orphans:
            self._write(*self.orphans.pop(a % len(self.orphans)))

    def _write(self, worker: Worker, send: Send) -> None:
        if send.transaction is not None and send.transaction.state != "open":
            return
        source = send.owner.source
        zombie = self.group.assignments[source] != send.owner.assignment
        read_back = send.fate_unknown and self.broker.read_back_at.get(source, -1) >= send.sent_at
        send.offset = self.broker.append(send.destination, send.value, send.transaction, zombie or read_back)

    def do_write_marker(self, a: int, b: int, c: int) -> None:
        ended = [one for one in self.broker.transactions if one.pending_markers]
        if ended:
            self.broker.write_marker(ended[a % len(ended)], b)

    def do_time_out_transaction(self, a: int, b: int, c: int) -> None:
        open_transactions = [one for one in self.broker.transactions if one.state == "open"]
        if open_transactions:
            self.broker.end(open_transactions[a % len(open_transactions)], "abort")

    # -- faults

    def do_expire(self, a: int, b: int, c: int) -> None:
        """Expire the oldest records, whether or not they are still needed."""
        partition = a % INPUTS
        start, broker = self.broker.log_starts[partition], self.broker
        end = min(start + 1 + b, len(broker.inputs[partition]))
        snapshot = broker.committed.get(partition)
        for offset in range(start, end):
            bad = broker.inputs[partition][offset].device is None
            if snapshot is None or offset >= (snapshot.position if bad else snapshot.rewind_to):
                self.expired.append((partition, offset))
        broker.log_starts[partition] = end

    def do_crash(self, a: int, b: int, c: int) -> None:
        worker = self.workers[a % WORKERS]
        worker.dead = True
        self.orphans += [(worker, send) for send in worker.in_flight if send.offset is None]
        self.workers[a % WORKERS] = self._worker()

    def do_freeze(self, a: int, b: int, c: int) -> None:
        self.workers[a % WORKERS].frozen = True

    def do_thaw(self, a: int, b: int, c: int) -> None:
        self.workers[a % WORKERS].frozen = False

    def do_rebalance(self, a: int, b: int, c: int) -> None:
        joining = [worker for which, worker in enumerate(self.workers) if not worker.frozen and (c >> which) & 1]
        self.group.rebalance(list(joining), a)

    # -- the end

    def finish(self) -> Worker:
        """Stop all faults; let one worker process everything and all devices fall silent. Return that worker."""
        survivor = self.setting.survivor
        for which in range(WORKERS):
            self.do_thaw(which, 0, 0)
            if which != survivor:
                self.do_crash(which, 0, 0)
        self.orphans = []
        worker = self.workers[survivor % WORKERS]
        for one in self.broker.transactions:
            if one.member is not worker:
                self.broker.end(one, "abort")
        self.group.rebalance([worker], 0)
        for _ in range(60):
            self._drain(worker)
            if self._is_quiet(worker):
                return worker
        raise AssertionError("it never comes to rest")

    def _drain(self, worker: Worker) -> None:
        self.now += IDLE_TIMEOUT // 2
        while any(one.pending_markers for one in self.broker.transactions):
            self.do_write_marker(0, 0, 0)
        worker.run_callbacks(self.now)
        worker.on_partitions_revoked(deadline_passed=False)
        for source in range(INPUTS):
            begun = self._progress(worker, source)
            for _ in range(3):
                worker.recover(source, self.now)
            worker.poll(source, 100, self.now)
            if self._progress(worker, source) != begun or "take a snapshot after a silence" not in self.without:
                worker.seal(source)
            worker.check_silence(source, self.now)
            if "take a snapshot after a silence" not in self.without:
                worker.seal(source)
        while worker.frames:
            worker.infer(0)
        worker.send(self.now)
        for _ in range(3):
            for send in [send for send in worker.in_flight if send.offset is None]:
                self._write(worker, send)
            while any(send.offset is not None for send in worker.in_flight):
                worker.acknowledge()
            if self.setting.exactly_once:
                worker.advance_transaction(self.now)
            else:
                worker.commit()

    def _progress(self, worker: Worker, source: int) -> tuple[str, int]:
        partition = worker.held.get(source)
        return ("none", 0) if partition is None else (partition.state, partition.position)

    def _is_quiet(self, worker: Worker) -> bool:
        if worker.transaction is not None or worker.revoking:
            return False
        for source, log in enumerate(self.broker.inputs):
            partition = worker.held.get(source)
            if partition is None or partition.state != "live" or partition.position < len(log) or partition.owed:
                return False
            if partition.windower.devices or partition.segments:
                return False
        return not any(one.pending_markers for one in self.broker.transactions)
