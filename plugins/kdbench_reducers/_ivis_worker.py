"""Runs the ivis package once, in a process of its own: `python -P _ivis_worker.py FOLDER`.

Reads FOLDER/task.json, FOLDER/data.npy and, where the neighbours are given, FOLDER/neighbours.npy; writes
FOLDER/result.npz: points, loss_history, and the encoder's weights as w0, b0, w1, b1, ... with `w` (in, out).
Imports nothing of kdbench, so that the process holds TensorFlow and nothing else.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import numpy as np


def main(folder: Path) -> None:
    task = json.loads((folder / "task.json").read_text("utf-8"))
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(task["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(task["threads"])
    # The package draws from all three; this process is theirs alone.
    random.seed(task["seed"])
    np.random.seed(task["seed"])  # noqa: NPY002
    tf.random.set_seed(task["seed"])
    from ivis import Ivis

    injected = folder / "neighbours.npy"
    matrix = np.load(injected) if injected.exists() else None
    model = Ivis(**task["params"], neighbour_matrix=matrix, verbose=0)
    points = model.fit_transform(np.load(folder / "data.npy"))
    weights = model.encoder_.get_weights()
    named = {f"{'wb'[i % 2]}{i // 2}": w for i, w in enumerate(weights)}
    np.savez(folder / "result.npz", points=points, loss_history=np.asarray(model.loss_history_), **named)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
