import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_cells import cell

from kdbench.api.records import CellRecord, Result
from kdbench.api.settings import ComponentSettings
from kdbench.errors import VerificationError, WorkspaceError
from kdbench.tracking import tags as codec

numbers = st.floats(allow_nan=False)
texts = st.text(max_size=20)
results = st.builds(
    Result, metric=texts, value_name=texts, value=numbers, tap=st.none() | texts, reducer=st.none() | texts,
    setting=texts, primary=st.booleans(),
)  # fmt: skip


@given(st.lists(results, max_size=8), st.dictionaries(texts, st.integers() | texts | st.none(), max_size=5))
def test_a_record_survives_its_tags(some_results, params):
    settings = replace(cell().settings, scheme=ComponentSettings("kl", params))
    record = replace(cell(), results=tuple(some_results), settings=settings, history={})
    tags = codec.to_tags(record)
    assert all(isinstance(v, str) and len(v) <= codec.TAG_CHUNK for v in tags.values())
    assert codec.from_tags({**tags, "mlflow.runName": "x"}) == record


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["budget"], "400"), (["fold"], None), (["scheme"], None), (["results", 0, "value"], "abc"),
        (["settings", "stages"], [1]), (["settings", "scheme", "params"], None),
        (["settings", "student", "recipe"], None),
    ],
)  # fmt: skip
def test_a_record_with_a_value_of_another_type_is_refused(path, value):
    data = json.loads(json.dumps(cell().to_json()))
    CellRecord.from_json(data)
    place = data
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    with pytest.raises(TypeError):
        CellRecord.from_json(data)


def test_a_record_read_from_disk_has_the_same_checksum():
    settings = replace(cell().settings, scheme=ComponentSettings("kl", {"b": 1, "a": 2}))
    stored = replace(settings, scheme=ComponentSettings("kl", {"a": 2, "b": 1}))
    sums = {codec.to_tags(replace(cell(), settings=s))[codec.SUM_TAG] for s in (settings, stored)}
    assert len(sums) == 1


def test_a_long_record_takes_several_tags_and_odd_numbers_survive():
    many = [Result("m", str(i), v) for i, v in enumerate([math.inf, -math.inf, 1e-310, 0.1] * 400)]
    record = replace(cell(), results=tuple(many), history={})
    tags = codec.to_tags(record)
    assert len(tags) > 5
    assert codec.from_tags(dict(reversed(list(tags.items())))) == record
    (nan,) = codec.from_tags(codec.to_tags(replace(record, results=(Result("m", "v", math.nan),)))).results
    assert math.isnan(nan.value)


def test_numpy_scalars_are_numbers():
    record = replace(cell(), results=(Result("m", "v", np.float32(0.5)),), history={})
    assert codec.from_tags(codec.to_tags(record)).results[0].value == 0.5


@pytest.mark.parametrize("damage", [{}, {"kdbench.record.000": '{"results"'}, {"kdbench.record.000": "[]"}])
def test_damaged_tags_are_no_record(damage):
    with pytest.raises(VerificationError, match="can't be used"):
        codec.from_tags(damage)


def test_a_record_that_was_changed_is_told_from_what_was_logged():
    tags = codec.to_tags(cell())
    changed = {**tags, "kdbench.record.000": tags["kdbench.record.000"].replace("2 cores", "9 cores")}
    assert changed != tags
    with pytest.raises(VerificationError, match="not what was logged") as caught:
        codec.from_tags(changed)
    assert "kdbench track sync" in caught.value.hint
    del changed[codec.SUM_TAG]
    with pytest.raises(VerificationError, match="not what was logged"):
        codec.from_tags(changed)


def test_a_record_of_another_format_is_refused():
    with pytest.raises(WorkspaceError, match="format 1, and this kdbench reads format 2"):
        codec.from_tags(codec.to_tags(replace(cell(), record_version=1)))


def test_the_end_of_a_long_error_is_kept():
    record = replace(cell(), error="x" * 50_000 + "ValueError: here", history={})
    assert codec.from_tags(codec.to_tags(record)).error.endswith("ValueError: here")


