import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.files import write_wisdm
from tests.training.signals import swinging
from training.activity_model.recipes import RECIPES
from training.data.datasets import read_files
from training.data.files import DataError
from training.data.frames import served_frames
from training.data.held_out import held_out_people
from training.data.recordings import ACTIVITIES, DEFAULT_LABELS, DataFile, Labels
from training.fitting.fit_settings import FitError
from training.fitting.scores import score
from training.plan import TrainingRequest
from training.protocols.folds import FoldResult, kept_fold, save_fold
from training.protocols.protocol import run_protocol
from training.protocols.protocol_report import log_scoring
from training.protocols.rounds import ProtocolName, Round, rounds

DEFAULT = RECIPES["default"]


def data_set(name: str, people: int, first: int = 1) -> DataFile:
    recordings = tuple(
        swinging(activity, str(person), dataset=name)
        for person in range(first, first + people)
        for activity in ACTIVITIES
    )
    return DataFile(f"{name}.csv", name, "csv", name, recordings, {})


FILES = [data_set("pockets", 12), data_set("waists", 6, first=101)]


def people_of(each: Round) -> tuple[set[tuple[str, str]], set[tuple[str, str]], set[tuple[str, str]]]:
    tested = [recording for _, recordings in each.split.test for recording in recordings]
    parts = (each.split.train, each.split.validation, tested)
    train, validation, test = ({(r.dataset, r.person) for r in part} for part in parts)
    return train, validation, test


@pytest.mark.parametrize("protocol", ["data-sets", "people", "seeds"])
def test_nobody_is_in_two_parts_of_a_round(protocol: ProtocolName) -> None:
    for each in rounds(FILES, DEFAULT, protocol, seed=3):
        train, validation, test = people_of(each)
        assert train
        assert validation
        assert test
        assert not train & validation
        assert not train & test
        assert not validation & test


def test_a_data_set_left_out_is_scored_whole_and_taught_nothing() -> None:
    found = list(rounds(FILES, DEFAULT, "data-sets", seed=0))
    assert [each.name for each in found] == ["without pockets", "without waists"]
    for each, left_out in zip(found, FILES, strict=True):
        train, validation, test = people_of(each)
        assert left_out.dataset not in {dataset for dataset, _ in train | validation}
        assert test == {(left_out.dataset, person) for person in left_out.people}
        other = next(file for file in FILES if file is not left_out)
        assert not {(other.dataset, person) for person in held_out_people(other).test} & train


@pytest.mark.parametrize("protocol", ["data-sets", "seeds"])
def test_who_is_in_two_files_is_in_one_part(protocol: ProtocolName) -> None:
    monday, tuesday = data_set("monday", 9), data_set("tuesday", 11, first=6)
    for each in rounds([monday, tuesday], DEFAULT, protocol, seed=0):
        train, validation, test = ({person for _, person in part} for part in people_of(each))
        assert train
        assert not train & test
        assert not train & validation


def test_rounds_that_cannot_be_are_found_before_the_first_is_run(tmp_path: Path) -> None:
    many = write_wisdm(tmp_path / "many.txt", people=("1", "2", "7"))
    few = tmp_path / "few.csv"
    few.write_text("person,activity,timestamp,x,y,z\np,Walking,0,1,2,3\n")
    with pytest.raises(DataError, match="few has 1 people"):
        run_protocol(TrainingRequest([many, few], epochs=1), tmp_path / "report", "people")
    assert not list((tmp_path / "report").rglob("*.json"))


def test_folds_by_person_test_everybody_once_and_are_the_same_again() -> None:
    found = list(rounds(FILES, DEFAULT, "people", seed=5))
    tested = [who for each in found for who in people_of(each)[2]]
    everybody = {(file.dataset, recording.person) for file in FILES for recording in file.recordings}
    assert len(found) == 10
    assert len(tested) == len(set(tested))
    assert set(tested) == everybody
    assert [people_of(each) for each in rounds(FILES, DEFAULT, "people", seed=5)] == [people_of(each) for each in found]


def test_seeds_differ_in_nothing_else() -> None:
    found = list(rounds(FILES, DEFAULT, "seeds", seed=10))
    assert [each.seed for each in found] == [10, 11, 12, 13, 14]
    assert len({tuple(map(frozenset, people_of(each))) for each in found}) == 1


def test_rounds_are_kept_and_their_table_is_written(tmp_path: Path) -> None:
    data = write_wisdm(tmp_path / "data.txt", people=("1", "2", "7"))
    report = tmp_path / "report"

    def run(*, resume: bool) -> list[float]:
        return [
            one.seconds
            for one in run_protocol(TrainingRequest([data], epochs=1), report, "people", resume=resume)["WISDM v1.1"]
        ]

    first, resumed = run(resume=False), run(resume=True)
    assert len(first) == 3
    assert resumed == first  # read, not run again
    (judged,) = judged_in(report)
    assert (judged["protocol"], judged["recipe"]) == ("people", "default")
    assert len(judged["results"]["WISDM v1.1"]["accuracy"]) == 3
    assert "| people | WISDM v1.1 |" in (report / "judged.md").read_text()
    assert (report / "judged.png").read_bytes().startswith(b"\x89PNG")


