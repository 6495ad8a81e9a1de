"""The jobs in nengonet, with `nengonet.present`: the repaired forum MLP, or a CNN.

python benchmarks/peers/ours.py --weights … --data …     # as for the other scripts of the MLP
python benchmarks/peers/ours.py csnn-avg.npz             # a job that jobs.py has written
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import time

import common

import nengonet

PRECISION = {"type": int, "choices": [32, 64], "default": 64}


def timed(args, present, accuracy) -> None:
    """Report the mean time of ``present()``, from the build of its simulators to the result.

    It is called until two seconds have passed, because a call may take 0.1 s.
    """
    present()  # the processes stay, and what they have compiled
    start, cpu, n_calls = time.monotonic(), common.cpu_seconds(), 0
    while n_calls == 0 or time.monotonic() < start + 2:
        result, n_calls = present(), n_calls + 1
    seconds = (time.monotonic() - start) / n_calls
    cpu = (common.cpu_seconds() - cpu) / n_calls
    spikes = {label: f"{n:,.0f}" for label, n in result.spikes_per_image().items()}
    common.report(
        args,
        framework="nengonet",
        version=importlib.metadata.version("nengonet"),
        seconds=seconds,
        cpu=cpu,
        accuracy=accuracy(result),
        notes=f"Nengo {importlib.metadata.version('nengo')}, "
        f"Numba {'yes' if importlib.util.find_spec('numba') else 'no'}, float{args.precision}; "
        f"spikes per image: {', '.join(f'{label} {n}' for label, n in spikes.items())}",
    )


def mlp() -> None:
    """Run the forum's MLP."""
    from nengonet.studies import forum_mnist

    args = common.arguments(__doc__, batch_size=250, precision=PRECISION)
    images, labels = common.load_images(args.data, args.images)
    example = forum_mnist.STUDY.build(weights=args.weights)

    def present():
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

    timed(args, present, lambda result: result.accuracy(labels).value)


def cnn() -> None:
    """Run a job that jobs.py has written: its images, and the network from which it was read."""
    import jobs

    own = {"precision": PRECISION | {"default": 32}, "data": {"help": "as for jobs.py"}}
    args = common.job_arguments(__doc__, {}, **own)
    job = common.load_job(args.job)
    images, labels = job.images[: args.images], job.labels[: args.images]
    case = jobs.build(job.name, args.data)

    def present():
        return case.present(
            images,
            keep=(),
            n_jobs=args.cores,
            minibatch_size=args.batch_size,
            precision=args.precision,
            progress=False,
        )

    timed(args, present, lambda result: common.accuracy(result.outputs, labels, job.readout))


if __name__ == "__main__":
    mlp() if "--weights" in sys.argv else cnn()
