"""The reducer that runs the ivis package, and the equivalence of ivis-torch with it."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kdbench.api import exact_neighbours
from kdbench.errors import PluginError, UsageError
from kdbench_reducers import ivis
from kdbench_reducers._ivis_process import WorkerProcess, worker, worker_environment
from kdbench_reducers.ivis import Ivis

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
needs_package = pytest.mark.skipif(
    any(importlib.util.find_spec(m) is None for m in ("ivis", "tensorflow", "tf_keras")),
    reason="the extra [ivis] is not installed",
)


@pytest.fixture(scope="module")
def equivalence():
    """The benchmark's own module: its data, its reducers and its test."""
    spec = importlib.util.spec_from_file_location("ivis_equivalence", BENCHMARKS / "ivis_equivalence.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blobs(n: int = 260, d: int = 12) -> np.ndarray:
    rng = np.random.default_rng(0)
    return ((4 * rng.standard_normal((5, d)))[rng.integers(5, size=n)] + rng.standard_normal((n, d))).astype(
        "f4"
    )


@needs_package
def test_the_package_trains_in_a_process_of_its_own_and_its_weights_map_new_rows():
    X = blobs()
    before, states = X.copy(), (random.getstate(), np.random.get_state()[1].copy())  # noqa: NPY002
    loaded = "tensorflow" in sys.modules
    reducer = Ivis(k=15, epochs=12, random_state=0, n_jobs=1)
    points = reducer.fit_transform(X, neighbours=exact_neighbours(X, 20, "angular"))
    assert points.shape == (260, 2)
    assert points.dtype == np.float32
    assert np.isfinite(points).all()
    assert np.array_equal(X, before)
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert ("tensorflow" in sys.modules) == loaded
    # The encoder of ivis-torch with the package's weights is the package's encoder.
    np.testing.assert_allclose(reducer.transform(X), points, atol=1e-5 * np.abs(points).max())
    assert len(reducer.loss_history_) == 12 == reducer.diagnostics_["n_epochs"]
    assert reducer.loss_history_[-1] < reducer.loss_history_[0]
    assert 0 < reducer.diagnostics_["loss_eval"] < 1
    assert (reducer.diagnostics_["n"], reducer.diagnostics_["k"]) == (260, 15)


@needs_package
@pytest.mark.slow
def test_a_warm_process_gives_what_a_fresh_one_gives_and_outlives_a_fit_that_fails(tmp_path):
    def fit(seed: int) -> np.ndarray:
        return Ivis(k=15, epochs=3, random_state=seed, n_jobs=1).fit_transform(blobs())

    kept = worker(ivis._WORKER, 1, os.getpid())
    fit(1)  # so that the next is not the first of its process, whichever tests ran before
    first, before = kept.process, fit(0)
    assert kept.process is first
    (tmp_path / "task.json").write_text('{"params": {"k": "many"}, "seed": 0}')
    np.save(tmp_path / "data.npy", blobs())
    with pytest.raises(PluginError, match=r"(?s)package failed:.*TypeError"):
        kept.run(tmp_path)
    assert np.array_equal(fit(0), before)
    assert kept.process is first
    kept.close()
    assert first.returncode == 0  # it ended by itself when its input did
    assert np.array_equal(fit(0), before)
    assert kept.process is not first


ECHO = """import json, os, pathlib, sys
for line in sys.stdin:
    folder = pathlib.Path(json.loads(line))
    if (folder / "die").exists():
        print("out of sorts", file=sys.stderr)
        os._exit(3)
    (folder / "pid").write_text(str(os.getpid()))
    print("done", flush=True)
"""


@pytest.fixture
def echo(tmp_path):
    """A worker without TensorFlow."""
    (tmp_path / "echo.py").write_text(ECHO)
    made = WorkerProcess(tmp_path / "echo.py", 1)
    yield made
    made.close()


def ask(made: WorkerProcess, folder: Path) -> str:
    made.run(folder)
    return (folder / "pid").read_text()


def test_a_worker_is_kept_and_one_that_died_is_replaced(echo, tmp_path):
    first = ask(echo, tmp_path)
    assert ask(echo, tmp_path) == first
    (tmp_path / "die").touch()
    with pytest.raises(PluginError, match=r"(?s)ended with exit code 3:.*out of sorts"):
        echo.run(tmp_path)
    (tmp_path / "die").unlink()
    second = ask(echo, tmp_path)
    assert second != first
    echo.process.kill()  # between two tasks
    echo.process.wait()
    assert ask(echo, tmp_path) not in (first, second)


def test_a_worker_ends_when_the_process_that_started_it_is_killed(tmp_path):
    (tmp_path / "echo.py").write_text(ECHO)
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from kdbench_reducers._ivis_process import WorkerProcess; folder = Path(sys.argv[1]);"
        "WorkerProcess(folder / 'echo.py', 1).run(folder); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@needs_package
@pytest.mark.slow
def test_the_package_is_repeatable_with_annoy_s_neighbours_too():
    def fit(seed: int) -> np.ndarray:
        return Ivis(k=15, epochs=4, random_state=seed, n_jobs=1, neighbours="annoy").fit_transform(blobs())

    assert np.array_equal(fit(0), fit(0))
    assert not np.array_equal(fit(0), fit(1))


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(ivis, "_MODULES", ("json", "a_module_that_is_not_there"))
    with pytest.raises(PluginError, match=r"a_module_that_is_not_there not installed") as caught:
        Ivis(k=15).fit_transform(blobs())
    assert "kdbench[ivis]" in caught.value.hint
    assert caught.value.where == "reducers/ivis"


def test_what_the_worker_said_last_is_in_the_error(monkeypatch, tmp_path):
    monkeypatch.setattr(ivis, "_MODULES", ())
    broken = tmp_path / "worker.py"
    broken.write_text("import sys\nprint('TensorFlow is out of sorts', file=sys.stderr)\nsys.exit(5)\n")
    monkeypatch.setattr(ivis, "_WORKER", broken)
    with pytest.raises(PluginError, match=r"(?s)exit code 5.*out of sorts"):
        Ivis(k=15).fit_transform(blobs())


def test_too_few_rows_are_refused_before_anything_is_started(monkeypatch):
    monkeypatch.setattr(ivis, "_WORKER", Path("nowhere"))
    with pytest.raises(UsageError, match=r"k=300 is not below the 260 rows"):
        Ivis(k=300).fit_transform(blobs())
    with pytest.raises(UsageError, match="batch_size"):
        Ivis(k=15).neighbours_wanted(100)


def test_the_worker_s_environment_asks_for_legacy_keras():
    found = worker_environment({"PATH": "p", "TF_USE_LEGACY_KERAS": "0"}, 2)
    assert found["TF_USE_LEGACY_KERAS"] == "1"
    assert (found["PATH"], found["OMP_NUM_THREADS"]) == ("p", "2")


# --- equivalence


@pytest.fixture(scope="module")
def committed() -> dict:
    return json.loads((BENCHMARKS / "ivis_equivalence.json").read_text("utf-8"))


def column(committed: dict, kind: str, name: str = "loss_eval") -> list[float]:
    return [row[name] for row in committed[kind].values()]


@pytest.mark.parametrize("ours_is", ["torch", "torch, bfloat16"])
def test_the_committed_losses_show_equivalence(equivalence, committed, ours_is):
    """Two one-sided tests at +-0.02 on the loss without dropout, 25 seeds each or more."""
    ours, theirs = column(committed, ours_is), column(committed, "package")
    assert min(len(ours), len(theirs)) >= 25
    found = equivalence.equivalence(ours, theirs)
    assert found["p"] < 0.05
    assert -0.02 < found["low"] < found["high"] < 0.02
    assert found == pytest.approx(committed[f"tost of {ours_is}"]["loss_eval"])


def test_the_equivalence_test_can_fail(equivalence):
    rng = np.random.default_rng(0)
    a = list(rng.normal(0.6, 0.02, 30))
    assert equivalence.equivalence(a, [x + 0.001 for x in a])["p"] < 0.05
    assert equivalence.equivalence(a, [x + 0.03 for x in a])["p"] > 0.5
    assert equivalence.equivalence([0.55, 0.6, 0.65], [0.551, 0.601, 0.651])["p"] > 0.05  # too few to say


@pytest.mark.slow
def test_ivis_torch_today_is_what_was_committed(equivalence, committed):
    """A few seeds again: their mean lies where that of so many of the package's would."""
    X = equivalence.data()
    neighbours = exact_neighbours(X, 149, "angular")
    losses = [
        equivalence.reducer("torch", seed, 1).fit(X, neighbours=neighbours).diagnostics_["loss_eval"]
        for seed in range(100, 104)
    ]
    theirs = np.array(column(committed, "package"))
    assert np.mean(losses) == pytest.approx(theirs.mean(), abs=0.02 + 3 * theirs.std(ddof=1) / 2)
