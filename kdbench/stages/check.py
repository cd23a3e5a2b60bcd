"""Check that schemes accept their networks, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from kdbench.api.data import ImageData
from kdbench.errors import PluginError, SuiteError
from kdbench.plan.fields import StudentFields
from kdbench.stages.networks import build
from kdbench.training.outputs import Anatomy
from kdbench.training.setup import Setup, scheme_modules

if TYPE_CHECKING:
    from kdbench.plan import Stage
    from kdbench.registry import Registry


def check_schemes(stages: Iterable[Stage], registry: Registry, data: ImageData) -> None:
    """Let each scheme that fits itself to its networks try to: once for each pair of networks.

    Raises SuiteError if says which scheme, and what of its parameters or the networks does not fit, and PluginError
    if a scheme's `modules` is broken.
    """
    networks: dict[str, Any] = {}
    tried: set[str] = set()
    for stage in stages:
        if stage.kind != "student":
            continue
        fields, runtime = stage.fields, stage.runtime
        assert isinstance(fields, StudentFields)
        assert runtime.scheme is not None
        references = [runtime.network, runtime.teacher_network][: 2 if "teacher" in stage.inputs else 1]
        name = str([runtime.scheme, references])
        if name in tried:
            continue
        tried.add(name)
        scheme = registry.create("schemes", runtime.scheme.name, runtime.scheme.params)
        if not hasattr(scheme, "modules"):
            continue
        measured = []
        for reference in references:
            if str(reference) not in networks:
                networks[str(reference)] = _measured(registry, reference, data)
            measured.append(networks[str(reference)])
        model, shapes, width, architecture = measured[0]
        fold = fields.draw.of(data)
        taught: dict[str, Any] = {}
        if len(measured) > 1:
            taught = dict(zip(("teacher", "teacher_features", "teacher_width"), measured[1], strict=False))
        setup = Setup(
            student=model,
            n_classes=data.n_classes,
            n_train=len(data.train.labels),
            n_labelled=len(fold.labelled),
            n_unlabelled=len(fold.unlabelled) if fields.draw.unlabelled is not None else 0,
            student_features=shapes,
            student_width=width,
            build=partial(_built, architecture, data),
            seed=0,
            **({"teacher": None} | taught),
        )
        try:
            scheme_modules(scheme, setup, "cpu")
        except ValueError as error:
            raise SuiteError(str(error), where=f"schemes/{runtime.scheme.name}") from error
        except Exception as error:  # whatever a plugin may do wrong; --debug shows the traceback
            raise PluginError(
                f"its modules() ended in {type(error).__name__}: {error}",
                where=f"schemes/{runtime.scheme.name}",
                hint="ValueError is what refuses networks that do not fit; --debug shows the traceback",
            ) from error


def _built(architecture: Any, data: ImageData, seed: int) -> torch.nn.Module:
    return build(architecture, data, seed, "cpu")


def _measured(registry: Registry, reference: Any, data: ImageData) -> tuple[Any, dict, int, Any]:
    """A network with its activations' shapes, the width of its last layer's input, and its architecture."""
    architecture = registry.create("architectures", reference.name, reference.params)
    model = build(architecture, data, 0, "cpu")
    height, width, channels = data.input_shape
    images = torch.zeros(2, channels, height, width).contiguous(memory_format=torch.channels_last)
    shapes, inputs = Anatomy.of(architecture, model).shapes(model, images)
    return model, shapes, inputs, architecture
