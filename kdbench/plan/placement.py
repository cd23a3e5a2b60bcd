"""Where a metric is computed, and why it is excluded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kdbench.api.specs import MetricSpec


@dataclass(frozen=True)
class Measurable:
    """What there is to measure of one network.

    Attributes
    ----------
    superclasses
        Whether the data have them.
    masks
        Whether the data have them.
    teacher
        Whether there is a teacher to compare with.
    is_teacher
        Whether the network is that teacher.
    taps
        Its taps, from input to output.
    reducers
        Label of each reducer to whether it has a loss history.
    head
        Whether its classifier is a linear layer.
    """

    superclasses: bool
    masks: bool
    teacher: bool
    is_teacher: bool
    taps: tuple[str, ...]
    reducers: Mapping[str, bool]
    head: bool = True


def exclusion(spec: MetricSpec, network: Measurable) -> str:
    """Why a metric can't be computed of a network; "" if it can."""
    if "superclasses" in spec.needs and not network.superclasses:
        return "the data have no superclasses"
    if "masks" in spec.needs and not network.masks:
        return "the data have no masks"
    if spec.requires_teacher and network.is_teacher:
        return "it compares a student with its teacher, and this is the teacher"
    if spec.requires_teacher and not network.teacher:
        return "there is no teacher to compare with"
    if "head" in spec.needs and not network.head:
        return "the network has no linear layer"
    if spec.scope != "network" and not network.taps:
        return "the network has no taps"
    if (spec.scope == "embedding" or "reducers" in spec.needs) and not network.reducers:
        return "there are no reducers"
    return ""


def positions(spec: MetricSpec, network: Measurable) -> list[tuple[str | None, str | None]]:
    """Tap and label of the reducer of every value of a metric that is not excluded; None where none is involved."""
    if spec.scope == "network":
        return [(None, None)]
    taps = network.taps[-1:] if spec.last_tap_only else network.taps
    if spec.scope == "tap":
        return [(tap, None) for tap in taps]
    skipped = without_loss_history(spec, network)
    return [(tap, label) for tap in taps for label in network.reducers if label not in skipped]


def without_loss_history(spec: MetricSpec, network: Measurable) -> list[str]:
    """Labels of the reducers that a metric of loss histories skips."""
    if "loss_history" not in spec.needs:
        return []
    return [label for label, has_history in network.reducers.items() if not has_history]
