"""Build networks, and load those that stages trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from kdbench.api.data import ImageData, Normalization
from kdbench.errors import DataError
from kdbench.stages.task import Task
from kdbench.store import Artifact
from kdbench.training.data import dataset_normalization
from kdbench.training.precision import channels_last


def architecture_of(task: Task, role: str = "network") -> Any:
    """The architecture of the stage's network, or of its teacher ("teacher_network")."""
    reference = task.reference(role)
    return task.registry.create("architectures", reference.name, reference.params)


def build(architecture: Any, data: ImageData, seed: int, device: str) -> nn.Module:
    """A network with the initial weights of `seed`; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # that of a GPU stays as it is
        model = architecture.build(data.n_classes, data.input_shape)
    return channels_last(model, device)


def normalization(architecture: Any, data: ImageData) -> Normalization:
    """What the network's input is normalised by: its own statistics, or the training split's."""
    own = architecture.normalization
    if own is None:
        return dataset_normalization(data.train.images)
    channels = data.input_shape[2]
    if len(own.mean) != channels:
        mean, std = sum(own.mean) / len(own.mean), sum(own.std) / len(own.std)
        return Normalization((mean,) * channels, (std,) * channels)
    return own


def load_all_but_head(model: nn.Module, head: str, state: Mapping[str, torch.Tensor]) -> None:
    """Put the weights of a source task's network into `model`, all but its classifier's.

    Raises DataError if anything else is missing or of another shape.
    """
    own = model.state_dict()
    rest = {k: v for k, v in state.items() if not k.startswith(head + ".")}
    wrong = [
        k for k in own if not k.startswith(head + ".") and (k not in rest or rest[k].shape != own[k].shape)
    ]
    if wrong:
        raise DataError(f"the source task's network does not fit the teacher: {', '.join(wrong[:3])}")
    model.load_state_dict(rest, strict=False)


def head_of(model: nn.Module, path: str) -> nn.Linear:
    head = model.get_submodule(path)
    if not isinstance(head, nn.Linear):
        raise DataError(f"the head {path!r} is a {type(head).__name__}, not a linear layer")
    return head


def without_head(model: nn.Module, path: str) -> nn.Module:
    """The model with its head taken off: its output is the head's input."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent) if parent else model, name, nn.Identity())
    return model


def frozen(architecture: Any, model: nn.Module) -> nn.Module:
    """The network as it runs fastest where it is only looked at: folded where its architecture can do that."""
    fold = getattr(architecture, "for_inference", None)
    return (fold(model.eval()) if fold else model).eval().requires_grad_(False)


def trained_network(task: Task, artifact: Artifact, architecture: Any, data: ImageData) -> nn.Module:
    """The network that a source, teacher or student stage trained, in evaluation mode, on the task's device.

    A teacher of which only the head was trained is put together from its backbone's weights and that head.
    """
    identity = artifact.record["identity"]
    state = artifact.tensors("model")
    model = build(architecture, data, backbone_seed(task, artifact), task.device)
    if identity.get("mode") == "head":
        path = architecture.head(model)
        source = artifact.record["inputs"].get("source")
        if source:
            load_all_but_head(model, path, task.store.open(source).tensors("model"))
        head = head_of(model, path)
        head.load_state_dict({k.removeprefix("head."): v for k, v in state.items()})
    else:
        model.load_state_dict(state)
    return model.eval()


def backbone_seed(task: Task, artifact: Artifact) -> int:
    """The seed that an untrained backbone was drawn with; any other network's weights are loaded over it."""
    backbone = artifact.record["inputs"].get("backbone")
    if backbone:
        return task.store.open(backbone).record["identity"]["seed"]
    return 0
