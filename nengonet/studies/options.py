"""The options of a study, read from the signatures of its functions.

A keyword's annotation states which values it takes: a number, one of several words
(``Literal``), either of them or None, or a sequence of them. ``Annotated[…, "help"]`` or
``Annotated[…, Option(…)]`` adds texts for the command line.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated

from nengonet.checks import check_among, did_you_mean
from nengonet.exceptions import InputError

_NONE = "none"


@dataclasses.dataclass(frozen=True)
class Option:
    """The part of an annotation beside the type.

    Examples
    --------
    >>> from typing import Annotated
    >>> from nengonet.studies.options import Option, parameters_of
    >>> def network(given, *, rate: Annotated[float, Option("In Hz.", flag="--hz")] = 200.0):
    ...     pass
    >>> parameters_of(network)["rate"].flag
    '--hz'
    """

    #: Help text: a sentence, with the unit.
    help: str = ""
    #: The name on the command line, where it is not the Python name with two dashes.
    flag: str | None = None
    #: Values by their words on the command line, where the two differ.
    values: Mapping[str, object] = dataclasses.field(default_factory=dict)
    #: Flags that stand for one value each, such as ``{"constant": "--constant-input"}``.
    switches: Mapping[object, str] = dataclasses.field(default_factory=dict)
    #: Name of another option that has no meaning beside those flags.
    without: str = ""
    #: The default in words, where the Python value would not help a reader.
    default: str = ""


class Smaller(typing.NamedTuple):
    """A setting of a study's quick version, with its values and the default in words.

    Examples
    --------
    >>> from nengonet import studies
    >>> study = studies.get("amplitude")
    >>> [smaller.flag for smaller in study.quick_settings()]
    ['--images', '--seeds', '--loop-seeds', '--amplitude']
    """

    #: Name of the setting in Python.
    name: str
    #: Name on the command line.
    flag: str
    #: Value in the quick version.
    value: object
    #: The same value, as the command line takes it.
    words: list[str]
    #: The value of the full version, in words.
    full: str


# Annotations that the networks of several studies share.
FullScaleRate = Annotated[
    float, "Rate of a layer's largest activations in the repaired network, in Hz."
]
PresentationTime = Annotated[float, "Seconds for each image."]


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A keyword of a study's function: its values and its names.

    Examples
    --------
    >>> def network(given, *, rate: float = 200.0, label: str = "lif"):
    ...     pass
    >>> from nengonet.studies.options import parameters_of
    >>> print(parameters_of(network)["rate"])
    rate: a number  [default: 200]
    >>> parameters_of(network)["rate"].parse("50:150:50")
    [50.0, 100.0, 150.0]
    """

    #: Name in Python.
    name: str
    #: Default of the function.
    default: object
    #: The words that it takes, if any.
    choices: tuple
    #: ``int`` or ``float``, if it takes numbers.
    number: type | None
    #: Whether None is allowed.
    optional: bool
    #: Whether a sequence is allowed.
    many: bool
    #: The part of the annotation beside the type.
    option: Option

    @property
    def dashed(self) -> str:
        """The name in a sweep's ``--set``."""
        return self.name.replace("_", "-")

    @property
    def flag(self) -> str:
        """The name on the command line."""
        return self.option.flag or f"--{self.dashed}"

    @property
    def expected(self) -> str:
        """The values that it takes, in words."""
        numbers = {int: "a whole number", float: "a number"}
        words = numbers.get(self.number, " or ".join(map(str, self.choices)))
        return f"{words} or {_NONE}" if self.optional else words

    @property
    def default_text(self) -> str:
        """The default as shown in a help text."""
        shown = _NONE if self.default is None else self.default
        return self.option.default or (f"{shown:g}" if isinstance(shown, float) else str(shown))

    def words(self, value: object) -> list[str]:
        """Return the command line's words for a value, or for each of several values."""
        called = {each: word for word, each in self.option.values.items()}
        found = (called.get(each, each) for each in (value if self.many else [value]))
        return [f"{each:g}" if isinstance(each, float) else str(each) for each in found]

    def __str__(self) -> str:
        """Write name, values and default in one line."""
        return f"{self.dashed}: {self.expected}  [default: {self.default_text}]"

    def parse(self, text: str) -> list:
        """Return the values of a text: a list, ``"100,250"``, or a range, ``"0.01:0.5:0.01"``."""
        values = [value for part in text.split(",") for value in self._expanded(part.strip())]
        for position, value in enumerate(values):
            if value in values[:position]:
                raise InputError(
                    f"--set {self.dashed}: expected different values, got {value} twice"
                )
        return values

    def _expanded(self, part: str) -> Iterable:
        if self.number is None or ":" not in part:
            return [self._value(part)]
        try:
            start, stop, step = map(Decimal, part.split(":"))
        except (ValueError, InvalidOperation):
            start, stop, step = Decimal(0), Decimal(0), Decimal(0)
        if not (step > 0 and stop >= start):
            raise InputError(
                f"--set {self.dashed}: expected START:STOP:STEP, such as 0.1:0.5:0.1, got {part!r}"
            )
        # Decimal numbers make 0.01 in 50 steps end at exactly 0.5.
        return [self._value(str(start + k * step)) for k in range(int((stop - start) / step) + 1)]

    def _value(self, text: str) -> object:
        if self.optional and text == _NONE:
            return None
        if text in self.choices:
            return text
        try:
            if self.number is not None:
                return self.number(text)
        except ValueError:
            pass
        raise InputError(f"--set {self.dashed}: expected {self.expected}, got {text!r}")


