"""Inference that fails under a worker on Apache Kafka: what is on the topics, and how the process ends."""

import dataclasses
import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from inference.bundle import Bundle
from service.broker.node import Broker
from tests.inference.bundles import text_bundle
from tests.kafka.expected import PlainTextCnn
from tests.kafka.outside_client import Label, read_labels
from tests.kafka.test_text_worker import Topics, as_message, common, some_texts, source_of
from tests.kafka.worker_process import WorkerProcess, running_worker

LABELS = ("objective", "subjective")
# `make chaos` runs these, too.
pytestmark = pytest.mark.fault
MAX_BATCH = 8
DEADLINE_S = 2
# The device's deadline, and what a busy machine takes for Kafka's farewells and the end of a process.
ENDS_WITHIN_S = DEADLINE_S + 20


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return text_bundle(tmp_path_factory.mktemp("bundles") / "first")


@dataclasses.dataclass
class Stage:
    """Topics of a test's own with texts on them, and workers that label them."""

    topics: Topics
    bundles: list[Bundle]
    log: Path
    report: Callable[[str], None]
    texts: list[str] = dataclasses.field(default_factory=list)

    def send(self, texts: Sequence[str]) -> None:
        self.topics.send([as_message(f"text-{len(self.texts) + row}", text) for row, text in enumerate(texts)])
        self.texts += texts

    @contextmanager
    def worker(self, fault: str = "", *flags: str) -> Iterator[WorkerProcess]:
        own = [*common(self.topics), *self.topics.flags("text", self.bundles[0]), *flags]
        own += ["--inference.max-batch", str(MAX_BATCH)]
        program = "tests.faulty_device" if fault else "service"
        device = ["--inference.device", "auto"] if fault else []
        os.environ["FAULT"] = fault
        with running_worker(self.log, *own, *device, kind="text", program=program) as worker:
            yield worker

    def labels(self, at_least: int | None = None) -> list[Label]:
        count = len(self.texts) if at_least is None else at_least
        return read_labels(self.topics.broker.bootstrap_servers, self.topics.output, count)

    def check(self, labels: Sequence[Label], *, missing: bool = False) -> None:
        """Each text's label is what a plain network of the bundle that it names says; count and print them all."""
        plain = {bundle.title: PlainTextCnn(bundle.folder) for bundle in self.bundles}
        digests = {bundle.title: bundle.digest for bundle in self.bundles}
        for title, network in plain.items():
            own = [label for label in labels if label.value["model"] == title]
            if not own:
                continue
            wanted = network.probabilities([self.texts[source_of(label)[1]] for label in own])
            told = np.array([[label.value["probabilities"][name] for name in LABELS] for label in own])
            np.testing.assert_allclose(told, wanted, rtol=0, atol=1e-3)
            assert {label.headers["bundle-digest"].decode() for label in own} == {digests[title]}
        assert {label.value["model"] for label in labels} <= set(plain)

        counted = Counter(source_of(label)[1] for label in labels)
        assert set(counted) <= set(range(len(self.texts)))
        lacking, again = len(self.texts) - len(counted), len(labels) - len(counted)
        self.report(f"expected {len(self.texts)}, seen {len(counted)}, missing {lacking}, duplicate {again}")
        assert missing or not lacking
        assert not again  # the next worker reads back what the one that died had said


@pytest.fixture
def stage(
    broker: Broker, topic: Callable[..., str], first: Bundle, tmp_path: Path, report: Callable[[str], None]
) -> Iterator[Stage]:
    topics = Topics(broker, topic(), topic(), topic(1, max_message_bytes=str(2 * 1024 * 1024)))
    yield Stage(topics, [first], tmp_path / "worker.log", report)
    os.environ.pop("FAULT", None)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("hang=50", f"has not answered a batch within {DEADLINE_S} s (inference.deadline_s)"),
        pytest.param("nan=50", "it gave probabilities that are not finite", marks=pytest.mark.chaos),
        pytest.param("lost=50", "the GPU has fallen off the bus", marks=pytest.mark.chaos),
    ],
)
def test_a_worker_whose_device_fails_ends_within_a_deadline_and_the_next_one_leaves_nothing_out(
    stage: Stage, fault: str, said: str
) -> None:
    """What was sound before is published, nothing of the batch that failed is, and `/livez` is red until the end."""
    with stage.worker(fault, f"--inference.deadline-s={DEADLINE_S}") as worker:
        stage.send(some_texts(600))
        deadline = time.monotonic() + ENDS_WITHIN_S
        while worker.process.poll() is None and worker.get("/livez")[0] == 200:
            assert time.monotonic() < deadline, worker.said()
            time.sleep(0.02)
        assert worker.get("/livez")[0] in (503, 0)
        assert worker.process.wait(ENDS_WITHIN_S) == 1, worker.said()
    last = worker.said().splitlines()[-1]
    assert last.startswith(
        "stridecast worker text: the text worker's inference, publishing or rereading has failed for"
    )
    assert said in last
    assert "Traceback" not in worker.said()
    stage.check(labels := stage.labels(0), missing=True)
    assert len(labels) < 50 * MAX_BATCH

    with stage.worker():
        stage.check(stage.labels())


