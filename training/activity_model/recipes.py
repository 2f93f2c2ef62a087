"""The two recipes for training the activity model: ours, and the article's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from training.activity_model.augment import Augmentation
from training.fitting.fit_settings import FitSettings

RecipeName = Literal["default", "article"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How frames are made, what is held out for validation, and how the network is fitted.

    `augmentation` None means frames as recorded. If `validation_share` is not 0, that share of the training windows is
    held out at random, instead of people by name.
    """

    name: RecipeName
    fit: FitSettings
    augmentation: Augmentation | None
    validation_share: float
    class_weight_power: float  # a class's weight is its share of the frames to minus this power
    ood_share: float  # synthetic OOD samples, as a share of the drawn frames; 0 trains without familiarity


# Times the recipe's learning rate, to fine-tune trained weights.
FINE_TUNING_FACTOR = 0.25


RECIPES: Mapping[RecipeName, Recipe] = {
    "default": Recipe(
        name="default",
        fit=FitSettings(
            epochs=30,
            batch=128,
            learning_rate=2e-3,
            weight_decay=0.01,
            label_smoothing=0.05,
            spliced=0.3,
            average=0.998,
        ),
        augmentation=Augmentation(),
        validation_share=0.0,
        class_weight_power=0.5,
        ood_share=0.15,
    ),
    # The article names neither optimizer nor scaling: Adam and per-axis standardisation are our assumption. Its random
    # split puts overlapping windows of one walk on both sides, so its validation score is too good; we keep the split.
    "article": Recipe(
        name="article",
        fit=FitSettings(epochs=50, batch=400, learning_rate=1e-3, schedule="constant", patience=5),
        augmentation=None,
        validation_share=0.2,
        class_weight_power=0.0,
        ood_share=0.0,
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
