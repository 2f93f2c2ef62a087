"""What `docs/add-a-model.md` promises, on Apache Kafka: a third worker, for heart sounds, and another kind of text."""

import csv
import hashlib
import json
import random
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.broker.node import Broker
from tests.heart_sounds.plain import probabilities, train
from tests.heart_sounds.synthetic import LABELS, synthetic_sounds
from tests.kafka.outside_client import producer, read_labels, read_topic, send
from tests.kafka.worker_process import WorkerProcess, clean_environment, running_worker
from tests.test_rooms import ROOT

Message = tuple[bytes | None, bytes | None, list[tuple[str, str | bytes | None]]]

pytestmark = pytest.mark.timeout(240)  # two of the tests fit a model first

BUNDLE = ("bundle.json", "weights.safetensors")
A_SOUND = bytes(4_000)
BAD: list[tuple[Message, bytes]] = [
    ((b"tombstone", None, []), b"null_value"),
    ((b"short", A_SOUND[1:], [("mine", b"kept")]), b"bad_binary"),
    ((b"long", A_SOUND * 100, []), b"bad_binary"),
    ((b"text", b'{"id": "heart", "text": "lub-dub"}', []), b"bad_binary"),
    ((None, A_SOUND, []), b"bad_id"),
    ((b"\xff", A_SOUND, []), b"bad_id"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("bundles") / "synthetic-heart")


def test_a_third_worker_labels_every_heart_sound_once_and_has_all_that_its_siblings_have(
    broker: Broker, topic: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    sounds, targets = synthetic_sounds(300, seed=11)
    messages: list[Message] = [(b"sound-%d" % n, sound.astype("<i2").tobytes(), []) for n, sound in enumerate(sounds)]
    for place, (message, _) in enumerate(BAD):
        messages.insert(40 * place, message)
    offsets = [offset for offset, (key, _, _) in enumerate(messages) if key and key.startswith(b"sound-")]
    names = {"input": topic(), "output": topic(), "dead_letter": topic(max_message_bytes=str(2 * 1024 * 1024))}
    config = tmp_path / "heart.toml"
    lines = [f'{which}_topic = "{name}"' for which, name in names.items()]
    config.write_text("\n".join(["[heart]", f'bundle = "{folder}"', *lines, "[inference]", 'device = "cpu"']))
    flags = ["--config", str(config), "--kafka.bootstrap-servers", broker.bootstrap_servers]
    client = producer(broker.bootstrap_servers)

    with running_worker(tmp_path / "log", *flags, kind="heart", program="tests.heart_sounds") as worker:
        assert worker.get("/readyz") == (200, "ok\n")
        send(client, names["input"], messages)
        labels = read_labels(broker.bootstrap_servers, names["output"], len(sounds))
        letters = read_topic(broker.bootstrap_servers, names["dead_letter"], until=lambda seen: len(seen) >= len(BAD))
        for reason, count in Counter(reason.decode() for _, reason in BAD).items():
            assert worker.metric("stridecast_records_rejected_total", worker="heart", reason=reason) == count
        assert worker.metric("stridecast_records_total", worker="heart", topic=names["input"]) == len(messages)
        assert worker.metric("stridecast_model_info", worker="heart", name="synthetic-heart", device="cpu") == 1
        said = {label: worker.metric("stridecast_predictions_total", worker="heart", label=label) for label in LABELS}
        assert worker.terminate() == 0, worker.said()

    assert [label.key for label in labels] == [b"sound-%d" % n for n in range(len(sounds))]
    assert [int(label.headers["source-offset"]) for label in labels] == offsets
    digest = hashlib.sha256(b"".join((folder / name).read_bytes() for name in BUNDLE)).hexdigest()
    assert {label.headers["bundle-digest"].decode() for label in labels} == {digest}
    told = np.array([[label.value["probabilities"][name] for name in LABELS] for label in labels])
    assert told == pytest.approx(probabilities(folder, sounds), abs=1e-3)
    chosen = [label.value["label"] for label in labels]
    assert chosen == [LABELS[row.argmax()] for row in told]
    assert said == {label: chosen.count(label) for label in LABELS}
    assert np.mean([name == LABELS[target] for name, target in zip(chosen, targets, strict=True)]) > 0.95

    assert [(letter.key(), letter.value()) for letter in letters] == [message[:2] for message, _ in BAD]
    for letter, (_, refusal) in zip(letters, BAD, strict=True):
        headers = letter.headers()
        assert isinstance(headers, list)
        assert dict(headers)["error-reason"] == refusal
        assert dict(headers)["source-topic"] == names["input"].encode()

    # Started again, it goes on where it stopped.
    with running_worker(tmp_path / "log", *flags, kind="heart", program="tests.heart_sounds"):
        send(client, names["input"], [(b"one more", messages[-1][1], [])])
        assert read_labels(broker.bootstrap_servers, names["output"], len(sounds) + 1)[-1].key == b"one more"
        assert len(read_labels(broker.bootstrap_servers, names["output"], len(sounds) + 1)) == len(sounds) + 1


def test_a_bundle_of_another_kind_is_refused_in_one_sentence(
    broker: Broker, topic: Callable[..., str], tmp_path: Path
) -> None:
    flags = ["--kafka.bootstrap-servers", broker.bootstrap_servers, "--heart.bundle", "har-cnn"]
    flags += [f"--heart.{which}-topic={topic()}" for which in ("input", "output", "dead-letter")]
    worker = WorkerProcess(tmp_path / "log", *flags, kind="heart", program="tests.heart_sounds")
    assert worker.process.wait(40) == 1
    last = worker.said().splitlines()[-1]
    assert last.startswith("stridecast worker heart: har-cnn@")
    assert "heart.bundle" in last
    assert "golden check" not in worker.said()  # it is refused before the core takes it
    assert "Traceback" not in worker.said()


PRAISE, COMPLAINT = ["great", "lovely", "friendly", "fast", "warm"], ["slow", "rude", "broken", "late", "cold"]


def test_another_kind_of_text_takes_the_three_commands_of_the_document(
    broker: Broker, topic: Callable[..., str], tmp_path: Path
) -> None:
    document = (ROOT / "docs/add-a-model.md").read_text(encoding="utf-8")
    block = next(block for block in re.findall(r"^```sh\n(.*?)^```$", document, re.MULTILINE | re.DOTALL))
    train_text, classify, worker_text = (shlex.split(line) for line in block.splitlines())
    write_tickets(tmp_path / "tickets.csv", 200)
    run(train_text, tmp_path)
    assert "complaint" in run(classify, tmp_path)

    names = {which: topic() for which in ("input", "output", "dead-letter")}
    flags = [str(tmp_path / word) if word.startswith("runs/") else word for word in worker_text[3:]]
    flags += [f"--text.{which}-topic={name}" for which, name in names.items()]
    flags += ["--kafka.bootstrap-servers", broker.bootstrap_servers, "--inference.device", "cpu"]
    flags += ["--inference.precision", "float32"]  # what labels are compared with; on some CPUs bfloat16 is faster
    texts = {b"good": "the staff was very friendly and warm", b"bad": "my order came late , cold and broken"}
    with running_worker(tmp_path / "log", *flags, kind=worker_text[2]):
        messages: list[Message] = [
            (key, json.dumps({"id": key.decode(), "text": text}).encode(), []) for key, text in texts.items()
        ]
        send(producer(broker.bootstrap_servers), names["input"], messages)
        labels = read_labels(broker.bootstrap_servers, names["output"], len(texts))
    assert {label.key: label.value["label"] for label in labels} == {b"good": "praise", b"bad": "complaint"}


def run(words: list[str], folder: Path) -> str:
    """Do what a line of the document says, in a folder; return what it prints."""
    command = [sys.executable, "-m", "service", *words[1:]]
    environment = {**clean_environment(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write_tickets(path: Path, count: int) -> None:
    """A CSV of texts that a few words tell apart."""
    chosen = random.Random(1)
    common = ["the", "a", "delivery", "was", "very", "staff", "it", "came", "box", "and", "they", "my", "order"]
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for number in range(count):
            words, label = (PRAISE, "praise") if number % 2 else (COMPLAINT, "complaint")
            rows.writerow([" ".join(chosen.choices(common, k=8) + chosen.choices(words, k=2)), label])
