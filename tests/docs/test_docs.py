"""The documentation: generated pages match the code, code blocks run, links resolve, and no page is missing."""

import ast
import csv
import importlib.util
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from kdbench import __version__
from kdbench.api.specs import METRIC_NEEDS
from kdbench.cli.main import invoke

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SECTIONS = {"Raises", "Notes", "Examples", "References", "See Also"}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted((DOCS / "plugins").glob("*.md"))


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def write_files(page: Path, folder: Path) -> list[Path]:
    """Write the blocks of a page that begin with a file name."""
    written = []
    for kind, text in blocks(page):
        if (name := re.search(r"^# (\S+\.(?:py|toml))$", text, re.MULTILINE)) and kind in ("python", "toml"):
            written.append(folder / name[1])
            written[-1].write_text(text, encoding="utf-8")
    return written


def run_commands(page: Path) -> None:
    for kind, text in blocks(page):
        for line in text.splitlines() if kind == "sh" else ():
            words = shlex.split(line, comments=True)
            assert words[0] == "kdbench", line
            assert invoke(words[1:]) == 0, line


@pytest.fixture
def here(tmp_path, monkeypatch, cache_home):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    for name in ("KDBENCH_HOME", "KDBENCH_DATA", "KDBENCH_PLUGINS", "KDBENCH_STRICT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Generated pages


def test_hook_reference_matches_code(generate):
    assert (DOCS / "hooks.md").read_text(encoding="utf-8") == generate.hooks_page(), (
        "run: python docs/generate.py"
    )


def test_schema_matches_code(generate):
    assert (DOCS / "suite.schema.json").read_text(encoding="utf-8") == generate.schema_text(), (
        "run: python docs/generate.py"
    )


def test_every_hook_has_description_plugin_and_example(generate):
    from kdbench.api import hookspecs

    marked = re.findall(r"@hookspec\ndef (\w+)", Path(hookspecs.__file__).read_text())
    assert list(generate.hooks()) == marked
    users = generate.users()
    for name, function in generate.hooks().items():
        assert function.__doc__, name
        assert users[name], f"no shipped plugin uses {name}"
        example = "\n".join(text for kind, text in blocks(DOCS / "plugins" / f"{generate.page_of(name)}.md"))
        assert f"@hookimpl\ndef {name}(" in example, f"the page of {name} does not show it"


def test_schema_has_keys_of_shipped_suites():
    schema = json.loads((DOCS / "suite.schema.json").read_text())
    shipped = [*ROOT.glob("plugins/*/suites/*.toml")]
    assert shipped
    for path in shipped:
        document = tomllib.loads(path.read_text())
        assert document.keys() <= schema["properties"].keys(), path
        assert set(schema["required"]) <= document.keys() | {"data", "student"}, path
        assert document["data"].keys() <= schema["$defs"]["Data"]["properties"].keys(), path
    assert schema["additionalProperties"] is False


# Plugin guides


@pytest.mark.parametrize("page", [p for p in PAGES if p.stem != "suite"], ids=lambda p: p.stem)
def test_guide_runs(page, here):
    files = write_files(page, here)
    assert files
    for file in files:
        assert ast.get_docstring(ast.parse(file.read_text())) is None  # the guide describes the module
    run_commands(page)


def test_examples_of_guides_run_together(here, capsys):
    """The suite of its guide uses the components, the executor and the observer of all other guides."""
    for page in PAGES:
        write_files(page, here)
    run_commands(DOCS / "plugins" / "suite.md")
    out = capsys.readouterr().out
    assert "A = matched" in out
    board = list(csv.DictReader((here / ".kdbench/leaderboards/my-suite/minutes/leaderboard.csv").open()))
    assert {r["reducer"] for r in board} >= {"pca", "sparse-axes"}
    assert {r["scheme"] for r in board} == {"undistilled", "matched", "teacher"}
    confidence = [float(r["mean"]) for r in board if r["metric"] == "confidence.confidence"]
    assert confidence
    assert all(0.25 <= c <= 1 for c in confidence)  # four classes
    watched = (here / ".kdbench/watch.txt").read_text().splitlines()
    assert watched[0] == "my-suite: 6 cells"
    assert watched[-1] == "finished"
    assert sum(line.startswith("matched, fold") for line in watched) == 2


# The other pages


def test_suite_files_page_runs(here, capsys):
    page = DOCS / "suite-files.md"
    (file,) = write_files(page, here)
    assert file.name == "first.toml"
    run_commands(page)
    capsys.readouterr()


@pytest.fixture
def first(here):
    """A folder with the suite of the page on suite files."""
    write_files(DOCS / "suite-files.md", here)
    return here


@pytest.mark.filterwarnings("ignore:student .* the teacher is nearly uniform:UserWarning")
def test_python_page_runs(first, capsys):
    for kind, text in blocks(DOCS / "python.md"):
        assert kind == "python"
        exec(compile(text, "python.md", "exec"), {"__name__": "page"})
    out = capsys.readouterr().out
    assert "stages to run" in out
    assert "(60, 2)" in out
    assert "fidelity" in out


@pytest.mark.filterwarnings("ignore:student .* the teacher is nearly uniform:UserWarning")
def test_notebook_runs(here):
    notebook = json.loads((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))
    assert all(not c.get("outputs") for c in notebook["cells"])  # outputs are not committed
    names: dict = {"__name__": "notebook"}
    shown = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            body = ast.parse("".join(cell["source"]))
            last = body.body.pop() if isinstance(body.body[-1], ast.Expr) else None
            exec(compile(body, "notebook", "exec"), names)
            if last is not None:
                shown.append(eval(compile(ast.Expression(last.value), "notebook", "eval"), names))
    plan, accuracy, compared, _, scores, shapes = shown
    assert {state for _, state in plan.index} == {"to run"}
    assert {"undistilled", "distilled", "teacher"} == set(accuracy.index)
    assert (compared["verdict"] == "undecided").all()
    again = scores.query("metric == 'accuracy'")["value"]
    assert again.tolist() == [accuracy.loc["distilled", names["cell"].fold]]
    assert shapes == {"A": (50, 2), "E": (50, 2)}


def test_metric_guide_lists_every_need():
    rows = re.findall(
        r"^\| `(\w+)` \|", (DOCS / "plugins/metric.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(rows) == sorted([*METRIC_NEEDS, "needs"])  # and the heading


@pytest.mark.parametrize("path", sorted((ROOT / "kdbench").rglob("*.py")), ids=lambda p: p.stem)
def test_documented_attributes_exist(path):
    for cls in (
        n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.ClassDef)
    ):
        _, _, section = (ast.get_docstring(cls) or "").partition("Attributes\n----------\n")
        documented = re.findall(r"^(\w[\w, ]*)(?: :.*)?$", section, re.MULTILINE)
        names = {name for line in documented for name in line.split(", ")} - SECTIONS
        fields = {n.target.id for n in cls.body if isinstance(n, ast.AnnAssign)}
        methods = {n.name: n for n in cls.body if isinstance(n, ast.FunctionDef)}
        assigned = (
            {n.attr for n in ast.walk(methods["__init__"]) if isinstance(n, ast.Attribute)}
            if "__init__" in methods
            else set()
        )
        assert not names - fields - set(methods) - assigned, f"{cls.name} documents what it does not have"


def test_class_names_are_unique():
    """Two classes of the core with one name make imports and error messages ambiguous."""
    found = [
        node.name
        for path in (ROOT / "kdbench").rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert [name for name in sorted(set(found)) if found.count(name) > 1] == []


def test_links_resolve():
    pages = [
        *ROOT.glob("*.md"),
        *DOCS.rglob("*.md"),
        *ROOT.glob("benchmarks/*.md"),
        *ROOT.glob("examples/*/*.md"),
    ]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def nav_pages(entries: list) -> list[str]:
    """Sources of the pages in the navigation of the site."""
    found = []
    for entry in entries:
        target = next(iter(entry.values())) if isinstance(entry, dict) else entry
        found += nav_pages(target) if isinstance(target, list) else [target]
    return found


def test_every_page_is_in_the_navigation():
    nav = nav_pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert len(nav) == len(set(nav))
    assert {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} <= set(nav)
    boards = {
        f"{page.parent.relative_to(ROOT).as_posix()}.md" for page in ROOT.glob("leaderboards/*/*/README.md")
    }
    assert boards <= set(nav)


def test_citation_has_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "message", "authors"} <= citation.keys()


def test_changelog_has_a_section_for_the_version():
    headings = re.findall(r"^## \[(\S+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] in (__version__, "Unreleased")
    assert __version__ in headings


def test_glossary_explains_the_words_of_the_project():
    words = (DOCS / "glossary.md").read_text(encoding="utf-8")
    from kdbench.plan import KINDS

    named = """teacher student scheme undistilled distilled labelled unlabelled budget fold tap layer embedding
    reducer metric control baseline suite scale stage cell record override cached"""
    for word in named.split():
        assert f"**{word}**" in words, word
    assert all(kind in words for kind in KINDS if kind not in ("source", "backbone"))
