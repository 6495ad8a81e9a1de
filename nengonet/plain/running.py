"""The parts of a script around its network: constants, images, loop and results."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import nengo
import numpy as np

from nengonet.checks import as_pixels
from nengonet.exceptions import InputError
from nengonet.layers.graph import size_of
from nengonet.layers.initial import DrawnState
from nengonet.layers.inputs import ConstantImage, PoissonImage, block_steps
from nengonet.layers.showing import EventSteps, ImageSteps, Shown
from nengonet.plain import pieces
from nengonet.plain.network import NetworkWriter
from nengonet.plain.text import Source, call, lines_of, listed, number, quoted

#: The images that a script shows if none are given.
NOISE = "noise"
# Scores of the classes after a presentation, from `outputs` of shape (n_steps, n_classes).
_SCORES = {
    "sum": "outputs.sum(axis=0) * DT",
    "mean": "outputs.mean(axis=0)",
    "last_step": "outputs[-1]",
    "filtered": "nengo.Lowpass(0.1).filt(late, dt=DT, y0=0)[-1]",
    "first_spike": "np.where(fired.any(axis=0), -fired.argmax(axis=0), -np.inf)",
    "steps_after_first_spike": "np.maximum(np.maximum.accumulate(fired).sum(axis=0) - 1, 0)",
}
_BEFORE_SCORES = {
    "filtered": "late = np.insert(outputs, 0, 0.0, axis=0)[:-1]  # as a probe filters",
    "first_spike": "fired = outputs > 0",
    "steps_after_first_spike": "fired = outputs > 0",
}
_TITLE = '''\
"""Show images to a spiking network in plain Nengo, and read out {label}.

Written by nengonet (nengonet.as_script); it is yours to change.
"""'''
_INTO_NEURONS = """\
    # Into .neurons: J = gain * (transform @ input) + bias (Keras' kernel.T).
    # Encoders and decoders play no part, so NoSolver: there is nothing to solve for.
    # synapse=None passes a spike on within the same step."""
_SEEDS = """\
    # seed: of what Nengo draws once, when it builds, such as initial voltages."""
_SIMULATOR = """\
# optimize=False keeps the order of all sums, and one random stream for each ensemble.
with nengo.Simulator(net, dt=DT, optimize=False, progress_bar=False) as sim:"""
_WARNING = (
    "# Nengo warns of max_rates that it finds for these gains; only decoders would need them."
)
_STREAMS = """\
    # A reset does not restart what random neurons draw: each image gets its own streams.
    neuron_streams = [
        stream
        for operator in sim.step_order
        if isinstance(operator, SimNeurons)
        for stream in operator.state_extra.values()
    ]"""
_RESTART = """\
        noise = np.random.SeedSequence([SEED, example], spawn_key=(2,))
        noise = np.random.default_rng(noise)
        for stream in neuron_streams:
            stream.seed(noise.integers(2**32, size=8, dtype=np.uint32))"""
_ANSWER = """\
answers = scores.argmax(axis=1)  # of equal ones, the lowest class
tied = (scores == scores.max(axis=1, keepdims=True)).sum(axis=1) > 1"""
_ACCURACY = """\
n_right = (answers == labels).sum()
accuracy = n_right / len(labels)
print(f"accuracy {accuracy:.4f}: {n_right} of {len(labels)} images, {tied.sum()} ties")"""
_CLASSES = """\
print(f"classes {answers.tolist()}, {tied.sum()} ties")"""


