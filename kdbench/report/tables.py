"""Tables as HTML: accuracy (LW Table 1), ivis loss (LW Table 2), claims, leaderboard rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from kdbench.rendering.tables import about_spreads, is_deviation, source_text
from kdbench.report.selection import TEACHER, Missing, Place, Selection

if TYPE_CHECKING:
    from kdbench.suite.schema import Published

#: Columns of a leaderboard row that the report shows, in order.
ROW_COLUMNS = (
    "dataset", "budget", "scheme", "student", "teacher", "tap", "reducer", "metric", "n", "mean", "ci_low",
    "ci_high", "difference", "difference_low", "difference_high", "published", "setting", "variant",
    "steps", "images_seen",
)  # fmt: skip
#: So many of a claim's comparisons that nobody measured are named.
MOST_NAMED = 4
VERDICTS = ("supported", "contradicted", "undecided", "no data")


@dataclass(frozen=True)
class Table:
    """A table: `html` is the whole <table>."""

    name: str
    title: str
    caption: str
    html: str


def accuracy(data: Selection) -> Sequence[Table | Missing]:
    """LW Table 1: mean +- standard deviation over folds, and the published number below it."""
    title = data.titled("Test accuracy", "LW Table 1")
    found = data.values(data.label("accuracy"), "accuracy")
    if not found:
        return data.absent(title, "accuracy", "no record has a value accuracy.accuracy")
    budgets = sorted({p.budget for p in found})
    students = [p for p in found if p.scheme != TEACHER]
    best = {b: max((np.mean(found[p]) for p in students if p.budget == b), default=None) for b in budgets}
    body = []
    papers: list[Published | None] = []
    for scheme in data.order(p.scheme for p in found):
        cells = [f'<th scope="row">{escape(scheme)}</th>']
        for budget in budgets:
            values = [
                v for p, all_ in found.items() if (p.budget, p.scheme) == (budget, scheme) for v in all_
            ]
            paper = data.published("accuracy", "accuracy", budget, scheme)
            papers.append(paper)
            text = _percent(values)
            quote = _below(_quoted(paper, percent=True))
            if values and scheme != TEACHER and np.mean(values) == best.get(budget):
                text = f"<b>{text}</b>"
            cells.append(f"<td>{text}{quote}</td>")
        body.append(cells)
    for scheme in data.quoted_only("accuracy", "accuracy", data.schemes):
        theirs = [data.published("accuracy", "accuracy", budget, scheme) for budget in budgets]
        theirs = [p if p and p.scheme else None for p in theirs]  # one of no scheme is not of this one either
        if any(theirs):
            papers += theirs
            quoted = [f"<td>{_quoted(paper, percent=True) or '–'}</td>" for paper in theirs]
            body.append([f'<th scope="row"><i class="quoted">{escape(scheme)}</i></th>', *quoted])
    head = ["scheme", *(f"{b:,} labels" for b in budgets)]
    rules = " and ".join(sorted({escape(p.setting) for p in found if p.setting}))
    caption = "Percent, mean ± standard deviation over folds; best student in bold. "
    caption += (f"Selection: {rules}. " if rules else "") + _about_quoted(papers)
    return [Table("accuracy-table", title, caption, _table(head, body))]


def ivis_loss(data: Selection) -> Sequence[Table | Missing]:
    """LW Table 2: converged ivis loss by tap and budget, a table a reducer and setting."""
    title = data.titled("Converged ivis loss", "LW Table 2")
    metric = data.label("ivis-loss")
    found = {p: v for p, v in data.values(metric, "last").items() if p.scheme != TEACHER}
    if not found:
        return data.absent(title, "ivis-loss", f"no record has a value {metric}.last")
    made: list[Table | Missing] = []
    for reducer, setting in sorted({(p.reducer or "", p.setting) for p in found}):
        here = {p: v for p, v in found.items() if (p.reducer or "", p.setting) == (reducer, setting)}
        taps, schemes = data.taps(p.tap for p in here), data.order(p.scheme for p in here)
        body = []
        papers: list[Published | None] = []
        for budget in sorted({p.budget for p in here}):
            for i, scheme in enumerate(schemes):
                cells = [f'<th scope="rowgroup" rowspan="{len(schemes)}">{budget:,}</th>'] if i == 0 else []
                cells.append(f'<th scope="row">{escape(scheme)}</th>')
                for tap in taps:
                    values = here.get(Place(budget, scheme, tap, reducer or None, setting), [])
                    paper = data.published("ivis-loss", "last", budget, scheme, tap, reducer or None)
                    papers.append(paper)
                    cells.append(f"<td>{_spanned(values)}{_below(_quoted(paper))}</td>")
                body.append(cells)
        caption = (
            f"{escape(reducer)}, {escape(setting)}: loss of the last epoch, mean over folds and their range; "
            "lower embeds better. It depends on n and k before anything else: compare tables of one setting "
            f"alone. {_about_quoted(papers)}"
        )
        made.append(Table("ivis-loss", title, caption, _table(["labels", "scheme", *taps], body)))
    return made


def embedding_time(data: Selection) -> list[Table]:
    """LW section 3.2: seconds that each reducer takes by layer, over all networks; no table without any."""
    found = data.values("embedding-time", "seconds")
    if not found:
        return []
    named = [c.title for c in data.suite.reducers]
    rows = {(p.reducer or "", p.setting) for p in found}
    taps = data.taps(p.tap for p in found)
    body = []
    papers: list[Published | None] = []
    for reducer, setting in sorted(
        rows, key=lambda r: (named.index(r[0]) if r[0] in named else len(named), r)
    ):
        cells = [f'<th scope="row">{escape(reducer)}, {escape(setting)}</th>']
        for tap in taps:
            here = (
                v for p, v in found.items() if (p.tap, p.reducer or "", p.setting) == (tap, reducer, setting)
            )
            values = [seconds for one in here for seconds in one]
            paper = data.published_time(tap, reducer)
            papers.append(paper)
            cells.append(f"<td>{_seconds(values)}{_below(_quoted(paper, digits=0))}</td>")
        body.append(cells)
    machines = sorted(
        {
            r.origin(own.metric, own.tap, own.reducer)["hardware"]
            for r in data.records
            for own in r.results
            if (own.metric, own.value_name) == ("embedding-time", "seconds")
        }
        - {""}
    )
    caption = (
        f"Seconds in the reducer, mean and range over all networks{', on ' if machines else ''}"
        f"{escape(' and '.join(machines))}; finding exact "
        "neighbours comes before and is not counted. " + _about_quoted(papers)
    )
    title = data.titled("Time of an embedding", "LW section 3.2")
    return [Table("embedding-time", title, caption, _table(["", *taps], body))]


def by_budget(
    data: Selection, title: str, metric: str, name: str, found: Mapping[Place, list[float]], setting: str
) -> Table:
    """A metric of whole networks: its primary value by scheme and budget."""
    budgets = sorted({p.budget for p in found})
    body = []
    papers: list[Published | None] = []
    for scheme in data.order(p.scheme for p in found):
        cells = [f'<th scope="row">{escape(scheme)}</th>']
        for budget in budgets:
            paper = data.published(metric, name, budget, scheme)
            papers.append(paper)
            values = found.get(Place(budget, scheme), [])
            cells.append(f"<td>{_deviating(values)}{_below(_quoted(paper))}</td>")
        body.append(cells)
    head = ["scheme", *(f"{b:,} labels" for b in budgets)]
    return Table(f"{metric}-table", title, _about(setting, papers), _table(head, body))


def by_layer(
    data: Selection, title: str, metric: str, name: str, found: Mapping[Place, list[float]], setting: str
) -> Table:
    """A metric of layers or embeddings: its primary value by reducer, budget, scheme and tap."""
    taps, named = data.taps(p.tap for p in found), [c.title for c in data.suite.reducers]
    reduced = any(p.reducer for p in found)
    body = []
    papers: list[Published | None] = []

    def place(p: tuple[str, int]) -> tuple[int, str, int]:
        return named.index(p[0]) if p[0] in named else len(named), *p

    for reducer, budget in sorted({(p.reducer or "", p.budget) for p in found}, key=place):
        here = {p for p in found if (p.reducer or "", p.budget) == (reducer, budget)}
        schemes = data.order(p.scheme for p in here)
        for i, scheme in enumerate(schemes):
            group = [escape(reducer)] * reduced + [f"{budget:,}"]
            cells = [f'<th scope="rowgroup" rowspan="{len(schemes)}">{g}</th>' for g in group if i == 0]
            cells.append(f'<th scope="row">{escape(scheme)}</th>')
            for tap in taps:
                paper = data.published(metric, name, budget, scheme, tap, reducer or None)
                papers.append(paper)
                values = found.get(Place(budget, scheme, tap, reducer or None), [])
                cells.append(f"<td>{_deviating(values)}{_below(_quoted(paper))}</td>")
            body.append(cells)
    head = [*["reducer"] * reduced, "labels", "scheme", *taps]
    return Table(f"{metric}-layers", title, _about(setting, papers), _table(head, body))


def _about(setting: str, papers: Sequence[Published | None]) -> str:
    caption = "Mean ± standard deviation over folds. " + (f"{escape(setting)}. " if setting else "")
    return caption + _about_quoted(papers)


QUOTED = "Numbers in italics are quoted from the paper, on its data and training."


def claims(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """The paper's sentences with what the records say of them; those that they say nothing of are folded away."""
    told = [c for c in verdicts if c.get("verdict", "no data") != "no data"]
    silent = [c for c in verdicts if c.get("verdict", "no data") == "no data"]
    parts = [_claims(told)] if told else []
    if silent:
        many = "1 claim" if len(silent) == 1 else f"{len(silent)} claims"
        summary = f"{many} that these records hold no data for"
        parts.append(f'<details class="rows"><summary>{summary}</summary>{_claims(silent)}</details>')
    return "".join(parts)


