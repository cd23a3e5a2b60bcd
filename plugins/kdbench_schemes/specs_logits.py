"""What distils outputs, and the controls."""

from __future__ import annotations

from kdbench.api import SchemeSpec

TEACHER = frozenset({"unlabelled_if_any", "teacher_logits"})

LOGIT_SCHEMES: tuple[SchemeSpec, ...] = (
    SchemeSpec(
        name="hinton",
        target="kdbench_schemes.hinton:Hinton",
        summary="Cross-entropy and T² KL to the teacher's softened outputs, in every step",
        reference="Hinton, Vinyals & Dean 2015, arXiv 1503.02531, section 2",
        needs=TEACHER,
    ),
)
