"""``nengonet present``, and ``diagnose``, ``budget`` and ``sweep`` of a network in a script.

The script is imported as a module: what it guards with ``if __name__ == "__main__"`` is not run.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import os
import pathlib
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import click

from nengonet.cli.export import LEFT_OUT, export, export_params
from nengonet.cli.shared import EXAMPLE, FAILED, answer, check_resume, given, json_option
from nengonet.exceptions import InputError

if TYPE_CHECKING:
    import nengo
    import numpy as np

    from nengonet.layers.targets import Target

_FORM = "SCRIPT.py:OUTPUT"


def is_script(name: str) -> bool:
    """Tell whether an argument names an object in a script."""
    file, colon, _ = name.partition(".py:")
    return bool(colon) or file.endswith(".py")


def load_script(path: str | os.PathLike) -> types.ModuleType:
    """Import a script; its errors become one line, which says where they were raised."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"{path}: expected the file of a script, which does not exist")
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


def find(module: types.ModuleType, expression: str) -> object:
    """Return what a name of a script stands for; it may go on, as in ``layers[0].neurons[:10]``."""
    try:
        return eval(expression, dict(vars(module)))
    except Exception as error:
        import nengo

        from nengonet.checks import did_you_mean
        from nengonet.layers.record import Layer

        kinds = (Layer, nengo.Ensemble, nengo.Node, nengo.Network, nengo.ensemble.Neurons)
        known = {
            name: type(each).__name__
            for name, each in vars(module).items()
            if isinstance(each, kinds) and not name.startswith("_")
        }
        listed = ", ".join(f"{name} ({kind})" for name, kind in known.items()) or "none"
        raise InputError(
            f"{module.__file__}: unknown name {expression!r} ({type(error).__name__}: {error}); "
            f"its Nengo objects are: {listed}{did_you_mean(expression, known)}"
        ) from None


def network_of(module: types.ModuleType, expression: str, name: str | None) -> nengo.Network:
    """Return the network of an output: the one named, or the one in the script that holds it."""
    output = find(module, expression)
    import nengo

    from nengonet.layers.record import Layer
    from nengonet.layers.targets import read_output

    if name is not None:
        return find(module, name)
    networks = [each for each in vars(module).values() if isinstance(each, nengo.Network)]
    inner = {each for network in networks for each in network.all_networks}
    for network in dict.fromkeys(each for each in networks if each not in inner):
        with contextlib.suppress(InputError):
            return read_output(output, network).network
    if isinstance(output, Layer):
        return output.network
    if networks:
        read_output(output, networks[0], expression)  # says what is wrong
    raise InputError(
        f"{module.__file__}: expected a nengo.Network in a variable of the module, got none"
    )


class Script:
    """The output of a network in a script, and the images that it is shown."""

    def __init__(self, target: str, network: str | None = None) -> None:
        from nengonet.layers.targets import read_output

        path, _, self.expression = target.partition(".py:")
        if not self.expression:
            raise InputError(f"expected {_FORM}, with the name of an output, got {target!r}")
        self.module = load_script(path if path.endswith(".py") else f"{path}.py")
        self.found = find(self.module, self.expression)
        self.target: Target | None = None
        if not isinstance(self.found, types.FunctionType):
            of = network_of(self.module, self.expression, network)
            self.target = read_output(self.found, of, self.expression)

    def data(
        self, images: str, labels: str | None, n_images: int | None, node: str | None
    ) -> tuple[np.ndarray | dict, np.ndarray | None]:
        """Return images, by input if that was named, and labels if there are any."""
        import numpy as np

        from nengonet import datasets

        if images.isidentifier() and hasattr(self.module, images):
            shown, known = np.asarray(getattr(self.module, images))[:n_images], None
        elif images.endswith(".npy"):
            shown, known = _array(images)[:n_images], None
        else:
            shown, known = datasets.load(images, n_images=n_images)
        if labels is not None and labels.isidentifier() and hasattr(self.module, labels):
            known = np.asarray(getattr(self.module, labels))[:n_images]
        elif labels is not None:
            known = _array(labels)[:n_images]
        elif known is not None and self.target is not None and known.max() >= self.target.size:
            known = None  # a data set's own, for an output that has no such classes
        return shown if node is None else {find(self.module, node): shown}, known


