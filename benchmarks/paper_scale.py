"""What scale `paper` takes on this machine, projected from stages of it that were measured here.

    kdbench run paper-reference --scale paper --set 'data.budgets=[400]' --set data.folds=1 --workspace W
    python benchmarks/paper_scale.py W [--jobs 1] [--keep]

The first command does one fold of the smallest budget, or any other part; its records say what an image costs a
teacher and a student. The second plans the whole scale over that workspace and prints the arithmetic: what is done
and took how long, what is left, seconds a unit, minutes. `--jobs`: how many students the run had on it at once;
each took longer for it, so what they come to is divided. `--keep` writes benchmarks/paper_scale.json, which
`figures.py` reads, where every row was measured and on a GPU. KDBENCH_DATA or --data-dir says where CIFAR-100 is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Any

from kdbench.cli.plan import amount_of, seconds_of
from kdbench.rendering.numbers import duration

RECORD = Path(__file__).parent / "paper_scale.json"
#: What the figure of 60 minutes is about; embeddings and scores come on top.
TRAINING = ("source", "backbone", "teacher", "targets", "student")


def plan(workspace: Path, more: list[str]) -> dict[str, Any]:
    """`kdbench plan` of the whole scale, as data."""
    command = [sys.executable, "-m", "kdbench", "plan", "paper-reference", "--scale", "paper", "--json"]
    done = subprocess.run(
        [*command, "--workspace", str(workspace), *more], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)


def rows(work: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A line a kind and component: what, work, seconds a unit, together, from where."""
    return [
        (
            f"{w['kind']} {w['component']}".strip(),
            f"{amount_of(w['work'])} {'stages' if w['unit'] == 'stage' else w['unit']}",
            seconds_of(w["seconds_per_unit"]),
            duration(w["seconds"]),
            "measured here" if w["measured"] else "a rough guess",
        )
        for w in work
    ]


def done_work(workspace: Path, found: dict[str, Any]) -> list[dict[str, Any]]:
    """What stages of the plan that are done took, by kind and component."""
    from kdbench.api import available_cores
    from kdbench.stages.provenance import hardware
    from kdbench.store import Store

    cores = len(available_cores())
    here = hardware(found["device"], cores, cores)["label"]
    keys = {s["key"] for s in found["stages"] if s["state"] == "cached"}
    totals: dict[tuple[str, str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for record in Store(workspace).records():
        if record["key"] in keys:
            if record["hardware"]["label"] != here:
                raise SystemExit(
                    f"{record['title']} was done on {record['hardware']['label']}, not on {here}"
                )
            total = totals[record["kind"], record["component"], record["unit"]]
            total[0] += record["work"]
            total[1] += record["seconds"]
    return [
        {"kind": kind, "component": component, "unit": unit, "work": amount, "seconds": seconds,
         "seconds_per_unit": seconds / amount if amount else 0.0, "measured": True}
        for (kind, component, unit), (amount, seconds) in totals.items()
    ]  # fmt: skip


def minutes(work: list[dict[str, Any]], jobs: int) -> dict[str, float]:
    """Of training alone and of everything; all but students are taken one after another."""
    seconds: dict[bool, float] = defaultdict(float)
    for w in work:
        seconds[w["kind"] in TRAINING] += w["seconds"] / (jobs if w["kind"] == "student" else 1)
    return {"training": seconds[True] / 60, "everything": (seconds[True] + seconds[False]) / 60}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="as of kdbench run: another teacher, say")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    more = [word for value in args.set for word in ("--set", value)]
    if args.data_dir:
        more += ["--data-dir", str(args.data_dir)]
    found = plan(args.workspace, more)
    done, left = done_work(args.workspace, found), found["estimate"]["work"]
    for title, part in (("done", done), ("left", left)):
        if not part:
            continue
        head = (title, "work", "a unit", "together", "from")
        print()
        for line in (head, ("---",) * len(head), *rows(part)):
            print("| " + " | ".join(line) + " |")
    work = [*done, *left]
    total = minutes(work, args.jobs)
    print(f"\n{found['device']}, {args.jobs} at once: training {total['training']:.0f} min, "
          f"with embeddings and scores {total['everything']:.0f} min")  # fmt: skip
    if not args.keep:
        return 0
    guessed = sorted({w["kind"] for w in work if not w["measured"]})
    if guessed or not found["device"].startswith("cuda"):
        print(f"nothing kept: {found['device']}; guessed: {', '.join(guessed) or 'nothing'}", file=sys.stderr)
        return 1
    record = {
        "date": date.today().isoformat(), "device": found["device"], "jobs": args.jobs, "changes": args.set,
        "minutes": round(total["training"], 1), "minutes_of_everything": round(total["everything"], 1),
        "work": work,
    }  # fmt: skip
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
