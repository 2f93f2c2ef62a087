"""Exchanges a network's convolutions for ones that a device is faster with."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from inference.architectures.layers import ConvRelu


def replace_convolutions(module: nn.Module, pack: Callable[[ConvRelu], nn.Module]) -> None:
    """Put `pack(convolution)` in the place of every `ConvRelu` inside `module`."""
    for name, child in module.named_children():
        if isinstance(child, ConvRelu):
            setattr(module, name, pack(child))
        else:
            replace_convolutions(child, pack)