def _array(path: str) -> np.ndarray:
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: expected an array that numpy.save wrote ({error})") from None


# Options.


def _options(names: str) -> list[click.Option]:
    path = {"type": click.Path()}
    common = {
        "images": (
            "--images",
            {"required": True},
            "mnist, fashion_mnist, cifar10 or bengali, an .npz or .npy file, or an array in the "
            "script.",
        ),
        "labels": ("--labels", {}, "An .npy file, or an array in the script.  [default: theirs]"),
        "n_images": ("--n-images", {"type": int}, "The first so many images.  [default: all]"),
        "node": ("--input", {}, "Node in the script that shows them.  [default: the only one]"),
        "network": ("--network", {}, "Network in the script.  [default: the output's]"),
        "presentation_time": (
            "--time",
            {"type": float},
            "Seconds for each image.  [default: 0.35]",
        ),
        "dt": ("--dt", {"type": float}, "Length of a step, in seconds.  [default: 0.001]"),
        "seed": ("--seed", {"type": int}, "Of all randomness.  [default: the network's]"),
        "readout": ("--readout", {}, "From outputs to a class.  [default: spike_count]"),
        "simulator": (
            "--simulator",
            {"type": click.Choice(["minibatch", "reference"])},
            "Many images at once, or the unmodified nengo.Simulator.  [default: minibatch]",
        ),
        "n_jobs": ("--jobs", {"type": int}, "Processes; -1 for one per core.  [default: 1]"),
        "save": ("--save", path, "File for the result."),
        "resume": ("--resume", {"is_flag": True}, "Resume the interrupted run in --save."),
        "settings": (
            "--set",
            {"multiple": True, "metavar": "NAME=VALUES"},
            "Values of a parameter: a,b,c; may be repeated, for all combinations.",
        ),
        "seeds": ("--seeds", {"default": "1", "show_default": True}, "How many, or several: 3,7."),
        "csv": ("--csv", path, "Write one row for each cell to this file."),
    }
    found = []
    for name in names.split():
        long, settings, text = common[name]
        found.append(click.Option([long, name], help=text, **settings))
    return found


_DATA = "images labels n_images node network"


def _readout_of(target: Target, readout: str | None) -> str:
    """Return the readout that was asked for; what does not spike has no spikes to count."""
    if readout is None:
        return "sum" if target.amplitude is None else "spike_count"
    return readout


def _present(name: str, as_json: bool, options: dict) -> None:
    from nengonet.run.presentation import present

    check_resume(options)
    script, images, labels, rest = _opened(name, options)
    target = script.target
    rest["readout"] = _readout_of(target, rest.get("readout"))
    result = present(target.network, target, images, **rest)
    accuracy = None if labels is None else result.accuracy(labels)
    report = {
        "name": name,
        "n_images": result.n_images,
        "n_steps": result.n_steps,
        "readout": rest["readout"],
        "accuracy": accuracy and float(accuracy),
        "interval": accuracy and list(accuracy.interval),
        "ties": int(result.tied().sum()),
        "layers": _rows(result),
    }
    columns = {
        "label": ("layer", "s"),
        "size": ("size", ",d"),
        "mean_rate": ("mean Hz", ",.1f"),
        "peak_rate": ("peak Hz", ",.0f"),
        "silent": ("silent", ".0%"),
        "spikes": ("spikes", ",.1f"),
        "mean_output": ("mean output", ",.4g"),
    }
    from nengonet.tables import table

    title = f"{name}: {result.n_images} images, {result.n_steps} steps of {result.dt:g} s"
    lines = [title, *table(report["layers"], columns)]
    if accuracy is not None:
        lines.append(f"accuracy by {rest['readout']}: {accuracy}")
    answer(as_json, report, "\n".join(lines))


