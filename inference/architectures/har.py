"""`har-cnn`: activities from accelerometer frames."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inference.architectures.har_arguments import CHANNELS, TAPS, HarCnnArguments
from inference.architectures.layers import ConvRelu


class HarCnn(nn.Module):
    """The 1-D convolutional network of the HAR article: 520,486 parameters, as published.

    Input: float32 (n, slots, axes), or flat (n, slots * axes) in the article's order, reading by reading.
    Output: logits (n, classes).
    Source: Ackermann, "Introduction to 1D Convolutional Neural Networks in Keras for Time Sequences" (2018).
    """

    def __init__(self, arguments: HarCnnArguments) -> None:
        super().__init__()
        self.frame_shape = arguments.input_shape
        self.conv1, self.conv2, self.conv3, self.conv4 = (
            ConvRelu(ins, outs, kernel_size=TAPS) for ins, outs in itertools.pairwise((arguments.axes, *CHANNELS))
        )
        self.dropout = nn.Dropout(arguments.dropout)
        self.output = nn.Linear(CHANNELS[-1], arguments.classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (n, classes) of `frames`."""
        x = frames.reshape(-1, 1, *self.frame_shape).permute(0, 3, 1, 2)
        x = F.max_pool2d(self.conv2(self.conv1(x)), (1, 3))
        x = self.conv4(self.conv3(x))
        # The sum over time and what follows are in float32 even where the convolutions are not.
        logits: Tensor = self.output(self.dropout(x.mean(dim=(2, 3), dtype=torch.float32)))
        return logits
