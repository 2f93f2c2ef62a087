"""Who of a data set is held out: by the name alone, and of few people by rank."""

import dataclasses
import itertools
from collections.abc import Collection, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.signals import swinging
from training.activity_model.recipes import RECIPES
from training.activity_model.splits import RecordingSplit, split_recordings
from training.data.files import DataError
from training.data.held_out import HELD_OUT, held_out_people, name_hash, split_by_name
from training.data.recordings import DataFile, Kind

DEFAULT = RECIPES["default"]


def file_of(people: Sequence[str], dataset: str = "ours", kind: Kind = "csv") -> DataFile:
    walking = swinging("Walking", dataset=dataset)
    recordings = tuple(dataclasses.replace(walking, person=person) for person in people)
    return DataFile(f"{dataset}.csv", dataset, kind, dataset, recordings, {})


def numbers(last: int) -> list[str]:
    return [str(number) for number in range(1, last + 1)]


def people_in_splits(found: RecordingSplit) -> tuple[set[str], set[str], set[str]]:
    """Who trains, who validates and who tests, by name."""
    tested = {recording.person for _, recordings in found.test for recording in recordings}
    return {r.person for r in found.train}, {r.person for r in found.validation}, tested


# --- by name -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("people", "test", "validation"),
    [
        (40, {"1", "7", "12", "14", "18", "26", "34", "39"}, {"5", "25", "37"}),
        (14, {"1", "7", "12", "14"}, {"5"}),
        (5, {"1"}, {"5"}),
        (4, {"1"}, {"4"}),
        (3, {"1"}, {"2"}),
        (2, set(), {"1"}),
        (1, set(), set()),
        (0, set(), set()),
    ],
)
def test_who_is_held_out_goes_by_name_and_of_few_people_by_rank(
    people: int, test: set[str], validation: set[str]
) -> None:
    found = split_by_name(numbers(people))
    assert set(found.test) == test
    assert set(found.validation) == validation


def test_a_names_hash_is_the_same_on_every_machine_and_day() -> None:
    assert name_hash("1") == pytest.approx(0.1911, abs=1e-4)
    assert name_hash("anna") == pytest.approx(0.5449, abs=1e-4)
    assert name_hash("歩") == pytest.approx(0.4119, abs=1e-4)


def test_of_many_people_a_fifth_tests_and_a_tenth_validates() -> None:
    found = split_by_name([f"somebody {number}" for number in range(2000)])
    assert 340 < len(found.test) < 460
    assert 150 < len(found.validation) < 250


def test_the_order_of_the_rows_makes_no_difference() -> None:
    assert split_by_name(numbers(14)) == split_by_name(numbers(14)[::-1])


# --- as people come ------------------------------------------------------------------------------

PEOPLE = st.sets(st.integers(0, 400).map("person {}".format), max_size=25)
# With few names of each part, so that all that can become of few people comes up.
BY_PART = [
    [f"p{number}" for number in range(200) if low <= name_hash(f"p{number}") < high][:6]
    for low, high in ((0, 0.2), (0.2, 0.3), (0.3, 1))
]
FEW = st.sets(st.sampled_from(list(itertools.chain(*BY_PART))), max_size=8)


def part(people: Collection[str]) -> dict[str, str]:
    found = split_by_name(people)
    return {
        name: "test" if name in found.test else "validation" if name in found.validation else "train" for name in people
    }


def by_name(name: str) -> str:
    return "test" if name_hash(name) < 0.2 else "validation" if name_hash(name) < 0.3 else "train"


@given(PEOPLE | FEW, PEOPLE | FEW)
def test_once_each_part_is_somebodys_by_name_nobodys_changes_whoever_comes(people: set[str], others: set[str]) -> None:
    if {by_name(name) for name in people} == {"test", "validation", "train"}:
        everybody = part(people | others)
        assert everybody == {name: by_name(name) for name in people | others}


@given(FEW | PEOPLE, st.sampled_from(list(itertools.chain(*BY_PART))))
def test_who_comes_moves_nobody_straight_between_training_and_test(people: set[str], newcomer: str) -> None:
    before, after = part(people), part(people | {newcomer})
    moved = {(before[name], after[name]) for name in people}
    assert not moved & {("train", "test"), ("test", "train")}


