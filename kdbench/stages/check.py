"""What schemes refuse of their networks, found out before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from kdbench.api.data import ImageData
from kdbench.api.draws import draw_fold
from kdbench.errors import PluginError, SuiteError
from kdbench.stages.networks import build
from kdbench.training.outputs import Anatomy
from kdbench.training.setup import Setup, scheme_modules

if TYPE_CHECKING:
    from kdbench.plan import Stage
    from kdbench.registry import Registry


def check_schemes(stages: Iterable[Stage], registry: Registry, data: ImageData) -> None:
    """Let each scheme that fits itself to its networks try to: once for each pair of networks.

    Raises:
        SuiteError: says which scheme, and what of its parameters or the networks does not fit.
        PluginError: a scheme's `modules` is broken.
    """
    networks: dict[str, Any] = {}
    tried: set[str] = set()
    for stage in stages:
        if stage.kind != "student":
            continue
        chosen = stage.options["scheme"]
        names = ("network", "teacher_network") if "teacher" in stage.inputs else ("network",)
        name = str([chosen, [stage.options[n] for n in names]])
        if name in tried:
            continue
        tried.add(name)
        scheme = registry.create("schemes", chosen["name"], chosen["params"])
        if not hasattr(scheme, "modules"):
            continue
        measured = []
        for option in (stage.options[n] for n in names):
            if str(option) not in networks:
                networks[str(option)] = _measured(registry, option, data)
            measured.append(networks[str(option)])
        model, shapes, width, architecture = measured[0]
        fold = draw_fold(data.train.labels, data.n_classes, **stage.identity["draw"])
        taught: dict[str, Any] = {}
        if len(measured) > 1:
            taught = dict(zip(("teacher", "teacher_features", "teacher_width"), measured[1], strict=False))
        setup = Setup(
            student=model,
            n_classes=data.n_classes,
            n_train=len(data.train.labels),
            n_labelled=len(fold.labelled),
            n_unlabelled=len(fold.unlabelled) if "unlabelled" in stage.identity["draw"] else 0,
            student_features=shapes,
            student_width=width,
            build=partial(_built, architecture, data),
            seed=0,
            **({"teacher": None} | taught),
        )
        try:
            scheme_modules(scheme, setup, "cpu")
        except ValueError as error:
            raise SuiteError(str(error), where=f"schemes/{chosen['name']}") from error
        except Exception as error:  # whatever a plugin may do wrong; --debug shows the traceback
            raise PluginError(
                f"its modules() ended in {type(error).__name__}: {error}",
                where=f"schemes/{chosen['name']}",
                hint="ValueError is what refuses networks that do not fit; --debug shows the traceback",
            ) from error


def _built(architecture: Any, data: ImageData, seed: int) -> torch.nn.Module:
    return build(architecture, data, seed, "cpu")


def _measured(registry: Registry, option: Any, data: ImageData) -> tuple[Any, dict, int, Any]:
    """A network with its activations' shapes, the width of its last layer's input, and its architecture."""
    architecture = registry.create("architectures", option["name"], option["params"])
    model = build(architecture, data, 0, "cpu")
    height, width, channels = data.input_shape
    images = torch.zeros(2, channels, height, width).contiguous(memory_format=torch.channels_last)
    shapes, inputs = Anatomy.of(architecture, model).shapes(model, images)
    return model, shapes, inputs, architecture