def parameters_of(function: Callable) -> dict[str, Parameter]:
    """Return the annotated keywords of a function as parameters, by name.

    Parameters
    ----------
    function : callable
        A function whose keyword-only parameters are annotated.

    Examples
    --------
    >>> def network(given, *, rate: float = 200.0, label: str = "lif"):
    ...     pass
    >>> from nengonet.studies.options import parameters_of
    >>> list(parameters_of(network))
    ['rate', 'label']
    """
    # In Python 3.10, typing.get_type_hints adds Optional where the default is None.
    hints = inspect.get_annotations(function, eval_str=True)
    return {
        name: _parameter(name, hints[name], each.default)
        for name, each in inspect.signature(function).parameters.items()
        if each.kind is each.KEYWORD_ONLY
    }


def check_options(parameters: Mapping[str, Parameter], options: Mapping[str, object]) -> None:
    """Refuse unknown options, and values that their parameters do not take.

    Parameters
    ----------
    parameters : dict of Parameter
        The known parameters, by name.
    options : dict
        Values by name.

    Examples
    --------
    >>> def network(given, *, rate: float = 200.0, label: str = "lif"):
    ...     pass
    >>> from nengonet.studies.options import check_options, parameters_of
    >>> check_options(parameters_of(network), {"rate": 100.0})
    """
    for name, value in options.items():
        check_among("options", name, parameters)
        parameter = parameters[name]
        known = tuple(parameter.option.values.values()) or parameter.choices
        for each in value if parameter.many else [value]:
            if known and not (each is None and parameter.optional):
                check_among(name, each, known)


def _parameter(name: str, hint: object, default: object) -> Parameter:
    option = Option()
    if typing.get_origin(hint) is typing.Annotated:
        hint, said = typing.get_args(hint)
        option = Option(said) if isinstance(said, str) else said
    many = typing.get_origin(hint) is Sequence
    if many:
        (hint,) = typing.get_args(hint)
    optional = typing.get_origin(hint) in (types.UnionType, typing.Union)
    if optional:
        (hint,) = (each for each in typing.get_args(hint) if each is not types.NoneType)
    choices = tuple(option.values) or typing.get_args(hint)
    number = hint if hint in (int, float) and not choices else None
    return Parameter(name, default, choices, number, optional, many, option)


def grid_of(
    name: str, parameters: Mapping[str, Parameter], settings: Iterable[str]
) -> dict[str, list]:
    """Turn a study's settings such as ``"input-rate=255,1000"`` into the grid of a sweep.

    Parameters
    ----------
    name : str
        Name of the study, for messages.
    parameters : dict of Parameter
        The known parameters, by name.
    settings : iterable of str
        Each ``NAME=VALUE,VALUE,…`` or ``NAME=START:STOP:STEP``.

    Examples
    --------
    >>> def network(given, *, rate: float = 200.0, label: str = "lif"):
    ...     pass
    >>> from nengonet.studies.options import grid_of, parameters_of
    >>> grid_of("digits", parameters_of(network), ["rate=100,250"])
    {'rate': [100.0, 250.0]}
    """
    by_name, grid = {each.dashed: each for each in parameters.values()}, {}
    for setting in settings:
        chosen, equals, values = setting.partition("=")
        if not equals or not values:
            raise InputError(f"--set: expected NAME=VALUE,VALUE,…, got {setting!r}")
        if chosen not in by_name:
            raise InputError(
                f"--set: expected parameters of {name} ({', '.join(by_name)}), got {chosen!r}"
                f"{did_you_mean(chosen, by_name)}"
            )
        parameter = by_name[chosen]
        if parameter.name in grid:
            raise InputError(
                f"--set: expected every parameter once, got {chosen} twice; give all values at once"
            )
        grid[parameter.name] = parameter.parse(values)
    return grid
