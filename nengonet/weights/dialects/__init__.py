"""Dialects of weights files: one module each, found by looking into this folder.

A dialect has ``matches(content)``, which says whether a file is its own, and ``read(content)``,
which returns its layers (`LayerWeights`, in the order of the model) and what wrote them. The
content is an open `nengonet.files.Hdf5`, a `nengonet.files.Archive` for zip files, or the binary
stream of anything else. The modules are asked in the order of their names, after the dialects that
`register_dialect` was given; one with ``ASKED_LAST`` after all others.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

_registered: list[Any] = []


def register_dialect(dialect: Any) -> Any:
    """Add a dialect, to be asked before all others.

    Parameters
    ----------
    dialect : module, class or object
        Has ``matches(content)`` and ``read(content)``.

    Returns
    -------
    dialect
        As it was given, so that this can decorate a class.
    """
    _registered.insert(0, dialect)
    return dialect


def known_dialects() -> list[Any]:
    """Return all dialects, in the order in which they are asked."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return _registered + sorted(found, key=lambda module: getattr(module, "ASKED_LAST", False))