def test_metric_names_are_what_mlflow_takes_readable_and_distinct():
    validate = pytest.importorskip("mlflow.utils.validation")._validate_metric_name
    odd = [
        Result("ivis-loss", "last", 1.0, "A", "ivis-torch[k=15, metric='cosine']"),
        Result("ivis-loss", "last", 1.0, "A", "ivis-torch[k=15, metric=(cosine)]"),
        Result("ivis-loss", "last", 1.0, "A", "ivis-torch[k=15, metric='cosine']", "n=5"),
        Result("accuracy", "accuracy", 1.0),
        Result("ü·λ", "r²", 1.0, "block.1/..", "../x"),
        Result("m" * 400, "v", 1.0),
        Result("m" * 400, "w", 1.0),
        Result("", "", 1.0, "..", "//"),
    ]
    names = codec.metric_names(odd)
    assert len(set(names)) == len(odd)
    assert names[0] == "score/A/ivis-torch k:15 metric:cosine/ivis-loss.last"
    assert names[3] == "score/accuracy.accuracy"
    for name in names:
        validate(name)


@given(st.lists(results, max_size=6))
def test_any_metric_name_is_taken(some_results):
    from mlflow.utils.validation import _validate_metric_name

    names = codec.metric_names(some_results)
    assert len(set(names)) == len(names)
    for name in names:
        _validate_metric_name(name)


def test_params_are_flat_text():
    flat = codec.flat_params(
        {"a": {"b": 1, "c": {}}, "l": [1, {"x": 2}], "t": "text", "n": None, "k[1]": 0.5}
    )
    assert flat == {"a.b": "1", "a.c": "{}", "l": '[1, {"x": 2}]', "t": "text", "n": "null", "k 1": "0.5"}
    assert len(codec.flat_params({"long": "x" * 10_000})["long"]) == codec.PARAM_LENGTH


def test_a_digest_is_of_what_was_measured():
    a = cell()
    assert codec.digest(a) == codec.digest(replace(a, seconds=99.0, git_commit="other", hardware={}))
    assert codec.digest(a) != codec.digest(replace(a, results=a.results[:-1]))
    assert codec.digest(a) != codec.digest(replace(a, status="failed"))
    again = type(a).from_json(json.loads(json.dumps(a.to_json())))
    assert codec.digest(a) == codec.digest(again)
    assert codec.digest(a) == codec.digest(replace(a, results=a.results[::-1]))


@pytest.mark.parametrize(
    "shown",
    [
        {"suite": "other"}, {"scale": "paper"}, {"dataset": "cifar100"}, {"budget": 7}, {"fold": 7}, {"seed": 7},
        {"scheme": "new label"}, {"student": "new label"}, {"teacher": "new label"},
    ],
)  # fmt: skip
def test_a_digest_is_of_what_a_reader_is_shown(shown):
    assert codec.digest(cell()) != codec.digest(replace(cell(), **shown))


@pytest.mark.parametrize(
    "changed",
    [
        {"results": (Result("m", "v", np.float32(0.1)), Result("m", "w", math.nan, "A"))},
        {"settings": replace(cell().settings, stages={"b": (1, 2), "a": {10: "x", 9: "y"}})},
        {"status": "failed", "error": "x" * 50_000 + "ValueError: here"},
    ],
)
def test_a_digest_is_the_same_after_the_way_through_tags(changed):
    record = replace(cell(), **changed)
    assert codec.digest(codec.from_tags(codec.to_tags(record))) == codec.digest(record)


def test_merging_keeps_the_finished_the_newest_and_all_results():
    old = cell()
    failed = replace(old, status="failed", results=(), error="boom")
    newer = replace(old, results=(replace(old.results[0], value=0.9), Result("new", "v", 1.0)))
    other = cell(fold=1)
    assert codec.merged([failed, other]) == [failed, other]
    assert codec.merged([failed, old, failed, other]) == [old, other]
    (united,) = codec.merged([old, newer])
    values = {(r.metric, r.value_name, r.tap): r.value for r in united.results}
    assert values["accuracy", "accuracy", None] == 0.9
    assert values["new", "v", None] == 1.0
    assert len(united.results) == len(old.results) + 1


def test_merging_keeps_suites_and_scales_apart_that_share_work():
    several = [cell(), replace(cell(), scale="paper"), replace(cell(), suite="other")]
    assert codec.merged([*several, *several]) == several


def test_merging_shows_the_newest_labels_alone():
    stages = {"student": "0", "embedding pca": "1", "score pca": "2"}
    old = replace(cell(), stages=stages, results=(Result("m", "v", 0.5, "A", "pca"),))
    new = replace(
        old,
        student="small",
        stages={"student": "0", "embedding principal": "1", "score principal": "2"},
        results=(Result("m", "v", 0.5, "A", "principal"),),
    )
    assert codec.merged([old, new]) == [new]
    assert codec.merged([old, new, old]) == [old]
