"""The job in nengonet: the forum's network, repaired, through `nengonet.present`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import time

import common

import nengonet
from nengonet.studies import forum_mnist

if __name__ == "__main__":
    args = common.arguments(
        __doc__,
        batch_size=250,
        precision={"type": int, "choices": [32, 64], "default": 64},
    )
    images, labels = common.load_images(args.data, args.images)
    example = forum_mnist.STUDY.build(weights=args.weights)

    def present():
        """Build the simulators, run, and bring the results back from the processes."""
        return nengonet.present(
            example.network,
            example.output,
            images,
            presentation_time=args.steps * common.DT,
            n_jobs=args.processes,
            minibatch_size=args.batch_size,
            precision=args.precision,
            progress=False,
        )

    present()  # the processes stay, and what they have compiled
    start = time.monotonic()
    result = present()
    seconds = time.monotonic() - start
    spikes = result.spikes_per_image()
    common.report(
        args,
        framework="nengonet",
        version=importlib.metadata.version("nengonet"),
        seconds=seconds,
        accuracy=result.accuracy(labels).value,
        notes=f"Nengo {importlib.metadata.version('nengo')}, "
        f"Numba {'yes' if importlib.util.find_spec('numba') else 'no'}, float{args.precision}; "
        f"{spikes[example.output.label]:.0f} output spikes per image",
    )