@given(FEW, FEW)
def test_of_few_who_trained_never_tests_unless_all_names_said_test(people: set[str], others: set[str]) -> None:
    before, after = part(people), part(people | others)
    if len(people) >= 2 and any(by_name(name) != "test" for name in people):
        assert not [name for name in people if (before[name], after[name]) == ("train", "test")]


@given(FEW | PEOPLE)
def test_each_part_that_there_are_people_for_is_somebodys(people: set[str]) -> None:
    found = set(part(people).values())
    assert found == {0: set(), 1: {"train"}, 2: {"train", "validation"}}.get(
        len(people), {"train", "validation", "test"}
    )


# --- files ---------------------------------------------------------------------------------------


def test_who_tested_last_month_still_tests_when_the_file_has_grown() -> None:
    """By their place among the names, one who came could make somebody test from whom a bundle had learned."""
    january, february = file_of(numbers(14)), file_of(["0", *numbers(30)])
    before, after = (people_in_splits(split_recordings([file], DEFAULT)) for file in (january, february))
    for old, new in zip(before, after, strict=True):
        assert old == new & set(numbers(14))


def test_who_is_in_two_files_has_one_part() -> None:
    """Of these few nobody's name says test: each file by itself would choose another one."""
    files = [file_of(["2", "3", "4"], "monday"), file_of(["3", "6", "8", "9"], "tuesday")]
    assert set(held_out_people(files[1]).test) == {"8"}
    train, validation, tested = people_in_splits(split_recordings(files, DEFAULT))
    assert (train, validation, tested) == ({"2", "3", "6", "9"}, {"8"}, {"4"})


def test_files_without_a_person_in_common_are_split_each_by_itself() -> None:
    files = [file_of(["2", "3", "4"], "monday"), file_of(["6", "8", "9"], "tuesday")]
    train, validation, tested = people_in_splits(split_recordings(files, DEFAULT))
    assert (train, validation, tested) == ({"3", "6"}, {"2", "9"}, {"4", "8"})


@pytest.mark.parametrize(
    ("dataset", "test", "validation"),
    [
        ("difronzo_pocket", "df_d", "df_b"),
        ("hugadb_thigh", "h05 h10 h15", "h02 h12"),
        ("mobifall_v2", "mf07", "mf03"),
        ("sisfall", "SA05 SA10 SA15 SA20 SE02 SE07 SE12", "SA02 SA12 SA22 SE09"),
        ("umafall", "u05 u10 u16", "u02 u12"),
    ],
)
def test_whom_the_shipped_model_never_saw_stays_unseen(dataset: str, test: str, validation: str) -> None:
    people = HELD_OUT[dataset]
    assert sorted(people.test) == test.split()
    assert sorted(people.validation) == validation.split()
    somebody = [*people.test, *people.validation, "x01", "x02"]
    assert held_out_people(file_of(somebody, dataset)) == people


def test_a_file_that_only_has_a_public_sets_name_is_split_by_its_own_people() -> None:
    assert held_out_people(file_of(numbers(5), "umafall")) == split_by_name(numbers(5))
    assert held_out_people(file_of(numbers(5), "wisdm")) == split_by_name(numbers(5))


UMA = [f"u{number:02d}" for number in range(1, 17)]


def test_a_public_sets_people_have_the_part_that_they_have_there_in_another_file() -> None:
    """The other file was parted by hash: u03, u05 and u07 were learned from in one of the two, and tested."""
    files = [file_of([*UMA, "new 1", "new 2", "new 3"], "umafall_new"), file_of(UMA, "umafall")]
    for some in (files, files[::-1]):
        train, validation, tested = people_in_splits(split_recordings(some, DEFAULT))
        assert tested & set(UMA) == {"u05", "u10", "u16"}
        assert validation & set(UMA) == {"u02", "u12"}
        assert not train & validation
        assert not train & tested
        assert all(part & {"new 1", "new 2", "new 3"} for part in (train, validation, tested))


