"""Bad input: one message that says what, where and what to do, the right exit code, and nothing trained."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

from kdbench.store import Store


@pytest.fixture
def suite(tmp_path, tiny_text) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(tiny_text)
    return path


@pytest.fixture
def refused(kdbench_here, suite, tmp_path):
    """`refused(*args, words=..., code=2)`: `kdbench run` ends with one message and has trained nothing."""

    def check(*args: str | Path, words: list[str], code: int = 2, of: str | Path = suite) -> str:
        workspace = tmp_path / "workspace"
        got, out, err = kdbench_here("run", of, "--workspace", workspace, *args)
        said = " ".join(err.split())
        assert got == code, said
        for word in words:
            assert word in said, said
        assert "Traceback" not in err
        assert sum(line.startswith("error: ") for line in err.splitlines()) == 1, err
        assert out == ""
        if workspace.is_dir():
            assert list(Store(workspace).records()) == []
            assert Store(workspace).cells() == []
        return said

    return check


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--scale", "smal"], ["smal", "here"]),
        (["--set", "student.epoch=3"], ["no key 'epoch'", "did you mean 'epochs'"]),
        (["--set", "student.epochs=many"], ["student.epochs", "'many'"]),
        (["--set", "student.epochs=0"], ["student.epochs", "greater than 0"]),
        (["--set", "student.epochs"], ["PATH=VALUE"]),
        (
            ["--set", "student.epochs=5", "--set", "student.steps=4"],
            ["student", "4 steps leave some of 5 epochs"],
        ),
        (["--set", 'reducers=["pcaa"]'], ["'pcaa'", "reducers", "did you mean 'pca'"]),
        (["--set", 'metrics=["acuracy"]'], ["'acuracy'", "did you mean 'accuracy'"]),
        (["--set", 'schemes=["kll"]'], ["'kll'", "did you mean 'kl'"]),
        (["--set", "student.architecture=wide-resnt"], ["'wide-resnt'", "wide-resnet"]),
        (["--set", "data.dataset=shape"], ["'shape'", "did you mean 'shapes'"]),
        (["--set", "reducers.pca.n_component=3"], ["'n_component'", "n_components"]),
        (["--set", "student.architecture.depth=11"], ["depth=11", "6n + 4"]),
        (["--set", "data.budgets=[25]"], ["25 labelled images", "10 classes", "such as 20"]),
        (["--set", "data.budgets=[600]"], ["600 labelled", "60 of every class", "at most 60"]),
        (["--set", "data.folds=0"], ["data.folds", "greater than 0"]),
        (["--set", "data.test=1000"], ["1000 test", "100 of every class"]),
        (["--set", "data.budgets=[60]"], ["budget 60", "no unlabelled"]),
        (["--set", "reducers.ivis-torch.k=40"], ["k=40", "30 rows", "at most 29"]),
        (["--set", 'taps=["Z"]'], ["no tap 'Z'", "A, B, C, D, E"]),
    ],
)
def test_a_suite_that_cannot_be_run(refused, args, words):
    refused(*args, words=words)


def test_an_unknown_suite(refused):
    refused(of="paper-referense", words=["paper-referense", "did you mean 'paper-reference'"])


def test_an_unknown_key_in_the_file(refused, tmp_path, tiny_text):
    path = tmp_path / "typo.toml"
    path.write_text(tiny_text.replace("[student]", "[student]\nepoks = 3"))
    refused(of=path, words=["typo.toml", "student.epoks", "no key 'epoks'", "did you mean 'epochs'"])
    path.write_text(tiny_text + "\n[[[")
    refused(of=path, words=["typo.toml"])


def test_data_that_is_not_there(refused, tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "create_connection", _offline)
    (tmp_path / "empty").mkdir()
    said = refused(
        "--set", 'data.dataset={ name = "image-folder", path = "nowhere" }', "--data-dir", tmp_path / "empty",
        words=["nowhere", str(tmp_path / "empty")],
    )  # fmt: skip
    assert "hint" in said


def _offline(*_args, **_more):
    raise OSError("offline")


def test_a_damaged_shard(refused, tmp_path):
    folder = tmp_path / "data" / "cifar100"
    folder.mkdir(parents=True)
    (folder / "train-00000-of-00001.parquet").write_bytes(b"PAR1 not really PAR1")
    (folder / "test-00000-of-00001.parquet").write_bytes(b"PAR1 not really PAR1")
    refused("--set", "data.dataset=cifar100", "--data-dir", tmp_path / "data", words=["parquet", str(folder)])


def test_a_source_task_whose_data_are_not_there(refused, tmp_path):
    refused(
        "--set", 'teacher.source={ dataset = { name = "image-folder", path = "nowhere" }, epochs = 1 }',
        words=["nowhere", "hint"],
    )  # fmt: skip


@pytest.mark.parametrize("content", ["nothing", "text", "other network"])
def test_a_weights_file_that_does_not_fit(refused, tmp_path, content):
    import torch

    path = tmp_path / "weights.pth"
    if content == "text":
        path.write_text("these are no weights")
    elif content == "other network":
        torch.save({"conv1.weight": torch.zeros(3, 3)}, path)
    refused(
        "--set", "teacher.architecture.name=resnet18", "--set", f'teacher.architecture.weights="{path}"',
        "--set", "teacher.architecture.upsample=32", words=[str(path)],
    )  # fmt: skip


TAPLESS = """
from kdbench.api import ArchitectureSpec, hookimpl
from kdbench_networks.wide_resnet import WideResNet

