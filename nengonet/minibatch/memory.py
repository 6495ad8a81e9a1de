"""Arrays in memory that is used again, because writing to new memory for the first time is slow.

The system clears each page when it is first written to. For a run of some hundred milliseconds,
this took a tenth of the time.
"""

from __future__ import annotations

import math
import threading

import numpy as np

# Smaller arrays come from NumPy, whose allocator keeps their memory.
_LEAST = 2**16
# Bytes that are kept for later arrays, when no array is in them.
_MOST_IDLE = 2**27
_CACHE_LINE = 64


class _Pool:
    """Blocks of memory in which there is no array now, the longest unused one first."""

    def __init__(self) -> None:
        # An array may be collected in the middle of these methods.
        self._lock, self._idle, self._n_bytes = threading.RLock(), [], 0

    def take(self, n_bytes: int) -> np.ndarray:
        """Return a block of at least this size, and at most half as much again."""
        with self._lock:
            for at in range(len(self._idle) - 1, -1, -1):
                if n_bytes <= len(self._idle[at]) <= 1.5 * n_bytes:
                    block = self._idle.pop(at)
                    self._n_bytes -= len(block)
                    return block
        return np.empty(n_bytes, np.uint8)

    def give_back(self, block: np.ndarray) -> None:
        """Keep a block for later, and let the longest unused ones go."""
        with self._lock:
            self._idle.append(block)
            self._n_bytes += len(block)
            while self._n_bytes > _MOST_IDLE:
                self._n_bytes -= len(self._idle.pop(0))


_pool = _Pool()


class _Lease:
    """The owner of an array's memory; NumPy lets it go with the last view of the array."""

    def __init__(self, block: np.ndarray, n_bytes: int) -> None:
        self._block, begin = block, block.ctypes.data
        data = begin + -begin % _CACHE_LINE, False
        what = {"shape": (n_bytes,), "typestr": "|u1", "data": data, "version": 3}
        self.__array_interface__ = what

    def __del__(self, give_back=_pool.give_back) -> None:
        give_back(self._block)


def empty(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """Return an array with any content, in C order, that begins at a cache line.

    Loads that straddle two lines made sums of rows up to 1.3 times as slow.
    """
    dtype = np.dtype(dtype)
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes >= _LEAST:
        lease = _Lease(_pool.take(n_bytes + _CACHE_LINE), n_bytes)
        return np.asarray(lease).view(dtype).reshape(shape)
    memory = np.empty(n_bytes + _CACHE_LINE, np.uint8)
    first = -memory.ctypes.data % _CACHE_LINE
    return memory[first : first + n_bytes].view(dtype).reshape(shape)


def zeros(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """Return an array of zeros as `empty` does."""
    array = empty(shape, dtype)
    array[...] = 0
    return array
