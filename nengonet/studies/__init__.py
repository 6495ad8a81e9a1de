"""The published examples, with one module for each, and the engine that runs them.

A study is a module of this package with a `Study` named ``STUDY``. No other list of studies exists.
"""

from __future__ import annotations

import importlib
import pathlib
import re
from typing import TYPE_CHECKING

from nengonet.exceptions import InputError

if TYPE_CHECKING:
    from nengonet.studies.engine import Study

_DESCRIPTION = re.compile(r"^STUDY\b.*=", re.MULTILINE)


def names() -> list[str]:
    """Return the names of the studies. No study is imported, so that commands are listed fast.

    Examples
    --------
    >>> from nengonet import studies
    >>> studies.names()
    ['amplitude', 'bengali', 'cifar-csnn', 'fashion-mnist', 'forum-mnist']
    """
    files = (file for folder in __path__ for file in sorted(pathlib.Path(folder).glob("*.py")))
    return [
        file.stem.replace("_", "-")
        for file in files
        if _DESCRIPTION.search(file.read_text(encoding="utf-8"))
    ]


def get(name: str) -> Study:
    """Return a study by its name, such as ``"forum-mnist"``.

    Parameters
    ----------
    name : str

    Returns
    -------
    study : Study

    Raises
    ------
    InputError
        The name is unknown.

    Examples
    --------
    >>> from nengonet import studies
    >>> studies.get("forum-mnist").title
    "the forum's MLP"
    """
    if name not in names():
        raise InputError(f"study: expected one of {', '.join(names())}, got {name!r}")
    return importlib.import_module(f"nengonet.studies.{name.replace('-', '_')}").STUDY
