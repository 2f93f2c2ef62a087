"""The state of a training run, and the checkpoint file that an interrupted run resumes from."""

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from training.fitting.fit_settings import FitError
from training.fitting.history import Epoch, best_epoch

Weights = dict[str, Tensor]


@dataclass
class TrainingState:
    """Everything that changes during a run, and so everything that a checkpoint holds."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: Weights
    best: Weights
    best_by: Literal["loss", "accuracy"]
    history: list[Epoch] = field(default_factory=list)

    @property
    def best_epoch(self) -> Epoch | None:
        """The epoch whose weights are `best`."""
        return best_epoch(self.history, self.best_by)


def save_checkpoint(run: TrainingState, path: Path, identity: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically; `identity` says which run it belongs to, in values that JSON can hold."""
    tensors = {f"model.{name}": tensor for name, tensor in run.model.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in run.average.items()}
    tensors |= {f"best.{name}": tensor for name, tensor in run.best.items()}
    for index, slots in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in slots.items()}
    metadata = {
        "identity": json.dumps(identity),
        "history": json.dumps([dataclasses.asdict(epoch) for epoch in run.history]),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    safetensors.torch.save_file({name: t.contiguous() for name, t in tensors.items()}, partial, metadata)
    os.replace(partial, path)


def load_checkpoint(run: TrainingState, path: Path, identity: Mapping[str, Any]) -> None:
    """Restore the state from a checkpoint; raises `FitError` for a damaged one, and for one of another run."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise FitError(f"cannot resume from {path}: {error}; delete it to start over") from error
    differing = _differing(metadata.get("identity", "{}"), identity)
    if differing:
        raise FitError(
            f"{path} belongs to another run ({differing}): resume with what that one had, "
            "or leave out --resume to start over"
        )
    groups: dict[str, Any] = {}
    for name, tensor in tensors.items():
        group, _, rest = name.partition(".")
        groups.setdefault(group, {})[rest] = tensor
    run.model.load_state_dict(groups["model"])
    run.average, run.best = groups["average"], groups["best"]
    state = run.optimizer.state_dict()
    for name, tensor in groups["optimizer"].items():
        index, _, slot = name.partition(".")
        state["state"].setdefault(int(index), {})[slot] = tensor
    run.optimizer.load_state_dict(state)
    run.history = [Epoch(**epoch) for epoch in json.loads(metadata["history"])]


def _differing(kept: str, identity: Mapping[str, Any]) -> str:
    """Describe where the checkpoint's identity, as JSON, differs from this run's; empty if it does not."""
    try:
        theirs = dict(json.loads(kept))
    except (ValueError, TypeError):
        return "it does not say which"
    ours = json.loads(json.dumps(identity))  # tuples become lists, as in the file
    names = [name for name in theirs | ours if theirs.get(name) != ours.get(name)]
    return "; ".join(f"its {name} is {_short(theirs.get(name))}, now {_short(ours.get(name))}" for name in names)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:119]}…"
