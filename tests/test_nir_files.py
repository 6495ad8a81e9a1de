"""NIR files as weights: files of `to_nir`, files of other tools, and damaged files."""

import h5py
import nengo
import numpy as np
import pytest
from test_nir import ZERO, cnn, integrate, lif, mlp

import nengonet as nn
from nengonet.weights.dialects import nir as dialect

nir = pytest.importorskip("nir")


def written(graph, path):
    nir.write(path, graph)
    if isinstance(graph, nir.NIRGraph):
        nir.read(path)  # which checks its types
    return nn.load_weights(path)


def of_nodes(path, *edges, **nodes):
    """Write a graph of one Input and one Output, and read it."""
    return written(nir.NIRGraph(nodes, list(edges)), path)


def chain(path, **nodes):
    names = list(nodes)
    return of_nodes(path, *zip(names, names[1:], strict=False), **nodes)


def test_a_cnn_comes_back_channels_last(tmp_path):
    rng = np.random.default_rng(5)
    one, two, out = cnn(rng, drawn=True)
    weights = written(nn.to_nir(out, dt=0.002), tmp_path / "a.nir")
    assert weights.dialect == f"NIR {nir.version}"
    assert list(weights) == ["one", "two", "out"]
    height = 0.02 / 0.002
    np.testing.assert_allclose(weights["one"].kernel, 3 * one.weights.kernel)
    np.testing.assert_allclose(weights["one"].bias, 3 * one.weights.bias + 0.8)
    # Two groups; nir 1.0.8 cannot read these, and has them as one with zeros.
    kernel, groups = weights["two"].kernel, weights["two"].config["groups"]
    if groups == 1:
        assert not kernel[:, :, :2, 3:].any()
        assert not kernel[:, :, 2:, :3].any()
        kernel = np.concatenate([kernel[:, :, :2, :3], kernel[:, :, 2:, 3:]], axis=-1)
    np.testing.assert_allclose(kernel, 3 * height * two.weights.kernel)
    kernel = height * out.weights.kernel * out.ensemble.gain
    np.testing.assert_allclose(weights["out"].kernel, kernel)
    assert weights["one"].config["padding"] == weights["two"].config["padding"] == "same"
    assert weights["two"].config["strides"] == [2, 2]
    assert [layer.kind for layer in weights.layers] == (
        "InputLayer Conv2D LIF AveragePooling2D Conv2D LIF Flatten Dense LIF".split()
    )
    assert weights.layers[0].config["batch_shape"] == [None, 7, 8, 2]
    neurons = weights.layers[2]
    assert neurons.name == "one_lif"
    assert neurons.config == {
        "tau": 0.02, "r": 1.0, "v_leak": 0.0, "v_reset": 0.0, "v_threshold": 1.0,
    }  # fmt: skip
    assert weights.layers[3].config["pool_size"] == [2, 3]
    assert [layer.followed_by for layer in weights.values()] == [("two",), ("out",), None]
    text = str(weights)
    assert "tau 0.02, r 1.0, v_threshold 1.0" in text
    assert "input 7 x 8 x 2" in text


def test_a_network_built_from_the_file_has_the_same_spikes(tmp_path):
    rng = np.random.default_rng(1)
    layers = cnn(rng)
    weights = written(nn.to_nir(layers[-1]), tmp_path / "a.nir")
    # In NIR a spike is the number 1: with an amplitude of dt, its height is 1.
    built = {"neuron_type": lif(amplitude=0.001), "gain": 1.0, "bias": 0.0}
    with nengo.Network(seed=0):
        last = nn.constant_input(tuple(weights.layers[0].config["batch_shape"][1:]))
        for layer in weights.layers[1:]:
            if layer.kind == "Conv2D":
                last = nn.conv2d(last, layer, **built)
            elif layer.kind == "AveragePooling2D":
                last = nn.avg_pool2d(last, layer.config["pool_size"], layer.config["strides"])
            elif layer.kind == "Dense":
                last = nn.dense(last, layer, **built)
    images = rng.uniform(size=(3, 7, 8, 2))
    ours = nn.present(layers[-1].network, layers[-1], images, presentation_time=0.1)
    theirs = nn.present(last.network, last, images, presentation_time=0.1)
    for layer in layers:
        assert ours.counts[layer.label].sum() > 30
        np.testing.assert_array_equal(theirs.counts[layer.label], ours.counts[layer.label])


