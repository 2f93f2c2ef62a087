"""A text model beside baselines that are fitted to the same texts, and its speed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from inference.architectures import count_parameters
from inference.bundle import Bundle
from inference.devices.cpu import CpuDevice
from training.data.text_datasets import Corpus
from training.evaluation.evaluate import Evaluation
from training.fitting.scores import Scores, score
from training.text_model.baselines import BASELINES, SETTINGS, Baseline, fit_baseline
from training.text_model.fit_text import FittedTextModel, Split
from training.text_model.text_recipes import TextRecipe
from windowing.text import Framer, parse_rules

SPEED_BATCHES = (1, 256)
SPEED_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class BaselineComparison:
    """The scores of the `baselines`, and the model's texts a second (`speed`) by batch size."""

    baselines: dict[Baseline, Scores]
    speed: dict[int, float]


def measure(corpus: Corpus, split: Split, bundle: Bundle, baselines: bool) -> BaselineComparison:
    """Score the baselines, if asked for, on the test texts, and time the bundle on the validation texts."""
    found = _baseline_scores(corpus, split) if baselines and len(split.test) else {}
    return BaselineComparison(
        found, texts_a_second(bundle, [corpus.texts[i] for i in split.validation[: max(SPEED_BATCHES)]])
    )


def _baseline_scores(corpus: Corpus, split: Split) -> dict[Baseline, Scores]:
    """Fit the baselines to the training and validation texts, for they choose nothing by the latter, and score them."""
    train = np.concatenate([split.train, split.validation])
    found: dict[Baseline, Scores] = {}
    for baseline in BASELINES:
        guesses = fit_baseline(
            baseline,
            [corpus.texts[i] for i in train],
            corpus.targets[train],
            [corpus.texts[i] for i in split.test],
            len(corpus.labels),
        )
        found[baseline] = score(corpus.labels, corpus.targets[split.test], guesses)
    return found


def texts_a_second(bundle: Bundle, texts: Sequence[str]) -> dict[int, float]:
    """Return how many of `texts` the core's CPU engine classifies a second, on one thread, by batch size.

    They should be as long as those in service: the engine skips the padding that a batch has in common.
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


def comparison_section(
    recipe: TextRecipe, fitted: FittedTextModel, tests: Sequence[Evaluation], comparison: BaselineComparison
) -> str:
    """Return the model beside the baselines, as Markdown."""
    heads = " | ".join(f"texts/s at batch {batch}" for batch in comparison.speed)
    lines = [
        "## Comparison\n",
        f"| model | accuracy | macro F1 | parameters | fitting, s | {heads} |",
        f"|---|---:|---:|---:|---:|{'---:|' * len(comparison.speed)}",
    ]
    rates = " | ".join(f"{rate:,.0f}" for rate in comparison.speed.values())
    fitting = sum(epoch.seconds for epoch in fitted.history)
    on, found = ("test", tests[0].scores) if tests else ("validation", fitted.validation)
    lines.append(
        f"| {recipe.network.name} {recipe.variant}, on {on} | {found.accuracy:.4f} | {found.macro_f1:.4f} | "
        f"{count_parameters(fitted.network):,} | {fitting:.0f} | {rates} |"
    )
    lines += [
        f"| {BASELINES[name]} | {scores.accuracy:.4f} | {scores.macro_f1:.4f} |{' |' * (2 + len(comparison.speed))}"
        for name, scores in comparison.baselines.items()
    ]
    lines.append("\nTexts/s by the core's CPU engine on one thread, on texts of the validation part.\n")
    if comparison.baselines:
        lines.append(f"{SETTINGS}\n")
    return "\n".join(lines)
