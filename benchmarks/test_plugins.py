"""What it costs to have many plugins: `kdbench plugins list` beside 50 distributions of strangers.

Each distribution has metadata as pip writes it and brings one component of every kind. The command is timed in a
process of its own; its processor time is kept beside the wall time, for on a busy machine it alone says what that
costs. The aim is less than 0.5 s.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

MANY = 50
AIM = 0.5  #: seconds

_PLUGIN = """
from kdbench.api import ArchitectureSpec, DatasetSpec, MetricSpec, ReducerSpec, SchemeSpec, hookimpl

kdbench_api = 1
_ABOUT = {{"target": "{package}.parts:Part", "summary": "one of many", "requires": ("numpy", "kdb-absent")}}

@hookimpl
def kdbench_datasets():
    return [DatasetSpec(name="many-{n}", **_ABOUT)]

@hookimpl
def kdbench_architectures():
    return [ArchitectureSpec(name="many-{n}", **_ABOUT)]

@hookimpl
def kdbench_schemes():
    return [SchemeSpec(name="many-{n}", needs=frozenset({{"teacher_logits"}}), **_ABOUT)]

@hookimpl
def kdbench_reducers():
    return [ReducerSpec(name="many-{n}", **_ABOUT)]

@hookimpl
def kdbench_metrics():
    return [MetricSpec(name="many-{n}", needs=frozenset({{"embedding"}}), **_ABOUT)]
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """A folder with 50 distributions, as in site-packages."""
    folder = tmp_path_factory.mktemp("many")
    for n in range(MANY):
        package = f"kdb_many_{n}"
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text(_PLUGIN.format(package=package, n=n))
        about = folder / f"{package}-1.{n}.dist-info"
        about.mkdir()
        requires = "Requires-Dist: kdbench\nRequires-Dist: numpy\n"
        text = (
            f"Metadata-Version: 2.1\nName: kdb-many-{n}\nVersion: 1.{n}\n{requires}\n{'About it. ' * 200}\n"
        )
        (about / "METADATA").write_text(text)
        (about / "entry_points.txt").write_text(f"[kdbench]\n{package} = {package}\n")
        (about / "RECORD").write_text("".join(f"{package}/{i}.py,,\n" for i in range(50)))
    return folder


@pytest.mark.benchmark(group=f"kdbench plugins, {MANY} beside the shipped ones")
@pytest.mark.parametrize("plugins", [0, MANY])
@pytest.mark.parametrize("command", ["plugins list", "plugins list --json", "list reducers"])
def test_many_plugins(benchmark, many, command: str, plugins: int) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("KDBENCH_")} | {"OMP_NUM_THREADS": "1"}
    if plugins:
        clean["PYTHONPATH"] = str(many)
    used: list[float] = []

    def once() -> str:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        line = [sys.executable, "-m", "kdbench.cli.main", *command.split()]
        done = subprocess.run(line, env=clean, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = benchmark.pedantic(once, rounds=5, warmup_rounds=1)
    assert said.count("kdb-many-") + said.count("many-") >= plugins
    if command.endswith("--json"):
        assert sum(row["name"].startswith("kdb_many_") for row in json.loads(said)) == plugins
    benchmark.extra_info["processor_seconds"] = round(statistics.median(used[1:]), 3)
    assert statistics.median(used[1:]) < AIM
