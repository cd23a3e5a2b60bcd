"""Labels that are markup in one of the formats stay text in all of them."""

from dataclasses import replace

import pytest
from suite_calls import board_of
from synthetic_cells import cells, suite

from kdbench.rendering.export import to_tex
from kdbench.rendering.html import to_html
from kdbench.rendering.markdown import to_markdown

HOSTILE = "a|b <script>alert(1)</script> *x* 50% & {y}_z \\cmd `c`"


@pytest.fixture
def board():
    named = [replace(c, scheme=HOSTILE) if c.scheme == "kl" else c for c in cells()]
    return board_of(named, suite())


def test_markdown(board):
    text = to_markdown(board)
    assert "<script>" not in text.replace("\\<script>", "")
    for block in text.split("\n\n"):
        if block.startswith("|"):
            counts = {line.replace(r"\|", "").count("|") for line in block.splitlines()}
            assert len(counts) == 1


def test_a_title_of_several_lines_is_one_heading(board):
    text = to_markdown(replace(board, suite=board.suite.model_copy(update={"title": "A\n\n## B"})))
    assert text.startswith("# A ## B")
    assert "\n## B" not in text


def test_html(board):
    page = to_html(board)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_latex(board):
    text = to_tex(board)
    assert r"50\% \& \{y\}\_z \textbackslash{}cmd" in text
    lines = [line for line in text.splitlines() if line.startswith("a|b")]
    assert lines
    assert all(line.endswith(r"\\") for line in lines)
