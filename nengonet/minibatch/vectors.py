"""Vectors of numbers as Numba values: sums of rows that stay in the processor's registers.

A loop over the elements of a row loads and stores its sum for every row that is added. What is
here says in LLVM's words what a kernel means: a vector of some bytes, to which parts of an array
are added, and which is written once. The compiler splits it into the registers that there are.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import binding, ir
from numba.core import cgutils, errors, types
from numba.extending import intrinsic, models, register_model

_INDEX = ir.IntType(32)


def _has_masks() -> bool:
    """Tell whether the processor can load a part of a vector at once."""
    try:
        features = binding.get_host_cpu_features()
    except RuntimeError:  # LLVM cannot tell
        return False
    return bool(features.get("avx") or features.get("sve"))


# Without masks, a part of a vector is loaded number by number.
HAS_MASKS = _has_masks()


class Vector(types.Type):
    """``n`` numbers of a type."""

    def __init__(self, dtype: types.Type, n: int) -> None:
        self.dtype, self.n = dtype, n
        super().__init__(name=f"Vector({dtype}, {n})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        number = manager.lookup(vector.dtype).get_data_type()
        super().__init__(manager, vector, ir.VectorType(number, vector.n))


def zeros_of(n_bytes: int) -> Callable:
    """Return a function for kernels that makes a vector of zeros, of an array's type."""

    @intrinsic
    def zeros(typing, array):
        vector = Vector(array.dtype, 8 * n_bytes // array.dtype.bitwidth)

        def generate(context, builder, signature, given):
            return ir.Constant(context.get_value_type(vector), None)

        return vector(array), generate

    return zeros


@intrinsic
def plus(typing, vector, array, at, n):
    """Return the vector, to the first ``n`` numbers of which those of an array are added.

    They begin ``at`` that number of the array, counted flat.
    """

    def generate(context, builder, signature, given):
        total, array_given, at, n = given
        numbers = context.get_value_type(vector)
        pointer = _pointer(builder, context, array, array_given, at, numbers)
        # Not every processor has masks. Which way it goes is decided outside of loops.
        with builder.if_else(_all(builder, numbers, n)) as (whole, part):
            with whole:
                sums = builder.fadd(total, builder.load(pointer, align=_size(vector)))
                after_whole = builder.basic_block
            with part:
                more, mask = _load_some(builder, vector, pointer, n)
                # In these words it is one instruction, where the processor has masks.
                some = builder.select(mask, builder.fadd(total, more), total)
                after_part = builder.basic_block
        found = builder.phi(numbers)
        found.add_incoming(sums, after_whole)
        found.add_incoming(some, after_part)
        return found

    return vector(vector, _contiguous(array), types.intp, types.intp), generate


@intrinsic
def part(typing, vector, array, at, n):
    """Return the first ``n`` numbers that begin ``at`` in an array, as a vector like another."""

    def generate(context, builder, signature, given):
        _, array_given, at, n = given
        numbers = context.get_value_type(vector)
        pointer = _pointer(builder, context, array, array_given, at, numbers)
        with builder.if_else(_all(builder, numbers, n)) as (whole, rest):
            with whole:
                all_of_them = builder.load(pointer, align=_size(vector))
                after_whole = builder.basic_block
            with rest:
                some, _ = _load_some(builder, vector, pointer, n)
                after_rest = builder.basic_block
        found = builder.phi(numbers)
        found.add_incoming(all_of_them, after_whole)
        found.add_incoming(some, after_rest)
        return found

    return vector(vector, _contiguous(array), types.intp, types.intp), generate


@intrinsic
def plus_times(typing, vector, other, factor):
    """Return the vector plus another, multiplied by a number: rounded twice, as in NumPy."""

    def generate(context, builder, signature, given):
        total, other, factor = given
        numbers = other.type
        anything = ir.Constant(numbers, ir.Undefined)
        factor = builder.insert_element(anything, factor, ir.Constant(_INDEX, 0))
        same = ir.Constant(ir.VectorType(_INDEX, numbers.count), None)
        factor = builder.shuffle_vector(factor, anything, same)
        return builder.fadd(total, builder.fmul(other, factor))

    return vector(vector, vector, vector.dtype), generate


@intrinsic
def put(typing, vector, array, at, n):
    """Write the first ``n`` numbers of a vector to an array, where they begin ``at``."""

    def generate(context, builder, signature, given):
        total, array_given, at, n = given
        numbers = context.get_value_type(vector)
        pointer = _pointer(builder, context, array, array_given, at, numbers)
        with builder.if_else(_all(builder, numbers, n)) as (whole, part):
            with whole:
                builder.store(total, pointer, align=_size(vector))
            with part:
                mask = _first(builder, numbers.count, n)
                of_type = [numbers, numbers.as_pointer(), _INDEX, mask.type]
                store = _masked(builder, "store", vector, ir.FunctionType(ir.VoidType(), of_type))
                builder.call(store, [total, pointer, ir.Constant(_INDEX, _size(vector)), mask])
        return context.get_dummy_value()

    return types.void(vector, _contiguous(array), types.intp, types.intp), generate


@intrinsic
def bits_of(typing, array, at):
    """Return which of the 64 bytes that begin ``at`` are not 0, the first as the lowest bit."""

    def generate(context, builder, signature, given):
        numbers = ir.VectorType(ir.IntType(8), 64)
        pointer = _pointer(builder, context, array, *given, numbers)
        some = builder.icmp_unsigned(
            "!=", builder.load(pointer, align=1), ir.Constant(numbers, None)
        )
        return builder.bitcast(some, ir.IntType(64))

    return types.uint64(_contiguous(array), types.intp), generate


@intrinsic
def lowest(typing, bits):
    """Return which is the lowest bit that is set, 64 if none is."""

    def generate(context, builder, signature, given):
        return builder.cttz(given[0], ir.Constant(ir.IntType(1), 0))

    return types.intp(types.uint64), generate


@intrinsic
def n_set(typing, bits):
    """Return how many bits are set."""

    def generate(context, builder, signature, given):
        return builder.ctpop(given[0])

    return types.intp(types.uint64), generate


def _contiguous(array: types.Type) -> types.Type:
    """Return the type of an array, or refuse one that is not as a flat list of numbers is."""
    if not isinstance(array, types.Array) or array.layout != "C":
        raise errors.TypingError(f"expected a C-contiguous array, got {array}")
    return array


def _pointer(builder, context, array, given, at, numbers):
    """Return where some numbers of an array begin."""
    data = cgutils.create_struct_proxy(array)(context, builder, given).data
    return builder.bitcast(builder.gep(data, [at]), numbers.as_pointer())


def _first(builder, count, n):
    """Return the mask of the first ``n`` of some numbers."""
    indices = ir.VectorType(_INDEX, count)
    anything = ir.Constant(indices, ir.Undefined)
    n = builder.insert_element(anything, builder.trunc(n, _INDEX), ir.Constant(_INDEX, 0))
    n = builder.shuffle_vector(n, anything, ir.Constant(indices, None))
    return builder.icmp_signed("<", ir.Constant(indices, list(range(count))), n)


def _all(builder, numbers, n):
    """Tell whether ``n`` are all numbers of a vector."""
    return builder.icmp_signed(">=", n, ir.Constant(n.type, numbers.count))


def _size(vector):
    return vector.dtype.bitwidth // 8


def _load_some(builder, vector, pointer, n):
    """Return the first ``n`` numbers of a vector, zeros behind them, and their mask."""
    numbers = pointer.type.pointee
    mask = _first(builder, numbers.count, n)
    of_type = [pointer.type, _INDEX, mask.type, numbers]
    load = _masked(builder, "load", vector, ir.FunctionType(numbers, of_type))
    align, zeros = ir.Constant(_INDEX, _size(vector)), ir.Constant(numbers, None)
    return builder.call(load, [pointer, align, mask, zeros]), mask


def _masked(builder, what, vector, of_type):
    name = f"llvm.masked.{what}.v{vector.n}f{vector.dtype.bitwidth}.p0"
    return cgutils.get_or_insert_function(builder.module, of_type, name)
