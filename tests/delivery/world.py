"""Everything that may happen, a step at a time: devices send, workers work, die, freeze; the broker answers or not."""

from typing import NamedTuple

from tests.delivery.broker import Broker
from tests.delivery.group import Group
from tests.delivery.holding import Send
from tests.delivery.phones import Phones
from tests.delivery.windows import IDLE, Record
from tests.delivery.worker import Worker

INPUTS = 2
WORKERS = 3
TURN = (
    "recover",
    "poll",
    "listen",
    "seal",
    "infer",
    "land",
    "acknowledge",
    "commit",
    "commit",
    "land",
    "acknowledge",
    "commit",
)

Step = tuple[str, int, int, int]


class Setting(NamedTuple):
    """What stays the same throughout a schedule."""

    exactly_once: bool
    outputs: int
    survivor: int  # which worker goes on at the end; one of those there are, or a new one
    room: int  # for how many tombstones a commit's metadata has room


class Schedule(NamedTuple):
    setting: Setting
    steps: tuple[Step, ...]


class World:
    """Logs, a group and three workers, under a schedule. A step that makes no sense where it comes does nothing."""

    def __init__(self, setting: Setting, without: frozenset[str] = frozenset()) -> None:
        self.setting = setting
        self.without = without
        self.now = 0
        self.broker = Broker(INPUTS, setting.outputs)
        self.group = Group(INPUTS)
        self.workers = [self._worker() for _ in range(WORKERS)]
        self.phones = Phones()
        self.adrift: list[tuple[Worker, Send]] = []  # on the network, and nobody waits for an answer
        self.truncated: list[tuple[int, int]] = []  # records that were needed still: partition and offset

    def step(self, step: Step) -> None:
        """Let happen what the step says."""
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
        record = self.phones.send(a % INPUTS, a // INPUTS, b, 1 + c % 6, c // 6, self.now)
        if record is not None:
            self.broker.inputs[a % INPUTS].append(record)

    def do_send_rubbish(self, a: int, b: int, c: int) -> None:
        self.broker.inputs[a % INPUTS].append(Record(None))

    def do_wait(self, a: int, b: int, c: int) -> None:
        self.now += a

    # -- a worker's own steps

    def do_turn(self, a: int, b: int, c: int) -> None:
        """Go once round the worker's loop, as far as the bits of ``c`` say."""
        for bit, name in enumerate(TURN):
            if c >> bit & 1:
                if name in ("recover", "poll", "listen", "seal"):
                    for partition in range(INPUTS):
                        self.step((name, a, partition, 8))
                else:
                    self.step((name, a, b, 8))

    def do_poll(self, a: int, b: int, c: int) -> None:
        if (worker := self._awake(a)) is not None:
            worker.notice(self.now)
            worker.poll(b % INPUTS, c, self.now)

    def do_recover(self, a: int, b: int, c: int) -> None:
        if (worker := self._awake(a)) is not None:
            worker.notice(self.now)
            for _ in range(min(c, 3)):
                worker.recover(b % INPUTS, self.now)

    def do_listen(self, a: int, b: int, c: int) -> None:
        if (worker := self._awake(a)) is not None:
            worker.fall_silent(b % INPUTS, self.now)

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
            for _ in range(min(c, len(worker.flying))):
                worker.acknowledge()

    def do_commit(self, a: int, b: int, c: int) -> None:
        if (worker := self._awake(a)) is not None:
            if self.setting.exactly_once:
                worker.advance_transaction(self.now, answer_lost=c == 0)
            else:
                worker.commit()

    def do_revoke(self, a: int, b: int, c: int) -> None:
        if (worker := self._awake(a)) is not None:
            worker.revoke(give_up=c == 0)

    def do_lose(self, a: int, b: int, c: int) -> None:
        if (worker := self._awake(a)) is not None and (send := worker.lose(b, self.now)) is not None:
            self.adrift.append((worker, send))

    def do_abort(self, a: int, b: int, c: int) -> None:
        if (worker := self._awake(a)) is not None:
            worker.abort()

    # -- the network and the broker

    def do_land(self, a: int, b: int, c: int) -> None:
        """The producer's records reach the broker, in their order for each partition."""
        worker = self.workers[a % WORKERS]
        for _ in range(min(c, len(worker.flying))):
            waiting = [send for send in worker.flying if send.offset is None]
            if waiting:
                place = waiting[b % len(waiting)].place
                self._land(worker, next(send for send in waiting if send.place == place))

    def do_land_adrift(self, a: int, b: int, c: int) -> None:
        if self.adrift:
            self._land(*self.adrift.pop(a % len(self.adrift)))

    def _land(self, worker: Worker, send: Send) -> None:
        if send.transaction is not None and send.transaction.state != "open":
            return
        partition = send.holding.partition
        zombie = self.group.assignments[partition] != send.holding.assignment
        too_late = send.lost and self.broker.reread.get(partition, -1) >= send.sent_at
        send.offset = self.broker.append(send.place, send.what, send.transaction, zombie or too_late)

    def do_land_marker(self, a: int, b: int, c: int) -> None:
        decided = [one for one in self.broker.transactions if one.awaited]
        if decided:
            self.broker.land_marker(decided[a % len(decided)], b)

    def do_time_out(self, a: int, b: int, c: int) -> None:
        undecided = [one for one in self.broker.transactions if one.state == "open"]
        if undecided:
            self.broker.end(undecided[a % len(undecided)], "abort")

    # -- faults

    def do_truncate(self, a: int, b: int, c: int) -> None:
        """The oldest records expire, whether or not they are needed still."""
        partition = a % INPUTS
        start, broker = self.broker.starts[partition], self.broker
        end = min(start + 1 + b, len(broker.inputs[partition]))
        snapshot = broker.committed.get(partition)
        for offset in range(start, end):
            rubbish = broker.inputs[partition][offset].device is None
            if snapshot is None or offset >= (snapshot.position if rubbish else snapshot.rewind_to):
                self.truncated.append((partition, offset))
        broker.starts[partition] = end

    def do_crash(self, a: int, b: int, c: int) -> None:
        worker = self.workers[a % WORKERS]
        worker.dead = True
        self.adrift += [(worker, send) for send in worker.flying if send.offset is None]
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
        """Stop all faults; one worker drains everything, and everyone falls silent. Return that worker."""
        survivor = self.setting.survivor
        for which in range(WORKERS):
            self.do_thaw(which, 0, 0)
            if which != survivor:
                self.do_crash(which, 0, 0)
        self.adrift = []
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
        self.now += IDLE // 2
        while any(one.awaited for one in self.broker.transactions):
            self.do_land_marker(0, 0, 0)
        worker.notice(self.now)
        worker.revoke(give_up=False)
        for partition in range(INPUTS):
            begun = self._progress(worker, partition)
            for _ in range(3):
                worker.recover(partition, self.now)
            worker.poll(partition, 100, self.now)
            if self._progress(worker, partition) != begun or "a snapshot after a silence" not in self.without:
                worker.seal(partition)
            worker.fall_silent(partition, self.now)
            if "a snapshot after a silence" not in self.without:
                worker.seal(partition)
        while worker.frames:
            worker.infer(0)
        worker.send(self.now)
        for _ in range(3):
            for send in [send for send in worker.flying if send.offset is None]:
                self._land(worker, send)
            while any(send.offset is not None for send in worker.flying):
                worker.acknowledge()
            if self.setting.exactly_once:
                worker.advance_transaction(self.now)
            else:
                worker.commit()

    def _progress(self, worker: Worker, partition: int) -> tuple[str, int]:
        holding = worker.held.get(partition)
        return ("none", 0) if holding is None else (holding.state, holding.next)

    def _is_quiet(self, worker: Worker) -> bool:
        if worker.transaction is not None or worker.revoking:
            return False
        for partition, log in enumerate(self.broker.inputs):
            holding = worker.held.get(partition)
            if holding is None or holding.state != "live" or holding.next < len(log) or holding.owed:
                return False
            if holding.windower.devices or holding.segments:
                return False
        return not any(one.awaited for one in self.broker.transactions)
