"""A suite file becomes a Suite, or an error that says what is wrong and where."""

from __future__ import annotations

import json
import tomllib

import pytest

from kdbench.errors import KdbenchError, SuiteError, UsageError
from kdbench.suite import Suite, dump, json_schema, read_suite, scales, to_toml
from kdbench.suite import load_suite as resolve
from kdbench.suite.merge import parse_override

SUITE = """\
name = "a-suite"
title = "A suite"
default_scale = "quick"
schemes = ["good-alone", { name = "good-taught", temperature = 2, label = "taught" }]
taps = ["A", "B"]
reducers = ["good-reducer", { name = "good-reducer", k = 5 }]
metrics = ["good-score"]
teacher_metrics = ["good-score"]

[data]
dataset = { name = "good-data", size = 7 }
budgets = [100, 200]

[teacher]
architecture = "good-net"
epochs = 9

[student]
architecture = { name = "good-net", depth = 28, width = 2 }
epochs = 200
learning_rate = 1

[assumptions]
LW-A1 = "what the paper does not say"

[[claim]]
id = "a"
text = "It helps."
where = "section 1"
metric = "good-score"
value_name = "value"
left = { scheme = "taught" }
right = { scheme = "good-alone" }
expect = "greater"

[scales.quick]
data = { budgets = [10], folds = 2 }
student = { epochs = 2, architecture = { depth = 10 } }

[scales.other]
student.architecture = { name = "good-net", params = { width = 3 } }
data.dataset = "good-family/x"

[scales.paper]
"""


def load_suite(*arguments, **options) -> Suite:
    """The suite as it will run."""
    return resolve(*arguments, **options).suite


def test_the_default_scale_is_merged_in(registry, suite_file):
    suite = load_suite(suite_file(SUITE), registry=registry)
    assert suite.scale == "quick"
    assert suite.data.budgets == (10,)
    assert suite.data.folds == 2
    assert suite.data.dataset.params == {"size": 7}  # a table merges: what the scale does not name stays
    assert suite.student.epochs == 2
    assert suite.student.architecture.params == {"depth": 10, "width": 2}
    assert suite.student.learning_rate == 1.0


def test_a_scale_with_nothing_in_it_is_the_file_itself(registry, suite_file):
    suite = load_suite(suite_file(SUITE), scale="paper", registry=registry)
    assert (suite.scale, suite.data.budgets, suite.student.epochs) == ("paper", (100, 200), 200)


def test_a_component_of_another_name_replaces_the_whole(registry, suite_file):
    suite = load_suite(suite_file(SUITE), scale="other", registry=registry)
    assert suite.data.dataset.name == "good-family/x"
    assert suite.data.dataset.params == {}
    assert suite.student.architecture.params == {"depth": 28, "width": 3}  # the same name merges


def test_titles_tell_components_apart(registry, suite_file):
    suite = load_suite(suite_file(SUITE), registry=registry)
    assert [r.title for r in suite.reducers] == ["good-reducer", "good-reducer[k=5]"]
    assert [s.title for s in suite.schemes] == ["good-alone", "taught"]


def test_scales_are_listed_in_the_file_s_order(registry, suite_file):
    assert scales(suite_file(SUITE), registry) == ["quick", "other", "paper"]


def test_a_file_without_scales_has_one(registry, suite_file):
    text = SUITE.partition("[scales.quick]")[0].replace('default_scale = "quick"\n', "")
    assert scales(suite_file(text), registry) == ["default"]
    assert load_suite(suite_file(text), registry=registry).scale == "default"


def test_a_registered_suite_is_found_by_name(registry):
    suite = load_suite("good-suite", registry=registry)
    assert suite.data.dataset.params == {"size": 3}
    assert read_suite("good-suite", registry).origin.endswith("kdb_good_parts/good_suite.toml")


def test_dump_is_plain_and_with_a_registry_complete(registry, suite_file):
    suite = load_suite(suite_file(SUITE), registry=registry)
    data = dump(suite)
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["reducers"][1]["params"] == {"k": 5}
    full = dump(suite, registry)
    assert full["reducers"][1]["params"]["k"] == 5
    assert full["reducers"][1]["params"]["hidden"] == [8, 8]
    assert full["student"]["architecture"]["params"] == {"depth": 10, "width": 2.0}


def test_what_is_shown_loads_again_as_the_same(registry, suite_file):
    suite = load_suite(suite_file(SUITE), registry=registry)
    data = {k: v for k, v in dump(suite).items() if k != "scale"}
    again = load_suite(suite_file(to_toml(data)), registry=registry)
    assert again.model_copy(update={"scale": "quick"}) == suite


