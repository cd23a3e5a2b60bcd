"""Runs the ivis package in a process of its own: `python -P _ivis_worker.py`, until its input ends.

Each line of the input is a folder (`str`, as JSON). Of it the process reads task.json, data.npy and, where the
neighbours are given, neighbours.npy; it writes result.npz: points, loss_history, and the encoder's weights as
w0, b0, w1, b1, ... with `w` (in, out); or, where the fit raised, error.txt. Then it answers with a line.

Imports nothing of kdbench, so that the process holds TensorFlow and nothing else. TensorFlow takes its threads
from the environment when it starts, so all tasks of a process have the same.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np


def fit(folder: Path) -> None:
    task = json.loads((folder / "task.json").read_text("utf-8"))
    import tensorflow as tf
    import tf_keras
    from ivis import Ivis

    # A fit must not see what came before it in this process: names and state of Keras, the generators that the
    # package draws from, all three of which are this process's alone.
    tf_keras.backend.clear_session()
    random.seed(task["seed"])
    np.random.seed(task["seed"])  # noqa: NPY002
    tf.random.set_seed(task["seed"])
    tempfile.tempdir = str(folder)  # Annoy's index, which the package leaves behind, goes with the folder

    injected = folder / "neighbours.npy"
    matrix = np.load(injected) if injected.exists() else None
    model = Ivis(**task["params"], neighbour_matrix=matrix, verbose=0)
    points = model.fit_transform(np.load(folder / "data.npy"))
    weights = model.encoder_.get_weights()
    named = {f"{'wb'[i % 2]}{i // 2}": w for i, w in enumerate(weights)}
    np.savez(folder / "result.npz", points=points, loss_history=np.asarray(model.loss_history_), **named)


def main() -> None:
    # What the libraries print must not come between the answers.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        import tensorflow as tf

        threads = int(os.environ["KDBENCH_IVIS_THREADS"])
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        import ivis  # noqa: F401 - importing draws from the generators, so it comes before any seed is set

        for line in sys.stdin:
            folder = Path(json.loads(line))
            try:
                fit(folder)
            except Exception:
                (folder / "error.txt").write_text(traceback.format_exc(), "utf-8")
            print("done", file=answers, flush=True)


if __name__ == "__main__":
    main()
