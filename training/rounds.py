"""The rounds of a protocol: who learns, who validates and who is scored in each of many fits.

A round is a function of the files, the recipe, the seed and its name alone.
"""

import dataclasses
import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.files import DataError
from training.frames import served_frames
from training.learn_activity import People, split
from training.recipes import Recipe, hashed, public_part
from training.recordings import DataFile, Recording, by_number

Protocol = Literal["data-sets", "people", "seeds", "minutes"]

FOLDS = 5
SEEDS = 5
ORDERS = 3


@dataclass(frozen=True, slots=True)
class Round:
    """One fit: `number` tells rounds apart that score the same data set; `people.test` is what it scores.

    Where nobody trains, it is the bundle to go on from that is scored.
    """

    name: str
    number: int
    people: People
    seed: int

    @property
    def labelled(self) -> set[str]:
        """Who was labelled to be learned from: those who validate, too."""
        return {recording.person for recording in (*self.people.train, *self.people.validation)}


def rounds(files: Sequence[DataFile], recipe: Recipe, protocol: Protocol, seed: int) -> Iterator[Round]:
    """Yield the protocol's rounds, in order."""
    if protocol == "data-sets":
        yield from _without_each(files, recipe, seed)
    elif protocol == "people":
        for file in _ordinary(files, protocol):
            yield from _folds_by_person(file, recipe, seed)
    elif protocol == "minutes":
        each_file = [_more_and_more(file, recipe, seed) for file in _ordinary(files, protocol)]
        # Order by order, so that what was interrupted has all data sets in fewer orders.
        yield from sorted(itertools.chain.from_iterable(each_file), key=lambda each: each.seed)
    else:
        for number in range(SEEDS):
            people = split(files, recipe)
            tested = [(file, recordings) for file, recordings in people.test if recordings]
            if not tested:
                raise DataError("nobody tests: it takes three people, or WISDM's or MotionSense's by name")
            people = dataclasses.replace(people, test=tested)
            yield Round(f"seed {seed + number}", number, people, seed + number)


def _ordinary(files: Sequence[DataFile], protocol: Protocol) -> Sequence[DataFile]:
    """Refuse windows that a worker kept, which could be scored alone here; they only train."""
    if kept := [file.name for file in files if file.kind == "kept"]:
        raise DataError(f"{kept[0]} holds windows that a worker kept, which only train: leave it out of `{protocol}`")
    return files


def _without_each(files: Sequence[DataFile], recipe: Recipe, seed: int) -> Iterator[Round]:
    """Learn from the training people of all others, and score everybody of the one left out."""
    ordinary = [file for file in files if file.kind != "kept"]
    if len(ordinary) < 2:
        raise DataError("leaving out a data set takes two at least, beside windows that a worker kept")
    for left_out in ordinary:
        others = split([_without(left_out, file) for file in files if file is not left_out], recipe)
        people = dataclasses.replace(others, test=[(left_out, list(left_out.recordings))])
        yield Round(f"without {left_out.dataset}", 0, people, seed)


def _without(left_out: DataFile, file: DataFile) -> DataFile:
    """Leave out those who are in two files by one name; the public sets' people only have the same numbers."""
    if public_part(file) is not None or public_part(left_out) is not None:
        return file
    return dataclasses.replace(file, recordings=tuple(r for r in file.recordings if r.person not in left_out.people))


def _folds_by_person(file: DataFile, recipe: Recipe, seed: int) -> Iterator[Round]:
    people = sorted(file.people, key=by_number)
    if len(people) < 3:
        raise DataError(f"{file.dataset} has {len(people)} people: folds by person take three at least")
    order = np.random.default_rng(seed).permutation(people).tolist()
    folds = min(FOLDS, len(order))
    for number in range(folds):
        tested = set(order[number::folds])
        # Somebody has to validate, for the learning curve; nothing is chosen by it.
        validating = set() if recipe.validation_share else {order[(number + 1) % folds]}
        yield Round(
            f"{file.dataset}, fold {number + 1} of {folds}",
            number,
            People(
                file.labels,
                train=[r for r in file.recordings if r.person not in tested | validating],
                validation=[r for r in file.recordings if r.person in validating],
                test=[(file, [r for r in file.recordings if r.person in tested])],
            ),
            seed,
        )


def _more_and_more(file: DataFile, recipe: Recipe, seed: int) -> Iterator[Round]:
    """Score the bundle itself, and then what goes on from it with 2, 4, 8 and so on, and all people, in some orders.

    Of those that were labelled some validate, as with somebody who has no more. One alone does not do.
    """
    parts = split([file], recipe)
    ((_, tested),) = parts.test
    testing, named = {r.person for r in tested}, {r.person for r in parts.validation}
    shown = {person for person in file.people - testing if len(served_frames(_of(file, {person})))}
    if len(shown) < 2 or not len(served_frames(tested)):
        raise DataError(f"{file.dataset}: `minutes` takes three people with complete windows, one of whom tests")
    yield Round(f"{file.dataset}, the bundle itself", 0, People(file.labels, [], [], parts.test), seed)
    number = 0
    for order in range(ORDERS):
        people = np.random.default_rng((seed, order)).permutation(sorted(shown, key=by_number)).tolist()
        for size in sizes(len(people)):
            number += 1
            validating = _validating(people[:size], named)
            yield Round(
                f"{file.dataset}, order {order + 1} of {ORDERS}, {size} people",
                number,
                People(file.labels, _of(file, set(people[:size]) - validating), _of(file, validating), parts.test),
                seed + order,
            )


def sizes(people: int) -> list[int]:
    """2, 4, 8 and so on, and all."""
    return [2**power for power in range(1, people.bit_length()) if 2**power < people] + [people]


def _validating(people: Sequence[str], named: Collection[str]) -> set[str]:
    """Those of some people who would validate if there were no others, as `training.recipes.parted` has it."""
    ranked = sorted(people, key=hashed)
    return set([person for person in ranked if person in named][: len(ranked) - 1] or ranked[:1])


def _of(file: DataFile, people: Collection[str]) -> list[Recording]:
    return [recording for recording in file.recordings if recording.person in people]
