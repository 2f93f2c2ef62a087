"""Ways to train a table of word vectors. Each ends as one plain table, which is all that a bundle holds.

    rand          random rows, trained                                          Kim (2014), CNN-rand
    static        published vectors, as they are                                CNN-static
    non-static    published vectors, trained                                    CNN-non-static
    multichannel  the vectors twice, fixed and trained, under the same filters  CNN-multichannel
    projected     the vectors times a trained matrix, plus a trained offset for each word

Kim's multichannel model applies each filter to both channels and adds the results: as a convolution is linear,
that is one channel that holds the sum of both, with which it is trained and served here.

`projected` moves every word that has a vector, also those that no training text holds, with the matrix.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Variant = Literal["rand", "static", "non-static", "multichannel", "projected"]


class Table(nn.Module):
    """An embedding in training: ids int32[n, length] to vectors float32[n, length, dimensions].

    `rows` float32[tokens, dimensions] are its first vectors; row 0, the padding, is and stays zeros.
    """

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows.clone())

    def forward(self, ids: Tensor) -> Tensor:
        """The vectors of `ids`."""
        return F.embedding(ids, self.rows, padding_idx=0)

    def fold(self) -> Tensor:
        """The table float32[tokens, dimensions] that gives the same vectors."""
        return self.rows.detach()

    def carry(self, rows: Tensor) -> Tensor:
        """What `rows` float32[m, dimensions], published vectors of words not trained on, are in the table."""
        return rows


class Static(Table):
    """Vectors that are not trained."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__(rows)
        self.rows.requires_grad_(False)


class Multichannel(Table):
    """The sum of a trained channel, `rows`, and a fixed one; both begin as the same vectors."""

    fixed: Tensor

    def __init__(self, rows: Tensor) -> None:
        super().__init__(rows)
        self.register_buffer("fixed", rows.clone())

    def forward(self, ids: Tensor) -> Tensor:
        """The vectors of `ids`."""
        return super().forward(ids) + F.embedding(ids, self.fixed)

    def fold(self) -> Tensor:
        """The table float32[tokens, dimensions] that gives the same vectors."""
        return super().fold() + self.fixed

    def carry(self, rows: Tensor) -> Tensor:
        """Both channels' sum, for vectors of words not trained on."""
        return 2 * rows


class Projected(nn.Module):
    """Fixed vectors times a matrix that begins as the identity, plus offsets that begin as zeros."""

    fixed: Tensor

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("fixed", rows.clone())
        self.matrix = nn.Parameter(torch.eye(rows.shape[1]))
        self.offsets = nn.Parameter(torch.zeros_like(rows))

    def forward(self, ids: Tensor) -> Tensor:
        """The vectors of `ids`."""
        return F.embedding(ids, self.fixed) @ self.matrix + F.embedding(ids, self.offsets, padding_idx=0)

    def fold(self) -> Tensor:
        """The table float32[tokens, dimensions] that gives the same vectors."""
        return (self.fixed @ self.matrix + self.offsets).detach()

    def carry(self, rows: Tensor) -> Tensor:
        """Vectors of words not trained on, moved as all others are."""
        return (rows @ self.matrix).detach()


VARIANTS: Mapping[Variant, Callable[[Tensor], Table | Projected]] = {
    "rand": Table,
    "static": Static,
    "non-static": Table,
    "multichannel": Multichannel,
    "projected": Projected,
}
