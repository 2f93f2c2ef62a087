"""How each text network is fitted to each data set, unless the command line says otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from training.embeddings import Variant
from training.fit import FitSettings
from training.texts import Dataset
from windowing.text import TextRules

ArchitectureName = Literal["text-cnn", "glove-cnn", "conv1d", "lstm", "gru", "bilstm"]


@dataclass(frozen=True, slots=True)
class Network:
    """One of the core's architectures with its arguments, apart from what texts and vectors decide.

    `trims` says that padding never changes its answer, so that batches are cut to their longest text.
    """

    name: str
    architecture: str
    arguments: dict[str, Any]
    trims: bool = True

    def sized(self, **sizes: int) -> dict[str, Any]:
        """The architecture's arguments with those that texts and vectors decide."""
        return {**sizes, **self.arguments}


@dataclass(frozen=True, slots=True)
class TextRecipe:
    """How texts are framed, which words are known, and how the network is fitted.

    `beyond_training` adds words that the vectors know and no training text holds: an embedding that is not
    trained from scratch has something to say of them.
    """

    network: Network
    variant: Variant
    rules: TextRules
    fit: FitSettings
    min_count: int
    max_words: int
    beyond_training: bool
    validation_share: float = 0.1


NETWORKS: Mapping[ArchitectureName, Network] = {
    "text-cnn": Network("text-cnn", "text-cnn", {"kernels": [3, 4, 5], "maps": 100, "dropout": 0.5}),
    "glove-cnn": Network("glove-cnn", "glove-cnn", {}, trims=False),
    "conv1d": Network("conv1d", "text-cnn", {"kernels": [5], "maps": 128, "dropout": 0.5}),
    "lstm": Network("lstm", "recurrent", {"cell": "lstm", "hidden": 128, "dropout": 0.5}),
    "gru": Network("gru", "recurrent", {"cell": "gru", "hidden": 128, "dropout": 0.5}),
    "bilstm": Network(
        "bilstm", "recurrent", {"cell": "lstm", "layers": 2, "bidirectional": True, "hidden": 64, "dropout": 0.5}
    ),
}

# Tokens that hold nearly all of each set's texts; Kim's tokens for sentences, words for the rest.
RULES: Mapping[Dataset, TextRules] = {
    "subj": TextRules(tokens="sentence", html=False, length=64, keep="first"),
    "mr": TextRules(tokens="sentence", html=False, length=64, keep="first"),
    "trec": TextRules(tokens="sentence", html=False, length=40, keep="first"),
    "imdb": TextRules(tokens="words", html=True, length=400, keep="last"),
    "20news": TextRules(tokens="words", html=False, length=1000, keep="first"),
    "csv": TextRules(tokens="words", html=False, length=256, keep="first"),
}

# Kim (2014), and what his code adds: at most 25 epochs, of which the best on validation is kept.
KIM = FitSettings(
    epochs=25,
    batch=50,
    optimizer="adadelta",
    learning_rate=1.0,
    schedule="constant",
    max_norm=3.0,
    patience=6,
    best_by="accuracy",
)
LONGER_TEXTS = FitSettings(epochs=6, batch=64, learning_rate=1e-3, weight_decay=0.01, patience=6, best_by="accuracy")
MESSAGES = FitSettings(epochs=20, batch=64, learning_rate=1e-3, weight_decay=0.01, patience=20, best_by="accuracy")


def recipe_for(dataset: Dataset, architecture: ArchitectureName, variant: Variant) -> TextRecipe:
    """The recipe of one network for one data set."""
    sentences = dataset in ("subj", "mr", "trec")
    rules = RULES[dataset]
    if architecture == "glove-cnn":
        rules = rules.model_copy(update={"length": 1000})
    if architecture == "text-cnn" and (sentences or dataset == "csv"):
        fit = KIM
    else:
        fit = MESSAGES if dataset == "20news" else LONGER_TEXTS
    return TextRecipe(
        network=NETWORKS[architecture],
        variant=variant,
        rules=rules,
        fit=fit,
        min_count=1 if sentences or dataset == "csv" else 2,
        max_words=30_000,
        beyond_training=variant != "rand",
    )
