"""Numba where it is installed and wanted."""

from __future__ import annotations

import os
from types import ModuleType

from nengonet.exceptions import InputError


def load_kernels(numba: bool | None = None) -> ModuleType | None:
    """Return the module of Numba kernels, or None to compute with NumPy and SciPy."""
    if numba is None and os.environ.get("NENGONET_NUMBA", "1") == "0" or numba is False:
        return None
    try:
        from nengonet.minibatch import kernels
    except ImportError as error:
        if numba:
            raise InputError(
                f"numba=True: Numba cannot be imported ({error}); "
                "install it with `pip install nengonet[fast]`, or leave it out"
            ) from None
        return None
    return kernels