def _claims(verdicts: Sequence[Mapping[str, Any]]) -> str:
    body = []
    for claim in verdicts:
        verdict = str(claim.get("verdict", "no data"))
        kind = verdict.replace(" ", "-") if verdict in VERDICTS else "no-data"
        text, where = (escape(str(claim.get(key, ""))) for key in ("text", "where"))
        about = f'{text} <span class="dim">{where}</span>'
        if claim.get("decisive"):
            about += f'<br><span class="dim">{_shown(claim)}: {escape(str(claim["decisive"]))}</span>'
        if missing := claim.get("missing"):
            wanted = claim.get("wanted", len(missing))
            told = f"{wanted - len(missing)} of {wanted} comparisons measured"
            if names := [m for m in missing if m]:
                told += f"; missing: {', '.join(names[:MOST_NAMED])}{', …' * (len(names) > MOST_NAMED)}"
            about += f'<br><span class="dim">{escape(told)}</span>'
        effect = claim.get("effect")
        size = "–" if effect is None else f"{effect:+.3g}{_interval(claim)}"
        if claim.get("n"):
            few = ", descriptive" if claim.get("descriptive") else ""
            size += f'<br><span class="dim">n = {claim["n"]}{few}</span>'
        mark = f'<span class="verdict {kind}">{escape(verdict)}</span>'
        body.append([f"<td>{mark}</td>", f'<td class="text">{about}</td>', f"<td>{size}</td>"])
    return _table(["verdict", "claim", "effect, 95 % interval"], body)