@pytest.mark.chaos
def test_a_hanging_device_does_not_keep_sigterm_from_ending_the_process(stage: Stage) -> None:
    with stage.worker("hang=3", "--inference.deadline-s=600", "--shutdown-grace-s=1") as worker:
        stage.send(some_texts(100))
        worker.wait_for("stridecast_queue_frames", 1)
        assert worker.get("/livez")[0] == 200
        assert worker.terminate() == 1, worker.said()


def test_a_device_without_memory_and_then_lost_costs_no_label_where_there_is_a_fallback(stage: Stage) -> None:
    with stage.worker("memory=4 lost=50", "--inference.fallback", "cpu") as worker:
        assert worker.metric("stridecast_model_info", device="cuda") == 1
        stage.send(some_texts(600))
        labels = stage.labels()
        assert worker.metric("stridecast_inference_failures_total", outcome="smaller") >= 1
        assert worker.metric("stridecast_inference_failures_total", outcome="fallback") == 1
        assert worker.metric("stridecast_model_info", device="cuda") == 0
        assert worker.metric("stridecast_model_info", device="cpu") == 1
        assert worker.get("/livez")[0] == 200
        assert "on the fallback cpu from now on, until a restart, for the device failed" in worker.said()
        assert worker.terminate() == 0, worker.said()
    stage.check(labels)


def test_a_corrupt_bundle_during_a_hot_swap_changes_nothing_and_a_good_one_serves_from_then_on(
    stage: Stage, tmp_path: Path
) -> None:
    folder = tmp_path / "serving"
    old = text_bundle(folder)
    new = text_bundle(tmp_path / "new", version="2.0", temperature=0.4)
    corrupt = text_bundle(tmp_path / "corrupt", version="3.0").folder
    weights = (corrupt / "weights.safetensors").read_bytes()
    (corrupt / "weights.safetensors").write_bytes(weights[: len(weights) // 2])
    stage.bundles = [old]
    with stage.worker() as worker:
        with sending(stage) as sent:
            put_in_place(corrupt, folder)
            worker.wait_for("stridecast_model_loads_total", 1, outcome="failure")
            assert "tiny-text@1.0 goes on serving: " in worker.said()
            assert worker.metric("stridecast_model_info", version="1.0") == 1
            before = len(sent)
            put_in_place(new.folder, folder)
            worker.wait_for("stridecast_model_loads_total", 2, outcome="success")
            assert worker.metric("stridecast_model_info", version="1.0") == 0
            assert worker.metric("stridecast_model_info", version="2.0") == 1
            after = len(sent)
            while len(sent) < after + 100:
                time.sleep(0.02)
        labels = stage.labels()
        assert worker.get("/livez")[0] == worker.get("/readyz")[0] == 200
    stage.bundles = [dataclasses.replace(old, folder=tmp_path / "serving.0"), dataclasses.replace(new, folder=folder)]
    stage.check(labels)
    versions = [label.value["model"] for label in labels]
    turn = versions.index("tiny-text@2.0")
    assert versions == ["tiny-text@1.0"] * turn + ["tiny-text@2.0"] * (len(versions) - turn)
    assert turn >= before


def put_in_place(fresh: Path, folder: Path) -> None:
    """Replace a folder as the documentation says: by renaming."""
    folder.rename(next(old for n in itertools.count() if not (old := folder.with_name(f"{folder.name}.{n}")).exists()))
    fresh.rename(folder)


@contextmanager
def sending(stage: Stage) -> Iterator[list[str]]:
    """Send a few hundred texts a second in the background; give the list of those that Kafka has."""
    over = threading.Event()

    def run() -> None:
        for seed in itertools.count():
            if over.wait(0.05):
                return
            stage.send(some_texts(15, seed=seed))

    sender = threading.Thread(target=run)
    sender.start()
    try:
        yield stage.texts
    finally:
        over.set()
        sender.join(30)
