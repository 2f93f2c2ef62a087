"""The rounds of a protocol: the training, validation and test people of each of many fits.

A round is a function of the files, the recipe, the seed and its name alone.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.activity_model.recipes import Recipe
from training.activity_model.splits import (
    FileSplit,
    RecordingSplit,
    recordings_of_people,
    split_files,
    split_recordings,
)
from training.data.files import DataError
from training.data.frames import served_frames
from training.data.held_out import has_numbered_people, name_hash
from training.data.recordings import DataFile, Recording, natural_order
from training.data.sampling import and_why_incomplete

ProtocolName = Literal["data-sets", "people", "seeds", "minutes"]

FOLDS = 5
SEEDS = 5
ORDERS = 3
MANY = 10


@dataclass(frozen=True, slots=True)
class Round:
    """One fit: `number` distinguishes rounds that score the same data set; `split.test` is what it scores.

    Without training people, the bundle to continue from is scored itself.
    """

    name: str
    number: int
    split: RecordingSplit
    seed: int

    @property
    def labelled_people(self) -> set[str]:
        """The people whose labels were used: those for training and for validation."""
        return {recording.person for recording in (*self.split.train, *self.split.validation)}


def rounds(files: Sequence[DataFile], recipe: Recipe, protocol: ProtocolName, seed: int) -> Iterator[Round]:
    """Return the protocol's rounds, in order; raises `DataError` if one of them could not be fitted or scored."""
    found = list(_planned(files, recipe, protocol, seed))
    for each in found:
        _check(each, recipe, fitted=protocol != "minutes" or bool(each.labelled_people))
    return iter(found)


def _planned(files: Sequence[DataFile], recipe: Recipe, protocol: ProtocolName, seed: int) -> Iterator[Round]:
    if protocol == "data-sets":
        yield from _leave_one_data_set_out(files, recipe, seed)
    elif protocol == "people":
        for file in _ordinary(files, protocol):
            yield from _folds_by_person(file, recipe, seed)
    elif protocol == "minutes":
        each_file = [_growing_splits(part, seed) for part in split_files(_ordinary(files, protocol), recipe)]
        # Order by order, so that an interrupted run has fewer orders, but of all data sets.
        yield from sorted(itertools.chain.from_iterable(each_file), key=lambda each: each.seed)
    else:
        split = split_recordings(files, recipe)
        split = dataclasses.replace(split, test=[(file, recordings) for file, recordings in split.test if recordings])
        if not split.test:
            raise DataError("nobody tests: it takes three people, or WISDM's or MotionSense's by name")
        for number in range(SEEDS):
            yield Round(f"seed {seed + number}", number, split, seed + number)


def _check(each: Round, recipe: Recipe, *, fitted: bool) -> None:
    """Refuse a round that could not be fitted, perhaps after hours of other rounds, or that scores nothing."""
    parts = [(f"tests on {file.dataset}", recordings) for file, recordings in each.split.test]
    if fitted:
        parts.append(("trains", each.split.train))
        if not recipe.validation_share:
            parts.append(("validates", each.split.validation))
    for does_what, recordings in parts:
        if not any(len(served_frames([recording])) for recording in recordings):
            raise DataError(
                f"{each.name}: nobody who {does_what} shows a complete window, which is 4 s of one activity without a "
                f"gap ({_people_of(recordings)}): leave them out of the data, or give more of them"
                f"{and_why_incomplete(recordings)}"
            )


def _people_of(recordings: Sequence[Recording]) -> str:
    people = sorted({(recording.dataset, *natural_order(recording.person)) for recording in recordings})
    some = ", ".join(f"{person} of {dataset}" for dataset, _, person in people[:MANY])
    return f"{some} and {len(people) - MANY} more" if len(people) > MANY else some or "there is nobody"


def _ordinary(files: Sequence[DataFile], protocol: ProtocolName) -> Sequence[DataFile]:
    """Return the files; raises `DataError` for kept windows, which this protocol would score though they only train."""
    if kept := [file.name for file in files if file.kind == "kept"]:
        raise DataError(f"{kept[0]} holds windows that a worker kept, which only train: leave it out of `{protocol}`")
    return files


