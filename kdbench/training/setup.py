"""What a scheme can inspect before training, and the modules it adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from kdbench.api.draws import derive_seed

#: The error of a scheme that reads a teacher which its spec does not need.
NO_TEACHER = 'the scheme asks for a teacher; its spec must need "teacher_logits"'


@dataclass(frozen=True)
class Setup:
    """See `kdbench.api.SchemeSetup`. `build`: a network of the student's architecture from a seed."""

    student: nn.Module
    teacher: nn.Module | None
    n_classes: int
    n_train: int
    n_labelled: int
    n_unlabelled: int
    student_features: Mapping[str, tuple[int, ...]]
    student_width: int
    build: Callable[[int], nn.Module]
    seed: int
    teacher_features: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    teacher_width: int = 0

    def new_student(self, which: int = 0) -> nn.Module:
        return self.build(derive_seed(self.seed, "another student", which))


def scheme_modules(scheme: Any, setup: Setup, device: str) -> nn.Module | None:
    """What the scheme keeps from step to step, on `device`, with weights drawn from the training's seed.

    Raises TypeError if the scheme made something that is not a module.
    """
    make = getattr(scheme, "modules", None)
    if make is None:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(setup.seed, "scheme modules") % 2**63)
        modules = make(setup)
    if modules is not None and not isinstance(modules, nn.Module):
        raise TypeError(
            f"{type(scheme).__name__}.modules returned {type(modules).__name__}, not an nn.Module"
        )
    return None if modules is None else modules.to(device)