def test_whom_a_public_set_holds_out_is_held_out_though_its_copy_lacks_them() -> None:
    files = [file_of(["u05", "u12", "u01", *numbers(5)]), file_of(["u01", "u02", "u03"], "umafall")]
    train, validation, tested = people_in_splits(split_recordings(files, DEFAULT))
    assert (train, validation, tested) == ({"u01", "u03", "2", "3", "4"}, {"u12", "u02", "5"}, {"u05", "1"})


def test_who_is_in_two_files_beside_a_public_set_has_one_part() -> None:
    files = [file_of(["u01", "2", "3", "4"], "monday"), file_of(["u01", "3", "6", "8", "9"], "tuesday")]
    train, validation, tested = people_in_splits(split_recordings([*files, file_of(UMA, "umafall")], DEFAULT))
    of_ours = [part - set(UMA) for part in (train, validation, tested)]
    assert of_ours == [{"2", "3", "6", "9"}, {"8"}, {"4"}]


def test_wisdms_and_motionsenses_numbers_are_nobody_elses() -> None:
    """A 29 of one's own is not WISDM's, who tests."""
    own = ["29", "7", "20", "1"]
    files = [
        file_of(numbers(36), "WISDM v1.1", "wisdm"),
        file_of(own),
        file_of(numbers(24), "MotionSense", "motionsense"),
    ]
    found = split_recordings(files, DEFAULT)
    tested = {file.dataset: {recording.person for recording in some} for file, some in found.test}
    assert tested == {
        "WISDM v1.1": set(HELD_OUT["wisdm"].test),
        "ours": set(split_by_name(own).test),
        "MotionSense": set(HELD_OUT["motionsense"].test),
    }


# --- windows that a worker kept ------------------------------------------------------------------


def test_people_of_kept_windows_only_train_whatever_their_names_say() -> None:
    files = [file_of(["2", "4", "5"]), file_of(["12", "14", "25"], "kept", "kept")]
    found = split_recordings(files, DEFAULT)
    assert people_in_splits(found) == ({"2", "12", "14", "25"}, {"4"}, {"5"})
    assert [file.dataset for file, _ in found.test] == ["ours"]


def test_kept_windows_of_who_tests_or_validates_by_recordings_are_not_learned_from() -> None:
    files = [file_of(["4", "5", "2"]), file_of(["4", "5", "2", "8"], "kept", "kept")]
    found = split_recordings(files[::-1], DEFAULT)
    assert people_in_splits(found) == ({"2", "8"}, {"4"}, {"5"})
    assert {(r.dataset, r.person) for r in found.train} == {("ours", "2"), ("kept", "2"), ("kept", "8")}


def test_by_the_articles_recipe_kept_windows_of_those_who_would_validate_train_as_they_do() -> None:
    files = [file_of(["4", "5", "2"]), file_of(["4", "5", "2", "8"], "kept", "kept")]
    found = split_recordings(files, RECIPES["article"])
    assert people_in_splits(found) == ({"2", "4", "8"}, set(), {"5"})
    assert {(r.dataset, r.person) for r in found.train if r.person == "4"} == {("ours", "4"), ("kept", "4")}


def test_kept_windows_of_whom_a_public_set_of_csv_holds_out_are_not_learned_from() -> None:
    files = [file_of(UMA, "umafall"), file_of(["u01", "u02", "u05", "phone"], "kept", "kept")]
    assert {r.person for r in split_recordings(files, DEFAULT).train if r.dataset == "kept"} == {"u01", "phone"}


def test_devices_that_are_numbered_like_a_public_sets_people_are_others() -> None:
    files = [file_of(["1", "7", "29"], "WISDM v1.1", "wisdm"), file_of(["7", "29"], "kept", "kept")]
    found = split_recordings(files, DEFAULT)
    assert {(r.dataset, r.person) for r in found.train} == {("WISDM v1.1", "1"), ("kept", "7"), ("kept", "29")}


def test_kept_windows_alone_are_refused_with_the_remedy() -> None:
    with pytest.raises(
        DataError, match=r"kept, more: windows that a worker kept .* only train: add ordinary recordings"
    ):
        split_recordings([file_of(numbers(9), "kept", "kept"), file_of(["7"], "more", "kept")], DEFAULT)
