"""The two ways to train the activity model, and who is held out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from training.augment import Augmentation
from training.fit import FitSettings
from training.recordings import DataFile, by_number

RecipeName = Literal["default", "article"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How frames are made, who is held out, and how the network is fitted.

    `augmentation` None means frames as they were recorded. Where `validation_share` is not 0, that share of the
    training windows is set aside at random, and nobody by name.
    """

    name: RecipeName
    fit: FitSettings
    augmentation: Augmentation | None
    validation_share: float
    class_weight_power: float  # a drawn class's weight is its share of the frames to minus this power
    stranger_share: float  # so many made-up strangers as a share of the drawn frames; with none, none are told


# Of a recipe's learning rate, for weights that have learned already.
FINE_TUNING = 0.25


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Who of a data set is learned nothing from. Nothing is chosen by those who test."""

    test: Collection[str]
    validation: Collection[str]


HELD_OUT: Mapping[str, HeldOut] = {
    # The literature's test people; to validate, people who show all six activities.
    "wisdm": HeldOut(test=tuple(str(user) for user in range(29, 37)), validation=("7", "12", "20", "27")),
    "motionsense": HeldOut(test=("20", "21", "22", "23", "24"), validation=("9", "19")),
}


def held_out(file: DataFile, files: Sequence[DataFile] = ()) -> HeldOut:
    """Say who of a data set is held out: those of `HELD_OUT`, or by their place among the people of another file.

    Every fifth person tests, or the last of three or four; the second of ten validates. Where such `files` share
    people, who are then the same people, they are counted together: nobody tests here and is learned from there.
    """
    if file.kind in HELD_OUT:
        return HELD_OUT[file.kind]
    people = sorted(_together(file, files), key=by_number)
    return HeldOut(test=people[4::5] or people[3:] or people[2:], validation=people[1::10])


def _together(file: DataFile, files: Sequence[DataFile]) -> set[str]:
    people = file.people
    others = [other.people for other in files if other.kind not in HELD_OUT]
    while joined := [other for other in others if other & people and not other <= people]:
        people = people.union(*joined)
    return people


RECIPES: Mapping[RecipeName, Recipe] = {
    "default": Recipe(
        name="default",
        fit=FitSettings(
            epochs=30,
            batch=128,
            learning_rate=2e-3,
            weight_decay=0.01,
            label_smoothing=0.05,
            average=0.998,
        ),
        augmentation=Augmentation(),
        validation_share=0.0,
        class_weight_power=0.5,
        stranger_share=0.15,
    ),
    # Says nothing of its optimizer and scaling: Adam and per-axis standardisation are our reading. Its split at
    # random puts overlapping windows of one walk on both sides, so its validation flatters; we keep it as it is.
    "article": Recipe(
        name="article",
        fit=FitSettings(epochs=50, batch=400, learning_rate=1e-3, schedule="constant", patience=5),
        augmentation=None,
        validation_share=0.2,
        class_weight_power=0.0,
        stranger_share=0.0,
    ),
}

# Published for users 29 to 36 of the original file (Ackermann 2018), in the order of the labels.
ARTICLE_FIGURES: Mapping[str, tuple[float, ...]] = {
    "precision": (0.76, 0.98, 0.91, 0.99, 0.82, 0.93),
    "recall": (0.78, 0.96, 0.94, 0.84, 0.77, 0.98),
    "f1": (0.77, 0.97, 0.92, 0.91, 0.79, 0.95),
    "support": (650, 1990, 452, 370, 725, 2397),
}
ARTICLE_ACCURACY = 0.92
ARTICLE_LOSS = 0.39
