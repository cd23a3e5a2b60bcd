"""`kdbench`: the entry point. Imports the module of a command, and turns errors into messages."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from kdbench import __version__
from kdbench.errors import KdbenchError, did_you_mean

#: Verb -> what `kdbench --help` says of it. Its module `kdbench.cli.<verb>` has the click command `command`.
VERBS = {
    "run": "Run a suite, or resume an earlier run of it.",
    "plan": "Show the stages of a run, what is cached, and the time left.",
    "list": "List components and suites.",
    "show": "Show one component or suite: parameters, defaults, source.",
    "verify": "Evaluate a suite's claims, and check results for damage.",
    "compare": "Compare two schemes, students or runs, paired by fold.",
    "leaderboard": "Build leaderboards from the tracking store.",
    "track": "Log the workspace's records to a tracking store.",
    "plugins": "List, check and create plugins.",
    "doctor": "Check this installation: versions, devices, plugins, data.",
}

INTERRUPTED = 130
#: A bug of kdbench itself (EX_SOFTWARE): none of the codes that say what a person did.
INTERNAL = 70


class LazyGroup(click.Group):
    """A group that knows its verbs by name and imports one when it is called, not for `--help`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        return import_module(f"kdbench.cli.{name}").command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!r}; {did_you_mean(args[0], VERBS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kdbench")
@click.option("--debug", is_flag=True, envvar="KDBENCH_DEBUG", help="Show the traceback of every error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Run, compare and rank explanations of why knowledge distillation works.

    Start with `kdbench run paper-reference`.
    """
    ctx.ensure_object(dict)["debug"] = debug


def main(args: Sequence[str] | None = None) -> None:
    """The console script: run one command and exit with its code.

    Exit codes: 0 done, 1 some cells failed, 2 usage, suite, data or workspace, 3 plugin, 4 verification, 130
    interrupted, 70 a bug of kdbench itself.
    """
    sys.exit(invoke(args))


def invoke(args: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. A command may return an int as its code."""
    settings: dict[str, bool] = {}
    try:
        result = cli.main(args=list(args) if args is not None else None, obj=settings, standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except KdbenchError as error:
        if settings.get("debug"):
            traceback.print_exc()
        _print_error(error)
        return error.exit_code
    except click.exceptions.Abort:
        click.echo("interrupted; what is finished is kept, the same command goes on from there", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except OSError as error:
        if error.errno != errno.EPIPE:
            return _internal()
        # The reader has left (`kdbench list | head`): keep Python from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:
        return _internal()


def _internal() -> int:
    traceback.print_exc()
    click.echo("error: this is a bug of kdbench, or of a plugin named above", err=True)
    return INTERNAL


def _print_error(error: KdbenchError) -> None:
    """`error: what`, then where and what to do, each on a line of its own."""
    from rich.text import Text

    from kdbench.cli.options import console

    text = Text("error: ", style="bold red").append(error.what, style="default")
    for label, value in (("where", error.where), ("hint", error.hint)):
        if value:
            text.append(f"\n  {label}: ", style="bold").append(value, style="default not bold")
    console(stderr=True).print(text, soft_wrap=True)


if __name__ == "__main__":
    main()
