"""Texts per second of decoding and of framing, beside simple versions of both.

    python -m benchmarks.texts [--batch 256] [--seconds 2]

Framing is compared with a plain loop (a regular expression, lower(), a dictionary, a list a text) and with
scikit-learn's analyzer of CountVectorizer with the same dictionary; both find simpler tokens than ours. Decoding is
compared with json.loads. The texts are synthetic: words of a Zipf-like vocabulary of 20,000, with punctuation, clitics
and capitals, a tenth of the words unknown. All take turns; the best of several rounds counts, in seconds of this
process's CPU time.
"""

import argparse
import json
import os
import platform
import random
import re
from collections.abc import Callable, Sequence
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from benchmarks.decode import rates, record
from ingest.messages.texts import decode_texts
from windowing import Framer, TextRules

TEXTS = 2_048
VOCABULARY = 20_000


def words() -> list[str]:
    letters = "etaoinshrdlucmfwypvbgk"
    return list(dict.fromkeys("".join(random.choices(letters, k=random.randint(2, 10))) for _ in range(2 * VOCABULARY)))


def text(known: Sequence[str], weights: Sequence[float], count: int) -> str:
    parts = random.choices(known, cum_weights=weights, k=count)
    for k in random.sample(range(count), count // 4):
        form = random.choice(["{},", "{}.", "{}'s", "({})", "don't {}", "{}!", '"{}"'])
        parts[k] = form.format(parts[k].capitalize())
    return " ".join(parts)


def plain_loop(ids: dict[str, int], length: int) -> Callable[[Sequence[str]], Any]:
    """Frame as a first version would."""
    token = re.compile(r"\w+")

    def frame(texts: Sequence[str]) -> Any:
        rows = []
        for one in texts:
            row = [ids.get(found, 1) for found in token.findall(one.lower())][:length]
            rows.append(row + [0] * (length - len(row)))
        return np.array(rows, np.int32)

    return frame


def vectorizer_loop(ids: dict[str, int], length: int) -> Callable[[Sequence[str]], Any]:
    analyze = CountVectorizer(token_pattern=r"\w+").build_analyzer()

    def frame(texts: Sequence[str]) -> Any:
        frames = np.zeros((len(texts), length), np.int32)
        for frame, one in zip(frames, texts, strict=True):
            row = [ids.get(found, 1) for found in analyze(one)[:length]]
            frame[: len(row)] = row
        return frames

    return frame


def plain_decode(records: Sequence[Any]) -> Any:
    messages = [json.loads(one.value) for one in records]
    return [message["id"] for message in messages], [message["text"] for message in messages]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=256, help="texts a call")
    parser.add_argument("--seconds", type=float, default=2, help="for each form")
    options = parser.parse_args()
    random.seed(0)
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "msgspec", "selectolax", "scikit-learn"))
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {packages}")
    print(f"batches of {options.batch}; texts per second of one core\n")
    show(options)


def show(options: argparse.Namespace | SimpleNamespace) -> None:
    known = words()
    weights = np.cumsum(1 / (np.arange(len(known)) + 10)).tolist()
    vocabulary = known[::2][:VOCABULARY] + [known[k] for k in range(1, 5000, 2)]
    ids = {word: k + 2 for k, word in enumerate(vocabulary)}
    print(f"{'framing':34}{'ours':>12}{'plain loop':>12}{'ratio':>7}{'analyzer':>12}{'ratio':>7}")
    tokens: Literal["sentence", "words"]
    for name, tokens, html, count, length, wrap in (
        ("sentences of 25 words", "sentence", False, 25, 60, "{}"),
        ("the same, one letter not ASCII", "sentence", False, 25, 60, "{} é"),
        ("messages of 300 words", "words", False, 300, 1000, "{}"),
        ("the same, HTML", "words", True, 300, 1000, "<p>{}<br /></p> &amp;"),
    ):
        texts = [wrap.format(text(known, weights, count)) for _ in range(TEXTS)]
        framer = Framer(TextRules(tokens=tokens, html=html, length=length, keep="first"), vocabulary)
        ours, plain, analyzer = rates(
            [framer.frame, plain_loop(ids, length), vectorizer_loop(ids, length)], texts, options
        )
        print(
            f"{name:34}{ours:>12,.0f}{plain:>12,.0f}{ours / plain:>7.1f}{analyzer:>12,.0f}{ours / analyzer:>7.1f}",
            flush=True,
        )
    print(f"\n{'decoding':34}{'ours':>12}{'json.loads':>12}{'ratio':>7}")
    for name, count in (("sentences of 25 words", 25), ("messages of 300 words", 300)):
        values = [json.dumps({"id": f"review-{k}", "text": text(known, weights, count)}).encode() for k in range(TEXTS)]
        ours, plain = rates([decode_texts, plain_decode], [record(k, value) for k, value in enumerate(values)], options)
        print(f"{name:34}{ours:>12,.0f}{plain:>12,.0f}{ours / plain:>7.1f}", flush=True)


if __name__ == "__main__":
    main()
