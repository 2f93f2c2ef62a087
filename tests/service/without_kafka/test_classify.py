import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from inference.bundle import Bundle
from inference.manifest import ArchitectureChoice
from inference.saving import save_bundle
from inference.served_module import reference_probabilities, served_module
from ingest.contract import ActivityLabel, TextLabel
from ingest.messages.labels import encode_text_labels
from ingest.record_batches.bodies import unpack
from service.cli import main
from service.configuration.settings import ActivitySettings, InferenceSettings, TextSettings
from service.without_kafka.classify import (
    LabelledReadings,
    classify_readings,
    classify_texts,
)
from service.without_kafka.files import ClassifyError, readings_of_file, texts_of_file, texts_of_words
from service.without_kafka.tables import activity_table, text_table
from tests.inference.bundles import decided_network, har_bundle, har_description, people, text_bundle
from tests.kafka.worker_process import clean_environment
from tests.service.walks import START_MS, walk, write_csv
from windowing import cut
from windowing.text import Framer, parse_rules

INFERENCE = InferenceSettings(device="cpu", precision="float32")
TEXTS = ["A very moving film!", "the plot is dull", "", "☃ unknown words", "good " * 500]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="module")
def activity_bundle(folder: Path) -> Bundle:
    return har_bundle(folder / "har")


@pytest.fixture(scope="module")
def words_bundle(folder: Path) -> Bundle:
    return text_bundle(folder / "text")


@pytest.fixture
def text_settings(words_bundle: Bundle, folder: Path) -> TextSettings:
    return TextSettings(bundle=str(folder / "text"))


def readings(path: Path, folder: Path, **changes: object) -> LabelledReadings:
    settings = ActivitySettings.model_validate({"bundle": str(folder / "har")} | changes)
    return classify_readings(readings_of_file(path), settings, INFERENCE)


# --- the same as the workers ---------------------------------------------------------------------


def test_texts_get_the_labels_that_a_worker_would_publish(words_bundle: Bundle, text_settings: TextSettings) -> None:
    framer = Framer(parse_rules(words_bundle.manifest.framing), words_bundle.vocabulary)
    bodies = encode_text_labels(
        ids=[str(number).encode() for number in range(1, len(TEXTS) + 1)],
        labels=words_bundle.manifest.labels,
        probabilities=reference_probabilities(served_module(words_bundle), framer.frame(TEXTS)),
        model=words_bundle.title,
        source_partition=0,
        source_offset=np.arange(len(TEXTS)),
        bundle_digest=words_bundle.digest,
    )
    published = unpack(bodies)
    labels = classify_texts(texts_of_words(TEXTS), text_settings, INFERENCE).labels
    assert len(labels) == len(published)
    for label, (_, message, _) in zip(labels, published, strict=True):
        expected = json.loads(message)
        assert TextLabel.model_validate_json(label.message).model_dump() == label.fields
        assert label.fields["probabilities"] == pytest.approx(expected["probabilities"], abs=2e-6)
        assert {name: label.fields[name] for name in ("id", "label", "model")} == {
            name: expected[name] for name in ("id", "label", "model")
        }


def test_windows_are_those_that_a_worker_would_cut_in_any_order_of_the_rows(
    activity_bundle: Bundle, folder: Path, tmp_path: Path
) -> None:
    devices = {"late": walk(15, seed=1), "early": walk(20, seed=2, hole=(9, 11))}
    rows = sum(len(t_ms) for t_ms, _ in devices.values())
    order = [0, *(1 + np.random.default_rng(3).permutation(rows - 1))]  # the first row says which device comes first
    labels = readings(write_csv(tmp_path / "w.csv", devices, order), folder).labels
    served = served_module(activity_bundle)
    expected = []
    for device, (t_ms, xyz) in devices.items():
        start_ms, frames = cut(t_ms, xyz, device.encode())
        answers = reference_probabilities(served, frames)
        expected += [(device, start, answer) for start, answer in zip(start_ms.tolist(), answers, strict=True)]
    assert [(label.fields["device_id"], label.fields["window_start"]) for label in labels] == [
        (device, start) for device, start, _ in expected
    ]
    for label, (_, _, answer) in zip(labels, expected, strict=True):
        fields = label.fields
        assert ActivityLabel.model_validate_json(label.message).model_dump() == fields
        assert list(fields["probabilities"].values()) == pytest.approx(answer.tolist(), abs=2e-6)
        assert fields["activity"] == activity_bundle.manifest.labels[int(answer.argmax())]
        assert fields["window_end"] == fields["window_start"] + 4000


