"""One real `mlflow server`: what a team shares."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace

import pytest
from synthetic_cells import cell

from kdbench.api.records import RunSummary
from kdbench.tracking import Tracker, fetch_cells


@pytest.fixture
def server(workspace):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--artifacts-destination", str(workspace / "served"),
        "--backend-store-uri", f"sqlite:///{workspace}/mlflow.db",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with (workspace / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=workspace, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        for _ in range(180):
            assert process.poll() is None, (workspace / "server.log").read_text()[-2000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail("mlflow server did not start: " + (workspace / "server.log").read_text()[-2000:])
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.slow
def test_a_server_takes_runs_and_gives_them_back(server, tmp_path):
    run = RunSummary("20261121-101500-ab12cd", "demo", "quick", 0, 1, 1, "w", suite_config={"a": 1})
    tracker = Tracker(server, tmp_path)
    tracker.check()
    odd = replace(cell("kl"), results=(*cell("kl").results, replace(cell("kl").results[0], setting="nan")))
    tracker.run_started(run)
    tracker.cell_finished(run, odd)
    tracker.cell_finished(run, odd)
    tracker.run_finished(replace(run, status="finished"))
    assert fetch_cells(server, "demo", "quick") == [replace(odd, history={})]
    assert tracker.sync([odd]) == {"logged": 0, "found": 1}
    assert list((tmp_path / "served").rglob("record.json"))
    assert not (tmp_path / "mlartifacts").exists()
