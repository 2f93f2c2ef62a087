"""Rounds of a protocol: nobody is on both sides under one name, and what can't be fitted or scored is said first."""

import dataclasses
from collections.abc import Collection, Iterable

import pytest

from tests.training.signals import swinging
from training.activity_model.recipes import RECIPES, RecipeName
from training.activity_model.splits import split_recordings
from training.data.files import DataError
from training.data.recordings import DataFile, Kind, Recording
from training.protocols.rounds import ProtocolName, Round, rounds

DEFAULT = RECIPES["default"]
UMA = [f"u{number:02d}" for number in range(1, 17)]


def file_of(
    people: Iterable[str], dataset: str, kind: Kind = "csv", *, without_windows: Collection[str] = ()
) -> DataFile:
    whole, short = (swinging("Walking", seconds=seconds, dataset=dataset) for seconds in (30, 3))
    recordings = tuple(
        dataclasses.replace(short if person in without_windows else whole, person=person) for person in people
    )
    return DataFile(f"{dataset}.csv", dataset, kind, dataset, recordings, {})


def numbers(last: int) -> list[str]:
    return [str(number) for number in range(1, last + 1)]


def named(recordings: Iterable[Recording]) -> set[str]:
    return {recording.person for recording in recordings}


def scored(each: Round) -> set[str]:
    return named(recording for _, recordings in each.split.test for recording in recordings)


# --- one name is one person ----------------------------------------------------------------------


def test_without_a_data_set_its_people_teach_nothing_in_other_files() -> None:
    """Where one of two files had a public set's name they did: without umafall ten of its people were learned from."""
    files = [
        file_of([*UMA, *numbers(9)], "umafall_new"),
        file_of(UMA, "umafall"),
        file_of(["a", "b", "c", "d", "3"], "ours"),
        file_of(["u01", "a", "3", "phone"], "kept", "kept"),
    ]
    found = list(rounds(files, DEFAULT, "data-sets", seed=0))
    assert [each.name for each in found] == ["without umafall_new", "without umafall", "without ours"]
    for each, left_out in zip(found, files[:3], strict=True):
        assert scored(each) == left_out.people
        assert not each.labelled_people & left_out.people
        assert "phone" in each.labelled_people
    assert "3" in found[1].labelled_people


@pytest.mark.parametrize(("dataset", "kind"), [("WISDM v1.1", "wisdm"), ("MotionSense", "motionsense")])
def test_wisdms_and_motionsenses_people_only_have_the_same_numbers(dataset: str, kind: Kind) -> None:
    files = [file_of(numbers(36), dataset, kind), file_of(numbers(9), "ours"), file_of(["1", "29"], "kept", "kept")]
    without_public, without_ours = rounds(files, DEFAULT, "data-sets", seed=0)
    assert {r.person for r in without_public.split.train if r.dataset == "kept"} == {"29"}  # of ours, 1 tests
    assert named(without_public.split.train) > {"2", "3"}
    assert {r.person for r in without_ours.split.train if r.dataset == "kept"} == {"29"}  # 1 is of ours, left out
    assert {"1", "2", "3"} <= {r.person for r in without_ours.split.train if r.dataset == dataset}


def test_who_tests_in_minutes_is_who_tests_when_a_bundle_is_trained_on_the_same_files() -> None:
    """Each file was parted by itself there: u03 and u07 tested, of whom a bundle trained on both files had learned."""
    new, public = file_of([*UMA, "5"], "umafall_new"), file_of(UMA, "umafall")
    assert scored(next(rounds([new], DEFAULT, "minutes", seed=0))) >= {"u03", "u07"}
    learned_from = named(split_recordings([new, public], DEFAULT).train)
    for each in rounds([new, public], DEFAULT, "minutes", seed=0):
        assert scored(each) == {"u05", "u10", "u16"}
        assert not scored(each) & (learned_from | each.labelled_people)


