"""The networks that a bundle may name, each with the arguments that it accepts.

A bundle's manifest is not trusted to run code: it names an architecture of this closed list and gives
arguments, which a model per architecture checks and bounds before anything is allocated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from inference.architectures.arguments import Arguments
from inference.architectures.constant import Constant, ConstantArguments
from inference.architectures.har import HarCnn, HarCnnArguments
from inference.architectures.recurrent import Recurrent, RecurrentArguments
from inference.architectures.text import GloveCnn, GloveCnnArguments, TextCnn, TextCnnArguments

__all__ = ["ARCHITECTURES", "Architecture", "Arguments", "build", "count_parameters"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """One entry of the closed list: how its arguments are checked and how it is built from them."""

    arguments: type[Arguments]
    module: Callable[[Any], nn.Module]


ARCHITECTURES: Mapping[str, Architecture] = {
    "har-cnn": Architecture(HarCnnArguments, HarCnn),
    "text-cnn": Architecture(TextCnnArguments, TextCnn),
    "glove-cnn": Architecture(GloveCnnArguments, GloveCnn),
    "recurrent": Architecture(RecurrentArguments, Recurrent),
    "constant": Architecture(ConstantArguments, Constant),
}


def build(name: str, **arguments: Any) -> nn.Module:
    """Build an architecture with freshly initialised weights, in training mode.

    Raises `KeyError` if there is no such architecture and `pydantic.ValidationError` if an argument is wrong.
    """
    architecture = ARCHITECTURES[name]
    return architecture.module(architecture.arguments.model_validate(arguments))


def count_parameters(module: nn.Module) -> int:
    """How many numbers training may change."""
    return sum(math.prod(parameter.shape) for parameter in module.parameters())