def test_protocols_and_recipes_share_a_table_and_each_scoring_is_logged(tmp_path: Path) -> None:
    data = write_wisdm(tmp_path / "data.txt", people=("1", "2", "7", "30"))
    report = tmp_path / "report"
    run_protocol(TrainingRequest([data], epochs=1), report, "people")
    run_protocol(TrainingRequest([data], recipe="article", epochs=1), report, "people")
    run_protocol(TrainingRequest([data], recipe="article", epochs=1), report, "people", resume=True)
    run_protocol(TrainingRequest([data], epochs=1), report, "seeds")
    run_protocol(TrainingRequest([data], epochs=1), report, "seeds")

    rows = [line.split(" | ") for line in (report / "judged.md").read_text().splitlines() if "| WISDM v1.1 |" in line]
    scored = {row[0].strip("| "): [cell.strip("| ") for cell in row[3:]] for row in rows if len(row) > 5}
    assert scored["people"][0::5] == ["4", "4"]
    assert scored["people"][3] != scored["people"][8]
    assert scored["seeds"][0::5] == ["5", ""]
    logged = [(row[0].strip("| "), row[1], row[3]) for row in rows if len(row) == 5]
    assert "temperature of `article` is fitted to windows of those who train" in (report / "judged.md").read_text()
    assert logged == [("people", "default", "4"), ("people", "article", "4"), ("seeds", "default", "10")]


def test_each_round_is_scored_with_the_temperature_of_its_own_validating_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the table says what a bundle's confidence is worth, which has one."""
    data = write_wisdm(tmp_path / "data.txt", people=("1", "2", "7"))
    found, fitted = {}, []
    for temperature in (1.0, 4.0):

        def fit_temperature(_: np.ndarray, targets: np.ndarray, temperature: float = temperature) -> float:
            fitted.append(targets)
            return temperature

        monkeypatch.setattr("training.activity_model.fit_activity.fit_temperature", fit_temperature)
        found[temperature] = run_protocol(TrainingRequest([data], epochs=2), tmp_path / str(temperature), "people")[
            "WISDM v1.1"
        ]
    for as_it_is, cooler in zip(found[1.0], found[4.0], strict=True):
        assert as_it_is.untempered == cooler.untempered == pytest.approx(as_it_is.scores.calibration_error)
        assert (as_it_is.scores.confusion == cooler.scores.confusion).all()
        assert confidence(cooler) < confidence(as_it_is)
    planned = rounds(read_files([data], None, DEFAULT_LABELS), DEFAULT, "people", 0)
    for each, targets in zip([*planned] * 2, fitted, strict=True):
        np.testing.assert_array_equal(targets, served_frames(each.split.validation).activity)
    (judged,) = judged_in(tmp_path / "4.0")
    figures = judged["results"]["WISDM v1.1"]
    assert figures["calibration_error"] != figures["calibration_error_before_temperature"]


def confidence(result: FoldResult) -> float:
    count, confidence, _ = result.scores.reliability.sum(axis=0)
    return float(confidence / count)


