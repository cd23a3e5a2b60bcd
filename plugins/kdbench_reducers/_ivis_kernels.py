"""What lies between the products of a step of ivis-torch on a CPU, compiled.

Matrices are C-contiguous float32, or bfloat16 as the int16 of the same bits, which is how NumPy can hold them.
Computed in float32; sums of losses in float64. What is kept for backward is rounded as the matrix it is kept in.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic, overload

from kdbench.api.compiled import compiled

# Contracting a product and a sum into one operation and -0 = 0 leave NaN and infinities what they are: a loss
# that is not finite must be seen.
_compiled = compiled(error_model="numpy", fastmath={"contract", "nsz"})
# A sum may be taken in any order, without which it is not vectorised.
_summing = compiled(error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
_intrinsic: Any = intrinsic
_inlined: Any = numba.njit(inline="always")

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
# Repeated here because numba's cache depends on this file alone; a test compares them with their definitions.
_DROPOUT, _SELU_SCALE, _SELU_ALPHA, _DISTANCE_EPSILON = 0.1, 1.0507009873554805, 1.6732632423543772, 1e-7
_SHORTS = 4
_LOW = -_SELU_SCALE * _SELU_ALPHA
_KEEP = ((1 - _DROPOUT) * (1 + _DROPOUT * _LOW**2)) ** -0.5  # `_ivis_network.GAIN`
_SCALE, _LOWER, _BOTTOM = np.float32(_SELU_SCALE), np.float32(_LOW), np.float32(-_LOW)
_GAIN, _SHIFT = np.float32(_KEEP), np.float32(-_KEEP * _DROPOUT * _LOW)
_EPSILON = np.float32(_DISTANCE_EPSILON)
GAMMA = 0x9E3779B97F4A7C15
_GAMMA, _MIX1, _MIX2 = np.uint64(GAMMA), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_27, _30, _31 = np.uint64(27), np.uint64(30), np.uint64(31)
# exp(r) for |r| <= ln(2) / 2: Taylor to the 7th power, whose remainder (5e-9) is below float32's rounding.
_LOG2_E = np.float32(1 / math.log(2))
# ln 2 in two parts; the first has 9 bits, so that its product with a whole number is exact
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(math.log(2) - 0.693359375)
_T2, _T3, _T4, _T5, _T6, _T7 = (np.float32(1 / math.factorial(n)) for n in range(2, 8))
_SMALLEST_EXPONENT = np.float32(-87)  # below, exp has no normal float32


@_intrinsic
def _prefer_wide_vectors(_: Any) -> Any:
    """Ask LLVM for vectors of 512 bits in this function, where the processor has them: it prefers 256."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        attributes = builder.function.attributes
        if isinstance(
            attributes, set
        ):  # past the check of its own `add`, which knows no attribute with a value
            set.add(attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), generate


@_inlined
def _from_bfloat16(x: Any) -> Any:
    """Float32 of a bfloat16's bits, which are the upper half of a float32's."""
    return np.int32(np.int32(x) << 16).view(np.float32)


@_inlined
def _to_bfloat16(x: Any) -> Any:
    """Round to the nearest bfloat16, ties to even, as int16; every NaN made here keeps a bit in its upper half."""
    bits = np.float32(x).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = np.uint32(bits + np.uint32(0x7FFF) + odd)
    return np.int16(rounded >> np.uint32(16))


# The next two have no annotations because numba compares signatures to the letter.
def _read(x):
    """float32 of an element."""
    raise NotImplementedError("compiled code alone")


def _stored(x, like):
    """float32 as an element of the dtype of `like`."""
    raise NotImplementedError("compiled code alone")


@overload(_read, inline="always")
def _read_compiled(x):
    return (lambda x: _from_bfloat16(x)) if x == types.int16 else (lambda x: x)


@overload(_stored, inline="always")
def _stored_compiled(x, like):
    return (lambda x, like: _to_bfloat16(x)) if like == types.int16 else (lambda x, like: x)


@_inlined
def _exp(x: Any) -> Any:
    """exp of a float32 x <= 0 by arithmetic alone, so that it is vectorised; NaN stays NaN."""
    x = _SMALLEST_EXPONENT if x < _SMALLEST_EXPONENT else x
    whole = np.floor(x * _LOG2_E + _HALF)
    r = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
    series = ((((_T7 * r + _T6) * r + _T5) * r + _T4) * r + _T3) * r + _T2
    exponent: Any = np.int32(whole)
    power = np.int32((exponent + 127) << 23).view(np.float32)
    return (series * (r * r) + r + _ONE) * power


@_inlined
def _draw(start: Any, out: Any) -> None:
    """The n numbers of SplitMix64 (Steele et al. 2014, figure 17) after state `start` into `out`, uint64 (n,)."""
    for i in range(out.shape[0]):
        z = start + np.uint64(i + 1) * _GAMMA
        z = (z ^ (z >> _30)) * _MIX1
        z = (z ^ (z >> _27)) * _MIX2
        out[i] = z ^ (z >> _31)


