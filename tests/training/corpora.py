"""Made-up texts, in the forms of the public data sets and as a corpus that can be learned."""

import csv
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

PRAISE = ["warm", "funny", "moving", "brilliant", "splendid"]
BLAME = ["dull", "weak", "boring", "awful", "clumsy"]
FILLING = ["the", "film", "story", "actor", "scene", "and", "is", "with", "a", "of", "one", "its", "for", "in"]


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_reviews(path: Path, rows: int = 200, seed: int = 1) -> Path:
    """A CSV whose labels are told by a single word each."""
    rng = np.random.default_rng(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in range(rows):
            words = [*rng.choice(FILLING, 8), rng.choice(PRAISE if row % 2 else BLAME), *rng.choice(FILLING, 4)]
            writer.writerow([" ".join(words), "good" if row % 2 else "bad"])
    return path


def write_vectors(path: Path, dimensions: int = 8) -> Path:
    """Vectors of the words above but the last, in GloVe's form, and of some that no text holds."""
    rng = np.random.default_rng(7)
    words = [*FILLING, *PRAISE, *BLAME, "unheard", "unseen"]
    words.remove("clumsy")
    lines = [f"{word} {' '.join(f'{value:.5f}' for value in rng.normal(0, 0.4, dimensions))}" for word in words]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
