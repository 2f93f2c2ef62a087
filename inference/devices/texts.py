"""Faster equivalents of the text networks for the CPU: products by table lookup, and no padding.

Measured (benchmarks/README.md): 3 to 25 times as many texts a second as with oneDNN's convolutions, for Kim's network.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inference.architectures.layers import ConvRelu
from inference.architectures.recurrent import Recurrent
from inference.architectures.text import GloveCnn, TextCnn, as_channels
from inference.devices.replace import replace_layers

# Tokens, including padding, that are looked up at once: more would not stay in the cache.
PIECE_TOKENS = 4096

# Bytes of a network's tables; if larger, it keeps its convolutions. That is 55,000 words of Kim's network.
TABLES_LIMIT = 1 << 28


def optimise_text_layers(module: nn.Module) -> None:
    """Replace the text networks inside `module` by faster equivalents."""
    replace_layers(module, TextCnn, lambda network: TableTextCnn(network) if _fits_limit(network) else network)
    replace_layers(module, GloveCnn, lambda network: TableGloveCnn(network) if _fits_limit(network) else network)
    replace_layers(module, Recurrent, TrimmedRecurrent)


class WordTable(nn.Module):
    """A convolution over word vectors, with its products looked up instead of computed.

    A word's contribution to a window depends only on the word and its position in the window. So it is computed once
    for every word and position; a window is the sum of its words' entries.

    Input: int32 (n, length). Output: float32 (n, windows, out_channels), without the bias and the ReLU, which can be
    applied after a maximum.
    """

    def __init__(self, embedding: nn.Embedding, convolution: ConvRelu) -> None:
        super().__init__()
        self.kernel = convolution.kernel_size[0]
        self.padding = convolution.both_sides[1]
        products = torch.einsum("wd,mdk->wkm", embedding.weight.detach(), convolution.weight.detach())
        self.table = products.reshape(-1, convolution.out_channels)
        self.places = torch.arange(self.kernel, dtype=torch.int32)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the sums of each window."""
        windows = F.pad(frames, (self.padding, self.padding)).unfold(1, self.kernel, 1)
        rows = (windows * self.kernel + self.places).reshape(-1, self.kernel)
        return F.embedding_bag(rows, self.table, mode="sum").view(len(frames), -1, self.table.shape[1])


class TableTextCnn(nn.Module):
    """A `TextCnn` with lookup tables. It answers texts of similar length together: padding costs as much as words."""

    def __init__(self, network: TextCnn) -> None:
        super().__init__()
        convolutions = _word_convolutions(network)
        self.tables = nn.ModuleList(WordTable(network.embedding, convolution) for convolution in convolutions)
        self.bias = torch.cat([convolution.bias.detach() for convolution in convolutions])
        self.output = network.output

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (n, classes) of `frames`."""
        if len(frames) == 1:
            return self._answer(without_padding(frames))
        logits = torch.empty(len(frames), self.output.out_features)
        for rows, length in length_batches(lengths(frames)):
            logits[rows] = self._answer(frames[rows, :length])
        return logits

    def _answer(self, frames: Tensor) -> Tensor:
        largest = torch.cat([table(frames).amax(dim=1) for table in self.tables], dim=1)
        logits: Tensor = self.output(torch.relu_(largest.add_(self.bias)))
        return logits


class TableGloveCnn(nn.Module):
    """A `GloveCnn` whose first convolution, three quarters of the work, is a lookup table."""

    def __init__(self, network: GloveCnn) -> None:
        super().__init__()
        self.table = WordTable(network.embedding, network.conv1)
        self.bias = network.conv1.bias
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (n, classes) of `frames`."""
        return self.network.after_first_convolution(as_channels(torch.relu_(self.table(frames).add_(self.bias))))


class TrimmedRecurrent(nn.Module):
    """A `Recurrent` that stops at the end of a batch's longest text."""

    def __init__(self, network: Recurrent) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (n, classes) of `frames`."""
        logits: Tensor = self.network(without_padding(frames))
        return logits


def lengths(frames: Tensor) -> Tensor:
    """Return the tokens of each text, int32 (n,), up to its last word, and at least one."""
    ends = torch.arange(1, frames.shape[1] + 1, dtype=torch.int32)
    return ((frames != 0) * ends).amax(dim=1).clamp_(min=1)


def length_batches(lengths: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Yield the rows of texts to answer together, shortest first, with the length of the longest.

    A batch has at most `PIECE_TOKENS` tokens, including padding, or one text.
    """
    sorted_lengths, order = torch.sort(lengths)
    longest: list[int] = sorted_lengths.tolist()
    start = 0
    while start < len(longest):
        stop = start + 1
        while stop < len(longest) and (stop + 1 - start) * longest[stop] <= PIECE_TOKENS:
            stop += 1
        yield order[start:stop], longest[stop - 1]
        start = stop


def without_padding(frames: Tensor) -> Tensor:
    """Return `frames` (n, length) up to the last column that holds a word, but at least one column."""
    columns = torch.count_nonzero(frames, dim=0).nonzero()
    return frames[:, : int(columns[-1]) + 1 if len(columns) else 1]


def _word_convolutions(network: TextCnn | GloveCnn) -> list[ConvRelu]:
    layers = network.convolutions if isinstance(network, TextCnn) else [network.conv1]
    return [layer for layer in layers if isinstance(layer, ConvRelu)]


def _fits_limit(network: TextCnn | GloveCnn) -> bool:
    products = sum(convolution.out_channels * convolution.kernel_size[0] for convolution in _word_convolutions(network))
    return 4 * products * network.embedding.num_embeddings <= TABLES_LIMIT