def _rows(result) -> list[dict]:
    rows = []
    for info in result.layers:
        found, row = result[info.label], {"label": info.label, "shape": list(info.shape)}
        mean = found.mean_output
        row |= {"size": mean.shape[1], "mean_output": float(mean.mean())}
        row |= dict.fromkeys(("mean_rate", "peak_rate", "silent", "spikes"))
        if found.spiking:
            row |= {
                "mean_rate": float(found.rates.mean()),
                "peak_rate": float(found.rates.max()),
                "silent": float((found.counts == 0).mean()),
                "spikes": float(found.counts.sum(axis=1).mean()),
            }
        rows.append(row)
    return rows


def _opened(name: str, options: dict) -> tuple:
    """Return the script, its images and labels, and the options that are left."""
    own = {each: options.pop(each) for each in (*_DATA.split(),)}
    script = Script(name, own.pop("network"))
    if script.target is None:
        raise InputError(f"{script.expression}: expected an output of a network, got a function")
    images, labels = script.data(**own)
    return script, images, labels, given(**options)


def _diagnose(name: str, as_json: bool, options: dict) -> None:
    from nengonet.explain.comparison import compare
    from nengonet.explain.diagnosis import diagnose
    from nengonet.run.presentation import present

    simulate = options.pop("simulate")
    script, images, labels, rest = _opened(name, options)
    target = script.target
    rest["readout"] = _readout_of(target, rest.get("readout"))
    network = {"network": target.network}
    found = diagnose(target, images, labels=labels, **rest, **network)
    report, text = {"name": name} | found.to_json(), [str(found)]
    if simulate:
        few = (
            {node: each[:simulate] for node, each in images.items()}
            if isinstance(images, Mapping)
            else images[:simulate]
        )
        result = present(target.network, target, few, **rest)
        compared = compare(result, target, few, **network)
        report["observed"] = compared.to_json()
        text += ["", f"observed in {result.n_images} images:", str(compared)]
    answer(as_json, report, "\n".join(text))


def _budget(name: str, as_json: bool, options: dict) -> None:
    from nengonet.explain.budget import error_budget

    script, images, labels, rest = _opened(name, options)
    if labels is None:
        raise InputError("--labels: expected the labels of the images, got none")
    target = script.target
    found = error_budget(target, images, labels, network=target.network, **rest)
    answer(as_json, {"name": name} | found.to_json(), str(found))


def _export(name: str, as_json: bool, options: dict) -> None:
    target = Script(name, options.pop("network")).target
    if target is None:
        raise InputError(f"{name}: expected an output of a network, got a function")
    export(name, target, as_json, options)


# How a network in a script can be shown its images.
_Readout = Literal["spike_count", "sum", "mean", "last_step", "filtered", "first_spike"]


def measure(
    script: pathlib.Path,
    expression: str,
    data: dict,
    network: str | None,
    seed: int,
    *,
    presentation_time: Annotated[float, "Seconds for each image."] = 0.35,
    dt: Annotated[float, "Seconds."] = 0.001,
    readout: _Readout | None = None,
) -> dict:
    """Run a script's network once, for a sweep."""
    from nengonet.run.presentation import present

    opened = Script(f"{script}:{expression}", network)
    images, labels = opened.data(**data)
    target = opened.target
    readout = _readout_of(target, readout)
    time = {"presentation_time": presentation_time, "dt": dt}
    settings = {"seed": seed, "readout": readout, "progress": False}
    result = present(target.network, target, images, **time, **settings)
    found = {} if labels is None else {"accuracy": result.accuracy(labels)}
    return found | {"ties": int(result.tied().sum()), "spikes": sum(_spikes(result))}