@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("size", [(2, 3), (4, 4), (1, 5)])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_padding_comes_back_in_kerass_words(tmp_path, strides, size, padding):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(*size, 3, 4))
    kernel[0, 0] = 0
    with nengo.Network():
        pixels = nn.constant_input((9, 8, 3))
        settings = {"strides": strides, "padding": padding, "label": "conv"}
        layer = nn.conv2d(pixels, kernel, lif(), gain=1.0, bias=0.0, **settings)
    nir.write(tmp_path / "a.nir", nn.to_nir(layer))
    found = nn.load_weights(tmp_path / "a.nir")["conv"]
    np.testing.assert_array_equal(found.kernel, kernel)
    with nengo.Network():
        again = nn.conv2d(nn.constant_input((9, 8, 3)), found, lif(), gain=1.0, bias=0.0)
    assert again.shape == layer.shape
    images = rng.normal(size=(2, 9, 8, 3))
    ours, theirs = (nn.predict_rates(each, images) for each in (layer, again))
    np.testing.assert_array_equal(ours, theirs)


def test_a_matrix_that_is_added_to_a_flat_image(tmp_path):
    """Rows and columns of a matrix from and to a flattened image, and its bias."""
    rng = np.random.default_rng(4)
    matrix, bias = rng.normal(size=(24, 24)), rng.normal(size=24)
    order = np.moveaxis(np.arange(24).reshape(2, 3, 4), -1, 0).ravel()
    ones = np.ones(24)
    found = of_nodes(
        tmp_path / "a.nir",
        ("input", "flatten"), ("flatten", "lif"), ("lif", "back"), ("back", "lif"),
        ("lif", "output"),
        input=nir.Input(np.array([4, 2, 3])),
        flatten=nir.Flatten({"input": np.array([4, 2, 3])}, start_dim=0),
        lif=nir.LIF(0.02 * ones, ones, 0 * ones, 1.0 * order),
        back=nir.Affine(matrix[order][:, order], bias[order]),
        output=nir.Output(np.array([24])),
    )  # fmt: skip
    np.testing.assert_array_equal(found["back"].kernel, matrix.T)
    np.testing.assert_array_equal(found["back"].bias, bias)
    np.testing.assert_array_equal(found["lif"].others["v_threshold"], np.arange(24))
    assert found["back"].followed_by == ("back",)


def test_rows_and_columns_without_channels_keep_their_order(tmp_path):
    weight = np.random.default_rng(0).normal(size=(2, 12))
    found = chain(
        tmp_path / "a.nir",
        input=nir.Input(np.array([3, 4])),
        flatten=nir.Flatten({"input": np.array([3, 4])}, start_dim=0),
        dense=nir.Linear(weight),
        output=nir.Output(np.array([2])),
    )
    np.testing.assert_array_equal(found["dense"].kernel, weight.T)
    assert found["dense"].bias is None
    assert found.layers[0].config == {"batch_shape": [None, 3, 4]}


def test_a_convolution_over_one_dimension(tmp_path):
    rng = np.random.default_rng(0)
    weight, dense = rng.normal(size=(5, 3, 4)), rng.normal(size=(2, 40))
    found = chain(
        tmp_path / "a.nir",
        input=nir.Input(np.array([3, 11])),
        conv=nir.Conv1d(11, weight, 1, 0, 1, 1, np.arange(5.0)),
        flatten=nir.Flatten({"input": np.array([5, 8])}, start_dim=0),
        dense=nir.Affine(dense, np.zeros(2)),
        output=nir.Output(np.array([2])),
    )
    np.testing.assert_array_equal(found["conv"].kernel, np.moveaxis(weight, 0, -1).swapaxes(0, 1))
    assert found["conv"].kind == "Conv1D"
    assert found.layers[0].config["batch_shape"] == [None, 11, 3]
    expected = np.moveaxis(dense.reshape(2, 5, 8), 1, 2).reshape(2, -1).T
    np.testing.assert_array_equal(found["dense"].kernel, expected)


