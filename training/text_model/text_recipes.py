"""How each text network is fitted to each data set, unless the command line says otherwise."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from training.activity_model.recipes import RecipeName
from training.data.text_datasets import Dataset
from training.fitting.fit_settings import FitError, FitSettings
from training.text_model.embeddings import Variant
from windowing.text import TextRules

ArchitectureName = Literal["text-cnn", "glove-cnn", "conv1d", "lstm", "gru", "bilstm"]


@dataclass(frozen=True, slots=True)
class Network:
    """One of the core's architectures with its arguments, without those that texts and vectors decide.

    `trims` says that its answers don't depend on padding, so that batches are cut to their longest text.
    """

    name: str
    architecture: str
    arguments: dict[str, Any]
    trims: bool = True

    def sized(self, **sizes: int) -> dict[str, Any]:
        """Return the architecture's arguments, including those that texts and vectors decide."""
        return {**sizes, **self.arguments}


@dataclass(frozen=True, slots=True)
class TextRecipe:
    """How texts are framed, which words are in the vocabulary, and how the network is fitted.

    `beyond_training` adds words that have vectors but occur in no training text, unless the embedding is trained from
    scratch. `word_dropout` is the share of words hidden, anew each time: a network then relies on no single word, and
    learns to deal with unknown ones.
    """

    name: RecipeName
    network: Network
    variant: Variant
    rules: TextRules
    fit: FitSettings
    min_count: int
    max_words: int
    beyond_training: bool
    word_dropout: float
    validation_share: float = 0.1

    @property
    def title(self) -> str:
        """The recipe's name in tables: the article's variants go by their own names."""
        return self.variant if self.name == "article" else f"{self.name}-{self.variant}"


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

# Our recipe's changes to `text-cnn`: kernels of one word too, and for short texts also longer ones.
SENTENCE_CNN: dict[str, Any] = {"kernels": [1, 2, 3, 4, 5], "maps": 128, "dropout": 0.5}
MESSAGE_CNN: dict[str, Any] = {"kernels": [1, 2, 3], "maps": 256, "dropout": 0.5}

# Lengths that nearly all texts of each set fit in; Kim's tokens for sentences, words for the rest.
RULES: Mapping[Dataset, TextRules] = {
    "subj": TextRules(tokens="sentence", html=False, length=64, keep="first"),
    "mr": TextRules(tokens="sentence", html=False, length=64, keep="first"),
    "trec": TextRules(tokens="sentence", html=False, length=40, keep="first"),
    "imdb": TextRules(tokens="words", html=True, length=400, keep="last"),
    "20news": TextRules(tokens="words", html=False, length=1000, keep="first"),
    "csv": TextRules(tokens="words", html=False, length=256, keep="first"),
}

# The articles' settings: Kim (2014), with his code's (at most 25 epochs, keeping the best on validation), and Chollet
# (2016). The patience is ours.
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
CHOLLET = FitSettings(epochs=10, batch=128, optimizer="rmsprop", learning_rate=1e-3, schedule="constant")

# Ours: few epochs, a decaying rate, and averaged weights.
SENTENCES = FitSettings(epochs=8, batch=64, learning_rate=1e-3, average=0.99)
REVIEWS = FitSettings(epochs=5, batch=64, learning_rate=1e-3, average=0.99)
MESSAGES = FitSettings(epochs=16, batch=64, learning_rate=2e-3, average=0.99)


def default_variant(architecture: ArchitectureName, recipe: RecipeName) -> Variant:
    """Return the default variant of the vectors: Kim's best, and Chollet's."""
    if recipe == "default":
        return "projected"
    return "static" if architecture == "glove-cnn" else "non-static"


def recipe_for(
    dataset: Dataset, architecture: ArchitectureName, variant: Variant, recipe: RecipeName = "default"
) -> TextRecipe:
    """Return the recipe of one network for one data set; raises `FitError` if no article has it."""
    sentences = dataset in ("subj", "mr", "trec", "csv")
    network, rules = NETWORKS[architecture], RULES[dataset]
    if architecture == "glove-cnn":
        rules = rules.model_copy(update={"length": 1000})
    if recipe == "article":
        return _article(network, rules, variant)
    if architecture == "text-cnn" and dataset != "imdb":
        network = dataclasses.replace(network, arguments=SENTENCE_CNN if sentences else MESSAGE_CNN)
    return TextRecipe(
        name=recipe,
        network=network,
        variant=variant,
        rules=rules,
        fit=SENTENCES if sentences else MESSAGES if dataset == "20news" else REVIEWS,
        min_count=1 if sentences else 2,
        max_words=25_000,
        beyond_training=variant != "rand",
        word_dropout=0.5 if dataset == "20news" else 0.3 if sentences else 0.1,
    )


def _article(network: Network, rules: TextRules, variant: Variant) -> TextRecipe:
    if network.name not in ARTICLES:
        raise FitError(f"no article fits {network.name}: --recipe article is for {' and '.join(ARTICLES)}")
    fit, max_words, validation_share = ARTICLES[network.name]
    return TextRecipe(
        name="article",
        network=network,
        variant=variant,
        rules=rules,
        fit=fit,
        min_count=1,
        max_words=max_words,
        beyond_training=variant != "rand",
        word_dropout=0.0,
        validation_share=validation_share,
    )


# Settings, size of the vocabulary, and share for validation.
ARTICLES: Mapping[str, tuple[FitSettings, int, float]] = {
    "text-cnn": (KIM, 30_000, 0.1),
    "glove-cnn": (CHOLLET, 20_000, 0.2),
}
