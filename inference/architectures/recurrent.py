"""`recurrent`: LSTM and GRU networks for texts, given as the ids of their tokens as in `text.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from inference.architectures.arguments import Dropout
from inference.architectures.text import TextArguments

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU}


class RecurrentArguments(TextArguments):
    """`recurrent`: `layers` of `hidden` cells, for each direction of reading if `bidirectional`."""

    cell: Literal["lstm", "gru"] = "lstm"
    layers: Annotated[int, Field(ge=1, le=4)] = 1
    bidirectional: bool = False
    hidden: Annotated[int, Field(ge=1, le=1_024)] = 128
    dropout: Dropout = 0.5

    @property
    def width(self) -> int:
        """The size of the vectors, or of both directions' outputs together."""
        return max(self.dimensions, self.hidden * (1 + self.bidirectional))


class Recurrent(nn.Module):
    """Recurrent layers, the maximum of each of the last one's outputs over the words, and one dense layer.

    The backward direction starts at a text's last word rather than at the frame's end: the words are reversed, padding
    stays in place. So padding never changes the answer, and no packing is needed, which would have to know the lengths
    on the CPU.

    Input: int32 (n, length). Output: logits (n, classes). Source: Hochreiter and Schmidhuber, "Long Short-Term Memory"
    (1997); Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder" (2014), for the GRU.
    """

    def __init__(self, arguments: RecurrentArguments) -> None:
        super().__init__()
        cell, hidden = CELLS[arguments.cell], arguments.hidden
        out = hidden * (1 + arguments.bidirectional)
        sizes = [arguments.dimensions] + [out] * (arguments.layers - 1)
        self.embedding = nn.Embedding(arguments.tokens, arguments.dimensions, padding_idx=0)
        self.ahead = nn.ModuleList(cell(size, hidden, batch_first=True) for size in sizes)
        self.back = nn.ModuleList(cell(size, hidden, batch_first=True) for size in sizes if arguments.bidirectional)
        self.dropout = nn.Dropout(arguments.dropout)
        self.output = nn.Linear(out, arguments.classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (n, classes) of `frames`."""
        is_word = frames != 0
        order = reversal_order(is_word) if self.back else None
        x = self.embedding(frames)
        for index, ahead in enumerate(self.ahead):
            x = x if index == 0 else self.dropout(x)
            outputs = [ahead(x)[0]]
            if order is not None:
                outputs.append(reordered(self.back[index](reordered(x, order))[0], order))
            x = torch.cat(outputs, dim=2)
        # Both cells' outputs are between -1 and 1, so padding is never the maximum, and a text without words is all -1.
        pooled = x.masked_fill(~is_word.unsqueeze(2), -1.0).amax(dim=1)
        logits: Tensor = self.output(self.dropout(pooled))
        return logits


def reversal_order(is_word: Tensor) -> Tensor:
    """Return the source index of each position to read a text backward, (n, length); it is its own inverse."""
    places = torch.arange(is_word.shape[1], device=is_word.device).expand(is_word.shape)
    mirrored = is_word.sum(dim=1, keepdim=True) - 1 - places
    return torch.where(mirrored >= 0, mirrored, places)


def reordered(x: Tensor, order: Tensor) -> Tensor:
    """Return `x` (n, length, channels) with its positions in another order."""
    return x.gather(1, order.unsqueeze(2).expand(x.shape))