def judged_in(report: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((report / "judged.json").read_text())["judged"]
    return found


def test_rounds_of_other_data_labels_or_seed_stay_out_of_the_table_and_the_last_settings_count(tmp_path: Path) -> None:
    data = write_wisdm(tmp_path / "data.txt", people=("1", "2", "7"))
    other = write_wisdm(tmp_path / "other.txt", people=("1", "2", "3", "7"))
    report = tmp_path / "report"
    run_protocol(TrainingRequest([data], recipe="article", epochs=2), report, "people")
    run_protocol(TrainingRequest([data], recipe="article", epochs=1), report, "people")
    run_protocol(TrainingRequest([data], epochs=1), report, "people")
    same = judged_in(report)
    run_protocol(TrainingRequest([data], epochs=1, seed=1), report, "people")
    seeded = judged_in(report)
    run_protocol(TrainingRequest([data], epochs=1, labels=Labels(ACTIVITIES[::-1])), report, "people")
    named = judged_in(report)
    run_protocol(TrainingRequest([other], epochs=1), report, "people")

    assert [each["recipe"] for each in same] == ["default", "article"]
    assert "epochs=1" in same[1]["settings"]
    assert [each["recipe"] for each in seeded] == ["default"]
    assert [each["recipe"] for each in named] == ["default"]
    (last,) = judged_in(report)
    assert len(last["results"]["WISDM v1.1"]["accuracy"]) == 4
    assert "| people | default | WISDM v1.1 | 4 |" in (report / "judged.md").read_text()


def test_the_order_of_the_files_makes_no_difference_to_the_table(tmp_path: Path) -> None:
    first, second = csv_of(tmp_path / "first.csv"), csv_of(tmp_path / "second.csv")
    run_protocol(TrainingRequest([first, second], epochs=1), tmp_path / "report", "people")
    run_protocol(TrainingRequest([second, first], epochs=1), tmp_path / "report", "data-sets")
    assert [each["protocol"] for each in judged_in(tmp_path / "report")] == ["data-sets", "people"]


def csv_of(path: Path) -> Path:
    """Recordings of three people whose names no other file has."""
    lines = [
        f"{path.stem}-{person},{activity},{1_000_000 * number + 50 * step},{math.sin(step)},{9.8 * number},1"
        for person in range(3)
        for number, activity in enumerate(ACTIVITIES)
        for step in range(120)
    ]
    path.write_text("\n".join(["person,activity,timestamp,x,y,z", *lines]) + "\n")
    return path


def cut_short(log: Path) -> None:
    log.write_bytes(log.read_bytes()[:-20])


@pytest.mark.parametrize("spoil", [Path.unlink, cut_short])
def test_a_log_that_is_gone_or_cut_short_costs_no_round(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    data = write_wisdm(tmp_path / "data.txt", people=("1", "2", "7"))
    run_protocol(TrainingRequest([data], epochs=1), tmp_path / "report", "people")
    spoil(tmp_path / "report" / "judged.jsonl")
    found = run_protocol(TrainingRequest([data], epochs=1), tmp_path / "report", "people", resume=True)
    assert len(found["WISDM v1.1"]) == 3
    assert "| people | WISDM v1.1 |" in (tmp_path / "report" / "judged.md").read_text()


def test_a_line_after_one_that_was_cut_short_is_not_lost_with_it(tmp_path: Path) -> None:
    result = FoldResult("ours", 0, score(ACTIVITIES, np.arange(6), np.eye(6, dtype=np.float32)), 1, 1, 0.0)
    who = {"protocol": "people", "recipe": "default", "data": "ours 1234", "labels": "six", "seed": "0"}
    log_scoring(tmp_path, who, result)
    cut_short(tmp_path / "judged.jsonl")
    log_scoring(tmp_path, who, result)
    assert json.loads((tmp_path / "judged.jsonl").read_text().splitlines()[-1])["data_set"] == "ours"


def test_a_folder_that_a_training_run_reported_to_serves_too(tmp_path: Path) -> None:
    data = write_wisdm(tmp_path / "data.txt", people=("1", "2", "7"))
    (tmp_path / "scorings.jsonl").write_text('{"at": "2026-01-01", "dataset": "WISDM v1.1"}\n')
    (tmp_path / "report.md").write_text("of a training run")
    run_protocol(TrainingRequest([data], epochs=1), tmp_path, "people")
    assert (tmp_path / "report.md").read_text() == "of a training run"


def test_two_at_once_keep_what_they_found_in_one_folder(tmp_path: Path) -> None:
    result = FoldResult("ours", 0, score(ACTIVITIES, np.arange(6), np.eye(6, dtype=np.float32)), 1, 1, 0.0)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(save_fold, tmp_path, result, {"seed": 1}) for _ in range(200)]:
            done.result()
    assert kept_fold(tmp_path, "ours", 0, {"seed": 1}) is not None
    assert len(list((tmp_path / "folds").iterdir())) == 1


def test_what_cannot_be_judged_is_reported_at_once(tmp_path: Path) -> None:
    data = write_wisdm(tmp_path / "data.txt", people=("1", "7"))
    with pytest.raises(DataError, match="takes two at least"):
        run_protocol(TrainingRequest([data]), tmp_path / "report", "data-sets")
    with pytest.raises(DataError, match="has 2 people: folds by person take three at least"):
        run_protocol(TrainingRequest([data]), tmp_path / "report", "people")
    with pytest.raises(DataError, match="no data set 'others'"):
        run_protocol(TrainingRequest([data]), tmp_path / "report", "seeds", only=["others"])
    with pytest.raises(FitError, match="name it with --start"):
        run_protocol(TrainingRequest([data]), tmp_path / "report", "minutes")
    with pytest.raises(FitError, match="leave out --start"):
        run_protocol(TrainingRequest([data], start=tmp_path), tmp_path / "report", "people")


def test_a_data_set_in_which_nobody_tests_is_no_round_s(tmp_path: Path) -> None:
    many = write_wisdm(tmp_path / "many.txt", people=("1", "7", "30"))
    few = tmp_path / "few.csv"
    few.write_text("person,activity,timestamp,x,y,z\np,Walking,0,1,2,3\n")
    with pytest.raises(DataError, match="no round of `seeds` scores few: nobody tests there"):
        run_protocol(TrainingRequest([many, few]), tmp_path / "report", "seeds", only=["few"])
