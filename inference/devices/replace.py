"""Replaces a network's layers by ones that are faster on a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

Layer = TypeVar("Layer", bound=nn.Module)


def replace_layers(module: nn.Module, kind: type[Layer], make: Callable[[Layer], nn.Module]) -> None:
    """Replace every `kind` inside `module` by `make(layer)`."""
    for name, child in module.named_children():
        if isinstance(child, kind):
            setattr(module, name, make(child))
        else:
            replace_layers(child, kind, make)
