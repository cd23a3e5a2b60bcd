"""The performance figures of kdbench: their limits, and what was measured.

    python benchmarks/figures.py LATEST.json      # the table at the end of `make bench`
    python benchmarks/figures.py --keep LATEST.json   # and write its figures to benchmarks/baseline.json

LATEST.json is what pytest-benchmark wrote (`--benchmark-json`). The peers' records in benchmarks/peers/results are
read too; each says on what machine and when it was made. Figures are ratios within one run wherever they can be: they
carry over to another machine, seconds do not.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BASELINE = HERE / "baseline.json"

Cases = dict[str, dict[str, Any]]
Peers = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes
    ----------
    what
        Description.
    limit
        Lower limit if `at_least`, otherwise upper limit.
    at_least
        See `limit`.
    unit
        Printed after the number.
    read
        Returns the measured number and its source, from the benchmark cases and the peers' records; None if it was
        not measured.
    """

    what: str
    limit: float
    at_least: bool
    unit: str
    read: Callable[[Cases, Peers], tuple[float, str] | None]

    def line(self, cases: Cases, peers: Peers) -> list[str]:
        limit = f"at {'least' if self.at_least else 'most'} {self.limit:g}{self.unit}"
        found = self.read(cases, peers)
        if found is None:
            return [self.what, limit, "not measured", "", ""]
        value, where = found
        met = value >= self.limit if self.at_least else value <= self.limit
        return [self.what, limit, f"{value:.3g}{self.unit}", "yes" if met else "no", where]


def case(name: str, key: str) -> Callable[[Cases, Peers], tuple[float, str] | None]:
    """Read a number of a benchmark case: "median", "processor_seconds" or another of its extra figures."""

    def read(cases: Cases, _peers: Peers) -> tuple[float, str] | None:
        found = cases.get(name)
        if found is None or key not in found:
            return None
        return float(found[key]), f"{name}: {key}"

    return read


def peer(
    record: str, side: str, seconds: str = "cpu_seconds"
) -> Callable[[Cases, Peers], tuple[float, str] | None]:
    """Read how many times less time `side` needs than its peer: the median of the ratios of the rounds.

    Processor time by default, because other load on the machine affects it least.
    """

    def read(_cases: Cases, peers: Peers) -> tuple[float, str] | None:
        found = peers.get(record)
        if found is None or side not in found[seconds]:
            return None
        ratios = [p / k for p, k in zip(found[seconds][found["against"]], found[seconds][side], strict=True)]
        when = found["machine"]["date"]
        what = "processor time" if seconds == "cpu_seconds" else "wall"
        spread = f"{min(ratios):.2g} to {max(ratios):.2g}"
        return statistics.median(ratios), f"peers/results/{record}.json, {when}, {what}, {spread}"

    return read


def faster(record: str, row: str) -> Callable[[Cases, Peers], tuple[float, str] | None]:
    """Read the same from a record that contains the ratio of each of its rows."""

    def read(_cases: Cases, peers: Peers) -> tuple[float, str] | None:
        found = peers.get(record)
        if found is None:
            return None
        ratios = found["faster"][row]["processor"]
        spread = f"{min(ratios):.2g} to {max(ratios):.2g}"
        where = f"peers/results/{record}.json, {found['machine']['date']}, {row}, processor time, {spread}"
        return statistics.median(ratios), where

    return read


def slower(record: str, side: str) -> Callable[[Cases, Peers], tuple[float, str] | None]:
    """Read how many times the peer's processor time `side` needs."""
    faster = peer(record, side)

    def read(cases: Cases, peers: Peers) -> tuple[float, str] | None:
        found = faster(cases, peers)
        return None if found is None else (1 / found[0], found[1])

    return read


def recorded(file: str, key: str) -> Callable[[Cases, Peers], tuple[float, str] | None]:
    """Read a number from a separate record next to this file."""

    def read(_cases: Cases, _peers: Peers) -> tuple[float, str] | None:
        path = HERE / file
        if not path.exists():
            return None
        found = json.loads(path.read_text())
        return float(found[key]), f"{file}, {found['date']}"

    return read


FIGURES = (
    Figure("WRN-28-1 step, bfloat16, against the plain NCHW float32 loop", 8, True, "x",
           peer("plain_loop", "engine, bfloat16")),
    Figure("the same without bfloat16", 2, True, "x", peer("plain_loop", "engine, float32")),
    Figure("a distillation step with soft targets computed ahead, against a supervised step", 1.1, False, "x",
           case("test_distillation_step_against_supervised_step[bfloat16]", "over a supervised step")),
    Figure("a student distilled from ResNet-18, complete run, against torchdistill", 4, True, "x",
           faster("torchdistill_student", "10 epochs")),
    Figure("engine against a bare loop with the same optimisations, bfloat16", 1.03, False, "x",
           case("test_engine_against_bare_loop[bfloat16]", "over the bare loop")),
    Figure("engine against a bare loop with the same optimisations, float32", 1.03, False, "x",
           case("test_engine_against_bare_loop[float32]", "over the bare loop")),
    Figure("ivis-torch against ivis, 10,000 x 1,024", 5, True, "x",
           peer("ivis_package_10000x1024", "ivis-torch, bfloat16")),
    Figure("ivis-torch against ivis, 10,000 x 16,384", 8, True, "x",
           peer("ivis_package_10000x16384", "ivis-torch, bfloat16")),
    Figure("tsne against openTSNE called directly", 1.05, False, "x",
           slower("opentsne_direct_1200x128", "kdbench tsne")),
    Figure("`run` on a finished suite of 1,009 stages", 3, False, " s", case("test_a_finished_run", "median")),
    Figure("`leaderboard build` over 2,000 MLflow runs", 5, False, " s", case("test_leaderboard_build", "median")),
    Figure("`paper` scale on one H100", 60, False, " min", recorded("paper_scale.json", "minutes")),
    Figure("memory of `paper` scale on the host", 8, False, " GiB", recorded("paper_memory.json", "peak_gib")),
)  # fmt: skip


def read_cases(path: Path) -> Cases:
    """Return the figures of each benchmark case by name, from pytest-benchmark's JSON or from a baseline."""
    data = json.loads(path.read_text())
    if "benchmarks" not in data:
        return data["cases"]
    return {b["name"]: {"median": b["stats"]["median"], **b["extra_info"]} for b in data["benchmarks"]}


def read_peers() -> Peers:
    return {p.stem: json.loads(p.read_text()) for p in sorted((HERE / "peers" / "results").glob("*.json"))}


def keep(path: Path) -> None:
    """Write the cases of a run as the baseline, without the name of the machine."""
    data = json.loads(path.read_text())
    cpu = data["machine_info"]["cpu"]
    about = {"date": data["datetime"][:10], "python": data["machine_info"]["python_version"],
             "processor": cpu.get("brand_raw", ""), "cores": cpu.get("count")}  # fmt: skip
    BASELINE.write_text(
        json.dumps({"machine": about, "cases": read_cases(path)}, indent=1, sort_keys=True) + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("latest", type=Path, nargs="?", default=BASELINE)
    parser.add_argument("--keep", action="store_true", help="keep the cases as the baseline")
    args = parser.parse_args()
    if args.keep:
        keep(args.latest)
    if not args.latest.exists():
        parser.error(f"{args.latest} is not there: make bench writes it")
    cases, peers = read_cases(args.latest), read_peers()
    before = read_cases(BASELINE) if BASELINE.exists() else {}
    lines = [[*f.line(cases, peers), f.line(before, peers)[2]] for f in FIGURES]
    head = ["what", "limit", "measured", "met", "source", "baseline"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for line in lines:
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    main()