def test_what_others_write(tmp_path):
    """They write explicit padding, dilation, sum pools, no shapes, nested graphs, one node."""
    rng = np.random.default_rng(0)
    weight, dense = rng.normal(size=(2, 1, 3, 3)), rng.normal(size=(4, 8))
    inner = nir.NIRGraph(
        {
            "in": nir.Input(np.array([4])),
            "lif": nir.CubaLIF(*np.ones((5, 4))),
            "out": nir.Output(np.array([4])),
        },
        [("in", "lif"), ("lif", "out")],
    )
    found = chain(
        tmp_path / "a.nir",
        input=nir.Input(np.array([1, 8, 8])),
        conv=nir.Conv2d(None, weight, 2, 2, 1, 1, np.zeros(2)),
        pool=nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        flatten=nir.Flatten(None, start_dim=0),
        dense=nir.Affine(dense, np.zeros(4)),
        sub=inner,
        last=nir.Affine(dense.T, np.zeros(8)),
        output=nir.Output(np.array([8])),
    )
    assert found["conv"].config == {
        "strides": [2, 2], "padding": [2, 2], "groups": 1, "dilation_rate": [1, 1],
    }  # fmt: skip
    # Eight positions of two channels: 8 x 8, padded by 2, in strides of 2, is 5 x 5; pooled, 2 x 2.
    expected = np.moveaxis(dense.reshape(4, 2, 2, 2), 1, -1).reshape(4, -1).T
    np.testing.assert_array_equal(found["dense"].kernel, expected)
    assert found["dense"].followed_by == ("last",)
    names = [layer.name for layer in found.layers]
    assert names == ["input", "conv", "pool", "flatten", "dense", "sub/in", "sub/lif", "last"]
    assert found.layers[-2].config["tau_syn"] == 1.0
    alone = written(nir.Affine(dense, np.arange(4.0)), tmp_path / "b.nir")
    np.testing.assert_array_equal(alone["node"].kernel, dense.T)
    many = written(nir.Linear(rng.normal(size=(2, 3, 4))), tmp_path / "c.nir")
    assert many["node"].kind == "unknown"


def test_a_graph_of_many_ways_is_read_once(tmp_path):
    """Forty forks in a row make 2 ** 40 paths."""
    nodes, edges = {"input": nir.Input(np.array([2])), "dense": nir.Linear(np.eye(2))}, []
    last = "input"
    for number in range(40):
        names = [f"{kind}{number}" for kind in ("left", "right", "both")]
        nodes |= {name: nir.Scale(np.ones(2)) for name in names}
        edges += [(last, name) for name in names[:2]] + [(name, names[2]) for name in names[:2]]
        last = names[2]
    nodes["output"] = nir.Output(np.array([2]))
    edges += [(last, "dense"), ("dense", "output")]
    found = of_nodes(tmp_path / "a.nir", *edges, **nodes)
    assert found.layers[0].followed_by == ("dense",)
    assert len(found.layers) == 122


def test_a_nir_file_is_recognised_by_its_content(tmp_path):
    nir.write(tmp_path / "weights.h5", nn.to_nir(mlp(np.random.default_rng(0))[-1]))
    assert nn.load_weights(tmp_path / "weights.h5").dialect.startswith("NIR")
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["node"] = np.ones((3, 2))
    assert nn.load_weights(tmp_path / "plain.h5").dialect == "plain HDF5"
    assert not dialect.matches(None)
    with nengo.Network():
        pixels = nn.constant_input((2,))
        layer = nn.dense(pixels, np.eye(2), integrate(), gain=1.0, bias=0.0)
    kinds = [each.kind for each in written(nn.to_nir(layer, allow="reset"), tmp_path / "i").layers]
    assert kinds == ["InputLayer", "Dense", "IF"]
    assert ZERO


def edited(path, edit):
    nir.write(path, nn.to_nir(cnn(np.random.default_rng(5))[-1]))
    with h5py.File(path, "r+") as file:
        edit(file, file["node/nodes"])
    return path


def replace(group, key, value):
    del group[key]
    group[key] = value