def _shown(claim: Mapping[str, Any]) -> str:
    """What the comparison is that a claim's effect is of: only one that contradicts it decides alone."""
    if claim.get("verdict") == "contradicted":
        return "decided by"
    one = len(claim.get("comparisons", ())) == 1
    return "compared" if one else "the comparison that speaks most against it"


def leaderboard(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as they are, without columns that say nothing."""
    columns = [c for c in ROW_COLUMNS if any(row.get(c) not in (None, "") for row in rows)]
    return _table(columns, ([f"<td>{escape(_plain(row.get(c)))}</td>" for c in columns] for row in rows))


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    columns = "".join(
        f'<th scope="col"{" class=text" if h == "claim" else ""}>{escape(h)}</th>' for h in head
    )
    rows = "".join(f"<tr>{''.join(cells)}</tr>" for cells in body)
    return f'<div class="wide"><table><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table></div>'


def _percent(values: Sequence[float]) -> str:
    if not values:
        return "–"
    text = f"{100 * np.mean(values):.1f}"
    return f"{text} ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else text


def _deviating(values: Sequence[float]) -> str:
    if not values:
        return "–"
    digits = 3 if max(map(abs, values)) < 100 else 1
    text = f"{np.mean(values):.{digits}f}"
    return f"{text} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else text


def _spanned(values: Sequence[float]) -> str:
    if not values:
        return "–"
    text = f"{np.mean(values):.3f}"
    if len(values) == 1:
        return text
    return f'{text} <span class="dim">{min(values):.3f}–{max(values):.3f}</span>'


def _seconds(values: Sequence[float]) -> str:
    if not values:
        return "–"
    text = f"{np.mean(values):.3g}"
    if len(values) == 1:
        return text
    return f'{text} <span class="dim">{min(values):.3g}–{max(values):.3g}</span>'


def _quoted(paper: Published | None, percent: bool = False, digits: int | None = None) -> str:
    if paper is None:
        return ""
    scale, usual = (100, 1) if percent else (1, 3)
    digits = usual if digits is None else digits
    text = f"{scale * paper.value:.{digits}f}"
    about = source_text(paper.source, paper.spread, paper.spread_kind, percent=percent)
    if paper.spread is not None and is_deviation(paper.spread_kind):  # as ours are
        text += f" ± {scale * paper.spread:.{digits}f}"
        about += f"; ± {paper.spread_kind}"
    return f'<i class="quoted" title="{escape(about)}">{text}</i>'


def _about_quoted(papers: Sequence[Published | None]) -> str:
    """What a caption says of the quoted numbers of its table; nothing of a table that has none."""
    return QUOTED + _spreads(papers) if any(papers) else ""


def _spreads(papers: Sequence[Published | None]) -> str:
    """What a caption says of quoted spreads that are no standard deviations."""
    about = about_spreads(((p.spread, p.spread_kind) for p in papers if p is not None), "their tooltips")
    return f" {escape(about)}" if about else ""


def _below(text: str) -> str:
    return f"<br>{text}" if text else ""


def _interval(claim: Mapping[str, Any]) -> str:
    low, high = claim.get("low", claim.get("ci_low")), claim.get("high", claim.get("ci_high"))
    return "" if low is None or high is None else f" [{low:+.3g}, {high:+.3g}]"


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
