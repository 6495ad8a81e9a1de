"""Run a NIR graph in NumPy, in Euler steps, by the equations of NIR's paper."""

import numpy as np


class Interpreter:
    """Run a graph. With ``late_filters``, leaky integrators output their values of a step ago.

    A node on a feedback path is read with its value of a step ago.
    """

    def __init__(self, graph, dt, late_filters=False):
        self.graph, self.dt, self.late = graph, dt, late_filters
        self.order = self._in_order()
        self.last = {}
        self.state = {name: {} for name in graph.nodes}

    def _in_order(self):
        before = {name: [a for a, b in self.graph.edges if b == name] for name in self.graph.nodes}
        order = []
        while len(order) < len(before):
            left = [name for name in before if name not in order]
            ready = [name for name in left if set(before[name]) <= set(order)]
            # On a loop: the first node that an ordered node feeds.
            order += ready or [next(n for n in left if set(before[n]) & set(order))]
        return order

    def run(self, inputs, n_steps):
        """Return the outputs of every node over time: ``{name: (n_steps, *shape)}``."""
        found = {name: [] for name in self.graph.nodes}
        for step in range(n_steps):
            now = {}
            for name in self.order:
                node = self.graph.nodes[name]
                if type(node).__name__ == "Input":
                    x = np.asarray(inputs[name][step % len(inputs[name])], dtype=np.float64)
                else:
                    shape = tuple(map(int, node.input_type["input"]))
                    x = np.zeros(shape)
                    for pre, post in self.graph.edges:
                        if post == name:
                            value = now[pre] if pre in now else self.last.get(pre, np.zeros(shape))
                            assert value.shape == shape, (pre, post, value.shape, shape)
                            x = x + value
                now[name] = getattr(self, type(node).__name__)(node, x, self.state[name])
                found[name].append(now[name])
            self.last = now
        return {name: np.stack(values) for name, values in found.items()}

    def Input(self, node, x, state):
        assert x.shape == tuple(node.input_type["input"])
        return x

    def Output(self, node, x, state):
        return x

    def Affine(self, node, x, state):
        return node.weight @ x + node.bias

    def Scale(self, node, x, state):
        return node.scale * x

    def Flatten(self, node, x, state):
        assert (node.start_dim, node.end_dim) == (0, -1)
        return x.reshape(-1)

    def Conv1d(self, node, x, state):
        padding = node.padding if isinstance(node.padding, str) else (0, node.padding)
        return convolve(
            x[:, np.newaxis], node.weight[:, :, np.newaxis], node.bias, (1, node.stride), padding,
            node.groups,
        )[:, 0]  # fmt: skip

    def Conv2d(self, node, x, state):
        assert tuple(node.dilation) == (1, 1)
        return convolve(x, node.weight, node.bias, node.stride, node.padding, node.groups)

    def SumPool2d(self, node, x, state):
        return np.prod(node.kernel_size) * self.AvgPool2d(node, x, state)

    def AvgPool2d(self, node, x, state):
        (rows, columns), (down, right) = node.kernel_size, node.stride
        assert not np.any(node.padding)
        return np.array([
            [
                [
                    channel[r : r + rows, c : c + columns].mean()
                    for c in range(0, x.shape[2] - columns + 1, right)
                ]
                for r in range(0, x.shape[1] - rows + 1, down)
            ]
            for channel in x
        ])  # fmt: skip

    def _filtered(self, x, tau, key, state):
        before = state.get(key, np.zeros(x.shape))
        state[key] = before + self.dt / tau * (x - before)
        return before if self.late else state[key]

    def LI(self, node, x, state):
        return self._filtered(node.r * x + node.v_leak, node.tau, "v", state)

    def _fire(self, node, x, rise, state):
        v = state.get("v", np.zeros(x.shape))
        v = v + rise(v)
        spikes = v > node.v_threshold
        state["v"] = np.where(spikes, node.v_reset, v)
        return spikes.astype(np.float64)

    def IF(self, node, x, state):
        return self._fire(node, x, lambda v: self.dt * node.r * x, state)

    def LIF(self, node, x, state):
        drive = node.v_leak + node.r * x
        return self._fire(node, x, lambda v: self.dt / node.tau * (drive - v), state)

    def CubaLIF(self, node, x, state):
        current = self._filtered(node.w_in * x, node.tau_syn, "current", state)
        drive = node.v_leak + node.r * current
        return self._fire(node, x, lambda v: self.dt / node.tau_mem * (drive - v), state)


def convolve(x, weight, bias, stride, padding, groups):
    """Convolve as PyTorch documents it, place by place."""
    n_filters, n_channels, *size = weight.shape
    if padding == "same":
        assert tuple(stride) == (1, 1)
        pads = [((k - 1) // 2, k - 1 - (k - 1) // 2) for k in size]
    else:
        pads = [(n, n) for n in padding]
    x = np.pad(x, [(0, 0), *pads])
    shape = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:], size, stride, strict=True)]
    out = np.empty((n_filters, *shape))
    for f in range(n_filters):
        first = f // (n_filters // groups) * n_channels
        for r in range(shape[0]):
            for c in range(shape[1]):
                top, left = r * stride[0], c * stride[1]
                window = x[first : first + n_channels, top : top + size[0], left : left + size[1]]
                out[f, r, c] = np.sum(window * weight[f]) + bias[f]
    return out
