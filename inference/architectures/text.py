"""`text-cnn` and `glove-cnn`: convolutional networks for texts, given as token ids.

Id 0 is padding, which follows the text and is a vector of zeros; 1 is the unknown word, and word k of the vocabulary
has id k + 2.
"""

from __future__ import annotations

from typing import Annotated, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from inference.architectures.arguments import Arguments, Classes, Dropout
from inference.architectures.layers import ConvRelu

# A manifest is not trusted: the table is at most 512 MiB in float32, the activations of one text 4 MiB.
TABLE_LIMIT = 1 << 27
FEATURES_LIMIT = 1 << 20

Kernel = Annotated[int, Field(ge=1, le=16, strict=True)]


class TextArguments(Arguments):
    """Texts of `length` ids below `tokens`, each with a vector of `dimensions` numbers."""

    classes: Classes
    tokens: Annotated[int, Field(ge=2, le=1_000_000)]
    length: Annotated[int, Field(ge=1, le=8_192)]
    dimensions: Annotated[int, Field(ge=1, le=1_024)] = 100

    @property
    def input_shape(self) -> tuple[int, ...]:
        """One frame is (length,)."""
        return (self.length,)

    @property
    def input_limit(self) -> int:
        """Ids are below `tokens`."""
        return self.tokens

    @property
    def width(self) -> int:
        """The largest number of values that a layer computes for one token."""
        return self.dimensions

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        if self.tokens * self.dimensions > TABLE_LIMIT:
            raise ValueError(f"tokens times dimensions must be at most {TABLE_LIMIT:,}: take fewer words")
        if self.length * self.width > FEATURES_LIMIT:
            raise ValueError(f"length times the widest layer must be at most {FEATURES_LIMIT:,}: cut texts shorter")
        return self


class TextCnnArguments(TextArguments):
    """`text-cnn`: for each of `kernels`, a convolution of that many tokens with `maps` outputs. Defaults are Kim's."""

    # A manifest's JSON gives a list.
    kernels: Annotated[tuple[Kernel, ...], Field(min_length=1, max_length=8, strict=False)] = (3, 4, 5)
    maps: Annotated[int, Field(ge=1, le=512)] = 100
    dropout: Dropout = 0.5

    @property
    def width(self) -> int:
        """The size of the vectors, or the number of maps."""
        return max(self.dimensions, self.maps)


class TextCnn(nn.Module):
    """Kim's network for sentences: parallel convolutions, the maximum of each map over time, and one dense layer.

    Each convolution is padded on both sides by its kernel size, so there is always a window of padding only, however
    long the text: more padding behind a text never changes the answer. Kim's "multichannel" variant applies each filter
    to both channels and adds the results: that is this network with the sum of both as its vectors.

    Input: int32 (n, length). Output: logits (n, classes).
    Source: Kim, "Convolutional Neural Networks for Sentence Classification" (EMNLP 2014).
    """

    def __init__(self, arguments: TextCnnArguments) -> None:
        super().__init__()
        self.embedding = nn.Embedding(arguments.tokens, arguments.dimensions, padding_idx=0)
        self.convolutions = nn.ModuleList(
            ConvRelu(arguments.dimensions, arguments.maps, kernel_size=kernel, padding=kernel)
            for kernel in arguments.kernels
        )
        self.dropout = nn.Dropout(arguments.dropout)
        self.output = nn.Linear(arguments.maps * len(arguments.kernels), arguments.classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (n, classes) of `frames`."""
        vectors = as_channels(self.embedding(frames))
        features = torch.cat([over_time(convolution(vectors)) for convolution in self.convolutions], dim=1)
        logits: Tensor = self.output(self.dropout(features))
        return logits


class GloveCnnArguments(TextArguments):
    """`glove-cnn`: the defaults are the article's."""

    # Each kernel of 5 shortens by 4 and each pooling divides by 5: this is the least that leaves one window.
    length: Annotated[int, Field(ge=149, le=8_192)] = 1_000

    @property
    def width(self) -> int:
        """The size of the vectors, or the convolutions' 128 maps."""
        return max(self.dimensions, 128)


class GloveCnn(nn.Module):
    """The network of the Keras blog's article on pretrained word vectors; its last pooling is global.

    Input: int32 (n, length). Output: logits (n, classes).
    Source: Chollet, "Using pre-trained word embeddings in a Keras model" (2016).
    """

    def __init__(self, arguments: GloveCnnArguments) -> None:
        super().__init__()
        self.embedding = nn.Embedding(arguments.tokens, arguments.dimensions, padding_idx=0)
        self.conv1 = ConvRelu(arguments.dimensions, 128, kernel_size=5)
        self.conv2 = ConvRelu(128, 128, kernel_size=5)
        self.conv3 = ConvRelu(128, 128, kernel_size=5)
        self.dense = nn.Linear(128, 128)
        self.output = nn.Linear(128, arguments.classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (n, classes) of `frames`."""
        return self.after_first_convolution(self.conv1(as_channels(self.embedding(frames))))

    def after_first_convolution(self, x: Tensor) -> Tensor:
        """Return the logits (n, classes) of the first convolution's output."""
        x = self.conv2(F.max_pool2d(x, (1, 5)))
        x = self.conv3(F.max_pool2d(x, (1, 5)))
        logits: Tensor = self.output(torch.relu(self.dense(over_time(x))))
        return logits


def as_channels(vectors: Tensor) -> Tensor:
    """Return (n, length, channels) as (n, channels, 1, length), channels last in memory: a view."""
    return vectors.unsqueeze(1).permute(0, 3, 1, 2)


def over_time(x: Tensor) -> Tensor:
    """Return the maximum of each channel, (n, channels, 1, length) to float32 (n, channels)."""
    return x.amax(dim=(2, 3)).float()
