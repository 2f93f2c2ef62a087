"""Training a text model: from a corpus to a bundle and a report."""

import dataclasses
import datetime
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from inference.architectures import count_parameters
from inference.bundle import Bundle
from inference.devices.cpu import CpuDevice
from inference.manifest import ArchitectureChoice, DataSet, Description, Input, Training
from inference.saving import save_bundle
from training.baselines import BASELINES, SETTINGS, Baseline, fit_baseline
from training.bundles import described, make_room, replaced_bundle, told, with_metrics
from training.embeddings import Variant
from training.evaluate import Evaluation, evaluate_texts, table
from training.learn_text import (
    RANDOM_DIMENSIONS,
    Learned,
    Material,
    Split,
    describe,
    identity_of,
    learn,
    split_off,
)
from training.markdown import plain
from training.report import TrainingReport, write_training_report
from training.scores import Scores, score
from training.text_recipes import TextRecipe
from training.texts import Corpus
from training.words import FIRST_WORD
from windowing.text import Framer, parse_rules

PAPERS_VARIANTS: tuple[Variant, ...] = ("rand", "static", "non-static", "multichannel")
SPEED_BATCHES = (1, 256)
SPEED_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Trained:
    """What `train_text` made."""

    bundle: Bundle
    tests: tuple[Evaluation, ...]


def train_text(
    material: Material,
    recipe: TextRecipe,
    output: Path,
    report: Path,
    *,
    command: str,
    seed: int = 0,
    test_share: float = 0.1,
    baselines: bool = False,
    resume: bool = False,
    version: str = "1",
    console: Console | None = None,
) -> Trained:
    """Fit a text model by `recipe`; write its bundle to the folder `output` and the account to `report`.

    The texts that the data set holds back, or where it has no split `test_share` of all, are scored once, at the
    end, as they will be served. The bundle is named like its folder, and its manifest carries `command`. `report`
    also keeps the checkpoint from which `resume` continues. Raises `DataError`, `FitError` or `BundleError`.
    """
    began = time.monotonic()
    make_room(output.parent, report)
    replaced = replaced_bundle(output)
    corpus = material.corpus
    settings = dataclasses.replace(recipe.fit, seed=seed)
    split = single_split(corpus, recipe.validation_share, test_share, seed)
    training = Training(
        data=tuple(DataSet(name=file.name, sha256=file.sha256) for file in material.files),
        command=command,
        seed=seed,
        date=datetime.datetime.now(datetime.UTC).date(),
    )
    # What cannot be a bundle is refused before the fit, not after it.
    _describe(output.name, version, corpus, recipe, *_largest_table(material, recipe), training)
    learned = learn(
        material,
        split,
        recipe,
        settings,
        everything=True,
        checkpoint=report / "checkpoint.safetensors",
        resume=resume,
        # What shares leave for each part, the seed draws: a checkpoint of other parts has seen this run's test.
        identity=identity_of(material, recipe) | {"parts": [len(split.train), len(split.validation), len(split.test)]},
        console=console,
    )
    tokens, dimensions = learned.table_shape
    description = _describe(output.name, version, corpus, recipe, tokens, dimensions, training)
    bundle, tests = _save_and_test(output, learned, description, recipe, corpus, split.test)
    references = _baseline_scores(corpus, split) if baselines and len(split.test) else {}
    speed = texts_a_second(bundle, [corpus.texts[i] for i in split.validation[: max(SPEED_BATCHES)]])
    account = TrainingReport(
        title=f"{plain(corpus.name)}, {recipe.network.name}, {recipe.variant}",
        command=command,
        seed=seed,
        seconds=time.monotonic() - began,
        threads=torch.get_num_threads(),
        settings=dataclasses.asdict(settings),
        data=[dataclasses.asdict(file) for file in material.files],
        examples={
            "training, an epoch": len(split.train),
            "validation": len(split.validation),
            "test": len(split.test),
        },
        temperature=learned.temperature,
        history=tuple(learned.history),
        validation=learned.validation,
        tests=tests,
        unit="texts",
        details={
            "recipe": describe(recipe),
            "words": len(learned.vocabulary),
            "parameters": count_parameters(learned.network),
            "texts_a_second": {str(batch): rate for batch, rate in speed.items()},
            "baselines": {
                name: {"accuracy": scores.accuracy, "macro_f1": scores.macro_f1} for name, scores in references.items()
            },
        },
        sections=[_comparison(recipe, learned, tests, references, speed)],
    )
    write_training_report(report, account)
    if console is not None:
        for test in tests:
            console.print(table(test))
        console.print(told(bundle, output, report, replaced), soft_wrap=True, markup=False)
    return Trained(bundle, tests)


def single_split(corpus: Corpus, validation_share: float, test_share: float, seed: int) -> Split:
    """The data set's own test part, or `test_share` of all; of the others, `validation_share` for validation."""
    rng = np.random.default_rng(seed)
    if corpus.test is not None:
        test, others = np.flatnonzero(corpus.test), np.flatnonzero(~corpus.test)
    else:
        test, others = split_off(np.arange(len(corpus)), test_share, rng)
    validation, train = split_off(others, validation_share, rng)
    return Split(train, validation, test)


def _largest_table(material: Material, recipe: TextRecipe) -> tuple[int, int]:
    """The most tokens that the table of vectors can come to have, and its dimensions."""
    vectors = None if recipe.variant == "rand" else material.vectors
    words = len(material.tokens.words) + (len(vectors.rows) if vectors else 0)
    return min(words, recipe.max_words) + FIRST_WORD, vectors.dimensions if vectors else RANDOM_DIMENSIONS


