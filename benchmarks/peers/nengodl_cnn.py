"""The convolutional jobs in NengoDL: a Keras model through its Converter."""

from __future__ import annotations

import importlib.metadata
import os
import warnings

import common
import numpy as np

# The default planner merges operators of several layers. They then write into parts of arrays.
_CSNN = {"planner": "noop", "unroll": 5, "batch_size": 20}
_BENGALI = _CSNN | {"batch_size": 50}
BEST = dict.fromkeys(("csnn-avg", "csnn-max", "csnn-lif"), _CSNN)
BEST |= dict.fromkeys(("bengali-posted", "bengali-repaired"), _BENGALI)
OPTIONS = {
    "planner": {"choices": ["tree", "greedy", "noop"], "default": "tree", "help": "of the graph"},
    "unroll": {"type": int, "default": 1, "help": "steps in a turn of TensorFlow's loop"},
    "stock": {
        "action": "store_true",
        "help": "NengoDL's own spiking ReLU in place of integrate-and-fire, its own average pools",
    },
    "average": {"action": "store_true", "help": "max_to_avg_pool: average pools in place of max"},
    "spikes": {"action": "store_true", "help": "count the spikes of all layers, which takes time"},
}


def integrate_and_fire() -> type:
    """Return `nengonet.IntegrateAndFire` for NengoDL, with a step in TensorFlow."""
    import nengo
    import tensorflow as tf
    from nengo_dl import neuron_builders

    class IntegrateAndFire(nengo.SpikingRectifiedLinear):
        """Integrate a signed current and subtract one for every spike."""

    class IntegrateAndFireBuilder(neuron_builders.SpikingRectifiedLinearBuilder):
        """Builds them."""

        def step(self, J, dt, voltage):
            voltage += J * dt
            n_spikes = tf.nn.relu(tf.floor(voltage))
            return n_spikes * self.alpha, voltage - n_spikes

    neuron_builders.SimNeuronsBuilder.TF_NEURON_IMPL[IntegrateAndFire] = IntegrateAndFireBuilder
    return IntegrateAndFire


def convert_average_pools() -> None:
    """Convert average pools to TensorFlow's own operation.

    The Converter would turn them into convolutions, with kernels from all channels to all.
    """
    import nengo_dl
    import tensorflow as tf

    @nengo_dl.Converter.register(tf.keras.layers.AveragePooling2D)
    class ConvertPool(nengo_dl.converter.LayerConverter):
        """Converts one."""

        def convert(self, node_id):
            layer = self.layer
            geometry = layer.pool_size, layer.strides, layer.padding.upper()
            node = nengo_dl.TensorNode(
                lambda values: tf.nn.avg_pool2d(values, *geometry),
                shape_in=self.input_shape(node_id),
                shape_out=self.output_shape(node_id),
                pass_time=False,
                label=layer.name,
            )
            self.add_connection(node_id, node)  # with the Converter's synapse
            return node


