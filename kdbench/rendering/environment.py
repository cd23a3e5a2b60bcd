"""Templates of the pages, and how text is escaped in each of them."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

_LOADER = PackageLoader("kdbench.rendering", "templates")
_MARKDOWN = re.compile(r"[\\`*<~]|\](?=\()|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")
_TEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}",
} | {c: f"\\{c}" for c in "&%$#_{}"}  # fmt: skip


def markdown(text: str) -> str:
    """Plain text for Markdown, on one line: `*x*` would be a quoted number. Underscores within a word stay."""
    return _MARKDOWN.sub(r"\\\g<0>", re.sub(r"\s*\n\s*", " ", text))


def code(text: str) -> str:
    """Text as Markdown code, between as many backticks as it takes."""
    runs = [len(run) for run in re.findall("`+", text)]
    fence = "`" * (max(runs, default=0) + 1)
    return f"{fence} {text} {fence}" if runs else f"{fence}{text}{fence}"


def cell(text: str) -> str:
    """Markdown for a cell of a table: on one line, without a bare bar."""
    return " ".join(text.replace("|", "\\|").split())


def tex(text: str) -> str:
    """Plain text for LaTeX."""
    return "".join(_TEX.get(c, c) for c in text)


@cache
def markdown_environment() -> Environment:
    """Templates of Markdown pages; what needs escaping goes through the filters."""
    environment = Environment(loader=_LOADER, undefined=StrictUndefined, autoescape=False)
    environment.filters |= {"md": markdown, "code": code, "cell": cell}
    return environment


@cache
def html_environment() -> Environment:
    """Templates of HTML pages; everything is escaped."""
    return Environment(
        loader=_LOADER, undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )


@cache
def tex_environment() -> Environment:
    """Templates of LaTeX tables, with <% %> and << >> in place of braces."""
    environment = Environment(
        loader=_LOADER, undefined=StrictUndefined, autoescape=False, block_start_string="<%",
        block_end_string="%>", variable_start_string="<<", variable_end_string=">>", comment_start_string="<#",
        comment_end_string="#>", trim_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"tex": tex, "comment": lambda text: " ".join(str(text).split())}
    return environment


def asset(name: str) -> Any:
    """A style sheet or script of ours, to be inlined as it is."""
    from markupsafe import Markup

    return Markup((resources.files("kdbench.rendering") / "templates" / name).read_text(encoding="utf-8"))
