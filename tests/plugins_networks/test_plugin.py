"""The plugin as the core sees it."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

import kdbench_networks
from kdbench.api import Architecture, ArchitectureSpec

SPECS = {spec.name: spec for spec in kdbench_networks.kdbench_architectures()}


def test_component_names():
    assert sorted(SPECS) == ["efficientnet-lite0", "resnet18", "timm/*", "torchvision/*", "wide-resnet"]
    assert all(isinstance(spec, ArchitectureSpec) for spec in SPECS.values())


@pytest.mark.parametrize("name", SPECS)
def test_parameters_are_keyword_only_annotated_and_have_defaults(name):
    module, _, attribute = SPECS[name].target.partition(":")
    target = getattr(importlib.import_module(module), attribute)
    parameters = inspect.signature(target, eval_str=True).parameters
    for parameter in parameters.values():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.annotation is not inspect.Parameter.empty
        if parameter.name != "model":
            assert parameter.default is not inspect.Parameter.empty
    assert ("model" in parameters) == name.endswith("/*")
    made = target(**({"model": "resnet18"} if name.endswith("/*") else {}))
    assert isinstance(made, Architecture)
    assert all(hasattr(made, parameter) for parameter in parameters)  # constructors store their parameters


def test_listing_imports_no_heavy_packages():
    code = (
        "import sys, inspect, importlib, kdbench_networks\n"
        "for s in kdbench_networks.kdbench_architectures():\n"
        "    m, _, a = s.target.partition(':')\n"
        "    inspect.signature(getattr(importlib.import_module(m), a))\n"
        "heavy = {'torch', 'timm', 'torchvision', 'numpy', 'safetensors', 'huggingface_hub'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or None)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
