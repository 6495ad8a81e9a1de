"""``nengonet present``, and ``diagnose``, ``budget`` and so on for a network in a script.

The script is imported as a module: code under ``if __name__ == "__main__"`` is not run.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.util
import os
import pathlib
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated

import click

from nengonet.cli.export import (
    LEFT_OUT,
    answer_script,
    export,
    export_params,
    script_params,
)
from nengonet.cli.lab import lab_params, serve_lab
from nengonet.cli.shared import (
    COUNT,
    EXAMPLE,
    FILE,
    NUMBER,
    answer,
    answer_diagnosis,
    check_plot,
    check_resume,
    draw,
    given,
    options,
    run_sweep,
)
from nengonet.exceptions import InputError
from nengonet.plain import N_SHOWN
from nengonet.results.names import READOUTS, Readout
from nengonet.tables import counted

if TYPE_CHECKING:
    import nengo
    import numpy as np

    from nengonet.layers.targets import Target

_FORM = "SCRIPT.py:OUTPUT"


def is_script(name: str) -> bool:
    """Return whether an argument names an object in a script."""
    file, colon, _ = name.partition(".py:")
    return bool(colon) or file.endswith(".py")


def load_script(path: str | os.PathLike) -> types.ModuleType:
    """Import a script; an error becomes one line that states where it was raised."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"{path}: expected the file of a script, got a path that does not exist")
    name = path.stem if path.stem not in sys.modules else f"{path.stem} (script)"
    if str(path.resolve().parent) not in sys.path:
        sys.path.insert(0, str(path.resolve().parent))
    os.environ.setdefault("MPLBACKEND", "Agg")  # no window waits for somebody to close it
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    words, sys.argv = sys.argv, [str(path)]
    try:
        # What the script prints is not the command's answer.
        with contextlib.redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except SyntaxError as error:
        del sys.modules[name]
        raise InputError(f"{path}, line {error.lineno}: SyntaxError: {error.msg}") from None
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        places = traceback.extract_tb(error.__traceback__)
        own = [place for place in places if place.filename == str(path.resolve())]
        where = f", line {own[-1].lineno}, in {own[-1].name}" if own else ""
        raise InputError(f"{path}{where}: {type(error).__name__}: {error}") from error
    finally:
        sys.argv = words
    return module


def _held(part: object) -> list[nengo.Network]:
    """Return the networks in an object, or the object itself if it is one."""
    import nengo

    if isinstance(part, list | tuple | Mapping):
        held = part.values() if isinstance(part, Mapping) else part
    else:
        held = getattr(part, "__dict__", {}).values()
    return [each for each in (part, *held) if isinstance(each, nengo.Network)]


class Script:
    """The output of a network in a script, and the images that it is shown.

    With ``functions``, it may be one of the script's functions instead; its target is then None.
    """

    def __init__(self, name: str, network: str | None = None, *, functions: bool = False) -> None:
        path, _, self.expression = name.partition(".py:")
        if not self.expression:
            raise InputError(f"expected {_FORM}, with the name of an output, got {name!r}")
        self.module = load_script(f"{path}.py")
        self._parts: dict[str, object] = {}
        self.found = self.find(self.expression)
        self.target: Target | None = None
        if not isinstance(self.found, types.FunctionType):
            self.target = self._read(network)
        elif not functions:
            raise InputError(f"{self.expression}: expected an output of a network, got a function")

    def find(self, expression: str) -> object:
        """Return the object of an expression, such as ``build()[0].neurons[:10]``."""
        try:
            return self._value(ast.parse(expression, mode="eval").body)
        except Exception as error:
            import nengo

            from nengonet.checks import did_you_mean
            from nengonet.layers.record import Layer

            kinds = (Layer, nengo.Ensemble, nengo.Node, nengo.Network, nengo.ensemble.Neurons)
            known = {
                name: type(each).__name__
                for name, each in vars(self.module).items()
                if isinstance(each, kinds) and not name.startswith("_")
            }
            listed = ", ".join(f"{name} ({kind})" for name, kind in known.items()) or "none"
            raise InputError(
                f"{self.module.__file__}: unknown name {expression!r} "
                f"({type(error).__name__}: {error}); its Nengo objects are: {listed}"
                f"{did_you_mean(expression, known)}"
            ) from None

    def _value(self, node: ast.expr) -> object:
        """Return the object of an expression; each part is evaluated once, as calls build anew."""
        text = ast.unparse(node)
        if text not in self._parts:
            names = dict(vars(self.module))
            if isinstance(node, ast.Attribute | ast.Subscript):
                names["_before"] = self._value(node.value)
                node.value = ast.Name("_before", ast.Load())
            code = ast.fix_missing_locations(ast.Expression(node))
            self._parts[text] = eval(compile(code, self.expression, "eval"), names)
        return self._parts[text]

    def _read(self, name: str | None) -> Target:
        """Read the output in the network that was named, or in the one that holds it.

        That network is in a variable of the script or a part of the expression, such as
        ``build()``.
        """
        from nengonet.layers.record import Layer
        from nengonet.layers.targets import read_output

        if name is not None:
            return read_output(self.found, self.find(name), self.expression)
        networks = [net for part in (self.module, *self._parts.values()) for net in _held(part)]
        inner = {each for network in networks for each in network.all_networks}
        for network in dict.fromkeys(each for each in networks if each not in inner):
            with contextlib.suppress(InputError):
                return read_output(self.found, network)
        if not networks and not isinstance(self.found, Layer):
            raise InputError(
                f"{self.module.__file__}: expected a nengo.Network in a variable of the module, "
                "got none"
            )
        of = None if isinstance(self.found, Layer) else networks[0]
        return read_output(self.found, of, self.expression)

    def data(
        self, images: str, labels: str | None, n_images: int | None, node: str | None
    ) -> tuple[np.ndarray | dict, np.ndarray | None]:
        """Return images, by input if one was named, and labels if there are any."""
        shown, known = load_data(vars(self.module), self.target.size, images, labels, n_images)
        return shown if node is None else {self.find(node): shown}, known

    def readout(self, asked: str | None) -> str:
        """Return the requested readout, or a default that suits an output without spikes."""
        return asked or self.target.usual_readout