def test_a_file_of_which_nobody_tests_beside_the_others_is_refused_with_the_remedy() -> None:
    """By itself 32 tested of monday; of both 25 does, and a bundle that is trained on both learns from 32."""
    files = [
        file_of(["22", "40", "8", "31", "38", "32"], "monday"),
        file_of(["3", "20", "22", "10", "11", "25"], "tuesday"),
    ]
    with pytest.raises(DataError, match=r"monday: `minutes` takes three people .* one of whom tests: .*put data sets"):
        rounds(files, DEFAULT, "minutes", seed=0)


# --- what can't be fitted or scored --------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["default", "article"])
def test_a_data_set_without_which_nobody_is_left_to_learn_from_is_named(recipe: RecipeName) -> None:
    files = [file_of(numbers(9), "all"), file_of(numbers(4), "some")]
    with pytest.raises(DataError, match=r"without all and its people too few are left to learn from in some: .*leave"):
        rounds(files, RECIPES[recipe], "data-sets", seed=0)


def test_test_people_alone_train_nothing() -> None:
    with pytest.raises(DataError, match=r"seed 0: nobody who trains shows a complete window.*\(there is nobody\)"):
        rounds([file_of(["30", "31"], "WISDM v1.1", "wisdm")], RECIPES["article"], "seeds", seed=0)


@pytest.mark.parametrize("recipe", ["default", "article"])
def test_a_data_set_of_which_nothing_would_be_scored_is_named(recipe: RecipeName) -> None:
    """It was learned for, and scored nan."""
    nothing = file_of("abc", "theirs", without_windows="abc")
    files = [file_of(numbers(9), "ours"), file_of("defghijk", "more"), nothing]
    with pytest.raises(
        DataError,
        match=r"without theirs: nobody who tests on theirs shows a complete window, .*\(a of theirs, b of theirs, "
        r"c of theirs\): leave them out",
    ):
        rounds(files, RECIPES[recipe], "data-sets", seed=0)


@pytest.mark.parametrize("recipe", ["default", "article"])
def test_test_people_without_windows_are_named(recipe: RecipeName) -> None:
    files = [file_of(numbers(9), "ours"), file_of("abc", "theirs", without_windows="abc")]
    with pytest.raises(DataError, match=r"seed 7: nobody who tests on theirs shows .*\([abc] of theirs\)"):
        rounds(files, RECIPES[recipe], "seeds", seed=7)


@pytest.mark.parametrize("recipe", ["default", "article"])
def test_whose_fold_has_no_window_is_named(recipe: RecipeName) -> None:
    file = file_of(["1", "2", "3", "4"], "ours", without_windows=("3",))
    with pytest.raises(DataError, match=r"ours, fold \d of 4: nobody who (tests on ours|validates) .*\(3 of ours\)"):
        rounds([file], RECIPES[recipe], "people", seed=0)
    rounds([file_of(["1", "2", "3", "4"], "ours")], RECIPES[recipe], "people", seed=0)


def test_who_validates_without_a_window_is_reported_before_hours_are_spent() -> None:
    file = file_of(["1", "2", "3"], "ours", without_windows=("2",))
    with pytest.raises(DataError, match=r"seed 0: nobody who validates shows a complete window.*\(2 of ours\)"):
        rounds([file], DEFAULT, "seeds", seed=0)


@pytest.mark.parametrize("protocol", ["data-sets", "people", "seeds"])
def test_one_who_shows_nothing_beside_others_is_no_obstacle(protocol: ProtocolName) -> None:
    files = [file_of(numbers(30), "ours", without_windows=("1", "2", "5")), file_of("abc", "theirs")]
    assert len(list(rounds(files, DEFAULT, protocol, seed=0))) == {"data-sets": 2, "people": 8, "seeds": 5}[protocol]


def test_of_many_people_ten_are_named() -> None:
    many = [str(number) for number in range(100, 112)]
    files = [file_of(numbers(9), "ours"), file_of("abcdefghi", "more"), file_of(many, "theirs", without_windows=many)]
    with pytest.raises(DataError, match=r"\(100 of theirs, .*109 of theirs and 2 more\)"):
        rounds(files, DEFAULT, "data-sets", seed=0)
