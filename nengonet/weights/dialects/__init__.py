"""Dialects of weights files: one module each, found by looking into this folder.

A dialect has two functions: ``matches(content)`` returns whether a file is in this dialect, and
``read(content)`` returns its layers (`LayerWeights`, in the order of the model) and the name of
the dialect. Modules are asked in the order of their names; one with ``ASKED_LAST`` comes last.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

_registered: list[Any] = []


def register_dialect(dialect: Any) -> Any:
    """Add a dialect, which is asked before all others; works as a decorator.

    Parameters
    ----------
    dialect : module, class or object
        An object with ``matches(content)`` and ``read(content)``; the content is an open
        `nengonet.files.Hdf5`, `nengonet.files.Archive` or binary stream.

    Examples
    --------
    >>> from nengonet.weights import register_dialect
    >>> @register_dialect
    ... class Npy:
    ...     @staticmethod
    ...     def matches(content):
    ...         return hasattr(content, "peek") and b"NUMPY" in content.peek(6)
    ...     @staticmethod
    ...     def read(content):
    ...         return [nn.LayerWeights(np.load(content), name="kernel")], "NumPy array"
    >>> np.save("kernel.npy", np.ones((3, 2)))
    >>> nn.load_weights("kernel.npy")
    <Weights kernel.npy (NumPy array, 6 parameters): kernel>
    """
    _registered.insert(0, dialect)
    return dialect


def known_dialects() -> list[Any]:
    """Return all dialects, in the order in which they are asked."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return _registered + sorted(found, key=lambda module: getattr(module, "ASKED_LAST", False))
