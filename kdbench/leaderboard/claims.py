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
    `wanted` counts the comparisons that the claim names (one for every combination of the budgets, taps,
    schemes and reducers that it lists) and `missing` says which of them nobody measured on both sides in a
    common fold. While one is missing a claim is undecided at best, but what was measured can contradict it.
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
    wanted: int = 1
    missing: tuple[str, ...] = ()

    @property
    def measured(self) -> str:
        """ "1 of 4 measured"."""
        return f"{self.wanted - len(self.missing)} of {self.wanted} measured"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(
    cells: Iterable[CellRecord], suite: Suite, taken: list[Sample] | None = None
) -> list[ClaimVerdict]:
    """Every claim of the suite, in its order, over the main experiment of the cells.

    Args:
        taken: the samples of these cells, where they are known already.

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
    taken = samples(cells, suite) if taken is None else taken
    main = _of_suite([s for s in taken if not s.variant], suite)
    return [_judge(claim, main) for claim in suite.claim]


def _judge(claim: Claim, taken: list[Sample]) -> ClaimVerdict:
    fitting = [
        s for s in taken if (s.measured.metric, s.measured.value_name) == (claim.metric, claim.value_name)
    ]
    named = _named_pairs(claim, fitting)
    n_pairs = sum(len(pairs) for _, pairs in named)
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
            if _holds(claim, plain):
                word = "supported"
            elif _fails(claim, strict):
                word = "contradicted"
            names = _names(left, right)
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
    return replace(
        verdict,
        verdict="undecided" if missing and worst.verdict == "supported" else worst.verdict,
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


def _named_pairs(claim: Claim, taken: list[Sample]) -> list[tuple[str, list[tuple[Sample, Sample]]]]:
    """Name, and left and right samples, of every comparison that the claim names.

    For each key: lists of one length on both sides are compared element by element, other values each with
    each; a key that one side leaves out is equal on both sides; one that both leave out takes every value
    there is. Both sides are of one setting, and of one reducer unless the claim says otherwise.
    """
    known = {key: list(dict.fromkeys(_place(s)[i] for s in taken)) for i, key in enumerate(KEYS)}
    wanted = [_wanted(key, claim.left, claim.right) for key in KEYS]
    several = [len(values) > 1 for values in wanted]
    index: dict[tuple, list[Sample]] = {}
    for s in taken:
        index.setdefault(_place(s), []).append(s)
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
                    if left is not right and left.measured.setting == right.measured.setting
                ]
        # What all comparisons of the claim share goes without saying.
        told = [
            _told(key, chosen)
            for key, chosen, varies in zip(KEYS, combination, several, strict=True)
            if chosen is not None and (varies or not any(several))
        ]
        named.append((" · ".join(told), pairs))
    return named


def _wanted(key: str, left: Mapping, right: Mapping) -> list[tuple[Any, Any] | None]:
    """Left and right values of a key as the claim names them, a value on one side alone as equal ones; None
    where it names none."""
    if key not in left and key not in right:
        return [None]
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
        "dataset": {suite.data.dataset.title},
        "student": {student.architecture.title for student in suite.students()},
        "teacher": {suite.teacher.architecture.title} if suite.teacher else set(),
    }
    for name, titles in wanted.items():
        own = [s for s in taken if getattr(s.setup, name) in {*titles, ""}]
        if titles and any(getattr(s.setup, name) in titles for s in own):
            taken = own
    return taken