class Running:
    """The text of a script."""

    def __init__(
        self,
        network: NetworkWriter,
        shown: Sequence[Shown],
        states: Sequence[DrawnState],
        labels: np.ndarray | None,
        readout: str,
        loaded: str | None,
    ) -> None:
        self.network, self.shown, self.states = network, shown, states
        self.labels, self.readout, self.loaded = labels, readout, loaded

    def text(self, presentation_time: float, dt: float, n_steps: int) -> str:
        """Return the text of the script."""
        network, target = self.network, self.network.target
        data = self._data()
        of_layers = set(network.constants)
        loop = self._loop(list(self._showing()))
        of_inputs = [line for name, line in network.constants.items() if name not in of_layers]
        built = self._network()
        if network.draws:
            network.define("reset_seed", pieces.RESET_SEED)
        if self.states:
            network.define("first_state", pieces.FIRST_STATE)
        if network.random:
            network.imports.add("from nengo.builder.neurons import SimNeurons")
        steps = "round(PRESENTATION_TIME / DT)"
        steps = steps if round(presentation_time / dt) == n_steps else number(n_steps)
        constants = [
            f"DT = {number(dt)}  # s, length of a step",
            f"PRESENTATION_TIME = {number(presentation_time)}  # s, for each image",
            f"N_STEPS = {steps}",
            f"SEED = {network.seed}",
            *sorted(network.constants.values(), key=lambda each: each not in of_inputs),
        ]
        if "poisson_spikes" in network.definitions:
            constants.insert(4, f"BLOCK_STEPS = {block_steps(dt)}  # that are drawn at once")
        label = " ".join(target.label.replace("\\", "/").replace('"', "'").split())
        title = _TITLE.format(label=label)
        blocks = [
            title,
            "\n".join(self._imports()),
            "\n".join(constants),
            "\n".join(self._files() + data),
        ]
        text = "\n\n".join(filter(None, blocks)) + "\n"
        for each in network.definitions.values():
            text += f"\n\n{each}"
        text += "\n\n" if network.definitions else "\n"
        return text + "\n".join(built + loop) + "\n"

    def _imports(self) -> list[str]:
        """Return the imports in the usual order, with Python's own first."""
        network, of_ours = self.network, []
        if network.arrays.files:
            read = "".join(network.arrays.files)
            of_ours += ["load_weights"] + ["pretrained"] * ("pretrained(" in read)
        if self._is_loaded:
            of_ours.append("datasets")
        if of_ours:
            network.imports.add(f"from nengonet import {', '.join(sorted(of_ours))}")
        if network.arrays.saved:
            network.imports.add("import pathlib")
        own, others = [], []
        for line in sorted(network.imports, key=lambda each: (each.startswith("from"), each)):
            module = line.split()[1].partition(".")[0]
            (own if module in sys.stdlib_module_names else others).append(line)
        return [*own, *([""] if own else []), *others]

    @property
    def _is_loaded(self) -> bool:
        return self.loaded not in (None, NOISE) and not self.network.arrays.standalone

    def _data(self) -> list[str]:
        """Return the lines that load weights, images and labels."""
        network, arrays = self.network, self.network.arrays
        lines, self.images = [], {}
        if self._is_loaded:
            loads = call("datasets.load", quoted(self.loaded), n_images=str(len(self.shown[0])))
            lines += lines_of(loads, f"images, {'_' if self.labels is None else 'labels'} = ")
            lines.append("images = images.reshape(len(images), -1)  # rows, columns, channels")
        for each in self.shown:
            name = "images"
            if len(self.shown) > 1:
                name = network.names.new(f"{network.variables[each.node]}_images")
            self.images[each.node] = name
            if self.loaded == NOISE:
                lines.append("# No images were given: this is noise. Put yours here, in [0, 1].")
                shape = f"({', '.join(map(str, each.images.shape))})"
                lines.append(f"{name} = np.random.default_rng(0).random({shape})")
            elif not self._is_loaded:
                values = as_pixels(each.images) if each.images.dtype == np.uint8 else each.images
                lines.append(f"{name} = {arrays.save(name, values)}")
        if self.labels is not None and not self._is_loaded:
            lines.append(f"labels = {arrays.save('labels', self.labels)}")
        return lines

    def _files(self) -> list[str]:
        """Return the lines that open the files of arrays."""
        arrays = self.network.arrays
        files = [f"{variable} = {read}" for read, variable in arrays.files.items()]
        if arrays.saved:
            beside = 'pathlib.Path(__file__).with_suffix(".npz")'
            files.insert(0, f"arrays = np.load({beside})  # beside this script")
        return files

    def _showing(self) -> Iterator[tuple[str, Source]]:
        """Yield, for each input, the name of its rows and the expression that fills them."""
        network = self.network
        for each in self.shown:
            upper, process = network.upper(each.node), each.process
            image = "image" if len(self.shown) == 1 else f"{self.images[each.node]}[example]"
            source = process.source if isinstance(process, ImageSteps) else process
            value: Source = image
            if isinstance(source, PoissonImage):
                says = "Hz, where a pixel is 1"
                rate = network.constant(f"{upper}_RATE", source.max_rate, says)
                says = "area of a spike: mean input is area * rate"
                area = network.constant(f"{upper}_AMPLITUDE", source.amplitude, says)
                title, text = "poisson_spikes", pieces.POISSON
                if isinstance(process, EventSteps):
                    title, text = "poisson_steps", pieces.POISSON_STEPS
                value = call(network.define(title, text), image, rate, area, "example")
            elif not isinstance(source, ConstantImage):
                raise InputError(
                    f"{each.node.label or each.node}: cannot write an input that runs "
                    f"{type(process).__name__}; expected constant_input, poisson_input, or a Node "
                    "of plain Nengo"
                )
            elif source.scale != 1:
                scale = network.constant(f"{upper}_SCALE", source.scale, "input where a pixel is 1")
                value = f"{scale} * {image}"
            yield network.rows(each.node), value

    def _network(self) -> list[str]:
        """Return the statements that build the network, after those that prepare its inputs."""
        network = self.network
        lines = ["# What goes in at each step of an image."]
        for each in self.shown:
            rows = network.rows(each.node)
            lines.append(f"{rows} = np.zeros((N_STEPS, {each.node.size_out}))")
        lines += ["", "with nengo.Network(seed=SEED) as net:"]
        if "        solver=nengo.solvers.NoSolver()," in network.lines:
            lines.append(_INTO_NEURONS)
        if network.seeds:
            lines.append(_SEEDS)
        return [*lines, *network.lines, *self._probes(), ""]

    def _probes(self) -> list[str]:
        """Return the probes of the outputs."""
        probes = []
        for part in self.network.target.parts:
            obj = part.item if isinstance(part.item, nengo.Node) else part.item.neurons
            end = self.network.end(obj, part.indices, size_of(part.item))
            probes.append(call("nengo.Probe", end))
        if len(probes) == 1:
            return lines_of(probes[0], "probe = ", indent=4)
        return lines_of(listed(probes), "probes = ", indent=4)

    def _loop(self, showing: Sequence[tuple[str, Source]]) -> list[str]:
        """Return the lines that run the network and print the results."""
        network, target = self.network, self.network.target
        amplitude, images = target.amplitude, self.images[self.shown[0].node]
        shape = f"(len({images}), {target.size})"
        lines, scored, kept = [], self.readout != "spike_count", "counts"
        if amplitude is not None:
            lines.append(f"counts = np.zeros({shape}, dtype=int)  # spikes of each neuron")
        if scored:
            kept = "scores"
            lines.append(f"scores = np.zeros({shape})  # of each class, by {self.readout}")
        lines += [_WARNING] if network.warns else []
        lines += [_SIMULATOR, *([_STREAMS] if network.random else [])]
        alone = len(self.shown) == 1
        loop = (
            "example, image in enumerate(images)" if alone else f"example in range(len({images}))"
        )
        lines.append(f"    for {loop}:")
        for rows, value in showing:
            lines += lines_of(value, f"{rows}[:] = ", indent=8)
        lines += [_RESTART] if network.random else []
        reset = "reset_seed(example)" if network.draws else ""
        body = [f"sim.reset({'seed=' * bool(reset)}{reset})  # every image begins anew"]
        body += [f"{self._state(each)}" for each in self.states]
        body.append("sim.run_steps(N_STEPS, progress_bar=False)")
        outputs = "sim.data[probe]"
        if len(target.parts) > 1:
            outputs = "np.concatenate([sim.data[each] for each in probes], axis=1)"
        body.append(f"outputs = {outputs}")
        if amplitude is not None:
            area = network.amplitudes.get(target.parts[0].item)
            area = area or network.areas.get(amplitude, number(amplitude))
            body.append(
                "# A spike is amplitude / DT high, and a step may have several: count their area."
            )
            counted = f"np.rint(outputs * (DT / {area})).sum(axis=0)"
            body.append(f"counts[example] = {counted}")
        if self.readout in _BEFORE_SCORES:
            body.append(_BEFORE_SCORES[self.readout])
        if scored:
            body.append(f"scores[example] = {_SCORES[self.readout]}")
        body.append(f'print(f"image {{example}}:", {kept}[example])')
        lines += [f"        {each}" for each in body]
        answer = _ANSWER.replace("scores", kept)
        return [*lines, "", answer, _CLASSES if self.labels is None else _ACCURACY]

    def _state(self, drawn: DrawnState) -> str:
        network, ensemble = self.network, drawn.layer.ensemble
        what = f"{drawn.layer.label}: initial_states"
        distribution = network.value(drawn.distribution, what, drawn.name)
        place = sorted(ensemble.neuron_type.state).index(drawn.name)
        name = network.variables[ensemble]
        signal = f"sim.model.sig[{name}.neurons][{quoted(drawn.name)}]"
        made = call(
            "first_state",
            str(distribution),
            number(ensemble.n_neurons),
            "example",
            layer=number(drawn.place),
            state=number(place),
        )
        lines = [f"state = {signal}", *lines_of(made, "sim.signals[state][...] = ")]
        return "\n        ".join(lines)