def _spikes(result) -> list[float]:
    return list(result.spikes_per_image().values())


def _sweep(name: str, as_json: bool, options: dict) -> None:
    import cloudpickle

    from nengonet.cli.studies import seeds_of
    from nengonet.studies.options import grid_of, parameters_of
    from nengonet.studies.report import sweep_table
    from nengonet.sweeps.sweep import sweep

    check_resume(options)
    own = {each: options.pop(each) for each in (*_DATA.split(), "settings", "seeds", "csv")}
    settings, seeds, csv = (own.pop(each) for each in ("settings", "seeds", "csv"))
    network = own.pop("network")
    script = Script(name, network)
    # It is sent to other processes, which do not know the module.
    cloudpickle.register_pickle_by_value(script.module)
    if script.target is None:
        function, constants = script.found, {}
        grid = dict(_values(setting) for setting in settings)
    else:
        if own["images"] is None:
            raise InputError("--images: expected the images to show, got none")
        function, grid = measure, grid_of(name, parameters_of(measure), settings)
        path = pathlib.Path(script.module.__file__)
        constants = {"script": path, "expression": script.expression, "data": own}
        constants["network"] = network
    if not grid:
        raise InputError("--set: expected one parameter or more, such as NAME=1,2,3, got none")
    found = sweep(function, grid, seeds=seeds_of(seeds), constants=constants, **given(**options))
    if csv:
        found.to_csv(csv)
    report = {"name": name, "grid": grid, "rows": found.rows, "summary": found.summary()}
    answer(as_json, report, sweep_table(name, found))
    sys.exit(FAILED if found.failed else 0)


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


_VERBS: dict[str, tuple[Callable, str, str]] = {
    "present": (
        _present,
        f"{_DATA} presentation_time dt seed readout simulator n_jobs save resume",
        "Run the network of a script for many images, and count its spikes.",
    ),
    "diagnose": (
        _diagnose,
        f"{_DATA} presentation_time dt readout",
        "Diagnose the network of a script: predicted rates and accuracy, and findings.",
    ),
    "budget": (
        _budget,
        f"{_DATA} presentation_time dt seed readout",
        "Run the network of a script with one effect after the other added.",
    ),
    "sweep": (
        _sweep,
        f"settings seeds {_DATA} n_jobs save resume csv",
        "Sweep the presentation of a script's network, or a function of the script.",
    ),
    "export": (_export, "network", "Write the network of a script as a graph of NIR."),
}
_EXAMPLES = {
    "present": "--images mnist --n-images 100",
    "diagnose": "--images mnist",
    "budget": "--images mnist --n-images 100",
    "sweep": "--images mnist --set presentation-time=0.1,0.2 --seeds 3",
    "export": f"network.nir {LEFT_OUT}",
}


def script_command(verb: str, name: str | None = None) -> click.Command:
    """Return the command of a verb for one script, or for the one that is its argument."""
    run, names, text = _VERBS[verb]

    def call(as_json: bool, **options: object) -> None:
        target = options.pop("script", name)
        if not is_script(target):
            raise InputError(f"expected {_FORM}, got {target!r}")
        run(target, as_json, options)

    params = [*_options(names), json_option()]
    if verb == "sweep":
        # A function of the script loads its own.
        next(each for each in params if each.name == "images").required = False
    if verb == "diagnose":
        simulate = "Run this many images too, and compare the rates by layer."
        params.insert(-1, click.Option(["--simulate"], type=int, help=simulate))
    if verb == "export":
        params += export_params()
    if name is None:
        params.insert(0, click.Argument(["script"], metavar=_FORM))
    shown = "my_script.py:output" if name is None else name
    text = f"{text}\n\n{EXAMPLE}nengonet {verb} {shown} {_EXAMPLES[verb]}"
    return click.Command(name or verb, callback=call, params=params, help=text)