def test_toml_round_trips_what_json_holds():
    data = {
        "a": 1, "b": 1.5, "c": True, "d": 'quote " and \\ and \n é', "e": [1], "f": [{"x": 1, "y": [2]}, {}],
        "t": {"u": {"v w": 1e-07, "n": -3}, "z": "s"},
    }  # fmt: skip
    assert tomllib.loads(to_toml(data)) == data
    assert tomllib.loads(to_toml({"a": None, "b": {"c": None}})) == {}
    with pytest.raises(TypeError, match="object"):
        to_toml({"a": object()})


# (edits of the file, scale, part of where, part of what or hint)
WRONG = {
    "unknown key": ([("epochs = 200", "epoch = 200")], "student.epoch", "did you mean 'epochs'"),
    "unknown table": ([("[assumptions]", "[assumption]")], "suite.toml: assumption", "'assumptions'"),
    "unknown key in a scale": ([("folds = 2", "fold = 2")], "scales.quick.data.fold", "did you mean 'folds'"),
    "unknown key elsewhere": ([("[scales.paper]", "[scales.paper]\ntapes = []")], "paper.tapes", "'taps'"),
    "unknown key in a list": ([('id = "a"', 'id = "a"\nexpects = 1')], "claim.0.expects", "'expect'"),
    "missing key": ([('title = "A suite"\n', "")], "suite.toml: title", "missing"),
    "missing component": ([('architecture = "good-net"\n', "")], "teacher.architecture", "missing"),
    "invalid word": ([('expect = "greater"', 'expect = "more"')], "claim.0.expect", "'less' or 'equal'"),
    "text for a number": ([("epochs = 200", 'epochs = "200"')], "student.epochs", "written without quotes"),
    "flag for a number": ([("epochs = 9", "epochs = true")], "teacher.epochs", "valid integer"),
    "fraction for a count": ([("epochs = 9", "epochs = 9.5")], "teacher.epochs", "valid integer"),
    "zero epochs": ([("epochs = 9", "epochs = 0")], "teacher.epochs", "greater than 0"),
    "value for a list": ([("[100, 200]", "100")], "suite.toml: data.budgets", "a list is expected"),
    "no budgets": ([("[10]", "[]")], "scales.quick.data.budgets", "at least 1 item"),
    "neither branch of a union": ([("folds = 2", "folds = 2, test = -1")], "scales.quick.data.test", "'all'"),
    "a date": ([('title = "A suite"', "title = 2020-01-01")], "suite.toml", "dates"),
    "a bad name": ([('"a-suite"', '"A Suite"')], "suite.toml: name", "pattern"),
    "no default scale": ([('default_scale = "quick"\n', "")], "suite.toml", 'default_scale = "quick"'),
    "unknown default": ([('default_scale = "quick"', 'default_scale = "quik"')], "default_scale", "'quick'"),
    "a scale of its own": ([('default_scale = "quick"', 'scale = "quick"')], "scale", "default_scale"),
    "a bad scale name": ([("[scales.paper]", "[scales.Paper]")], "scales", "lower-case"),
    "a scale that is no table": ([("[scales.paper]", "[scales]\npaper = 3")], "scales", "tables"),
    "a scale that renames": ([("[scales.paper]", '[scales.paper]\nname = "b"')], "paper.name", "rename"),
    "unknown component": ([('"good-alone", {', '"good-along", {')], "suite.toml: schemes.0", "'good-alone'"),
    "unknown architecture": ([('= "good-net"', '= "net"')], "teacher.architecture", "good-net"),
    "unknown parameter": ([("temperature", "temprature")], "schemes.1", "did you mean 'temperature'"),
    "wrong parameter": ([("k = 5", 'k = "5"')], "reducers.1", "k='5': input should be a valid integer"),
    "refused parameter": ([("temperature = 2", "temperature = -1")], "schemes.1", "temperature=-1.0: above"),
    "parameter from a scale": ([("depth = 10", "dep = 10")], "scales.quick.student.architecture", "'depth'"),
    "both forms of parameters": ([("k = 5 }", "k = 5, params = {} }")], "reducers.1.k", "no key 'k'"),
    "the same budget twice": ([("[10]", "[10, 20, 10]")], "scales.quick.data.budgets", "10 appears twice"),
    "the same tap twice": ([('["A", "B"]', '["A", "A"]')], "suite.toml: taps", "'A' appears twice"),
    "the same reducer twice": ([(", k = 5", "")], "suite.toml: reducers", "label"),
    "the same label twice": ([('"taught"', '"good-alone"')], "suite.toml: schemes", "label"),
    "a scheme called teacher": ([('label = "taught"', 'label = "teacher"')], "schemes.1", "another label"),
    "a metric that is not there": (
        [('teacher_metrics = ["good-score"', 'teacher_metrics = ["so"')], "teacher_metrics", "good-score",
    ),
    "an unknown selector": ([("{ scheme =", "{ schema =")], "claim.0.left", "did you mean 'scheme'"),
    "no teacher for a scheme that needs one": (
        [('[teacher]\narchitecture = "good-net"\nepochs = 9\n', "")], "schemes.1", "[teacher]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_says_what_and_where(registry, suite_file, case):
    edits, where, what = WRONG[case]
    path = suite_file(SUITE, *edits)
    with pytest.raises(SuiteError) as caught:
        load_suite(path, registry=registry)
    assert where in caught.value.where
    assert str(path) in caught.value.where
    assert what in f"{caught.value.what} {caught.value.hint}"
    assert caught.value.exit_code == 2


def test_several_errors_are_counted(registry, suite_file):
    path = suite_file(SUITE, ("epochs = 200", "epoch = 200"), ("epochs = 9", "epochs = 0"))
    with pytest.raises(SuiteError, match="1 more is wrong"):
        load_suite(path, registry=registry)


def test_invalid_toml_names_the_line(registry, suite_file):
    path = suite_file(SUITE, ("epochs = 9", "epochs 9"))
    line = path.read_text().splitlines().index("epochs 9") + 1
    with pytest.raises(SuiteError, match=rf"suite\.toml:{line}: not valid TOML"):
        load_suite(path, registry=registry)


def test_a_file_that_is_not_text(registry, suite_file):
    path = suite_file("")
    path.write_bytes(b'name = "\xff\xfe"')
    with pytest.raises(SuiteError, match="UTF-8"):
        load_suite(path, registry=registry)


def test_an_unknown_scale_names_the_known(registry, suite_file):
    with pytest.raises(SuiteError, match=r"no scale 'big'\n.*known: quick, other, paper"):
        load_suite(suite_file(SUITE), scale="big", registry=registry)


@pytest.mark.parametrize("name", ["goood-suite", "absent.toml", "somewhere/else"])
def test_a_suite_that_is_not_there(registry, name):
    with pytest.raises(UsageError):
        load_suite(name, registry=registry)


def test_the_schema_knows_every_key_and_both_forms_of_a_component():
    schema = json_schema()
    assert {"name", "data", "student", "default_scale", "scales", "claim"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False
    assert {"type": "string"} in schema["$defs"]["Component"]["anyOf"]
    json.dumps(schema)


# Overrides


@pytest.mark.parametrize(
    ("override", "read", "expected"),
    [
        ("student.epochs=3", lambda s: s.student.epochs, 3),
        (" student.epochs = 3 ", lambda s: s.student.epochs, 3),
        ("student.learning_rate=1e-3", lambda s: s.student.learning_rate, 1e-3),
        ("student.nesterov=true", lambda s: s.student.nesterov, True),
        ("student.precision=float32", lambda s: s.student.precision, "float32"),
        ('title="three words here"', lambda s: s.title, "three words here"),
        ("data.budgets=[40, 80]", lambda s: s.data.budgets, (40, 80)),
        ("data.budgets+=40", lambda s: s.data.budgets, (10, 40)),
        ("data.budgets+=[40, 80]", lambda s: s.data.budgets, (10, 40, 80)),
        ("data.test=50", lambda s: s.data.test, 50),
        ("data.test=all", lambda s: s.data.test, "all"),
        ("data.dataset=good-data", lambda s: s.data.dataset.params, {}),
        ("data.dataset.size=9", lambda s: s.data.dataset.params, {"size": 9}),
        ("data.dataset.params.size=9", lambda s: s.data.dataset.params, {"size": 9}),
        ("data.dataset.name=good-family/y", lambda s: s.data.dataset.name, "good-family/y"),
        (
            "data.dataset.label=mine",
            lambda s: (s.data.dataset.title, s.data.dataset.params),
            ("mine", {"size": 7}),
        ),
        ("reducers=[]", lambda s: s.reducers, ()),
        ("reducers+=sklearn.manifold:Isomap", lambda s: s.reducers[-1].name, "sklearn.manifold:Isomap"),
        ('reducers+={name="good-reducer", k=9}', lambda s: s.reducers[-1].params, {"k": 9}),
        ("reducers-=good-reducer[k=5]", lambda s: [r.title for r in s.reducers], ["good-reducer"]),
        ('reducers-="good-reducer[k=5]"', lambda s: [r.title for r in s.reducers], ["good-reducer"]),
        ("reducers-=good-reducer", lambda s: s.reducers, ()),
        ("schemes-=taught", lambda s: [c.title for c in s.schemes], ["good-alone"]),
        ("schemes.taught.temperature=8", lambda s: s.schemes[1].params, {"temperature": 8}),
        ("schemes.good-taught.temperature=8", lambda s: s.schemes[1].params, {"temperature": 8}),
        ("reducers.good-reducer[k=5].k=6", lambda s: s.reducers[1].params, {"k": 6}),
        ("taps-=A", lambda s: s.taps, ("B",)),
        ("teacher_metrics-=good-score", lambda s: s.teacher_metrics, ()),
        ("claim-=a", lambda s: s.claim, ()),
        ("assumptions.LW-A2=silent", lambda s: s.assumptions["LW-A2"], "silent"),
    ],
)
def test_an_override(registry, suite_file, override, read, expected):
    assert read(load_suite(suite_file(SUITE), overrides=[override], registry=registry)) == expected


def test_overrides_apply_in_order(registry, suite_file):
    overrides = [
        "data.budgets=[1]",
        "data.budgets+=2",
        "data.budgets-=1",
        "student.epochs=3",
        "student.epochs=4",
    ]
    suite = load_suite(suite_file(SUITE), overrides=overrides, registry=registry)
    assert (suite.data.budgets, suite.student.epochs) == ((2,), 4)


@pytest.mark.parametrize("path", ["w.pt", "/data/w-1.pt", "./w.pt", "../../weights/w.pt"])
def test_a_path_needs_no_quotes(path):
    assert parse_override(f"teacher.architecture.weights={path}").value == path


def test_a_label_with_blanks_is_a_path_as_it_stands():
    override = parse_override(" schemes.fixmatch (reduced).threshold = 0.5")
    assert (override.path, override.value) == ("schemes.fixmatch (reduced).threshold", 0.5)


def test_appending_to_a_list_that_the_file_leaves_out(registry, suite_file):
    path = suite_file(SUITE, ('teacher_metrics = ["good-score"]\n', ""), ('taps = ["A", "B"]\n', ""))
    suite = load_suite(path, overrides=["taps+=C", "teacher_metrics=[]"], registry=registry)
    assert (suite.taps, suite.teacher_metrics) == (("C",), ())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("student.epoch=3", "there is no key 'epoch' in student\n.*did you mean 'epochs'"),
        ("studnet.epochs=3", "there is no key 'studnet'\n.*'student'"),
        ("student.epochs", "not of the form PATH=VALUE"),
        ("=3", "not of the form PATH=VALUE"),
        ("student.epochs=", "not a TOML value"),
        ("student.epochs=three", "'three': input should be a valid integer"),
        ("student.epochs=-1", "student.epochs: -1: input should be greater than 0"),
        ("student.epochs=3 4", "not a TOML value\n.*quoted"),
        (" =3", "not of the form PATH=VALUE"),
        ("schemes.two words.passes=3", "nothing in schemes matches 'two words.passes'"),
        ("student.epochs=3\nname = 'x'", "one value"),
        ("student.nesterov=True", "lower case"),
        ("student.precision=float16", "'auto', 'float32' or 'bfloat16'"),
        ("student.epochs.more=3", "has no keys"),
        ("student.epochs+=3", "not a list"),
        ("reducers=[pca]", "strings inside a list are quoted"),
        ("reducers=pca", "'pca'"),
        ("reducers+=good-reduced", "did you mean 'good-reducer'"),
        ("reducers+=good-reducer", "'good-reducer' appears twice"),
        ("reducers-=umap", "'umap' is not in reducers\n.*good-reducer"),
        ("reducers.umap.k=3", "nothing in reducers matches"),
        ("reducers.good-reducer.k=3", "several in reducers match.*\n.*label"),
        ("data.budgets.0=3", "is a list"),
        ("data.dataset.siz=3", "did you mean 'size'"),
        ("data.dataset.size+=3", "use ="),
        ("teacher.source.dataset.size=3", "teacher.source.dataset is not set"),
        ("teacher.source.epochs=3", "teacher.source.dataset"),
        ("name=b", "can't be set"),
        ("scale=paper", "use --scale"),
        ("scales.quick.data.folds=3", "use --scale"),
    ],
)
def test_a_wrong_override_says_so(registry, suite_file, override, message):
    with pytest.raises(SuiteError, match=message) as caught:
        load_suite(suite_file(SUITE), overrides=["title=fine", override], registry=registry)
    assert f"--set {override}" in caught.value.where


def test_an_error_is_not_blamed_on_an_override_of_another_key(registry, suite_file):
    path = suite_file(SUITE, ("temperature = 2", "temperature = -1"))
    with pytest.raises(KdbenchError) as caught:
        load_suite(path, overrides=["student.epochs=3"], registry=registry)
    assert "--set" not in caught.value.where


# -- with and without overrides


def test_a_resolved_suite_has_the_suite_without_its_overrides(registry, suite_file):
    path = suite_file(SUITE)
    changed = resolve(path, overrides=["student.epochs=7"], registry=registry)
    assert (changed.suite.student.epochs, changed.base.student.epochs) == (7, 2)
    assert (changed.source, changed.overrides) == (path, ("student.epochs=7",))
    plain = resolve(path, registry=registry)
    assert plain.base is plain.suite
    assert plain.suite == changed.base


def test_a_suite_that_is_valid_only_with_its_overrides_has_no_base(registry, suite_file):
    path = suite_file(SUITE, ('["good-alone", {', '["good-alone", "nowhere", {'))
    with pytest.raises(SuiteError, match="nowhere"):
        resolve(path, registry=registry)
    resolved = resolve(path, overrides=['schemes=["good-alone"]'], registry=registry)
    assert resolved.base is None
    assert [s.name for s in resolved.suite.schemes] == ["good-alone"]


# -- published numbers

HEADER = "where,budget,scheme,tap,reducer,metric,value_name,value,spread,spread_kind,student,steps"


@pytest.fixture
def published(registry, suite_file):
    """Loads a suite whose published numbers are in a CSV file with these lines."""

    def load(*lines: str) -> Suite:
        path = suite_file('published = "own.csv"\n' + SUITE)
        if lines:
            path.with_name("own.csv").write_text("\n".join(lines) + "\n")
        return load_suite(path, registry=registry)

    return load


def test_published_numbers_are_read_from_a_csv_file(published):
    suite = published(
        HEADER,
        '"Table 1, row 2",400,undistilled,,,accuracy,accuracy,0.056,0.0082,standard deviation,,1048576',
        "text,,,A,ivis,embedding-time,seconds,600,,,WRN,",
    )
    first, second = suite.published
    assert (first.where, first.budget, first.tap, first.value) == ("Table 1, row 2", 400, None, 0.056)
    assert (first.spread, first.steps, first.student) == (0.0082, 1048576, None)
    assert (second.budget, second.scheme, second.tap, second.value) == (None, None, "A", 600.0)
    assert (second.spread, second.spread_kind, second.student) == (None, "", "WRN")


def test_published_numbers_may_leave_columns_out(published):
    (number,) = published("metric,value_name,value,where", "accuracy,accuracy,0.5,text").published
    assert (number.metric, number.value, number.scheme) == ("accuracy", 0.5, None)


@pytest.mark.parametrize(
    ("lines", "where", "what"),
    [
        ([], "suite.toml: published", "there is no file 'own.csv'"),
        (["where,metrics"], "own.csv:1", "unknown column 'metrics'"),
        (
            ["where,metric,value_name,value", "t,a,a,0.5", "t,a,a,half"],
            "own.csv:3: value",
            "'half' is not a number",
        ),
        (["where,metric,value_name,value", "t,a,a,nan"], "own.csv:2: value", "not a finite number"),
        (
            ["where,budget,metric,value_name,value", "t,4.5,a,a,1"],
            "own.csv:2: budget",
            "'4.5' is not an integer",
        ),
        (["where,metric,value_name,value", "t,,a,0.5"], "own.csv:2: metric", "a value is required"),
        (["where,value", "t,0.5"], "own.csv:2: metric", "a value is required"),
        (["where,metric,value_name,value", "t,a,a"], "own.csv:2", "differ in their number of columns"),
        (["where,metric,value_name,value", "t,a,a,1,2"], "own.csv:2", "differ in their number of columns"),
    ],
)
def test_errors_in_published_numbers_name_line_and_column(published, lines, where, what):
    with pytest.raises(SuiteError) as error:
        published(*lines)
    assert what in error.value.what
    assert error.value.where.endswith(where)