DAMAGED = {
    "no edges": (lambda file, nodes: file["node"].pop("edges"), "a NIRGraph without nodes and edg"),
    "an edge to nothing": (
        lambda file, nodes: replace(file["node"], "edges", [[b"one", b"two"], [b"one", b"zero"]]),
        "an edge from 'one' to 'zero', which it lacks",
    ),
    "an odd edge": (
        lambda file, nodes: replace(file["node"], "edges", [b"one", b"two", b"out"]),
        "damaged",
    ),
    "no weight": (lambda file, nodes: nodes["out"].pop("weight"), "out: weight: expected an array"),
    "a flat kernel": (
        lambda file, nodes: replace(nodes["one"], "weight", np.ones((4, 2, 9))),
        "one: weight: expected 4 dimensions for Conv2d, got",
    ),
    "a short matrix": (
        lambda file, nodes: replace(nodes["out"], "weight", np.ones((12, 11))),
        r"out: weight: damaged file \(an image of shape \(6, 2, 2\) meets an axis of 11",
    ),
    "a long bias": (
        lambda file, nodes: replace(nodes["out"], "bias", np.ones(13)),
        "out: bias: expected shape",
    ),
    "no strides": (
        lambda file, nodes: replace(nodes["two"], "stride", [0, 0]),
        "two: weight: damaged file",
    ),
    "text for numbers": (
        lambda file, nodes: replace(nodes["two"], "stride", b"wide"),
        "two: damaged file .a Conv2d without stride",
    ),
    "nan": (
        lambda file, nodes: replace(nodes["out"], "weight", np.full((12, 24), np.nan)),
        "out: kernel: .*finite",
    ),
    "a graph in itself": (
        lambda file, nodes: replace(nodes, "one", h5py.SoftLink("/node")),
        "damaged",
    ),
    "a link out": (
        lambda file, nodes: replace(nodes, "one", h5py.ExternalLink("/etc/passwd", "/")),
        "a link into another file is not followed",
    ),
    "nothing inside": (lambda file, nodes: file["node"].pop("nodes"), "without nodes and edges"),
    "no weights at all": (
        lambda file, nodes: [nodes.pop(name) for name in ("one", "two", "out")],
        "which it lacks",
    ),
}


@pytest.mark.parametrize("edit, message", DAMAGED.values(), ids=DAMAGED)
def test_damaged_graphs_are_refused_in_one_line(tmp_path, edit, message):
    path = edited(tmp_path / "a.nir", edit)
    with pytest.raises(nn.InputError, match=message) as found:
        nn.load_weights(path)
    assert str(found.value).startswith(str(path))
    assert "\n" not in str(found.value)


def test_edges_that_would_take_too_much_are_refused(tmp_path):
    """Two graphs in a graph: every Output of one feeds every Input of the other."""

    def edit(file, nodes):
        for name, kind in (("one", "Output"), ("two", "Input")):
            del nodes[name]
            nodes[f"{name}/type"] = b"NIRGraph"
            nodes[f"{name}/edges"] = np.empty((0, 2), h5py.string_dtype())
            for number in range(400):
                nodes[f"{name}/nodes/{number}/type"] = kind.encode()
        replace(file["node"], "edges", [[b"one", b"two"]])

    path = edited(tmp_path / "a.nir", edit)
    with pytest.raises(nn.InputError, match="damaged file .it has more than 100000 edges"):
        nn.load_weights(path)


def test_text_that_would_take_too_much_is_refused(tmp_path):
    """One long text that stands for every end of every edge."""
    offsets = []

    def edit(file, nodes):
        del file["node/edges"]
        edges = file["node"].create_dataset("edges", (9000, 2), h5py.string_dtype())
        edges[...] = "a"
        edges[0, 0] = "x" * 60_000
        file.flush()
        offsets.append(edges.id.get_offset())

    path = edited(tmp_path / "a.nir", edit)
    content = bytearray(path.read_bytes())
    start, size = offsets[0], 16
    content[start : start + 18_000 * size] = content[start : start + size] * 18_000
    path.write_bytes(content)
    with pytest.raises(nn.InputError, match="node/edges: damaged file .its arrays take more than"):
        nn.load_weights(path)
