"""Draw the random convolutional networks that `random_convolutions.py` compares.

In the style "exact", all numbers are whole multiples of powers of two, so that the order of a sum
does not matter. Half of these networks have no exponentials either. Such a ``Case`` is ``exact``:
all results of two simulators must be equal to the bit.
"""

from __future__ import annotations

import dataclasses
import math

import nengo
import numpy as np
from nengo.dists import Choice, Uniform

import nengonet as nn

STYLES = ("exact", "random", "decimal")
EXAMPLES = 5
# The states of these types are sums and differences, which are equal to the bit in any simulator.
EXACT_STATES = (nengo.SpikingRectifiedLinear, nn.IntegrateAndFire, nengo.RectifiedLinear)


# The types of `Draw.neurons` whose output is an exponential.
ROUNDED = range(5, 9)


class Past:
    """A Node's function with a state: it returns its input of some steps ago."""

    def __init__(self, size: int, steps: int) -> None:
        self.past = [np.zeros(size)] * steps

    def __call__(self, t: float, x: np.ndarray) -> np.ndarray:
        """Return the oldest input, and store this one."""
        self.past = [*self.past[1:], np.array(x)]
        return self.past[0]


class Draw:
    """Random numbers and choices for one network, in one style of numbers."""

    def __init__(self, seed: int, style: str) -> None:
        self.rng = np.random.default_rng([seed, STYLES.index(style)])
        self.style = style
        # Whether every sum and every step of neurons is exact.
        self.exact = style == "exact" and self.chance(0.6)

    def pick(self, *choices: object) -> object:
        """Return one of the choices."""
        return choices[self.rng.integers(len(choices))]

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return bool(self.rng.random() < probability)

    def whole(self, low: int, high: int) -> int:
        """Return a whole number between two others, both included."""
        return int(self.rng.integers(low, high + 1))

    def rounded(self, values: np.ndarray, scale: float) -> np.ndarray:
        """Return values of about the size of a scale, in the style."""
        if self.style == "random":
            return values
        unit = 10.0 ** (math.floor(math.log10(scale)) - 1)
        if self.style == "exact":
            unit = 2.0 ** (math.floor(math.log2(scale)) - 3)
        return np.round(values / unit) * unit

    def numbers(self, scale: float, *shape: int) -> np.ndarray:
        """Return numbers of both signs, more of them above 0."""
        return self.rounded(self.rng.normal(0.3 * scale, scale, shape), scale)

    def synapse(self, often: float = 0.35) -> nengo.synapses.Synapse | None:
        """Return a filter, or None."""
        if not self.chance(often):
            return None
        dyadic = [
            nengo.Lowpass(0),
            nengo.LinearFilter([1], [1], analog=False),
            nengo.LinearFilter([0.5], [1, -0.5], analog=False),
            nengo.LinearFilter([0.5, 0.25], [1, -0.25], analog=False),
            nengo.LinearFilter([0.25, 0.125, 0.125], [1, -0.5, 0.25], analog=False),
        ]
        if self.exact:
            # All others than the first two need one more bit at every step.
            return dyadic[self.whole(0, 1)]
        if self.chance(0.4):
            return self.pick(*dyadic)
        return self.pick(
            nengo.Lowpass(0.005),
            nengo.Lowpass(0.02),
            nengo.Alpha(0.004),
            nengo.synapses.Triangle(0.004),
            nengo.LinearFilter([1], [0.00002, 0.006, 1]),
            nengo.LinearFilter([0.002, 1], [0.004, 1]),
        )

    def amplitude(self) -> float:
        """Return the area of a spike."""
        return self.pick(*((1.0, 0.5, 2.0**-6) if self.style == "exact" else (1.0, 0.3, 0.01)))

    def first(self, name: str, low: float, high: float) -> dict:
        """Return the initial value of a state of neurons."""
        value = float(self.rounded(np.array(self.rng.uniform(0, 1)), 1.0))
        return self.pick(
            {}, {name: Uniform(low, high)}, {name: Choice([low])}, {name: Choice([value])}
        )

    def neurons(self) -> tuple[nengo.neurons.NeuronType, float, float]:
        """Return a neuron type, a gain for drives near 1, and the mean output at such drives."""
        amplitude = self.amplitude()
        voltage = self.first("voltage", 0.0, 1.0)
        beyond = self.pick(voltage, self.first("voltage", -1.5, 3.0))
        clip = {"min_voltage": float(self.pick(0, -0.5, -np.inf))}
        late = voltage | self.first("refractory_time", 0.0, 0.004)
        lif = {
            "tau_rc": float(self.pick(0.02, 0.005, 0.0013)),
            "tau_ref": float(self.pick(0.002, 0.0, 0.0003, 0.0025)),
            "amplitude": amplitude,
            "initial_state": late,
        } | clip
        slow = {"tau_n": 0.05, "inc_n": float(self.pick(0.01, 0.1))}
        bases = [(nengo.RectifiedLinear(), 128.0), (nengo.LIFRate(), 4.0), (nengo.Tanh(), 0.5)]
        base, gain = self.pick(*bases)
        rate = {"amplitude": amplitude}
        choices = [
            (3, lambda: nengo.LIF(**lif), 4.0, 120 * amplitude),
            (2, lambda: nengo.AdaptiveLIF(**slow, **lif), 4.0, 60 * amplitude),
            (
                3,
                lambda: nengo.SpikingRectifiedLinear(amplitude, initial_state=beyond),
                128.0,
                128 * amplitude,
            ),
            (
                4,
                lambda: nn.IntegrateAndFire(amplitude, **clip, initial_state=beyond),
                128.0,
                128 * amplitude,
            ),
            (2, lambda: nengo.RectifiedLinear(amplitude), 1.0, amplitude),
            (1, lambda: nengo.LIFRate(**rate), 4.0, 120 * amplitude),
            (1, lambda: nengo.AdaptiveLIFRate(**slow, **rate), 4.0, 60 * amplitude),
            (1, lambda: nengo.Sigmoid(), 1.0, 200.0),
            (1, lambda: nengo.Tanh(), 1.0, 200.0),
            (1, lambda: nengo.Izhikevich(), 16.0, 30.0),
            (
                1,
                lambda: nengo.RegularSpiking(base, amplitude, initial_state=voltage),
                gain,
                128 * amplitude,
            ),
            (1, lambda: nengo.StochasticSpiking(base, amplitude), gain, 128 * amplitude),
            (1, lambda: nengo.PoissonSpiking(base, amplitude), gain, 128 * amplitude),
        ]
        # The outputs of other rate neurons are rounded, and so are sums with them.
        shares = [0 if self.exact and k in ROUNDED else each[0] for k, each in enumerate(choices)]
        chosen = self.rng.choice(len(choices), p=np.divide(shares, sum(shares)))
        _, make, gain, mean = choices[chosen]
        return make(), gain, mean


