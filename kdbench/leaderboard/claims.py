"""A paper's sentences as comparisons over records: a verdict on each, with effect and interval."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from kdbench.api.records import CellRecord
from kdbench.errors import SuiteError, did_you_mean
from kdbench.leaderboard.samples import Sample, base_name, samples
from kdbench.leaderboard.statistics import DESCRIPTIVE_BELOW, LEVEL, Estimate, paired

if TYPE_CHECKING:
    from kdbench.suite.schema import Claim, Suite

Verdict = Literal["supported", "contradicted", "undecided", "no data"]
KEYS = ("scheme", "budget", "tap", "reducer")


@dataclass(frozen=True)
class Comparison:
    """One comparison of a claim: left minus right, paired by fold.

    `left` says what was compared ("kl · 400 labels · C · ivis"), `right` with what, as far as that differs;
    `low` and `high` are the 95 % interval, None with fewer than two folds.
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
    claim.
    `descriptive`: the comparison rests on fewer than five folds.
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

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(cells: Iterable[CellRecord], suite: Suite) -> list[ClaimVerdict]:
    """Every claim of the suite, in its order, over the main experiment of the cells.

    Raises:
        SuiteError: a claim selects by something that is not one of `KEYS`.
    """
    for claim in suite.claim:
        for key in {**claim.left, **claim.right}:
            if key not in KEYS:
                raise SuiteError(
                    f"a claim can't select by {key!r}",
                    where=f"claim {claim.id}",
                    hint=did_you_mean(key, KEYS),
                )
    taken = _of_suite([s for s in samples(cells, suite) if not s.variant], suite)
    return [_judge(claim, taken) for claim in suite.claim]


def _judge(claim: Claim, taken: list[Sample]) -> ClaimVerdict:
    fitting = [
        s for s in taken if (s.measured.metric, s.measured.value_name) == (claim.metric, claim.value_name)
    ]
    pairs = _pairs(claim, fitting)
    compared: list[Comparison] = []
    for left, right in pairs:
        # For a contradiction by any one of m comparisons each must convince at level 1 - 0.05 / m.
        strict = paired(left.values, right.values, 1 - (1 - LEVEL) / len(pairs))
        plain = paired(left.values, right.values)
        if plain is None or strict is None:
            continue
        word: Verdict = "undecided"
        if _holds(claim, plain):
            word = "supported"
        elif _fails(claim, strict):
            word = "contradicted"
        names = _names(left, right)
        compared.append(Comparison(*names, word, plain.mean, plain.low, plain.high, plain.n))
    verdict = ClaimVerdict(
        id=claim.id,
        text=claim.text,
        where=claim.where,
        metric=f"{claim.metric}.{claim.value_name}",
        expect=claim.expect,
        margin=claim.margin,
        verdict="no data",
    )
    if not compared:
        return verdict
    worst = max(compared, key=lambda c: (_severity(c), _against(claim, c.effect)))
    return replace(
        verdict,
        verdict=worst.verdict,
        effect=worst.effect,
        low=worst.low,
        high=worst.high,
        n=worst.n,
        descriptive=worst.n < DESCRIPTIVE_BELOW,
        decisive=f"{worst.left} against {worst.right}",
        comparisons=tuple(compared),
    )


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
    """How much an effect speaks against the claim."""
    return {"greater": -effect, "less": effect, "equal": abs(effect)}[claim.expect]


# -- what is compared with what


def _pairs(claim: Claim, taken: list[Sample]) -> list[tuple[Sample, Sample]]:
    """Left and right samples of every comparison.

    For each key: lists of one length on both sides are compared element by element, other values each with
    each; a key that one side leaves out is equal on both sides; one that both leave out takes every value
    there is. Both sides are of one setting, and of one reducer unless the claim says otherwise.
    """
    choices = [_choices(key, claim.left, claim.right, taken) for key in KEYS]
    index: dict[tuple, list[Sample]] = {}
    for s in taken:
        index.setdefault(_place(s), []).append(s)
    found = []
    for chosen in itertools.product(*choices):
        left_place, right_place = zip(*chosen, strict=True)
        for left in index.get(left_place, ()):
            found += [
                (left, right)
                for right in index.get(right_place, ())
                if left is not right and left.measured.setting == right.measured.setting
            ]
    return found


def _choices(key: str, left: Mapping, right: Mapping, taken: list[Sample]) -> list[tuple[Any, Any]]:
    known = list(dict.fromkeys(_place(s)[KEYS.index(key)] for s in taken))
    if key not in left and key not in right:
        return [(value, value) for value in known]
    if key not in left or key not in right:
        values = [v for wanted in _listed({**left, **right}[key]) for v in _named(wanted, known)]
        return [(value, value) for value in values]
    lefts, rights = _listed(left[key]), _listed(right[key])
    if len(lefts) == len(rights):
        wanted = list(zip(lefts, rights, strict=True))
    else:
        wanted = list(itertools.product(lefts, rights))
    return [(a, b) for x, y in wanted for a in _named(x, known) for b in _named(y, known)]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _named(wanted: Any, known: list[Any]) -> list[Any]:
    """The label itself, else every label of the component of that name."""
    if wanted in known:
        return [wanted]
    return [k for k in known if isinstance(k, str) and base_name(k) == wanted]


def _place(s: Sample) -> tuple[str, int, str | None, str | None]:
    return (s.setup.scheme, s.setup.budget, s.measured.tap, s.measured.reducer)


def _names(left: Sample, right: Sample) -> tuple[str, str]:
    """The left one in full, the right one by what differs."""
    parts = []
    for s in (left, right):
        scheme, budget, tap, reducer = _place(s)
        parts.append((scheme, f"{budget} labels", tap or "", reducer or "", s.measured.setting))
    differing = [r for a, r in zip(*parts, strict=True) if a != r and r]
    return " · ".join(p for p in parts[0] if p), " · ".join(differing or [p for p in parts[1] if p])


def _of_suite(taken: list[Sample], suite: Suite) -> list[Sample]:
    """The samples of the suite's own dataset and networks where there are others beside them."""
    wanted = {
        "dataset": suite.data.dataset.title,
        "student": suite.student.architecture.title,
        "teacher": suite.teacher.architecture.title if suite.teacher else "",
    }
    for name, title in wanted.items():
        own = [s for s in taken if getattr(s.setup, name) in (title, "")]
        if title and any(getattr(s.setup, name) == title for s in own):
            taken = own
    return taken