def keras_model(layers: list[dict], shape: tuple[int, ...], stock: bool) -> tuple:
    """Return the Keras model, the neurons for its activations, and its layers' firing rate scales.

    Each layer has its own activation, because the neurons have their own initial voltages.
    """
    import nengo
    import tensorflow as tf

    types = {each.__name__: each for each in (nengo.LIF, nengo.SpikingRectifiedLinear)}
    types["IntegrateAndFire"] = nengo.SpikingRectifiedLinear if stock else integrate_and_fire()
    pools = {"average": tf.keras.layers.AveragePooling2D, "max": tf.keras.layers.MaxPooling2D}
    values = source = tf.keras.Input(shape)
    neurons, scales = {}, {}

    def activation_of(layer):
        if layer["neurons"] is None:
            return None

        def activation(values):
            return tf.nn.relu(values)

        constants = dict(layer["neurons"])
        neuron_type = types[constants.pop("type")]
        if neuron_type is not nengo.LIF:
            constants.pop("min_voltage", None)
        constants["amplitude"] *= layer["gain"]  # the Converter divides by it
        voltage = {"voltage": layer["voltage"]}
        neurons[activation] = neuron_type(**constants, initial_state=voltage)
        return activation

    for layer in layers:
        if layer["kind"] in pools:
            pool = pools[layer["kind"]](layer["size"], layer["strides"], layer["padding"])
            values = pool(values)
            continue
        kernel, bias = layer["kernel"], layer["bias"] / layer["gain"]
        options = {"activation": activation_of(layer), "use_bias": bool(bias.any())}
        if layer["kind"] == "conv":
            geometry = kernel.shape[:2], layer["strides"], layer["padding"]
            made = tf.keras.layers.Conv2D(kernel.shape[-1], *geometry, **options)
        else:
            made = tf.keras.layers.Dense(kernel.shape[-1], **options)
            if len(values.shape) > 2:
                values = tf.keras.layers.Flatten()(values)
        values = made(values)
        made.set_weights([kernel, bias] if options["use_bias"] else [kernel])
        if layer["neurons"] is not None:
            scales[made] = layer["gain"]
    return tf.keras.Model(source, values), neurons, scales


def job(args, images, number):
    """Convert the model, warm up its simulator, and return the function that simulates."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    warnings.simplefilter("ignore")  # fallbacks, and that state is not kept
    import nengo
    import nengo_dl
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    the_job = common.load_job(args.job)
    if not args.stock:
        convert_average_pools()
    model, neurons, scales = keras_model(the_job.layers, images.shape[1:], args.stock)
    (synapse,) = {each["synapse"] for each in the_job.layers if each["synapse"]} or {None}
    converter = nengo_dl.Converter(
        model,
        swap_activations=neurons,
        scale_firing_rates=scales,
        synapse=synapse,
        inference_only=True,
        max_to_avg_pool=args.average,
    )
    with converter.net:
        nengo_dl.configure_settings(
            stateful=False,
            keep_history=args.spikes or the_job.readout != "last_step",
            planner=getattr(nengo_dl.graph_optimizer, f"{args.planner}_planner"),
        )
        ensembles = converter.net.all_ensembles if args.spikes else []
        probes = {nengo.Probe(each.neurons): each.neuron_type.amplitude for each in ensembles}
    size = min(args.batch_size, len(images))  # of every batch, the last one too
    simulator = nengo_dl.Simulator(
        converter.net,
        dt=the_job.dt,
        minibatch_size=size,
        unroll_simulation=args.unroll,
        progress_bar=False,
    )
    source, output = converter.inputs[model.input], converter.outputs[model.output]

    def simulate(images=images):
        found, spikes = [], 0.0
        for start in range(0, len(images), size):
            batch = images[start : start + size].reshape(-1, 1, source.size_out)
            given = np.repeat(batch, the_job.n_steps, axis=1)
            given = np.pad(given, [(0, size - len(batch)), (0, 0), (0, 0)])
            data = simulator.predict_on_batch({source: given})
            found.append(data[output][: len(batch)])
            spikes += sum(
                data[probe][: len(batch)].sum(dtype=np.float64) * the_job.dt / amplitude
                for probe, amplitude in probes.items()
            )
        if args.spikes:
            print(f"{spikes / len(images):,.0f} spikes per image")
        return np.concatenate(found), 0.0

    simulate(images[:size])
    return simulate


if __name__ == "__main__":
    args = common.job_arguments(__doc__, BEST, **OPTIONS)
    neurons = "stock" if args.stock else "integrate-and-fire neurons and average pools added"
    common.run(
        job,
        args,
        framework="NengoDL",
        version=importlib.metadata.version("nengo-dl"),
        notes=f"TensorFlow {importlib.metadata.version('tensorflow-cpu')}, float32, "
        f"{args.planner} planner, unrolled {args.unroll} times, {neurons}",
    )
