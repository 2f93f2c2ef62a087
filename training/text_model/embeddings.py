"""Ways to train a table of word vectors. Each ends as one plain table, which is all that a bundle holds.

    rand          random rows, trained                                          Kim (2014), CNN-rand
    static        published vectors, unchanged                                  CNN-static
    non-static    published vectors, trained                                    CNN-non-static
    multichannel  the vectors twice, fixed and trained, under the same filters  CNN-multichannel
    projected     the vectors times a trained matrix, plus a trained offset for each word

Kim's multichannel model applies each filter to both channels and adds the results. Convolution is linear, so that
equals one channel with the sum of both, which is how it is trained and served here.

`projected` transforms every word that has a vector, including those that no training text holds.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Variant = Literal["rand", "static", "non-static", "multichannel", "projected"]


class Table(nn.Module):
    """An embedding in training: ids int32[n, length] to vectors float32[n, length, dimensions].

    `rows` float32[tokens, dimensions] are the initial vectors; row 0, the padding, stays zero.
    """

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows.clone())

    def forward(self, ids: Tensor) -> Tensor:
        """Return the vectors of `ids`."""
        return F.embedding(ids, self.rows, padding_idx=0)

    def fold(self) -> Tensor:
        """Return the plain table float32[tokens, dimensions] that gives the same vectors."""
        return self.rows.detach()

    def carry(self, rows: Tensor) -> Tensor:
        """Transform `rows` float32[m, dimensions], published vectors of words that were not trained on."""
        return rows


class Static(Table):
    """Vectors that are not trained."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__(rows)
        self.rows.requires_grad_(False)


class Multichannel(Table):
    """The sum of a trained channel, `rows`, and a fixed one, both initialised with the same vectors."""

    fixed: Tensor

    def __init__(self, rows: Tensor) -> None:
        super().__init__(rows)
        self.register_buffer("fixed", rows.clone())

    def forward(self, ids: Tensor) -> Tensor:
        """Return the vectors of `ids`."""
        return super().forward(ids) + F.embedding(ids, self.fixed)

    def fold(self) -> Tensor:
        """Return the plain table float32[tokens, dimensions] that gives the same vectors."""
        return super().fold() + self.fixed

    def carry(self, rows: Tensor) -> Tensor:
        """Return the sum of both channels, for words that were not trained on."""
        return 2 * rows


class Projected(nn.Module):
    """Fixed vectors times a matrix, initially the identity, plus offsets, initially zero."""

    fixed: Tensor

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("fixed", rows.clone())
        self.matrix = nn.Parameter(torch.eye(rows.shape[1]))
        self.offsets = nn.Parameter(torch.zeros_like(rows))

    def forward(self, ids: Tensor) -> Tensor:
        """Return the vectors of `ids`."""
        return F.embedding(ids, self.fixed) @ self.matrix + F.embedding(ids, self.offsets, padding_idx=0)

    def fold(self) -> Tensor:
        """Return the plain table float32[tokens, dimensions] that gives the same vectors."""
        return (self.fixed @ self.matrix + self.offsets).detach()

    def carry(self, rows: Tensor) -> Tensor:
        """Transform the vectors of words that were not trained on, with the same matrix."""
        return (rows @ self.matrix).detach()


VARIANTS: Mapping[Variant, Callable[[Tensor], Table | Projected]] = {
    "rand": Table,
    "static": Static,
    "non-static": Table,
    "multichannel": Multichannel,
    "projected": Projected,
}
