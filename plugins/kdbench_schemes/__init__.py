"""Distillation schemes other than the paper's, and controls for comparison.

Losses are pure functions in the modules of their schemes, which cite the sources. `specs_logits` lists the schemes
that distil outputs, `specs_features` those that distil activations.
"""

from __future__ import annotations

from kdbench.api import SchemeSpec, SuiteSpec, hookimpl
from kdbench_schemes.specs_features import FEATURE_SCHEMES
from kdbench_schemes.specs_logits import LOGIT_SCHEMES


@hookimpl
def kdbench_schemes() -> list[SchemeSpec]:
    return [*LOGIT_SCHEMES, *FEATURE_SCHEMES]


@hookimpl
def kdbench_suites() -> list[SuiteSpec]:
    return [
        SuiteSpec(
            name="schemes",
            target="kdbench_schemes:suites/schemes.toml",
            summary="Every registered scheme with one student, one teacher and equal numbers of steps",
        )
    ]