def _describe(
    name: str, version: str, corpus: Corpus, recipe: TextRecipe, tokens: int, dimensions: int, training: Training
) -> Description:
    """What the bundle will say of itself; raises `FitError`."""
    arguments = recipe.network.sized(
        tokens=tokens, dimensions=dimensions, length=recipe.rules.length, classes=len(corpus.labels)
    )
    return described(
        lambda: Description(
            name=name,
            version=version,
            architecture=ArchitectureChoice(name=recipe.network.architecture, arguments=arguments),
            input=Input(shape=(recipe.rules.length,), dtype="int32"),
            framing=recipe.rules.model_dump(),
            labels=corpus.labels,
            training=training,
        ),
        name,
        version,
    )


def _save_and_test(
    output: Path, learned: Learned, description: Description, recipe: TextRecipe, corpus: Corpus, test: np.ndarray
) -> tuple[Bundle, tuple[Evaluation, ...]]:
    """Save the bundle, score it as it will be served, and save it again with its scores."""

    def save(told: Description) -> Bundle:
        # Texts in another language would all be unknown words: its first words are known ones.
        known = " ".join(learned.vocabulary[:GOLDEN_WORDS])
        golden = Framer(recipe.rules, learned.vocabulary).frame((*GOLDEN_TEXTS, known))
        return save_bundle(
            output, learned.network, told, golden, vocabulary=learned.vocabulary, half=("embedding.weight",)
        )

    calibrated = description.model_copy(update={"temperature": round(learned.temperature, 4)})
    bundle = save(calibrated)
    tests = [evaluate_texts(bundle, corpus, test)] if len(test) else []
    bundle = save(with_metrics(calibrated, learned.validation, tests))
    return bundle, tuple(dataclasses.replace(one, bundle_digest=bundle.digest) for one in tests)


def _baseline_scores(corpus: Corpus, split: Split) -> dict[Baseline, Scores]:
    """The baselines learn from the validation part too: they choose nothing by it."""
    learned = np.concatenate([split.train, split.validation])
    found: dict[Baseline, Scores] = {}
    for baseline in BASELINES:
        guesses = fit_baseline(
            baseline,
            [corpus.texts[i] for i in learned],
            corpus.targets[learned],
            [corpus.texts[i] for i in split.test],
            len(corpus.labels),
        )
        found[baseline] = score(corpus.labels, corpus.targets[split.test], guesses)
    return found


def texts_a_second(bundle: Bundle, texts: Sequence[str]) -> dict[int, float]:
    """How many of `texts` the core's CPU engine answers a second, on one thread, by the size of the batch.

    They should be as long as those to come: the engine leaves out the padding that a batch has in common.
    """
    threads = torch.get_num_threads()
    frames = Framer(parse_rules(bundle.manifest.framing), bundle.vocabulary).frame(texts)
    rates = {}
    try:
        for batch in SPEED_BATCHES:
            engine = CpuDevice().load(bundle, "float32", batch)
            began, rounds = time.monotonic(), 0
            while rounds < 2 or time.monotonic() - began < SPEED_SECONDS:
                engine.staging(0)[:] = frames[np.arange(rounds * batch, (rounds + 1) * batch) % len(frames)]
                engine.launch(0, batch)
                engine.collect(0)
                rounds += 1
            rates[batch] = round(rounds * batch / (time.monotonic() - began), 1)
    finally:
        torch.set_num_threads(threads)
    return rates


def _comparison(
    recipe: TextRecipe,
    learned: Learned,
    tests: Sequence[Evaluation],
    references: dict[Baseline, Scores],
    speed: dict[int, float],
) -> str:
    """The model beside the baselines, as Markdown."""
    heads = " | ".join(f"texts/s at batch {batch}" for batch in speed)
    lines = [
        "## Comparison\n",
        f"| model | accuracy | macro F1 | parameters | fitting, s | {heads} |",
        f"|---|---:|---:|---:|---:|{'---:|' * len(speed)}",
    ]
    rates = " | ".join(f"{rate:,.0f}" for rate in speed.values())
    fitting = sum(epoch.seconds for epoch in learned.history)
    on, found = ("test", tests[0].scores) if tests else ("validation", learned.validation)
    lines.append(
        f"| {recipe.network.name} {recipe.variant}, on {on} | {found.accuracy:.4f} | {found.macro_f1:.4f} | "
        f"{count_parameters(learned.network):,} | {fitting:.0f} | {rates} |"
    )
    lines += [
        f"| {BASELINES[name]} | {scores.accuracy:.4f} | {scores.macro_f1:.4f} |{' |' * (2 + len(speed))}"
        for name, scores in references.items()
    ]
    lines.append("\nTexts/s by the core's CPU engine on one thread, on texts of the validation part.\n")
    if references:
        lines.append(f"{SETTINGS}\n")
    return "\n".join(lines)


GOLDEN_WORDS = 50
# Made up: nobody's text goes into a bundle.
GOLDEN_TEXTS = (
    "a boy finds an old map and leaves his village to look for the island where his father was lost .",
    "this is a warm and funny film , though its last half hour is far too long !",
    "two sisters who have not spoken for years must share the house that their aunt has left them .",
    "i could not stop laughing , but i wouldn't call it good ; it's clever , and it doesn't last .",
    "Does anyone know which driver the new video card needs? Windows hangs when I open a second window.",
    "The goalkeeper saved two penalties and the team won the game 3-2 in the last minute of the season.",
    "For sale: a mountain bike, hardly used, with lights and a spare wheel. Asking 150 or best offer, please e-mail.",
    "The orbit of the satellite decays by a few metres a day, so the engine is fired every other month.",
)