@dataclasses.dataclass
class Case:
    """A network, its images, and the settings of a run."""

    network: nengo.Network
    output: object
    layers: list[nn.Layer]
    images: dict[nengo.Node, np.ndarray]
    run: dict
    n_steps: int
    exact: bool

    @property
    def dt(self) -> float:
        """Length of a step, in seconds."""
        return self.run["dt"]

    @property
    def fed(self) -> list[nengo.Node]:
        """The inputs that show a new image at every step."""
        return [
            node for node, each in self.images.items() if each.ndim > 1 + len(node.output.shape)
        ]

    @property
    def watched(self) -> list:
        """The objects to record: the output of every layer."""
        return [layer.output for layer in self.layers]

    @property
    def random(self) -> bool:
        """Whether anything draws from a random stream whose position among others matters."""
        return any(
            ensemble.noise is not None
            or isinstance(ensemble.neuron_type, nengo.StochasticSpiking | nengo.PoissonSpiking)
            for ensemble in self.network.all_ensembles
        ) or any(
            isinstance(node.output, nengo.processes.WhiteSignal) for node in self.network.all_nodes
        )

    def present(self, chosen: np.ndarray, **settings: object) -> nn.Result:
        """Present some examples, which may be repeated."""
        images = {node: each[chosen] for node, each in self.images.items()}
        settings = self.run | settings
        return nn.present(self.network, self.output, images, examples=chosen, **settings)