class Tapless(WideResNet):
    def __init__(self, *, depth: int = 10) -> None:
        super().__init__(depth=depth)
    def taps(self, model):
        return {"only": "conv1"}

@hookimpl
def kdbench_architectures():
    return [ArchitectureSpec(name="tapless", target="tapless:Tapless", summary="s")]
"""


def test_a_teacher_without_the_taps_that_its_metrics_look_at(refused, tmp_path):
    plugin = tmp_path / "tapless.py"
    plugin.write_text(TAPLESS)
    refused(
        "--plugin", plugin, "--set", "teacher.architecture=tapless", "--set", 'teacher_metrics=["class-area"]',
        words=["tapless has no tap 'E'", "its taps: only"],
    )  # fmt: skip


def test_a_workspace_that_cannot_be_written(kdbench_here, suite, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = kdbench_here("run", suite, "--workspace", tmp_path / "file" / "workspace")
    assert code == 2
    assert "can't be written" in err
    assert "--workspace" in err
    assert "Traceback" not in err
    code, _, err = kdbench_here("run", suite, "--workspace", tmp_path / "file")
    assert code == 2


def test_a_tracking_server_that_is_not_there(refused):
    with socket.socket() as probe:  # a port that nobody listens on
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    refused("--tracking-uri", f"http://127.0.0.1:{port}", words=[f"127.0.0.1:{port}"])


def test_a_file_store_is_no_tracking_store(refused, tmp_path):
    refused("--tracking-uri", f"file://{tmp_path}/mlruns", words=["mlruns", "sqlite"])


def test_an_import_path_that_leads_nowhere(refused):
    refused(
        "--set",
        'reducers=["sklearn.manifold:Isomapp"]',
        words=["no 'Isomapp'", "did you mean 'Isomap'"],
        code=3,
    )


def test_plugins_that_cannot_be_loaded(refused, tmp_path):
    refused("--plugin", tmp_path / "absent.py", words=["absent.py"])
    broken = tmp_path / "broken.py"
    broken.write_text("def kdbench_reducers(:\n")
    refused("--plugin", broken, words=["broken.py"], code=3)


BROKEN_SCHEME = """
from kdbench.api import SchemeSpec, hookimpl

class Broken:
    def modules(self, setup):
        {modules}
    def epoch(self, run):
        yield from ()

@hookimpl
def kdbench_schemes():
    return [SchemeSpec(name="broken", target="broken_scheme:Broken", summary="s", needs=frozenset())]
"""


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        ("return {}['adapter']", ["schemes/broken", "modules() ended in KeyError: 'adapter'"]),
        ("return 3", ["schemes/broken", "returned int, not an nn.Module"]),
    ],
)
def test_a_scheme_whose_modules_are_broken(refused, tmp_path, modules, words):
    plugin = tmp_path / "broken_scheme.py"
    plugin.write_text(BROKEN_SCHEME.format(modules=modules))
    refused("--plugin", plugin, "--set", 'schemes=["broken"]', words=words, code=3)


def test_a_device_that_is_not_there(refused):
    refused("--device", "cuda:99", words=["'cuda:99' can't be used", "--device"])
    refused("--device", "abacus", words=["'abacus' can't be used", "--device"])


def test_labels_beside_images_of_one_class(refused, tmp_path):
    from PIL import Image

    folder = tmp_path / "one" / "only"
    folder.mkdir(parents=True)
    for i in range(4):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f"{i}.png")
    refused("--set", f'data.dataset={{ name = "image-folder", path = "{tmp_path / "one"}" }}', words=["hint"])
