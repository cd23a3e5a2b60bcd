"""The plugin's hooks: valid specs, existing targets, no heavy imports."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import kdbench_lee2021
import kdbench_metrics
from kdbench.api.specs import METRIC_NEEDS, SCHEME_NEEDS


def components():
    for plugin in (kdbench_lee2021, kdbench_metrics):
        for hook in ("kdbench_schemes", "kdbench_metrics"):
            if hasattr(plugin, hook):
                yield from getattr(plugin, hook)()


@pytest.mark.parametrize("spec", list(components()), ids=lambda s: f"{s.kind}/{s.name}")
def test_target_can_be_built_with_defaults(spec):
    module, attribute = spec.target.split(":")
    component = getattr(importlib.import_module(module), attribute)()
    assert callable(component) if spec.kind == "metrics" else callable(component.epoch)
    assert spec.needs <= (METRIC_NEEDS if spec.kind == "metrics" else SCHEME_NEEDS)
    assert spec.reference


def test_hooks_import_no_heavy_packages():
    code = (
        "import sys, kdbench_lee2021 as l, kdbench_metrics as m\n"
        "l.kdbench_schemes(), l.kdbench_metrics(), l.kdbench_suites(), m.kdbench_metrics()\n"
        "heavy = {'torch', 'scipy', 'sklearn', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
