"""Eight trials of Poisson counts at once, in vectors of the processor.

From a mean of 10 on, a count comes from pairs of random numbers (Hörmann's PTRS, 1993). A trial
turns one pair into a count, which it accepts or rejects; the next pair is for the next neuron or
again for the same one. Most trials accept, so eight pairs are tried on eight neurons, and all
count up to the first that does not accept.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, errors, types
from numba.extending import intrinsic

# Counts around a mean whose chances are kept.
CHANCES = 64
# A drawn number is compared with the rounded chance only if it differs by more than these factors.
LESS, MORE = 1 - 1e-6, 1 + 1e-6
# The rows of the constants; NaN stands for a neuron that is not tried.
N_CONSTANTS = 7
TWICE_A, B, MEAN, INVERSE_ALPHA, ACCEPTED, QUARTER, FIRST = range(N_CONSTANTS)

EIGHT = 8
_FLOATS = ir.VectorType(ir.DoubleType(), EIGHT)
_INDICES = ir.VectorType(ir.IntType(32), EIGHT)
_COUNTS = ir.VectorType(ir.IntType(64), EIGHT)
_INDEX = ir.IntType(32)
_TYPES = types.float64, types.float64, types.int32, types.float32, types.int64


@intrinsic
def eight_trials(typing, doubles, at, constants, first, stride, rows, chances, counts):
    """Try the eight pairs of random numbers from ``at`` on, on eight neurons from the ``first`` on.

    ``constants`` has a row of ``stride`` neurons for each constant, and ``rows`` the row of each
    neuron in ``chances``, (n, CHANCES). Returns how many neurons accepted before the first that did
    not, whose counts are written, and 1 if that one has rejected its pair. If that is unclear, 0:
    the pair has to be looked at more closely.
    """

    def generate(context, builder, signature, given):
        doubles_given, at, constants_given, first, stride, *others = given
        rows_given, chances_given, counts_given = others

        def pointer(array, array_given, place, numbers):
            data = cgutils.create_struct_proxy(array)(context, builder, array_given).data
            return builder.bitcast(builder.gep(data, [place]), numbers.as_pointer())

        def constant(number):
            place = builder.add(builder.mul(stride, ir.Constant(stride.type, number)), first)
            return builder.load(pointer(constants, constants_given, place, _FLOATS), align=8)

        def called(name, value):
            kind = ir.FunctionType(_FLOATS, [_FLOATS])
            function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v8f64")
            return builder.call(function, [value])

        def all_of(first, *others):
            for each in others:
                first = builder.and_(first, each)
            return first

        def is_(comparison, left, right):
            return builder.fcmp_ordered(comparison, left, right)

        places = at, builder.add(at, ir.Constant(at.type, EIGHT))
        pairs = [
            builder.load(pointer(doubles, doubles_given, each, _FLOATS), align=8) for each in places
        ]
        u, v = (
            builder.shuffle_vector(*pairs, ir.Constant(_INDICES, list(range(k, 2 * EIGHT, 2))))
            for k in (0, 1)
        )
        # Operation by operation as in `drawing.poisson_rejected`.
        b, half = constant(B), _all(0.5)
        u = builder.fsub(u, half)
        us = builder.fsub(half, called("fabs", u))
        slope = builder.fdiv(constant(TWICE_A), us)
        count = builder.fmul(builder.fadd(slope, b), u)
        count = builder.fadd(builder.fadd(count, constant(MEAN)), _all(0.43))
        count = called("floor", count)
        place = builder.fsub(count, constant(FIRST))
        is_kept = all_of(is_(">=", place, _all(0.0)), is_("<", place, _all(CHANCES)))
        place = builder.fptosi(builder.select(is_kept, place, _all(0.0)), _INDICES)
        row = builder.load(pointer(rows, rows_given, first, _INDICES), align=4)
        place = builder.add(builder.mul(row, ir.Constant(_INDICES, EIGHT * [CHANCES])), place)
        found = ir.Constant(ir.VectorType(ir.FloatType(), EIGHT), None)
        for k in range(EIGHT):
            lane = ir.Constant(_INDEX, k)
            each = pointer(
                chances, chances_given, builder.extract_element(place, lane), ir.FloatType()
            )
            each = builder.load(each)
            found = builder.insert_element(found, each, lane)
        factor = builder.fmul(builder.fmul(slope, slope), constant(QUARTER))
        chance = builder.fmul(builder.fpext(found, _FLOATS), builder.fadd(factor, b))
        scaled = builder.fmul(v, constant(INVERSE_ALPHA))
        is_quick = all_of(is_(">=", us, _all(0.07)), is_("<=", v, constant(ACCEPTED)))
        is_inner = builder.or_(is_(">=", us, _all(0.013)), is_("<=", v, us))
        is_below = is_("<", scaled, builder.fmul(chance, _all(LESS)))
        is_above = is_(">", scaled, builder.fmul(chance, _all(MORE)))
        accepts = builder.or_(is_quick, all_of(is_kept, is_below, is_inner))
        is_above = all_of(is_kept, is_above, builder.not_(is_quick))
        # Both are far from the mean, so never quick; and numbers for all but NaN.
        is_outer = all_of(builder.not_(is_inner), is_("ord", scaled, scaled))
        rejects = builder.or_(is_above, builder.or_(is_outer, is_("<", count, _all(0.0))))
        # What is written for the others is written over.
        count = builder.fptosi(builder.select(accepts, count, _all(0.0)), _INDICES)
        count = builder.sext(count, _COUNTS)
        builder.store(count, pointer(counts, counts_given, first, _COUNTS), align=8)
        byte, index = ir.IntType(8), context.get_value_type(types.intp)
        others = builder.zext(builder.bitcast(builder.not_(accepts), byte), index)
        others = builder.or_(others, ir.Constant(index, 1 << EIGHT))
        n_accepted = builder.cttz(others, ir.Constant(ir.IntType(1), 1))
        rejected = builder.lshr(builder.zext(builder.bitcast(rejects, byte), index), n_accepted)
        rejected = builder.and_(rejected, ir.Constant(index, 1))
        return context.make_tuple(builder, signature.return_type, [n_accepted, rejected])

    arrays = doubles, constants, rows, chances, counts
    for array, dtype, ndim in zip(arrays, _TYPES, (1, 2, 1, 2, 1), strict=True):
        if array != types.Array(dtype, ndim, "C"):
            raise errors.TypingError(f"expected a contiguous array of {dtype}, got {array}")
    given = doubles, types.intp, constants, types.intp, types.intp, rows, chances, counts
    return types.UniTuple(types.intp, 2)(*given), generate


def _all(value):
    """Return a vector of one number."""
    return ir.Constant(_FLOATS, EIGHT * [float(value)])
