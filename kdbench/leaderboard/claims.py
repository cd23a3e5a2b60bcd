"""Evaluate a suite's claims: a verdict, an effect and its interval for each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from kdbench.api.records import CellRecord
from kdbench.errors import SuiteError, did_you_mean
from kdbench.leaderboard.comparability import comparable, of_suite, varying
from kdbench.leaderboard.samples import Sample, base_name, samples
from kdbench.leaderboard.statistics import DESCRIPTIVE_BELOW, LEVEL, Estimate, paired

if TYPE_CHECKING:
    from kdbench.plan.settings import Scope, SuiteSettings
    from kdbench.suite.schema import Claim

Verdict = Literal["supported", "contradicted", "undecided", "no data"]
KEYS = ("scheme", "budget", "tap", "reducer")
#: Differences that vary by less than this share of what they are differences of are equal: rounding alone varies.
NO_SPREAD = 1e-7


@dataclass(frozen=True)
class Comparison:
    """One comparison of a claim: left minus right, paired by fold.

    `left` says what was compared ("kl · 400 labels · C · ivis"; with dataset and networks where the claim's
    comparisons are of several), `right` with what, as far as that differs; `low` and `high` are the 95 %
    interval, None with fewer than two folds.
    """

    left: str
    right: str
    verdict: Verdict
    effect: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class ClaimVerdict:
    """What the records say of a claim.

    A claim of several comparisons is supported when each of them is, each at 95 % (all must hold, so nothing
    is to be corrected), and contradicted when one of them is at 95 % after Bonferroni's correction for their
    number. `effect`, `low`, `high`, `n` and `decisive` are of the comparison that speaks most against the
    claim. Fewer than five folds that differ by the very same amount decide nothing: an interval without width rests
    on no spread, and of accuracies on a few hundred images two are often equal.
    `wanted` counts the comparisons that the claim names, one for every combination of its budgets, taps, schemes and
    reducers; what it does not name it says of all that the suite has of it at this scale and measures the metric of.
    `missing` says which of them nobody measured on both sides in a common fold. While one is missing a claim is
    undecided at best, but what was measured can contradict it. Budgets, taps and reducers beyond the claim's and the
    suite's have no say.
    `descriptive`: the verdict rests on fewer than five folds, of a claim that is supported in any of its comparisons.
    """

    id: str
    text: str
    where: str
    metric: str
    expect: str
    margin: float
    verdict: Verdict
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    descriptive: bool = True
    decisive: str = ""
    comparisons: tuple[Comparison, ...] = ()
    wanted: int = 1
    missing: tuple[str, ...] = ()

    @property
    def measured(self) -> str:
        """ "1 of 4 measured"."""
        return f"{self.wanted - len(self.missing)} of {self.wanted} measured"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(
    cells: Iterable[CellRecord], reference: SuiteSettings, known_samples: list[Sample] | None = None
) -> list[ClaimVerdict]:
    """Every claim of the suite, in its order, over the main experiment of the cells.

    Parameters
    ----------
    cells
        Cells of the suite at one scale.
    reference
        What the suite says. A claim about all budgets refers to the suite without overrides: a run of one budget
        does not make it true.
    known_samples
        The samples of these cells, if they were computed before.

    Returns
    -------
    list of ClaimVerdict
        One a claim.

    Raises
    ------
    SuiteError
        A claim selects by something that is not one of `KEYS`.
    """
    for claim in reference.suite.claim:
        for key in {**claim.left, **claim.right}:
            if key not in KEYS:
                raise SuiteError(
                    f"a claim can't select by {key!r}",
                    where=f"claim {claim.id}",
                    hint=did_you_mean(key, KEYS),
                )
    known_samples = samples(cells, reference) if known_samples is None else known_samples
    main = of_suite([s for s in known_samples if not s.variant], reference)
    return [_judge(claim, main, reference) for claim in reference.suite.claim]


def _judge(claim: Claim, main: list[Sample], reference: SuiteSettings) -> ClaimVerdict:
    named = _named_pairs(claim, main, reference)
    n_pairs = sum(len(pairs) for _, pairs in named)
    several = varying(s for _, pairs in named for pair in pairs for s in pair)
    compared: list[Comparison] = []
    missing = []
    for name, pairs in named:
        before = len(compared)
        for left, right in pairs:
            # For a contradiction by any one of m comparisons each must convince at level 1 - 0.05 / m.
            strict = paired(left.values, right.values, 1 - (1 - LEVEL) / n_pairs)
            plain = paired(left.values, right.values)
            if plain is None or strict is None:
                continue
            word: Verdict = "undecided"
            if not _decides(plain, left, right):
                pass
            elif _holds(claim, plain):
                word = "supported"
            elif _fails(claim, strict):
                word = "contradicted"
            names = _names(left, right, several)
            compared.append(Comparison(*names, word, plain.mean, plain.low, plain.high, plain.n))
        if len(compared) == before:
            missing.append(name)
    verdict = ClaimVerdict(
        id=claim.id,
        text=claim.text,
        where=claim.where,
        metric=f"{claim.metric}.{claim.value_name}",
        expect=claim.expect,
        margin=claim.margin,
        verdict="no data",
        wanted=len(named),
        missing=tuple(missing),
    )
    if not compared:
        return verdict
    worst = max(compared, key=lambda c: (_severity(c), _against(claim, c.effect)))
    # what must hold everywhere is known no better than where it is known worst
    folds = min(c.n for c in compared) if worst.verdict == "supported" else worst.n
    return replace(
        verdict,
        verdict="undecided" if missing and worst.verdict == "supported" else worst.verdict,
        effect=worst.effect,
        low=worst.low,
        high=worst.high,
        n=worst.n,
        descriptive=folds < DESCRIPTIVE_BELOW,
        decisive=f"{worst.left} against {worst.right}",
        comparisons=tuple(compared),
    )


def _decides(e: Estimate, left: Sample, right: Sample) -> bool:
    """Whether an interval is one to judge by: of two folds or more, and of few only if they differ at all."""
    if e.sd is None or not math.isfinite(e.sd):
        return False
    common = left.values.keys() & right.values.keys()
    size = max(abs(s.values[fold]) for s in (left, right) for fold in common)
    return e.n >= DESCRIPTIVE_BELOW or e.sd > NO_SPREAD * size


def _holds(claim: Claim, e: Estimate) -> bool:
    if e.low is None or e.high is None:
        return False
    return {
        "greater": e.low > claim.margin,
        "less": e.high < -claim.margin,
        "equal": -claim.margin <= e.low and e.high <= claim.margin,
    }[claim.expect]


def _fails(claim: Claim, e: Estimate) -> bool:
    if e.low is None or e.high is None:
        return False
    return {
        "greater": e.high < claim.margin,
        "less": e.low > -claim.margin,
        "equal": e.low > claim.margin or e.high < -claim.margin,
    }[claim.expect]


def _severity(comparison: Comparison) -> int:
    return ("supported", "undecided", "contradicted").index(comparison.verdict)


def _against(claim: Claim, effect: float) -> float:
    """How much an effect speaks against the claim; one that is no number the most."""
    if math.isnan(effect):
        return math.inf
    return {"greater": -effect, "less": effect, "equal": abs(effect)}[claim.expect]


# -- what is compared with what


def _named_pairs(
    claim: Claim, main: list[Sample], reference: SuiteSettings
) -> list[tuple[str, list[tuple[Sample, Sample]]]]:
    """Name, and left and right samples, of every comparison that the claim names.

    For each key: lists of one length on both sides are compared element by element, other values each with
    each; a key that one side leaves out is equal on both sides; one that both leave out takes every value that the
    suite has of it (`_range`). The two sides are as like as `comparable` says, and of one reducer unless the claim
    says otherwise.
    """
    fitting = [
        s for s in main if (s.measured.metric, s.measured.value_name) == (claim.metric, claim.value_name)
    ]
    known = {key: list(dict.fromkeys(_position(s)[i] for s in fitting)) for i, key in enumerate(KEYS)}
    scope = _scope(claim.metric, reference.written, main)
    wanted = [_wanted(key, claim.left, claim.right) or _range(key, scope, known, main) for key in KEYS]
    several = [len(values) > 1 for values in wanted]
    index: dict[tuple, list[Sample]] = {}
    for s in fitting:
        index.setdefault(_position(s), []).append(s)
    named = []
    for combination in itertools.product(*wanted):
        places = [_labels(chosen, known[key]) for key, chosen in zip(KEYS, combination, strict=True)]
        pairs = []
        for chosen in itertools.product(*places):
            left_place, right_place = zip(*chosen, strict=True)
            for left in index.get(left_place, ()):
                pairs += [
                    (left, right)
                    for right in index.get(right_place, ())
                    if left is not right and comparable(left, right, reference)
                ]
        # What all comparisons of the claim share goes without saying.
        told = [
            _told(key, chosen)
            for key, chosen, varies in zip(KEYS, combination, several, strict=True)
            if chosen not in (None, (None, None)) and (varies or not any(several))
        ]
        named.append((" · ".join(told), pairs))
    return named


def _scope(metric: str, reference: SuiteSettings, main: list[Sample]) -> Scope:
    """Where the suite measures a metric. Of one that is none of its metrics, such as the time of an embedding, the
    records show whether it is measured at taps and of reducers."""
    from kdbench.plan.settings import Scope

    if (scope := reference.scope(metric)) is not None:
        return scope
    suite = reference.suite
    found = [s for s in main if s.measured.metric == metric]
    scopes = [reference.scope(m.title) for m in suite.metrics]
    embedded = list(dict.fromkeys(r for scope in scopes if scope for r in scope.reducer or () if r))
    schemes = [c.title for c in suite.schemes]
    return Scope(
        suite.data.budgets,
        tuple(schemes + ["teacher"] * any(s.row.scheme == "teacher" for s in found)) if schemes else (),
        (suite.taps or None) if any(s.measured.tap for s in found) else (None,),
        tuple(embedded or [r.title for r in suite.reducers])
        if any(s.measured.reducer for s in found)
        else (None,),
    )


def _range(
    key: str, scope: Scope, known: Mapping[str, list[Any]], main: list[Sample]
) -> list[tuple[Any, Any] | None]:
    """Equal left and right values of a key that a claim leaves out: all of the suite's, else all that are on record;
    [None] where nothing is."""
    values = getattr(scope, key)
    if values is None:
        of_all = dict.fromkeys(_position(s)[KEYS.index(key)] for s in main)
        values = [value for value in of_all if value is not None]
    return [(value, value) for value in values or known[key]] or [None]


def _wanted(key: str, left: Mapping, right: Mapping) -> list[tuple[Any, Any] | None]:
    """Left and right values of a key as the claim names them, a value on one side alone as equal ones; [] where it
    names none."""
    if key not in left and key not in right:
        return []
    if key not in left or key not in right:
        return [(value, value) for value in _listed({**left, **right}[key])]
    lefts, rights = _listed(left[key]), _listed(right[key])
    if len(lefts) == len(rights):
        return list(zip(lefts, rights, strict=True))
    return list(itertools.product(lefts, rights))


def _labels(chosen: tuple[Any, Any] | None, known: list[Any]) -> list[tuple[Any, Any]]:
    """Left and right labels among the known ones. Equal values take equal labels."""
    if chosen is None:
        return [(value, value) for value in known]
    left, right = chosen
    if left == right:
        return [(value, value) for value in _named(left, known)]
    return [(a, b) for a in _named(left, known) for b in _named(right, known)]


def _told(key: str, chosen: tuple[Any, Any]) -> str:
    unit = " labels" if key == "budget" else ""
    left, right = chosen
    return f"{left}{unit}" if left == right else f"{left}{unit} against {right}{unit}"


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _named(wanted: Any, known: list[Any]) -> list[Any]:
    """The label itself, else every label of the component of that name."""
    if wanted in known:
        return [wanted]
    return [k for k in known if isinstance(k, str) and base_name(k) == wanted]


def _position(s: Sample) -> tuple[str, int, str | None, str | None]:
    return (s.row.scheme, s.row.budget, s.measured.tap, s.measured.reducer)


def _names(left: Sample, right: Sample, several: Collection[str]) -> tuple[str, str]:
    """The left one in full, the right one by what differs.

    Parameters
    ----------
    several
        Which of dataset, student and teacher are to be named.
    """
    parts = []
    for s in (left, right):
        scheme, budget, tap, reducer = _position(s)
        teacher = f"teacher {s.row.teacher}" if s.row.teacher else ""
        more = {"dataset": s.row.dataset, "student": s.row.student, "teacher": teacher}
        measured = [tap or "", reducer or "", s.measured.setting]
        parts.append(
            [scheme, f"{budget} labels", *(more[name] if name in several else "" for name in more), *measured]
        )
    differing = [r for a, r in zip(*parts, strict=True) if a != r and r]
    return " · ".join(p for p in parts[0] if p), " · ".join(differing or [p for p in parts[1] if p])