def _leave_one_data_set_out(files: Sequence[DataFile], recipe: Recipe, seed: int) -> Iterator[Round]:
    """Train on the training people of all other data sets, and score everybody of the one left out."""
    ordinary = [file for file in files if file.kind != "kept"]
    if len(ordinary) < 2:
        raise DataError("leaving out a data set takes two at least, beside windows that a worker kept")
    for left_out in ordinary:
        others = [_without_shared_people(left_out, file) for file in files if file is not left_out]
        split = dataclasses.replace(
            _split_others(left_out, others, recipe), test=[(left_out, list(left_out.recordings))]
        )
        yield Round(f"without {left_out.dataset}", 0, split, seed)


def _split_others(left_out: DataFile, others: Sequence[DataFile], recipe: Recipe) -> RecordingSplit:
    """Split the people of the others; raises `DataError` if too few are left."""
    left = [file for file in others if file.recordings]
    with contextlib.suppress(DataError):  # it would not name the data set left out
        if left:
            return split_recordings(left, recipe)
    raise DataError(
        f"without {left_out.dataset} and its people too few are left to learn from in "
        f"{', '.join(file.dataset for file in others)}: give more people, put data sets of the same people together "
        "into one, or leave one out"
    )


def _without_shared_people(left_out: DataFile, file: DataFile) -> DataFile:
    """Drop people who are in both files by name, unless names are numbers, which mean other people in each file."""
    if has_numbered_people(file) or has_numbered_people(left_out):
        return file
    return dataclasses.replace(file, recordings=tuple(r for r in file.recordings if r.person not in left_out.people))


def _folds_by_person(file: DataFile, recipe: Recipe, seed: int) -> Iterator[Round]:
    people = sorted(file.people, key=natural_order)
    if len(people) < 3:
        raise DataError(f"{file.dataset} has {len(people)} people: folds by person take three at least")
    order = np.random.default_rng(seed).permutation(people).tolist()
    folds = min(FOLDS, len(order))
    for number in range(folds):
        tested = set(order[number::folds])
        # One person validates, for the learning curve; nothing is chosen by it.
        validating = set() if recipe.validation_share else {order[(number + 1) % folds]}
        yield Round(
            f"{file.dataset}, fold {number + 1} of {folds}",
            number,
            RecordingSplit(
                file.labels,
                train=recordings_of_people(file, file.people - tested - validating),
                validation=recordings_of_people(file, validating),
                test=[(file, recordings_of_people(file, tested))],
            ),
            seed,
        )


def _growing_splits(part: FileSplit, seed: int) -> Iterator[Round]:
    """Yield the bundle itself, then fine-tuning with 2, 4, 8 and so on, and all people, in several orders.

    The test people are those of a bundle trained on all the files. Some of the labelled people are for validation, as
    in a set with no other people, so one person alone is too few.
    """
    file = part.file
    test = [(file, recordings_of_people(file, part.test))]
    shown = {person for person in file.people - part.test if len(served_frames(recordings_of_people(file, {person})))}
    if len(shown) < 2 or not len(served_frames(test[0][1])):
        raise DataError(
            f"{file.dataset}: `minutes` takes three people with complete windows, one of whom tests: give more people, "
            "or put data sets of the same people together into one"
        )
    yield Round(f"{file.dataset}, the bundle itself", 0, RecordingSplit(file.labels, [], [], test), seed)
    number = 0
    for order in range(ORDERS):
        people = np.random.default_rng((seed, order)).permutation(sorted(shown, key=natural_order)).tolist()
        for size in sizes(len(people)):
            number += 1
            validating = _validation_people(people[:size], part.validation)
            yield Round(
                f"{file.dataset}, order {order + 1} of {ORDERS}, {size} people",
                number,
                RecordingSplit(
                    file.labels,
                    recordings_of_people(file, set(people[:size]) - validating),
                    recordings_of_people(file, validating),
                    test,
                ),
                seed + order,
            )


def sizes(people: int) -> list[int]:
    """Return 2, 4, 8 and so on, and all."""
    return [2**power for power in range(1, people.bit_length()) if 2**power < people] + [people]


def _validation_people(people: Sequence[str], named: Collection[str]) -> set[str]:
    """Return who of some people would be for validation if there were no others, as `split_by_name` decides."""
    ranked = sorted(people, key=name_hash)
    return set([person for person in ranked if person in named][: len(ranked) - 1] or ranked[:1])
