"""Vectors of numbers as Numba values: sums of rows that stay in the processor's registers.

A loop over the elements of a row loads and stores its sum for every row that is added. Functions
here state a kernel's meaning in LLVM's terms: they add parts of an array to a vector of some bytes,
which is written once. The compiler splits the vector into the available registers.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import binding, ir
from numba.core import cgutils, errors, types
from numba.extending import intrinsic, models, register_model

_INDEX = ir.IntType(32)


def _features() -> dict[str, bool]:
    """Return the features of the processor, as far as LLVM can detect them."""
    try:
        return dict(binding.get_host_cpu_features())
    except RuntimeError:
        return {}


_FEATURES = _features()
# Without masks, a part of a vector is loaded number by number.
HAS_MASKS = bool(_FEATURES.get("avx") or _FEATURES.get("sve"))
# Bytes of a vector, for which four vectors stay in registers even on the smallest processors.
FOURTH = 64
# Bytes of a vector, for which eight vectors stay in registers, with as many left for other values.
EIGHTH = 64 if _FEATURES.get("avx512f") else 32


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
    """Return a function for kernels that makes a vector of zeros of an array's type."""

    @intrinsic
    def zeros(typing, array):
        vector = Vector(array.dtype, 8 * n_bytes // array.dtype.bitwidth)

        def generate(context, builder, signature, given):
            return ir.Constant(context.get_value_type(vector), None)

        return vector(array), generate

    return zeros


@intrinsic
def length_of(typing, vector):
    """Return how many numbers a vector has."""

    def generate(context, builder, signature, given):
        return ir.Constant(context.get_value_type(types.intp), vector.n)

    return types.intp(vector), generate


@intrinsic
def plus(typing, vector, array, at, n):
    """Return the vector after adding ``n`` numbers of an array to its first ``n`` numbers.

    The numbers begin ``at`` that index of the flat array.
    """

    def generate(context, builder, signature, given):
        total, array_given, at, n = given
        numbers = context.get_value_type(vector)
        pointer = _pointer(builder, context, array, array_given, at, numbers)
        # Not every processor has masks. The choice is made outside of loops.
        with builder.if_else(_all(builder, numbers, n)) as (whole, part):
            with whole:
                sums = builder.fadd(total, builder.load(pointer, align=_size(vector)))
                after_whole = builder.basic_block
            with part:
                more, mask = _load_some(builder, vector, pointer, n)
                # In this form it is one instruction, if the processor has masks.
                some = builder.select(mask, builder.fadd(total, more), total)
                after_part = builder.basic_block
        found = builder.phi(numbers)
        found.add_incoming(sums, after_whole)
        found.add_incoming(some, after_part)
        return found

    return vector(vector, _contiguous(array), types.intp, types.intp), generate


@intrinsic
def eight_places(typing, first, last, share, of_position, of_row):
    """Return the places of eight positions of an image, from the ``first`` on.

    The place of each is ``position * of_position + row * of_row``. Its row is the position times
    the ``share`` of one position in a row. After the ``last`` position, the last one is repeated.
    """
    n = 8

    def generate(context, builder, signature, given):
        indices, floats = ir.VectorType(_INDEX, n), ir.VectorType(ir.DoubleType(), n)
        first, last, share, of_position, of_row = (
            _repeated(builder, floats, each)
            if each is given[2]
            else _repeated(builder, indices, builder.trunc(each, _INDEX))
            for each in given
        )
        positions = builder.add(first, ir.Constant(indices, list(range(n))))
        is_before = builder.icmp_signed("<", positions, last)
        positions = builder.select(is_before, positions, last)
        # Positions and their number are whole: half of one more is on the safe side of both.
        middles = builder.fadd(builder.sitofp(positions, floats), ir.Constant(floats, n * [0.5]))
        rows = builder.fptosi(builder.fmul(middles, share), indices)
        places = builder.add(builder.mul(positions, of_position), builder.mul(rows, of_row))
        index = context.get_value_type(types.intp)
        found = [
            builder.sext(builder.extract_element(places, ir.Constant(_INDEX, k)), index)
            for k in range(n)
        ]
        return context.make_tuple(builder, signature.return_type, found)

    given = types.intp, types.intp, types.float64, types.intp, types.intp
    return types.UniTuple(types.intp, n)(*given), generate


@intrinsic
def list_nonzero(typing, values, at, n, other, numbers, used):
    """List the indices of those of ``n`` values that are not 0; return the used length.

    The values, at most eight, begin ``at`` an index. An index is also listed if the value that is
    farther by ``other`` is not 0. The list, int32, needs room for eight more numbers, whether or
    not they count. A value that is not a number counts.
    """

    def generate(context, builder, signature, given):
        values_given, at, n, other, numbers_given, used = given
        vector = Vector(values.dtype, 8)
        one, two = (
            _part(context, builder, vector, values, values_given, place, n)
            for place in (at, builder.add(at, other))
        )
        one, two = (
            builder.fcmp_unordered("!=", part, ir.Constant(part.type, None)) for part in (one, two)
        )
        found = builder.or_(one, two)
        bits = builder.bitcast(found, ir.IntType(8))
        table = cgutils.global_constant(builder, "bits_of_bytes", _BITS)
        row = builder.gep(table, [ir.Constant(_INDEX, 0), builder.zext(bits, _INDEX)])
        eight, indices = ir.VectorType(ir.IntType(8), 8), ir.VectorType(_INDEX, 8)
        chosen = builder.zext(builder.load(builder.bitcast(row, eight.as_pointer())), indices)
        chosen = builder.add(chosen, _repeated(builder, indices, builder.trunc(at, _INDEX)))
        pointer = _pointer(builder, context, numbers, numbers_given, used, indices)
        builder.store(chosen, pointer, align=4)
        return builder.add(used, builder.zext(builder.ctpop(bits), used.type))

    _check_type(numbers, types.int32)
    values, numbers = _contiguous(values), _contiguous(numbers)
    given = values, types.intp, types.intp, types.intp, numbers, types.intp
    return types.intp(*given), generate


# For each byte, the positions of the bits that are set, and zeros behind them.
_BITS = ir.Constant(
    ir.ArrayType(ir.ArrayType(ir.IntType(8), 8), 256),
    [([k for k in range(8) if byte >> k & 1] + 8 * [0])[:8] for byte in range(256)],
)


@intrinsic
def plus_products(typing, sums, array, at, n, values, places, offset):
    """Return vectors after adding to each a part of an array, multiplied by a value.

    The part is as in `plus`. The values, numbers of the array's type, are at ``places``, one for
    each vector, all shifted by the ``offset``. Products are rounded before they are added, as in
    NumPy.
    """
    vector = sums.dtype

    def generate(context, builder, signature, given):
        totals, array_given, at, n, values_given, places, offset = given
        numbers = context.get_value_type(vector)
        row = _part(context, builder, vector, array, array_given, at, n)
        data = cgutils.create_struct_proxy(values)(context, builder, values_given).data
        data = builder.gep(data, [offset])
        for k in range(sums.count):
            value = builder.load(builder.gep(data, [builder.extract_value(places, k)]))
            product = builder.fmul(row, _repeated(builder, numbers, value))
            total = builder.fadd(builder.extract_value(totals, k), product)
            totals = builder.insert_value(totals, total, k)
        return totals

    _check_type(array, vector.dtype)
    _check_type(values, vector.dtype)
    given = (
        sums,
        _contiguous(array),
        types.intp,
        types.intp,
        _contiguous(values),
        places,
        types.intp,
    )
    return sums(*given), generate


@intrinsic
def put(typing, vector, array, at, n):
    """Write the first ``n`` numbers of a vector to an array, beginning ``at`` an index."""

    def generate(context, builder, signature, given):
        total, array_given, at, n = given
        _put(context, builder, vector, total, array, array_given, at, n)
        return context.get_dummy_value()

    _check_type(array, vector.dtype)
    return types.void(vector, _contiguous(array), types.intp, types.intp), generate


@intrinsic
def put_all(typing, vectors, array, places, offset, n):
    """Write the first ``n`` numbers of each vector to its place, shifted by the offset."""

    def generate(context, builder, signature, given):
        totals, array_given, places, offset, n = given
        for k in range(vectors.count):
            total = builder.extract_value(totals, k)
            at = builder.add(builder.extract_value(places, k), offset)
            _put(context, builder, vectors.dtype, total, array, array_given, at, n)
        return context.get_dummy_value()

    _check_type(array, vectors.dtype.dtype)
    given = vectors, _contiguous(array), places, types.intp, types.intp
    return types.void(*given), generate


@intrinsic
def move(typing, source, at, target, to):
    """Copy the 32 bytes that begin ``at`` an index of one array ``to`` an index of another."""

    def generate(context, builder, signature, given):
        source_given, at, target_given, to = given
        numbers = ir.VectorType(ir.IntType(8), 32)
        found = builder.load(_pointer(builder, context, source, source_given, at, numbers), align=1)
        builder.store(found, _pointer(builder, context, target, target_given, to, numbers), align=1)
        return context.get_dummy_value()

    _check_type(target, source.dtype)
    given = _contiguous(source), types.intp, _contiguous(target), types.intp
    return types.void(*given), generate


@intrinsic
def move_scaled(typing, source, at, target, to, shift, factor):
    """Write 16 numbers from ``at`` on, minus ``shift``, times ``factor``, ``to`` another array."""

    def generate(context, builder, signature, given):
        source_given, at, target_given, to, *scale = given
        numbers = ir.VectorType(_INDEX, 16)
        shift, factor = (_repeated(builder, numbers, builder.trunc(each, _INDEX)) for each in scale)
        found = builder.load(_pointer(builder, context, source, source_given, at, numbers), align=4)
        found = builder.mul(builder.sub(found, shift), factor)
        pointer = _pointer(builder, context, target, target_given, to, numbers)
        builder.store(found, pointer, align=4)
        return context.get_dummy_value()

    _check_type(source, types.int32)
    _check_type(target, types.int32)
    given = _contiguous(source), types.intp, _contiguous(target), *3 * (types.intp,)
    return types.void(*given), generate


@intrinsic
def put_sum(typing, rows, column, listed, first, last, nothing, total, at, n):
    """Write the sum of rows of an array, the first ``n`` of at most 256 bytes, to ``total``.

    The numbers ``listed[first:last]`` say where the rows begin, as flat indices. The rows are added
    one after the other, from the ``column`` on, four at a time: ``nothing`` is the index of a row
    of zeros, which fills the last four. Whole vectors of 64 bytes and four listed numbers are read.
    """
    vector = Vector(rows.dtype, 8 * FOURTH // rows.dtype.bitwidth)

    def generate(context, builder, signature, given):
        *_, n = given
        done = builder.append_basic_block()
        # The number of vectors: each number has a loop of its own.
        size = ir.Constant(n.type, vector.n)
        n_vectors = builder.udiv(builder.add(n, ir.Constant(n.type, vector.n - 1)), size)
        blocks = [builder.append_basic_block() for _ in range(4)]
        switch = builder.switch(n_vectors, blocks[-1])
        for count, block in enumerate(blocks, 1):
            if count < len(blocks):
                switch.add_case(ir.Constant(n.type, count), block)
            builder.position_at_end(block)
            _put_sum(context, builder, signature.args, given, vector, count)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    _check_type(total, rows.dtype)
    _check_type(listed, types.int32)
    given = (
        _contiguous(rows),
        types.intp,
        _contiguous(listed),
        types.intp,
        types.intp,
        types.intp,
        _contiguous(total),
        types.intp,
        types.intp,
    )
    return types.void(*given), generate


@intrinsic
def bits_of(typing, array, at, mask):
    """Return which of the 64 bytes that begin ``at`` an index have a bit of the mask.

    The lowest bit stands for the first byte.
    """

    def generate(context, builder, signature, given):
        array_given, at, mask = given
        numbers = ir.VectorType(ir.IntType(8), 64)
        pointer = _pointer(builder, context, array, array_given, at, numbers)
        marks = builder.and_(builder.load(pointer, align=1), _repeated(builder, numbers, mask))
        some = builder.icmp_unsigned("!=", marks, ir.Constant(numbers, None))
        return builder.bitcast(some, ir.IntType(64))

    return types.uint64(_contiguous(array), types.intp, types.uint8), generate


@intrinsic
def lowest(typing, bits):
    """Return the position of the lowest bit that is set, or 64 if none is."""

    def generate(context, builder, signature, given):
        return builder.cttz(given[0], ir.Constant(ir.IntType(1), 0))

    return types.intp(types.uint64), generate


@intrinsic
def n_set(typing, bits):
    """Return the number of bits that are set."""

    def generate(context, builder, signature, given):
        return builder.ctpop(given[0])

    return types.intp(types.uint64), generate


def _contiguous(array: types.Type) -> types.Type:
    """Return the type of an array, or raise an error if it is not a flat list of numbers."""
    if not isinstance(array, types.Array) or array.layout != "C":
        raise errors.TypingError(f"expected a C-contiguous array, got {array}")
    return array


def _check_type(array: types.Type, dtype: types.Type) -> None:
    """Refuse an array of another type, whose numbers would be misread."""
    if array.dtype != dtype:
        raise errors.TypingError(f"expected an array of {dtype}, got {array.dtype}")


def _pointer(builder, context, array, given, at, numbers):
    """Return the address of some numbers of an array."""
    data = cgutils.create_struct_proxy(array)(context, builder, given).data
    return builder.bitcast(builder.gep(data, [at]), numbers.as_pointer())


def _repeated(builder, numbers, value):
    """Return a vector that repeats one number."""
    anything = ir.Constant(numbers, ir.Undefined)
    first = builder.insert_element(anything, value, ir.Constant(_INDEX, 0))
    indices = ir.VectorType(_INDEX, numbers.count)
    return builder.shuffle_vector(first, anything, ir.Constant(indices, None))


def _first(builder, count, n):
    """Return the mask of the first ``n`` of some numbers."""
    indices = ir.VectorType(_INDEX, count)
    n = _repeated(builder, indices, builder.trunc(n, _INDEX))
    return builder.icmp_signed("<", ir.Constant(indices, list(range(count))), n)


def _all(builder, numbers, n):
    """Return whether ``n`` covers all numbers of a vector."""
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


def _part(context, builder, vector, array, array_given, at, n):
    """Return the first ``n`` numbers of a vector that begins ``at`` an index of an array."""
    numbers = context.get_value_type(vector)
    pointer = _pointer(builder, context, array, array_given, at, numbers)
    with builder.if_else(_all(builder, numbers, n)) as (whole, part):
        with whole:
            all_of_them = builder.load(pointer, align=_size(vector))
            after_whole = builder.basic_block
        with part:
            some, _ = _load_some(builder, vector, pointer, n)
            after_part = builder.basic_block
    found = builder.phi(numbers)
    found.add_incoming(all_of_them, after_whole)
    found.add_incoming(some, after_part)
    return found


def _put(context, builder, vector, total, array, array_given, at, n):
    """Write the first ``n`` numbers of a vector ``at`` an index of an array."""
    pointer = _pointer(builder, context, array, array_given, at, total.type)
    with builder.if_else(_all(builder, total.type, n)) as (whole, part):
        with whole:
            builder.store(total, pointer, align=_size(vector))
        with part:
            mask = _first(builder, total.type.count, n)
            of_type = [total.type, pointer.type, _INDEX, mask.type]
            store = _masked(builder, "store", vector, ir.FunctionType(ir.VoidType(), of_type))
            builder.call(store, [total, pointer, ir.Constant(_INDEX, _size(vector)), mask])


def _masked(builder, what, vector, of_type):
    name = f"llvm.masked.{what}.v{vector.n}f{vector.dtype.bitwidth}.p0"
    return cgutils.get_or_insert_function(builder.module, of_type, name)


def _put_sum(context, builder, arrays, given, vector, count):
    """Write the sum of rows of ``count`` vectors each, as `put_sum` does."""
    rows_given, column, listed_given, first, last, nothing, total_given, at, n = given
    rows, _, listed, *_, total, _, _ = arrays
    numbers, index = context.get_value_type(vector), n.type
    offsets = [ir.Constant(index, k * vector.n) for k in range(count)]
    zeros, before = ir.Constant(numbers, None), builder.basic_block
    adding, after = builder.append_basic_block(), builder.append_basic_block()
    builder.cbranch(builder.icmp_signed("<", first, last), adding, after)
    builder.position_at_end(adding)
    event = builder.phi(index)
    sums = heads = [builder.phi(numbers) for _ in offsets]
    for each in range(4):
        place = builder.add(event, ir.Constant(index, each))
        row = builder.load(_pointer(builder, context, listed, listed_given, place, _INDEX))
        row = builder.sext(row, index)
        row = builder.select(builder.icmp_signed("<", place, last), row, nothing)
        row = builder.add(row, column)
        pointers = [
            _pointer(builder, context, rows, rows_given, builder.add(row, offset), numbers)
            for offset in offsets
        ]
        parts = [builder.load(pointer, align=_size(vector)) for pointer in pointers]
        sums = [builder.fadd(sum_, part) for sum_, part in zip(sums, parts, strict=True)]
    following = builder.add(event, ir.Constant(index, 4))
    event.add_incoming(first, before)
    event.add_incoming(following, adding)
    builder.cbranch(builder.icmp_signed("<", following, last), adding, after)
    builder.position_at_end(after)
    totals = [builder.phi(numbers) for _ in sums]
    for phi, then in zip([*heads, *totals], 2 * sums, strict=True):
        phi.add_incoming(zeros, before)
        phi.add_incoming(then, adding)
    for each, offset in zip(totals, offsets, strict=True):
        place, rest = builder.add(at, offset), builder.sub(n, offset)
        _put(context, builder, vector, each, total, total_given, place, rest)
