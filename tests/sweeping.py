"""Small sweeps for tests, whose cells other processes can load."""

import os
import time

import numpy as np

import nengonet as nn
from nengonet.sweeps import sweep as sweeps

GRID = {"scale": [1.0, 0.1], "kind": ["a", "b"]}


def noisy(scale, kind, seed, offset=0.0):
    """Return numbers with many digits, so that equal numbers are not an accident."""
    rng = np.random.default_rng([seed, ord(kind)])
    return {"mean": scale * rng.normal() + offset, "trace": rng.normal(size=3), "odd": seed % 2}


def picky(x, seed):
    if x == 2:
        raise ValueError("two is\nno good")
    return x + seed


def fatal(x, seed):
    if x == 3:
        os._exit(1)
    time.sleep(0.02)
    return x


def greedy(x, items, seed):
    items.append(x)
    return len(items)


def slow(x, seed):
    time.sleep(0.05)
    return x / 7 + seed


def run(function=noisy, grid=GRID, **settings):
    return nn.sweep(function, grid, **({"seeds": 3, "progress": False} | settings))


def numbers(result):
    return [{name: row[name] for name in row if name != "seconds"} for row in result.rows]


def recorded(file):
    """Return the keys in a sweep's file, in the order in which they were written."""
    found = []
    with sweeps.SweepJournal(file, None) as journal:
        journal.replay(found.append)
    return [record["key"] for record in found]
