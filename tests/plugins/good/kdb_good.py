"""A plugin with nothing wrong: what the others are compared with."""

from kdbench.api import (
    ArchitectureSpec,
    DatasetSpec,
    ExecutorSpec,
    MetricSpec,
    ReducerSpec,
    SchemeSpec,
    SuiteSpec,
    hookimpl,
)


@hookimpl
def kdbench_datasets():
    yield DatasetSpec(name="good-data", target="kdb_good_parts:Data", summary="data")
    yield DatasetSpec(name="good-family/*", target="kdb_good_parts:Family", summary="a family")


@hookimpl
def kdbench_architectures():
    return [ArchitectureSpec(name="good-net", target="kdb_good_parts:Net", summary="a network")]


@hookimpl
def kdbench_schemes():
    needs = frozenset({"teacher_logits", "unlabelled"})
    return [
        SchemeSpec(name="good-alone", target="kdb_good_parts:Scheme", summary="without a teacher"),
        SchemeSpec(name="good-taught", target="kdb_good_parts:Scheme", summary="with one", needs=needs),
    ]


@hookimpl
def kdbench_reducers():
    return [
        ReducerSpec(name="good-reducer", target="kdb_good_parts:Reducer", summary="a reducer", version=3),
        ReducerSpec(
            name="good-absent",
            target="kdb_good_parts:Reducer",
            summary="needs what nobody has",
            requires=("kdb-nowhere>=2",),
        ),
        ReducerSpec(name="good-untargeted", target="kdb_good_parts:Reduce", summary="no such class"),
    ]


@hookimpl
def kdbench_metrics():
    return (
        MetricSpec(name="good-metric", target="kdb_good_parts:Metric", summary="a metric"),
        MetricSpec(name="good-score", target="kdb_good_parts:Score", summary="another"),
    )


@hookimpl
def kdbench_executors():
    return [ExecutorSpec(name="good-executor", target="kdb_good_parts:Net", summary="an executor")]


@hookimpl
def kdbench_suites():
    return [
        SuiteSpec(name="good-suite", target="kdb_good_parts:good_suite.toml", summary="a suite"),
        SuiteSpec(name="good-unshipped", target="kdb_good_parts:absent.toml", summary="no such file"),
    ]


@hookimpl
def kdbench_run_started(run):
    run.append("started")


@hookimpl
def kdbench_stage_finished(run, stage):
    run.append(stage)


@hookimpl
def kdbench_cell_finished(cell, run):
    run.append(cell)


@hookimpl
def kdbench_run_finished(run):
    run.append("good")