class Builder:
    """Draws a network layer by layer, and stores the inverse of each layer's mean output."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.strength: dict[str, float] = {}
        self.layers: list[nn.Layer] = []
        self.images: dict[nengo.Node, np.ndarray] = {}

    def keep(self, layer: nn.Layer, strength: float) -> nn.Layer:
        """Store a layer, and return it."""
        self.strength[layer.label] = 2.0 ** round(math.log2(strength))
        self.layers.append(layer)
        return layer

    def of(self, layer: nn.Layer) -> float:
        """Return the size of weights that turn a layer's outputs into drives near 1."""
        return self.strength[layer.label]

    def input(self, shape: tuple[int, ...], n_steps: int) -> nn.Layer:
        """Add an input, and draw its images."""
        draw = self.draw
        kind = draw.whole(0, 6)
        low = 0.0
        if kind < 3:
            layer = nn.constant_input(shape)
            low = float(draw.pick(0.0, 0.0, -1.0))
        else:
            rate = float(draw.pick(64, 256, 256, 1024, 4096))
            how = {"kind": "ensemble"} if kind == 6 else {}
            layer = nn.poisson_input(shape, rate, **how)
        rows = draw.pick(1, n_steps) if kind == 0 else 1
        images = draw.rounded(draw.rng.uniform(low, 1, (EXAMPLES, rows, *shape)), 1.0)
        images[draw.rng.random(images.shape) < draw.pick(0.0, 0.5, 0.9)] = 0.0
        if draw.chance(0.3):  # an example is dark, and with an image for every step, some steps
            images[draw.whole(0, EXAMPLES - 1)] = 0.0
            images[:, draw.rng.random(rows) < 0.5 * (rows > 1)] = 0.0
        self.images[layer.node if layer.pre is None else layer.pre.node] = (
            images[:, 0] if rows == 1 else images
        )
        return self.keep(layer, 1.0)

    def tuning(self, label: str, filters: int) -> tuple[dict, float]:
        """Return the arguments of a layer of neurons, and the inverse of their mean output."""
        draw = self.draw
        neuron_type, gain, mean = draw.neurons()
        activity = float(draw.pick(1, 1, 1, 1, 1 / 16, 16))
        bias = draw.pick(0.0, gain / 2, gain / 8)
        if draw.chance(0.05):
            bias = -8 * gain * activity  # silent
        given = {"neuron_type": neuron_type, "gain": gain * activity, "bias": bias, "label": label}
        given["synapse"] = draw.synapse()
        return given, 1 / (mean * max(activity, 1.0))

    def weights(self, pre: nn.Layer, fan_in: int, *shape: int) -> object:
        """Return a kernel, with or without biases."""
        draw = self.draw
        scale = 2.0 ** round(math.log2(2 * self.of(pre) / math.sqrt(fan_in)))
        kernel = draw.numbers(scale, *shape)
        return (kernel, draw.numbers(0.25, shape[-1])) if draw.chance(0.4) else kernel

    def convolution(self, pre: object, label: str, neurons: bool = True, same: bool = False):
        """Add a convolution; with ``same``, it keeps the numbers of rows and columns."""
        draw = self.draw
        pres = pre if isinstance(pre, list) else [pre]
        shape = pres[0].shape
        *image, channels = shape
        n = len(image)
        strides = [1] * n if same else [draw.pick(1, 1, 1, 2, 2, 3) for _ in image]
        dilation = [1] * n if max(strides) > 1 else [draw.pick(1, 1, 1, 2) for _ in image]
        padding = "same" if same else draw.pick("same", "valid")
        if n == 1 and not same:
            padding = draw.pick("same", "valid", "causal")
        size = [draw.whole(1, 4) for _ in image]
        if padding == "valid":
            for axis, length in enumerate(image):
                size[axis] = min(size[axis], (length - 1) // dilation[axis] + 1)
        divisors = [g for g in range(1, channels + 1) if channels % g == 0]
        groups = draw.pick(1, 1, *divisors)
        filters = groups * draw.whole(1, max(1, 8 // groups))
        fan_in = math.prod(size) * channels // groups
        weights = self.weights(pres[0], fan_in, *size, channels // groups, filters)
        options = {"strides": strides, "padding": padding, "groups": groups}
        options["dilation_rate"] = dilation
        build = nn.conv2d
        if n == 1:
            build = nn.conv1d
            options |= {"strides": strides[0], "dilation_rate": dilation[0]}
        if not neurons:
            settings = {"neuron_type": None, "synapse": draw.synapse(), "label": label}
            return self.keep(build(pre, weights, **options, **settings), 1.0)
        settings, strength = self.tuning(label, filters)
        layer = build(pre, weights, **options, **settings)
        if draw.chance(0.2):
            signs = draw.rng.choice([1.0, 1.0, 0.5, -1.0], layer.size)
            layer.ensemble.gain = layer.ensemble.gain * signs
        if draw.chance(0.2):
            self.second(pres[0], layer)
        return self.keep(layer, strength)

    def second(self, pre: nn.Layer, layer: nn.Layer) -> None:
        """Connect the source of a layer's convolution to that layer a second time."""
        draw, first = self.draw, layer.connection
        if first is None or not isinstance(first.transform, nengo.Convolution):
            return
        first = first.transform
        kind = draw.whole(0, 2)
        small = self.of(pre) / 4
        if kind == 0:
            transform = nengo.Dense(
                (layer.size, pre.size), init=draw.numbers(small, layer.size, pre.size) / 8
            )
        elif kind == 1:
            count = 3 * layer.size
            places = draw.rng.integers(0, [layer.size, pre.size], (count, 2))
            places = np.unique(places, axis=0)
            transform = nengo.Sparse(
                (layer.size, pre.size), indices=places, init=draw.numbers(small, len(places))
            )
        else:
            last = bool(draw.pick(True, False))
            shape = first.input_shape.shape
            kernel = draw.numbers(small, *np.shape(first.init))
            transform = nengo.Convolution(
                first.n_filters,
                shape if last else (shape[-1], *shape[:-1]),
                kernel_size=first.kernel_size,
                strides=first.strides,
                padding=first.padding,
                groups=first.groups,
                channels_last=last,
                init=kernel,
            )
            if transform.size_out != layer.size:
                return
        nengo.Connection(pre.output, layer.output, transform=transform, synapse=draw.synapse(0.7))

    def pool(self, pre: nn.Layer, label: str) -> nn.Layer:
        """Add a pool, or zeros around the image."""
        draw = self.draw
        *image, _ = pre.shape
        n, kind = len(image), draw.whole(0, 7)
        if kind == 0:
            build = nn.zero_padding1d if n == 1 else nn.zero_padding2d
            around = (1, 0) if n == 1 else ((1, 0), (0, 2))
            layer = build(pre, draw.pick(1, around), synapse=draw.synapse(0.2), label=label)
            return self.keep(layer, self.of(pre))
        size = [min(draw.pick(1, 2, 2, 4), length) for length in image]
        if self.draw.style != "exact" and draw.chance(0.5):
            size = [min(3, length) for length in image]
        padding = draw.pick("valid", "same")
        if padding == "same":
            size = [min(each, 2) for each in size]
        if self.draw.style == "exact":
            size = [1 << (each.bit_length() - 1) for each in size]
        strides = draw.pick(None, [max(1, each - 1) for each in size], [each + 1 for each in size])
        given = {"size": size, "strides": strides, "padding": padding}
        if n == 1:
            given |= {"size": size[0], "strides": strides and strides[0]}
        given |= {"synapse": draw.synapse(0.25), "label": label}
        if kind < 4:
            layer = (nn.avg_pool1d if n == 1 else nn.avg_pool2d)(pre, **given)
        else:
            how = ("running_max", "winner", "instant")[min(kind - 4, 2)]
            layer = (nn.max_pool1d if n == 1 else nn.max_pool2d)(pre, kind=how, **given)
        return self.keep(layer, self.of(pre))

    def block(self, pre: nn.Layer, k: int) -> nn.Layer:
        """Add a convolution, perhaps with a residual sum, branches or shared weights."""
        draw = self.draw
        if draw.chance(0.15):
            pre = self.pool(pre, f"pool before {k}")
        kind = draw.whole(0, 7)
        if kind == 0:  # a residual sum, in the neurons
            beside = self.convolution(pre, f"beside {k}", neurons=False, same=True)
            there = self.matching(pre, beside, f"shortcut {k}")
            settings, strength = self.tuning(f"sum {k}", beside.shape[-1])
            layer = self.keep(nn.activation([beside, there], **settings), strength)
        elif kind == 1:  # a sum in a Node
            one = self.convolution(pre, f"one {k}", same=True)
            two = self.matching(pre, one, f"two {k}")
            layer = nn.add([one, two], synapse=draw.synapse(0.2), label=f"add {k}")
            self.keep(layer, min(self.of(one), self.of(two)))
        elif kind == 2:  # branches
            one = self.convolution(pre, f"one {k}", same=True)
            two = self.convolution(pre, f"two {k}", same=True, neurons=draw.chance(0.7))
            layer = nn.concatenate([one, two], synapse=draw.synapse(0.2), label=f"joined {k}")
            self.keep(layer, min(self.of(one), self.of(two)))
        elif kind == 3:  # the same weights for two layers
            one = self.convolution(pre, f"one {k}", same=True)
            layer = self.convolution([one, self.matching(pre, one, f"two {k}")], f"conv {k}")
        else:
            layer = self.convolution(pre, f"conv {k}")
        if draw.chance(0.5):
            layer = self.pool(layer, f"pool {k}")
            if draw.chance(0.2):
                layer = self.pool(layer, f"pool after pool {k}")
        if draw.chance(0.06) and not draw.exact:
            layer = self.keep(nn.lowpass(layer, 0.005, label=f"lowpass {k}"), self.of(layer))
        return layer

    def matching(self, pre: nn.Layer, like: nn.Layer, label: str) -> nn.Layer:
        """Return a layer of another's shape: the layer before, if it fits, or a projection."""
        draw = self.draw
        if pre.shape == like.shape and draw.chance(0.6):
            return pre
        one = [1] * (len(pre.shape) - 1)
        weights = self.weights(pre, pre.shape[-1], *one, pre.shape[-1], like.shape[-1])
        build = nn.conv1d if len(one) == 1 else nn.conv2d
        if draw.chance(0.5):
            layer = build(pre, weights, None, synapse=draw.synapse(0.3), label=label)
            return self.keep(layer, 1.0)
        settings, strength = self.tuning(label, like.shape[-1])
        return self.keep(build(pre, weights, **settings), strength)

    def head(self, pre: nn.Layer) -> nn.Layer:
        """Add the layer that is read out."""
        draw = self.draw
        if draw.chance(0.15):
            return pre
        if draw.chance(0.3) and (draw.style != "exact" or _is_dyadic(pre.shape[:-1])):
            kind, n = draw.whole(0, 1), len(pre.shape) - 1
            build = [
                [nn.global_avg_pool1d, nn.global_avg_pool2d],
                [nn.global_max_pool1d, nn.global_max_pool2d],
            ][kind][n - 1]
            pooled = build(pre, synapse=draw.synapse(0.2), label="global")
            pre = self.keep(pooled, self.of(pre))
        for k in range(draw.whole(1, 2)):
            width = draw.pick(3, 10, 16)
            weights = self.weights(pre, pre.size, pre.size, width)
            if draw.chance(0.5):
                layer = nn.dense(pre, weights, None, synapse=draw.synapse(0.2), label=f"dense {k}")
                return self.keep(layer, 1.0)
            settings, strength = self.tuning(f"dense {k}", width)
            pre = self.keep(nn.dense(pre, weights, **settings), strength)
        return pre

    def extras(self) -> None:
        """Add loops, side paths, noise and Nodes, as a user may add them by hand."""
        draw = self.draw
        layers = [layer for layer in self.layers if layer.ensemble is not None and layer.pres]
        if not layers:
            return
        last, some = layers[-1], draw.pick(*layers)
        self.side_paths(layers)
        if draw.exact and not last.spiking:
            return  # in a loop, rates get one more bit at every step
        weak = self.of(last) / 8
        if draw.chance(0.5):
            nengo.Connection(
                last.output,
                last.output,
                transform=draw.numbers(weak, last.size, last.size) / 8,
                synapse=nengo.Lowpass(0),
            )
        if draw.chance(0.3) and min(some.size, last.size) > 3:
            nengo.Connection(
                some.output[1:4:2], last.output[[2, 0]], transform=weak, synapse=nengo.Lowpass(0)
            )
        if draw.chance(0.3) and min(some.size, last.size) > 2:
            node = nengo.Node(Past(3, 4), size_in=3, size_out=3)
            nengo.Connection(some.output[:3], node, synapse=None)
            nengo.Connection(node, last.output[:3], transform=weak, synapse=nengo.Lowpass(0))
        if draw.chance(0.2) and not draw.exact:
            process = nengo.processes.WhiteSignal(0.1, high=40, rms=0.5)
            nengo.Connection(nengo.Node(process), last.output[:1], synapse=None)
        if draw.chance(0.2) and not draw.exact:
            some.ensemble.noise = nengo.processes.WhiteNoise(nengo.dists.Gaussian(0, 0.01))

    def side_paths(self, layers: list[nn.Layer]) -> None:
        """Add Nodes without input, and connections that bypass a layer."""
        draw = self.draw
        target = draw.pick(*layers)
        if draw.chance(0.3):  # what is the same at every step, or changes once
            source = draw.pick([0.5], lambda t: 0.5 * (t > 0.02))
            node, units = nengo.Node(source), draw.pick(1, target.size)
            nengo.Connection(
                node,
                target.output[:units],
                transform=draw.numbers(1.0, units, 1),
                synapse=draw.synapse(0.5),
            )
        passing = [each for each in self.layers if each.node is not None and each.pres]
        if passing and draw.chance(0.3):  # one more source of a sum
            node = draw.pick(*passing)
            place = self.layers.index(node)
            nengo.Connection(
                self.layers[0].output[: min(node.node.size_in, self.layers[0].size)],
                node.node[: min(node.node.size_in, self.layers[0].size)],
                transform=draw.pick(1.0, 0.5) if place else 1.0,
                synapse=draw.synapse(0.5),
            )
        if draw.chance(0.2):  # what nothing reads
            sink = nengo.Node(size_in=1)
            nengo.Connection(target.output[:1], sink, synapse=draw.synapse(0.5))

    def probes(self, dt: float) -> list[nengo.Probe]:
        """Add probes of outputs, states, currents and weights."""
        draw, found = self.draw, []

        def add(target: object, name: str | None = None, exact: bool = True, **given) -> None:
            how = "exact" if exact else "rounded"
            every = draw.pick(None, 3 * dt, 2.5 * dt, 10 * dt)
            label = f"probe {len(found)} ({how})"
            found.append(nengo.Probe(target, name, sample_every=every, label=label, **given))

        for layer in self.layers:
            if draw.chance(0.12):
                add(layer.output)
            if draw.chance(0.05):
                add(layer.output, exact=False, synapse=0.01)
            if layer.ensemble is not None and draw.chance(0.1):
                neuron_type = layer.ensemble.neuron_type
                names = [name for name in neuron_type.state if name in layer.output.probeable]
                name = draw.pick(*names, "input")
                add(layer.output, name, name == "input" or type(neuron_type) in EXACT_STATES)
            if layer.size < 20 and isinstance(layer.connection, nengo.Connection):
                if isinstance(layer.connection.transform, nengo.Dense) and draw.chance(0.1):
                    add(layer.connection, "weights")
        return found


def _is_dyadic(lengths: tuple[int, ...]) -> bool:
    return all(length & (length - 1) == 0 for length in lengths)


def random_case(seed: int, style: str = "exact", largest: int = 12, longest: int = 230) -> Case:
    """Return a network for images of at most ``largest`` rows, and at most ``longest`` steps."""
    draw = Draw(seed, style)
    build = Builder(draw)
    dt = float(draw.pick(0.001, 0.001, 0.0005, 0.002))
    n_steps = min(longest, draw.pick(1, 17, 40, 60, 99, 100, 101, 130, 230))
    n = draw.pick(1, 2, 2)
    lengths = [draw.whole(3, largest) if n == 2 else draw.whole(4, 2 * largest) for _ in range(n)]
    shape = (*lengths, draw.pick(1, 2, 3, 4, 8))
    with nengo.Network(seed=seed) as network:
        layer = build.input(shape, n_steps)
        if draw.chance(0.15):
            layer = [layer, build.input(shape, n_steps)]
            layer = build.convolution(layer, "both")
        for k in range(draw.whole(1, 3)):
            layer = build.block(layer, k)
        output = build.head(layer)
        if draw.chance(0.4):
            build.extras()
        probes = build.probes(dt) if draw.chance(0.5) else []
    others = [each for each in output.upstream() if each.ensemble is not None]
    last = output
    if draw.chance(0.1) and others and others[0].label != output.label:
        # Several layers are read out, or a layer that is not the last.
        output, last = draw.pick(([others[0], output], output), (others[-1], others[-1]))
    layers = last.upstream()
    run = {"presentation_time": n_steps * dt, "dt": dt, "seed": seed, "progress": False}
    run |= {"readout": "mean", "probes": probes}
    run["rasters"] = [each.label for each in layers if each.spiking and draw.chance(0.3)]
    if draw.chance(0.3):
        run["keep"] = [each.label for each in layers if draw.chance(0.5)]
    if draw.chance(0.2):
        run["initial_states"] = {
            each.label: {"voltage": Uniform(0, 1)}
            for each in layers
            if each.ensemble is not None and "voltage" in each.ensemble.neuron_type.state
        }
    return Case(network, output, build.layers, build.images, run, n_steps, draw.exact)