def load_data(
    own: Mapping, n_classes: int, images: str | None, labels: str | None, n_images: int | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return images and labels, if any, from ``own`` arrays, files and data sets."""
    from nengonet import datasets
    from nengonet.checks import positive_integer

    shown = known = None
    if images is not None:
        shown = _array(own, images, images.endswith(".npy"))
        if shown is None:
            try:
                shown, known = datasets.load(images, n_images=n_images)
            except InputError as error:
                if not str(error).startswith("name: "):
                    raise
                arrays = [name for name, each in own.items() if hasattr(each, "__array__")]
                wanted = str(error).removeprefix("name: expected ")
                wanted = wanted.replace(" (arrays go to as_images)", "")
                raise InputError(
                    f"--images: expected an array in the script ({', '.join(arrays) or 'none'}) or "
                    f"{wanted}"
                ) from None
        if n_images is not None:
            shown = shown[: positive_integer("--n-images", n_images, at_most=len(shown))]
    if labels is not None:
        try:
            known = _array(own, labels, True)[:n_images]
        except FileNotFoundError:
            raise InputError(
                f"--labels: expected an array in the script, or an .npy file, got {labels!r}, "
                "which is neither"
            ) from None
    elif known is not None and known.max() >= n_classes:
        known = None  # a data set's own, for an output that has no such classes
    return shown, known


def _array(own: Mapping, name: str, is_file: bool) -> np.ndarray | None:
    """Return an array of the script, or else of a file."""
    import numpy as np

    if name.isidentifier() and name in own:
        return np.atleast_1d(own[name])
    try:
        return np.atleast_1d(np.load(name, allow_pickle=False)) if is_file else None
    except (ValueError, EOFError) as error:
        raise InputError(f"{name}: expected an array that numpy.save wrote, got: {error}") from None


# What the commands do with a script, by its name.


def _opened(name: str, settings: dict) -> tuple[Script, object, object, dict]:
    """Return the script, its images and labels, and the other options."""
    own = {each: settings.pop(each) for each in _DATA.split()}
    script = Script(name, own.pop("network"))
    settings["readout"] = script.readout(settings["readout"])
    return script, *script.data(**own), given(**settings)


def _present(name: str, as_json: bool, **settings: object) -> None:
    from nengonet.results.summary import COLUMNS, layer_rows
    from nengonet.run.presentation import present
    from nengonet.tables import table

    check_resume(settings)
    script, images, labels, rest = _opened(name, settings)
    result = present(script.target.network, script.target, images, **rest)
    accuracy = None if labels is None else result.accuracy(labels)
    report = {
        "name": name,
        "n_images": result.n_images,
        "n_steps": result.n_steps,
        "readout": rest["readout"],
        "accuracy": accuracy and float(accuracy),
        "interval": accuracy and list(accuracy.interval),
        "ties": int(result.tied().sum()),
        "layers": layer_rows(result),
    }
    shown = f"{counted(result.n_images, 'image')}, {counted(result.n_steps, 'step')}"
    title = f"{name}: {shown} of {result.dt:g} s"
    lines = [title, *table(report["layers"], COLUMNS)]
    if accuracy is not None:
        lines.append(f"accuracy by {rest['readout']}: {accuracy}")
    answer(as_json, report, "\n".join(lines))


def _diagnose(
    name: str, as_json: bool, simulate: int | None, plot: str | None, **settings: object
) -> None:
    from nengonet.explain.comparison import compare
    from nengonet.explain.diagnosis import diagnose
    from nengonet.run.presentation import present

    check_plot(plot, simulate)
    script, images, labels, rest = _opened(name, settings)
    target, network = script.target, script.target.network
    found, compared = diagnose(target, images, labels=labels, **rest, network=network), None
    if simulate:
        if isinstance(images, Mapping):
            few = {node: each[:simulate] for node, each in images.items()}
        else:
            few = images[:simulate]
        compared = compare(present(network, target, few, **rest), target, few, network=network)
    answer_diagnosis(name, found, compared, as_json, plot)


def _budget(name: str, as_json: bool, plot: str | None, **settings: object) -> None:
    from nengonet.explain.budget import error_budget

    script, images, labels, rest = _opened(name, settings)
    if labels is None:
        raise InputError("--labels: expected the labels of the images, got none")
    found = error_budget(script.target, images, labels, network=script.target.network, **rest)
    draw(plot, "plot_budget", found)
    answer(as_json, {"name": name} | found.to_json(), str(found))


def _export(name: str, network: str | None, **options: object) -> None:
    export(name, Script(name, network).target, options)


def _lab(
    name: str,
    as_json: bool,
    images: str,
    labels: str | None,
    n_images: int | None,
    network: str | None,
    **settings: object,
) -> None:
    from nengonet.laboratory import check_panel

    check_panel()
    from nengonet.laboratory.state import of_output

    where = {each.name: settings.pop(each.name) for each in lab_params()}
    script = Script(name, network)
    settings["readout"] = script.readout(settings["readout"])
    shown, known = script.data(images, labels, None, None)
    lab = of_output(script.target, shown, known, n_images=n_images, title=name, **given(**settings))
    serve_lab(name, lab, **where, as_json=as_json)


def _script(
    name: str, as_json: bool, standalone: bool, file: str | None, **settings: object
) -> None:
    from nengonet.plain.script import as_script
    from nengonet.weights import Weights

    n_images = N_SHOWN if settings["n_images"] is None else None  # all that are given
    script, images, labels, rest = _opened(name, settings)
    rest["weights"] = [each for each in vars(script.module).values() if isinstance(each, Weights)]
    made = as_script(
        script.target,
        images,
        labels,
        network=script.target.network,
        n_images=n_images,
        standalone=standalone,
        **rest,
    )
    answer_script(name, made, file, as_json)


def measure(
    script: str,
    data: dict,
    network: str | None,
    seed: int,
    *,
    presentation_time: Annotated[float, "Seconds for each image."] = 0.35,
    dt: Annotated[float, "Length of a step, in seconds."] = 0.001,
    readout: Readout | None = None,
) -> dict:
    """Run a script's network once, for a sweep."""
    from nengonet.run.presentation import present

    opened = Script(script, network)
    images, labels = opened.data(**data)
    settings = {"presentation_time": presentation_time, "dt": dt, "seed": seed, "progress": False}
    settings["readout"] = opened.readout(readout)
    result = present(opened.target.network, opened.target, images, **settings)
    found = {} if labels is None else {"accuracy": result.accuracy(labels)}
    spikes = sum(result.spikes_per_image().values())
    return found | {"ties": int(result.tied().sum()), "spikes": spikes}


def _sweep(name: str, settings: tuple, network: str | None, **options: object) -> None:
    import cloudpickle

    from nengonet.studies.options import grid_of, parameters_of

    check_resume(options)
    data = {each: options.pop(each) for each in _DATA.split() if each != "network"}
    script = Script(name, network, functions=True)
    # The function is sent to other processes, which cannot import the module.
    cloudpickle.register_pickle_by_value(script.module)
    if script.target is None:
        function, constants, grid = script.found, {}, dict(map(_values, settings))
    elif data["images"] is None:
        raise InputError("--images: expected the images to show, got none")
    else:
        function, grid = measure, grid_of(name, parameters_of(measure), settings)
        path = f"{script.module.__file__}:{script.expression}"
        constants = {"script": path, "data": data, "network": network}
    if not grid:
        raise InputError("--set: expected at least one parameter, such as NAME=1,2,3, got none")
    run_sweep(name, function, grid, constants, {}, options)


def _values(setting: str) -> tuple[str, list]:
    """Return a name and its values: numbers and so on, as in Python, or else words."""
    name, equals, values = setting.partition("=")
    if not equals or not values:
        raise InputError(f"--set: expected NAME=VALUE,VALUE,…, got {setting!r}")
    found = []
    for text in values.split(","):
        try:
            found.append(ast.literal_eval(text.strip()))
        except (ValueError, SyntaxError):
            found.append(text.strip())
    return name.strip().replace("-", "_"), found


# Commands: what runs, options, help and an example.

IMAGES_HELP = (
    "mnist, fashion_mnist, cifar10 or bengali; an .npz or .npy file; or an array in the script."
)
LABELS_HELP = "An .npy file, or an array in the script.  [default: the data set's]"
_OPTIONS = {
    "images": ("--images", f"Images to show: {IMAGES_HELP}", {"required": True}),
    "sweep images": (
        "--images",
        f"Images to show: {IMAGES_HELP} A function in the script loads its own.",
    ),
    "labels": ("--labels", LABELS_HELP),
    "n_images": ("--n-images", "Show the first N images.  [default: all]", COUNT),
    "script n_images": ("--n-images", f"Show the first N images.  [default: {N_SHOWN}]", COUNT),
    "node": ("--input", "Node in the script that shows the images.  [default: the only input]"),
    "network": ("--network", "Network in the script.  [default: the one with the output]"),
    "presentation_time": ("--time", "Seconds for each image.  [default: 0.35]", {"type": float}),
    "dt": ("--dt", "Length of a step, in seconds.  [default: 0.001]", {"type": float}),
    "seed": ("--seed", "Seed of all random numbers.  [default: the network's]", NUMBER),
    "readout": (
        "--readout",
        f"How outputs become a class: {', '.join(READOUTS)}.  [default: spike_count]",
    ),
    "present save": ("--save", "Save the result to this file.", FILE),
    "sweep save": ("--save", "Save every finished cell to this file.", FILE),
}
_DATA = "images labels n_images node network"
_VERBS: dict[str, tuple[Callable, str, str, str]] = {
    "present": (
        _present,
        f"{_DATA} presentation_time dt seed readout simulator n_jobs save resume",
        "Show images to the network in a script, and count its spikes.",
        "--images mnist --n-images 100",
    ),
    "diagnose": (
        _diagnose,
        f"{_DATA} presentation_time dt readout simulate plot",
        "Diagnose the network in a script: predicted rates and accuracy, findings, worst first.",
        "--images mnist",
    ),
    "budget": (
        _budget,
        f"{_DATA} presentation_time dt seed readout n_jobs plot",
        "Run the network in a script, adding one effect after another, and say what each costs.",
        "--images mnist --n-images 100",
    ),
    "sweep": (
        _sweep,
        f"settings seeds {_DATA} n_jobs save resume csv plot",
        "Sweep the settings of a run, or the arguments of a function in a script.",
        "--images mnist --set presentation-time=0.1,0.2 --seeds 3",
    ),
    "lab": (
        _lab,
        "images labels n_images network presentation_time dt seed readout",
        "Open a page with knobs for the network in a script, with its prediction and its run.",
        "--images mnist",
    ),
    "script": (
        _script,
        f"{_DATA} presentation_time dt seed readout",
        "Write the network in a script as a plain Nengo script that counts the same spikes.",
        "--images mnist --n-images 10",
    ),
    "export": (
        _export,
        "network",
        "Write the network in a script as an NIR graph, for other tools.",
        f"network.nir {LEFT_OUT}",
    ),
}


def script_command(verb: str, name: str | None = None) -> click.Command:
    """Return the command of a verb for one script, or for the one that is its argument."""
    run, names, text, example = _VERBS[verb]
    params = options(verb, f"{names} as_json", _OPTIONS)
    own = {"export": export_params, "lab": lab_params, "script": script_params}
    params += own.get(verb, list)()
    if name is None:
        params.insert(0, click.Argument(["name"], metavar=_FORM))
    else:
        run = functools.partial(run, name)
    text = f"{text}\n\n{EXAMPLE}nengonet {verb} {name or 'my_script.py:output'} {example}"
    return click.Command(name or verb, callback=run, params=params, help=text)
