"""Calls of kernels by address, so that a kernel is compiled once and not in each caller as well.

If a kernel calls another in the usual way, Numba links their code, and LLVM optimizes both once
more. In a chain of calls, the last kernel is then optimized once for each of the others. A call by
address takes as long, unless it would have been inlined.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numba import typeof
from numba.core import cgutils, errors, types
from numba.extending import intrinsic


class ByAddress:
    """A kernel that other kernels call by its address.

    Parameters
    ----------
    kernel : Callable
        A kernel that returns nothing and raises no error.
    examples : function(dtype)
        Returns arguments of the types that the kernel is compiled for. The last one is an array of
        the given type of numbers.

    Attributes
    ----------
    call : function(address, arguments)
        For kernels: calls the kernel at its address for the type of the last of its arguments.
        Numbers are converted; other arguments of other types are refused.
    """

    def __init__(self, kernel: Callable, examples: Callable[[np.dtype], tuple]) -> None:
        self._kernel, self._examples = kernel, examples
        self.address = functools.cache(self._address)
        self.call = _caller_of(self._types)

    def _types(self, dtype: np.dtype) -> tuple[types.Type, ...]:
        return tuple(map(typeof, self._examples(np.dtype(dtype))))

    def _address(self, dtype: np.dtype) -> int:
        """Return the kernel's address for a type of numbers; compile it if that is needed."""
        given = self._types(dtype)
        self._kernel.compile(given)
        found = self._kernel.overloads[given]
        return found.library.get_pointer_to_function(found.fndesc.llvm_func_name)


def _caller_of(types_of: Callable[[np.dtype], tuple[types.Type, ...]]) -> Callable:
    """Return the function for kernels that calls an address."""

    @intrinsic
    def call(typing, address, arguments):
        wanted = types_of(str(arguments[-1].dtype))
        if len(arguments) != len(wanted) or not all(map(_fits, arguments, wanted)):
            raise errors.TypingError(f"expected arguments of {wanted}, got {tuple(arguments)}")

        def generate(context, builder, signature, values):
            address, parts = values[0], cgutils.unpack_tuple(builder, values[1])
            parts = [
                context.cast(builder, *each) if isinstance(each[1], types.Number) else each[0]
                for each in zip(parts, arguments, wanted, strict=True)
            ]
            convention = context.call_conv
            pointer = convention.get_function_type(types.none, wanted).as_pointer()
            function = builder.inttoptr(address, pointer)
            convention.call_function(builder, function, types.none, wanted, parts)
            return context.get_dummy_value()

        return types.void(types.intp, arguments), generate

    return call


def _fits(given: types.Type, wanted: types.Type, *, is_part: bool = False) -> bool:
    """Return whether a kernel can take a value as an argument, or as a part of one."""
    if isinstance(given, types.Array) and isinstance(wanted, types.Array):
        # Read-only arrays look the same.
        return given.copy(readonly=False) == wanted.copy(readonly=False)
    if isinstance(given, types.BaseTuple) and isinstance(wanted, types.BaseTuple):
        parts = len(given) == len(wanted) and zip(given, wanted, strict=True)
        return bool(parts) and all(_fits(*each, is_part=True) for each in parts)
    if isinstance(given, types.Number) and isinstance(wanted, types.Number) and not is_part:
        return True  # they are converted
    return given == wanted
