import json
from pathlib import Path

import pytest

from tests.training.files import write_wisdm
from tests.training.signals import swinging
from training.files import DataError
from training.protocol import judge
from training.recipes import RECIPES, held_out
from training.recordings import ACTIVITIES, DataFile
from training.rounds import Protocol, Round, rounds

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
    tested = [recording for _, recordings in each.people.test for recording in recordings]
    parts = (each.people.train, each.people.validation, tested)
    train, validation, test = ({(r.dataset, r.person) for r in part} for part in parts)
    return train, validation, test


@pytest.mark.parametrize("protocol", ["data-sets", "people", "seeds"])
def test_nobody_is_in_two_parts_of_a_round(protocol: Protocol) -> None:
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
        assert not {(other.dataset, person) for person in held_out(other).test} & train


@pytest.mark.parametrize("protocol", ["data-sets", "seeds"])
def test_who_is_in_two_files_is_in_one_part(protocol: Protocol) -> None:
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
        judge([many, few], tmp_path / "report", "people", epochs=1)
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
        return [one.seconds for one in judge([data], report, "people", epochs=1, resume=resume)["WISDM v1.1"]]

    first, resumed = run(resume=False), run(resume=True)
    assert len(first) == 3
    assert resumed == first  # read, not run again
    (judged,) = json.loads((report / "metrics.json").read_text())["judged"]
    assert (judged["protocol"], judged["recipe"]) == ("people", "default")
    assert len(judged["results"]["WISDM v1.1"]["accuracy"]) == 3
    assert "| people | WISDM v1.1 |" in (report / "report.md").read_text()
    assert (report / "scores.png").read_bytes().startswith(b"\x89PNG")


def test_protocols_and_recipes_share_a_table_and_each_scoring_is_logged(tmp_path: Path) -> None:
    data = write_wisdm(tmp_path / "data.txt", people=("1", "2", "7", "30"))
    report = tmp_path / "report"
    judge([data], report, "people", epochs=1)
    judge([data], report, "people", recipe="article", epochs=1)
    judge([data], report, "people", recipe="article", epochs=1, resume=True)
    judge([data], report, "seeds", epochs=1)
    judge([data], report, "seeds", epochs=1)

    rows = [line.split(" | ") for line in (report / "report.md").read_text().splitlines() if "| WISDM v1.1 |" in line]
    scored = {row[0].strip("| "): [cell.strip("| ") for cell in row[3:]] for row in rows if len(row) > 5}
    assert scored["people"][0::4] == ["4", "4"]
    assert scored["people"][3] != scored["people"][7]
    assert scored["seeds"][0::4] == ["5", ""]
    logged = [(row[0].strip("| "), row[1], row[3]) for row in rows if len(row) == 5]
    assert logged == [("people", "default", "4"), ("people", "article", "4"), ("seeds", "default", "10")]


def test_rounds_of_other_settings_or_data_stay_out_of_the_table(tmp_path: Path) -> None:
    data = write_wisdm(tmp_path / "data.txt", people=("1", "2", "7"))
    report = tmp_path / "report"
    judge([data], report, "people", recipe="article", epochs=2)
    judge([data], report, "people", epochs=1)
    before = json.loads((report / "metrics.json").read_text())["judged"]
    other = write_wisdm(tmp_path / "other.txt", people=("1", "2", "3", "7"))
    judge([other], report, "people", epochs=1)
    after = json.loads((report / "metrics.json").read_text())["judged"]

    assert [each["recipe"] for each in before] == ["default", "article"]
    assert "epochs=2" in before[1]["settings"]
    assert [each["recipe"] for each in after] == ["default"]
    assert len(after[0]["results"]["WISDM v1.1"]["accuracy"]) == 4


def test_what_cannot_be_judged_is_said_at_once(tmp_path: Path) -> None:
    data = write_wisdm(tmp_path / "data.txt", people=("1", "7"))
    with pytest.raises(DataError, match="takes two at least"):
        judge([data], tmp_path / "report", "data-sets")
    with pytest.raises(DataError, match="has 2 people: folds by person take three at least"):
        judge([data], tmp_path / "report", "people")
    with pytest.raises(DataError, match="no data set 'others'"):
        judge([data], tmp_path / "report", "seeds", only=["others"])