@_compiled
def fill_with_bits(start: Any, bits: Any) -> None:
    """The random bits of a matrix of units, int16 (rows, units), from state `start`.

    A number gives 4 units of a row their bits; a row begins with a number of its own, so that row i has those after
    state start + i * ceil(units / 4) * `GAMMA`.
    """
    drawn = np.empty(-(-bits.shape[1] // _SHORTS), np.uint64)
    for i in range(bits.shape[0]):
        _draw(start + np.uint64(i * len(drawn)) * _GAMMA, drawn)
        bits[i] = drawn.view(np.int16)[: bits.shape[1]]


@_compiled
def activate(product: Any, bias: Any, out: Any) -> None:
    """out = selu(product + bias), and SELU's slope there in place of the product.

    Parameters
    ----------
    product
        (rows, units).
    bias
        float32 (units,).
    out
        (rows, units), filled.
    """
    _prefer_wide_vectors()
    like, kind = out[0, 0], product[0, 0]
    for i in range(product.shape[0]):
        p, o = product[i], out[i]
        for j in range(p.shape[0]):
            z = _read(p[j]) + bias[j]
            negative = _BOTTOM * _exp(_ZERO if z > _ZERO else z)
            positive = _ZERO if z < _ZERO else z
            p[j] = _stored(_SCALE if z > _ZERO else negative, kind)
            o[j] = _stored(_SCALE * positive + (negative + _LOWER), like)


@_compiled
def activate_and_drop(product: Any, bias: Any, start: Any, below: Any, out: Any) -> None:
    """As `activate`, then alpha dropout of the units whose random bits lie below `below`: see `fill_with_bits`."""
    _prefer_wide_vectors()
    like, kind = out[0, 0], product[0, 0]
    drawn = np.empty(-(-product.shape[1] // _SHORTS), np.uint64)
    bits = drawn.view(np.int16)
    for i in range(product.shape[0]):
        _draw(start + np.uint64(i * len(drawn)) * _GAMMA, drawn)
        p, o = product[i], out[i]
        for j in range(p.shape[0]):
            z = _read(p[j]) + bias[j]
            dropped = bits[j] < below
            negative = _BOTTOM * _exp(_ZERO if z > _ZERO else z)
            positive = _ZERO if z < _ZERO else z
            slope = _ZERO if dropped else _GAIN * (_SCALE if z > _ZERO else negative)
            p[j] = _stored(slope, kind)
            y = _LOWER if dropped else _SCALE * positive + (negative + _LOWER)
            o[j] = _stored(_GAIN * y + _SHIFT, like)


@_compiled
def pull_back(gradient: Any, slope: Any, bias_gradient: Any, out: Any) -> None:
    """out = gradient * slope, (rows, units), and its sum over the rows."""
    like = out[0, 0]
    bias_gradient[:] = _ZERO
    for i in range(gradient.shape[0]):
        g, s, o = gradient[i], slope[i], out[i]
        for j in range(g.shape[0]):
            pulled = _read(g[j]) * _read(s[j])
            bias_gradient[j] += pulled
            o[j] = _stored(pulled, like)


@_summing
def points_of(units: Any, weight: Any, bias: Any, points: Any) -> None:
    """points = units weight^T + bias: the last layer, of few dimensions; all float32."""
    for i in range(units.shape[0]):
        u = units[i]
        for d in range(points.shape[1]):
            w = weight[d]
            total = _ZERO
            for j in range(u.shape[0]):
                total += u[j] * w[j]
            points[i, d] = total + bias[d]


@_compiled
def points_backward(
    gradient: Any, units: Any, weight: Any, slope: Any,
    weight_gradient: Any, bias_gradient: Any, below_bias_gradient: Any, pulled: Any,
) -> None:  # fmt: skip
    """`points_of` backward, and through the activation before it as `pull_back` does.

    Parameters
    ----------
    gradient
        float32 (rows, d), of the points.
    units
        Activations of the last hidden layer.
    weight
        Weights of the output layer.
    slope
        (rows, units), of the activation.
    weight_gradient
        Filled.
    bias_gradient
        Filled.
    below_bias_gradient
        Filled.
    pulled
        Filled.
    """
    like = pulled[0, 0]
    weight_gradient[:] = _ZERO
    bias_gradient[:] = _ZERO
    below_bias_gradient[:] = _ZERO
    row = np.empty(units.shape[1], np.float32)
    for i in range(gradient.shape[0]):
        u, s, o = units[i], slope[i], pulled[i]
        row[:] = _ZERO
        for d in range(gradient.shape[1]):
            g, w, wg = gradient[i, d], weight[d], weight_gradient[d]
            bias_gradient[d] += g
            for j in range(u.shape[0]):
                wg[j] += g * u[j]
                row[j] += g * w[j]
        for j in range(u.shape[0]):
            p = row[j] * _read(s[j])
            below_bias_gradient[j] += p
            o[j] = _stored(p, like)


@_inlined
def _moved(weights, mean, square, gradient, i, rate, beta1, beta2, root, epsilon):
    """Weight `i` after a step of Adam, whose two averages are brought up to date."""
    g = _read(gradient[i])
    m = beta1 * mean[i] + (_ONE - beta1) * g
    v = beta2 * square[i] + (_ONE - beta2) * g * g
    mean[i] = m
    square[i] = v
    return weights[i] - rate * m / (np.sqrt(v) * root + epsilon)


@_compiled
def adam(
    weights: Any,
    mean: Any,
    square: Any,
    gradient: Any,
    rate: Any,
    beta1: Any,
    beta2: Any,
    root: Any,
    epsilon: Any,
) -> None:
    """One step of Adam in place; all (n,), all but `gradient` float32.

    Parameters
    ----------
    weights
        Parameters, changed in place.
    mean
        First moments, changed in place.
    square
        Second moments, changed in place.
    gradient
        Their gradient.
    rate
        Learning rate / (1 - beta1^t).
    beta1
        Decay of the first moments.
    beta2
        Decay of the second moments.
    root
        1 / sqrt(1 - beta2^t).
    epsilon
        Added to the denominator.
    """
    for i in range(weights.shape[0]):
        weights[i] = _moved(weights, mean, square, gradient, i, rate, beta1, beta2, root, epsilon)


@_compiled
def adam_and_round(
    weights: Any, mean: Any, square: Any, gradient: Any, rounded: Any,
    rate: Any, beta1: Any, beta2: Any, root: Any, epsilon: Any,
) -> None:  # fmt: skip
    """As `adam`; the new weights are rounded into `rounded` as well."""
    like = rounded[0]
    for i in range(weights.shape[0]):
        w = _moved(weights, mean, square, gradient, i, rate, beta1, beta2, root, epsilon)
        weights[i] = w
        rounded[i] = _stored(w, like)


@_inlined
def _squared_distance(points: Any, a: Any, i: Any, b: Any, j: Any) -> Any:
    total = _ZERO
    for d in range(points.shape[2]):
        difference = points[a, i, d] - points[b, j, d]
        total += difference * difference
    return total


@_inlined
def _held(square: Any, squared: Any) -> Any:
    held = _EPSILON if square < _EPSILON else square
    return held if squared else np.sqrt(held)


@_inlined
def _pull(
    points: Any, gradient: Any, a: Any, i: Any, b: Any, j: Any, square: Any, squared: Any, by: Any
) -> None:
    """Add `by` times the gradient of the distance of a point to another to the gradients of both."""
    if by == _ZERO or square < _EPSILON:
        return
    factor = by * np.float32(2) if squared else by / np.sqrt(square)
    for d in range(points.shape[2]):
        step = factor * (points[a, i, d] - points[b, j, d])
        gradient[a, i, d] += step
        gradient[b, j, d] -= step


@_compiled
def triplet_gradient(
    points: Any, negatives: Any, variant: Any, squared: Any, margin: Any, gradient: Any
) -> float:
    """The sum of the losses of triplets (`TripletLoss`), and the gradient of their mean.

    Parameters
    ----------
    points
        float32 (3, b, d): anchors, positives, negatives.
    negatives
        int64 (b,), the column of the negative that each anchor takes.
    variant
        0 "both", 1 "min", 2 "an".
    squared
        Whether distances are squared.
    margin
        Margin of the loss.
    gradient
        float32 (3, b, d), filled.

    Returns
    -------
    float
        The loss.
    """
    gradient[:] = _ZERO
    count = points.shape[1]
    whole = _ONE / np.float32(count)
    half = whole * _HALF
    total = 0.0
    for i in range(count):
        k = negatives[i]
        ap2 = _squared_distance(points, 0, i, 1, i)
        an2 = _squared_distance(points, 0, i, 2, k)
        pn2 = _squared_distance(points, 1, i, 2, k)
        ap, an, pn = _held(ap2, squared), _held(an2, squared), _held(pn2, squared)
        if not (math.isfinite(ap) and math.isfinite(an) and math.isfinite(pn)):
            total += math.nan
            continue
        by_ap = by_an = by_pn = _ZERO
        if variant == 0:
            from_anchor, from_positive = ap - an + margin, ap - pn + margin
            if from_anchor > _ZERO:
                total += 0.5 * from_anchor
                by_ap += half
                by_an = -half
            if from_positive > _ZERO:
                total += 0.5 * from_positive
                by_ap += half
                by_pn = -half
        else:
            near = an if variant == 2 or an < pn else pn
            hinge = ap - near + margin
            if hinge > _ZERO:
                total += hinge
                by_ap = whole
                if variant == 2 or an < pn:
                    by_an = -whole
                elif pn < an:
                    by_pn = -whole
                else:  # half to each where they are equal
                    by_an = by_pn = -half
        _pull(points, gradient, 0, i, 1, i, ap2, squared, by_ap)
        _pull(points, gradient, 0, i, 2, k, an2, squared, by_an)
        _pull(points, gradient, 1, i, 2, k, pn2, squared, by_pn)
    return total
