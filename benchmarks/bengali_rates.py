"""Choose the rates of the repaired Bengali network on training images.

    python benchmarks/bengali_rates.py [--images 300] [--seed 0]

Each layer in turn gets other rates, while the other layers keep `bengali.FULL_SCALE_RATES`. A row
states how often the network gives the answer of its ANN after 10 steps, and how many spikes and
operations it needs. The images are training images that follow those of the scales; no test image
is read. NENGONET_DATA names the folder with bengali50.npz.
"""

import argparse

import numpy as np

from nengonet.run.presentation import present
from nengonet.studies import bengali
from nengonet.studies.shared import logits_of
from nengonet.weights import load_weights, pretrained

RATES = (250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)
N_STEPS = 10


def main():
    """Print a table for each layer, and the rates that the rule chooses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    layers = bengali.cnn_layers(load_weights(pretrained("bengali_cnn")))
    images, _ = bengali.DATA.load("train", "all")
    sample = images[: bengali.N_SAMPLE]
    shown = images[bengali.N_SAMPLE : bengali.N_SAMPLE + arguments.images]
    answers = logits_of(layers, shown).argmax(axis=1)
    shipped, chosen = list(bengali.FULL_SCALE_RATES), []
    print(f"{len(shown)} training images, {N_STEPS} steps, seed {arguments.seed}")
    print(f"{'layer':8}{'Hz':>7}{'as the ANN':>12}{'spikes':>10}{'operations':>13}")
    for index, layer in enumerate(layers[:-1]):
        agreed = {}
        for rate in sorted({*RATES, shipped[index]}):
            rates = [*shipped[:index], rate, *shipped[index + 1 :]]
            output = bengali.repaired(layers, sample, rates=rates, seed=arguments.seed)
            result = present(
                output.network,
                output,
                shown,
                presentation_time=N_STEPS * bengali.DT,
                seed=arguments.seed,
                readout="mean",
                keep=[output.label],
                precision=32,
                minibatch_size=50,
                progress=False,
            )
            agreed[rate] = float(np.mean(result.predictions() == answers))
            spikes, operations = (
                sum(each.values())
                for each in (result.spikes_per_image(), result.operations_per_image())
            )
            mark = "  shipped" if rate == shipped[index] else ""
            print(
                f"{layer.name:8}{rate:7.0f}{agreed[rate]:12.4f}{spikes:10,.0f}{operations:13,.0f}"
                f"{mark}",
                flush=True,
            )
        best = max(agreed.values())
        error = np.sqrt(best * (1 - best) / len(shown))
        chosen.append(min(rate for rate, value in agreed.items() if value >= best - error))
    print("chosen (lowest rate within a standard error of the layer's best):", chosen)
    print("shipped:                                                         ", shipped)


if __name__ == "__main__":
    main()