def test_a_model_of_ones_own_labels_is_served_like_any_other(tmp_path: Path) -> None:
    own = ("Walking", "Cycling", "Lying down")
    description = har_description(
        architecture=ArchitectureChoice(name="har-cnn", arguments={"classes": 3}),
        labels=own,
        transitions=((0.7, 0.2, 0.1), (0.2, 0.7, 0.1), (0.1, 0.2, 0.7)),
        population=None,
    )
    bundle = save_bundle(tmp_path / "har", decided_network(classes=3), description, people(4))
    path = write_csv(tmp_path / "w.csv", {"phone": walk(20)})
    labelled = readings(path, tmp_path)
    _, frames = cut(*walk(20), b"phone")
    answers = reference_probabilities(served_module(bundle), frames)

    assert labelled.names == own
    assert len(labelled.labels) == len(frames)
    for label, answer in zip(labelled.labels, answers, strict=True):
        fields = ActivityLabel.model_validate_json(label.message)
        assert fields.activity == own[int(answer.argmax())]
        assert fields.probabilities == pytest.approx(dict(zip(own, answer.tolist(), strict=True)), abs=2e-6)
    assert {label.fields["smoothed_activity"] for label in labelled.labels[3:]} <= set(own)


def test_the_table_shows_what_the_model_tells(activity_bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    """The smoothed activity, which the first windows have none of; no familiarity, which this model doesn't tell."""
    path = write_csv(tmp_path / "w.csv", {"phone": walk(20)})
    table = activity_table(readings(path, folder))
    titles = [str(column.header) for column in table.columns]
    assert titles == ["from s", "to s", "activity", "smoothed", "confidence", "measured"]
    smoothed = [str(cell) for cell in table.columns[3].cells]
    assert smoothed[:3] == ["–"] * 3
    assert set(smoothed[3:]) <= set(activity_bundle.manifest.labels)
    without = activity_table(readings(path, folder, smoothing=False))
    assert [str(column.header) for column in without.columns] == [*titles[:3], *titles[4:]]


def test_all_columns_of_one_device_fit_into_80_characters(
    activity_bundle: Bundle, folder: Path, tmp_path: Path
) -> None:
    labelled = readings(write_csv(tmp_path / "w.csv", {"phone": walk(20)}), folder)
    for label in labelled.labels:
        label.fields.update(familiarity=0.987, activity="Downstairs", smoothed_activity="Downstairs")
    screen = io.StringIO()
    Console(file=screen, width=80).print(activity_table(labelled))
    assert "…" not in screen.getvalue()
    assert {"confidence", "familiarity", "measured"} <= set(screen.getvalue().split())


def test_readings_in_g_are_converted(activity_bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    t_ms, xyz = walk(10)
    ours = readings(write_csv(tmp_path / "si.csv", {"a": (t_ms, xyz)}), folder)
    in_g = readings(write_csv(tmp_path / "g.csv", {"a": (t_ms, xyz / np.float32(9.80665))}), folder, unit="g")
    np.testing.assert_allclose(in_g.readings.xyz, ours.readings.xyz, rtol=1e-5)
    for one, other in zip(ours.labels, in_g.labels, strict=True):
        assert one.fields["probabilities"] == pytest.approx(other.fields["probabilities"], abs=1e-3)


def test_more_texts_than_a_block_keep_their_order(text_settings: TextSettings, tmp_path: Path) -> None:
    path = tmp_path / "many.txt"
    path.write_text("".join(f"{'good' if number % 3 else 'dull bad'} film\n" for number in range(1, 201)))
    labelled = classify_texts(texts_of_file(path), text_settings, INFERENCE)
    assert [label.fields["id"] for label in labelled.labels] == [str(number) for number in range(1, 201)]
    confidence = np.array([label.fields["probabilities"]["objective"] for label in labelled.labels])
    assert len(set(confidence[2::3].round(4))) == 1  # every third
    assert abs(confidence[0] - confidence[2]) > 0.01


# --- what is refused -----------------------------------------------------------------------------


def test_a_text_that_a_worker_would_refuse_is_reported_by_its_place(text_settings: TextSettings) -> None:
    settings = text_settings.model_copy(update={"max_bytes": 10})
    with pytest.raises(ClassifyError, match=r"^text 2: .*the text has 11 bytes; 10 is the limit$"):
        classify_texts(texts_of_words(["short", "€€€ö"]), settings, INFERENCE)


def test_a_recording_too_short_for_a_window_says_how_long_it_is(
    activity_bundle: Bundle, folder: Path, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "w.csv", {"a": walk(3)})
    with pytest.raises(ClassifyError, match=r"^w.csv holds no window of 4 s .* its 60 readings span 2\.9\S* s$"):
        readings(path, folder)


@pytest.mark.parametrize(
    ("times", "said"),
    [
        # 400 readings of 20 s, stamped with whole seconds, were said to span 0.019 s, and no more.
        (
            [1_700_000_000 + number // 20 for number in range(400)],
            r"400 readings span 0\.019 s\. Are .* in seconds\? They",
        ),
        (
            [f"{1_700_000_000 + number / 20:.2f}" for number in range(400)],
            r"offset \(399 more .*\)\. Are .* in seconds\?",
        ),
        ([1_700_000_000_000_000 + number for number in range(400)], r"400 readings span .* Are .* in microseconds\?"),
        (
            [1_700_000_000_000_000_000 + number for number in range(400)],
            r"the time is beyond .* Are .* in nanoseconds\?",
        ),
        ([f"{1_700_000_000_000 + number}.5" for number in range(400)], r"Are .* in milliseconds\? .* to be whole"),
        ([1_700_000_000_000 + number for number in range(400)], r"400 readings span 0\.399 s$"),
        (["soon"], r"with an offset$"),
    ],
)
def test_where_timestamps_look_like_another_unit_it_says_which(
    times: list[int | str], said: str, activity_bundle: Bundle, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "w.csv").write_text("timestamp,x,y,z\n" + "".join(f"{time},0.1,9.8,0.3\n" for time in times))
    with pytest.raises(ClassifyError, match=said):
        readings(tmp_path / "w.csv", folder)


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def walk_csv(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "walk.csv", {"phone": walk(12)})


@pytest.fixture
def default_bundles(
    activity_bundle: Bundle, words_bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIDECAST_TEXT__BUNDLE", str(folder / "text"))
    monkeypatch.setenv("STRIDECAST_ACTIVITY__BUNDLE", str(folder / "har"))


@pytest.mark.usefixtures("default_bundles")
def test_texts_become_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", "a very moving film", "[bold]dull[/bold], \x1b[31m" + "long " * 100]) == 0
    shown = capsys.readouterr().out
    assert "a very moving film" in shown
    assert "[bold]dull[/bold], " in shown
    assert "\x1b" not in shown
    assert "…" in shown
    assert "subjective" in shown or "objective" in shown
    assert "next" not in shown  # what else it might be needs no saying where there are two


def test_of_many_labels_the_next_best_is_shown_too(tmp_path: Path) -> None:
    text_bundle(tmp_path / "four", labels=("a", "b", "c", "d"))
    settings = TextSettings(bundle=str(tmp_path / "four"))
    labelled = classify_texts(texts_of_words(["good film"]), settings, INFERENCE)
    ranked = sorted(labelled.labels[0].fields["probabilities"].items(), key=lambda item: -item[1])
    (cell,) = text_table(labelled).columns[-1].cells
    assert str(cell) == f"{ranked[1][0]} {ranked[1][1]:.3f}"


@pytest.mark.usefixtures("default_bundles")
def test_a_text_that_is_a_files_name_is_labelled_with_a_hint_at_the_flag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "reviews.txt"
    path.write_text("good film\n")
    assert main(["classify", str(path), "--format", "json"]) == 0
    shown = capsys.readouterr()
    assert TextLabel.model_validate_json(shown.out).id == "1"
    assert shown.err == f"stridecast classify: {path} is a file; to label what it holds: --file {path}\n"
    assert main(["classify", "good film " * 1000]) == 0  # too long to be a name
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("default_bundles")
def test_json_is_a_line_a_label_as_the_contract_has_it(
    tmp_path: Path, walk_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.jsonl").write_text('{"id": "ä", "text": "good film"}\n')
    assert main(["classify", "--file", str(tmp_path / "m.jsonl"), "--format", "json"]) == 0
    assert TextLabel.model_validate_json(capsys.readouterr().out).id == "ä"
    assert main(["classify", "--format", "json", "--file", str(walk_csv)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 or len(lines) == 5  # of 12 s; the phase is the device id's
    assert {ActivityLabel.model_validate_json(line).device_id for line in lines} == {"phone"}


@pytest.mark.usefixtures("default_bundles")
def test_readings_become_a_table_of_windows_and_a_picture(
    walk_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "walk.png"
    assert main(["classify", "--file", str(walk_csv), "--picture", str(picture)]) == 0
    shown, told = capsys.readouterr()
    assert "from s" in shown
    assert "measured" in shown
    assert "phone" not in shown  # one device needs no column
    assert told == f"drawn: {picture}\n"
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("default_bundles")
@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "give texts, each in quotes, or --file"),
        (["a text", "--file", "{walk}"], 2, "give texts, each in quotes, or --file"),
        (["a text", "--picture", "p.png"], 2, "--picture draws accelerometer readings, not texts"),
        (["--file", "{walk}", "--picture", "p.jpg"], 2, "--picture = 'p.jpg': a picture is a PNG"),
        (["a text", "--format", "xml"], 2, "format = 'xml': input should be 'table' or 'json'"),
        (["a text", "--fromat", "json"], 2, "--fromat is no flag of this command; did you mean --format"),
        (["a text", "--bundle", "{folder}/har"], 1, "tiny-har@1.0 can't label texts: name a bundle that was"),
        (["--file", "{walk}", "--bundle", "{folder}/text"], 1, "tiny-text@1.0 takes frames of int32 [20], and this"),
        (["a text", "--bundle", "nope"], 1, "no bundle 'nope'"),
        (["--file", "{tmp}/nowhere.csv"], 1, "{tmp}/nowhere.csv: No such file or directory"),
        (["--file", "{walk}", "--picture", "{tmp}/no/p.png"], 1, "cannot write {tmp}/no/p.png: No such file"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    arguments: list[str],
    status: int,
    says: str,
    folder: Path,
    tmp_path: Path,
    walk_csv: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"walk": walk_csv, "folder": folder, "tmp": tmp_path}
    assert main(["classify", *(argument.format(**names) for argument in arguments)]) == status
    error = capsys.readouterr().err
    assert error.startswith(f"stridecast classify: {says.format(**names)}")
    assert error.count("\n") == 1


@pytest.mark.usefixtures("default_bundles")
def test_without_matplotlib_a_picture_says_what_to_install_and_labels_need_none(
    walk_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "service.without_kafka.signal_picture", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["classify", "--file", str(walk_csv), "--picture", str(tmp_path / "p.png")]) == 1
    assert "pip install '.[train]' in the checkout" in capsys.readouterr().err
    assert main(["classify", "--file", str(walk_csv)]) == 0


def test_the_commands_help_does_not_wait_for_pytorch() -> None:
    script = "import sys, service.commands.classify; sys.exit('torch' in sys.modules or 'numba' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, env=clean_environment())
    assert ended.returncode == 0


def test_a_reader_that_has_enough_ends_the_command_in_silence(words_bundle: Bundle, folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [
        sys.executable,
        "-m",
        "service",
        "classify",
        "film",
        "--format",
        "json",
        "--bundle",
        str(folder / "text"),
    ]
    ended = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, env=clean_environment()
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_times_in_the_table_count_from_the_first_reading(activity_bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    from service.without_kafka.classify import beginnings

    labelled = readings(write_csv(tmp_path / "w.csv", {"b": walk(10), "a": walk(10, seed=4)}), folder)
    begins = beginnings(labelled.readings)
    assert list(begins) == ["b", "a"]
    assert all(abs(begin - START_MS) < 10 for begin in begins.values())
    cells = [[str(cell) for cell in column.cells] for column in activity_table(labelled).columns]
    first = labelled.labels[0].fields
    assert cells[0][0] == "b"
    assert cells[1][0] == f"{(first['window_start'] - begins['b']) / 1000:.2f}"
    assert float(cells[2][0]) - float(cells[1][0]) == pytest.approx(4)
