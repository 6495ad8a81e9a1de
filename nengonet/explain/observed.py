"""Findings from a run alone, without network or prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from nengonet.checks import as_labels
from nengonet.explain.findings import SATURATED, SEVERITIES, Finding
from nengonet.results.result import Result

# Shares from which on there is a finding.
_TIES, _MOVING, _AT_TOP, _NEVER, _ONE_CLASS = 0.05, 0.05, 0.25, 0.5, 0.5
_DIAGNOSE = "nengonet.diagnose says why, from the network"


def observed_findings(result: Result, labels: ArrayLike | None = None) -> tuple[Finding, ...]:
    """Return the findings that the counts and answers of a run show, worst first.

    Parameters
    ----------
    result : Result
    labels : (n_images,) or (n_images, 1) array_like of int, optional
        If given, answers are compared with the share of each class.

    Returns
    -------
    tuple of Finding
        `nengonet.diagnose` finds more, and the causes, from the network.
    """
    found = [*_silent(result), *_at_top(result), *_answers(result, labels)]
    return tuple(sorted(found, key=lambda each: SEVERITIES.index(each.severity)))


def _silent(result: Result) -> Iterator[Finding]:
    """Find layers without a spike, and layers after the input with many silent neurons."""
    for k, info in enumerate(result.layers):
        spikes, size = result.spikes.get(info.label), math.prod(info.shape)
        counts = result.counts.get(info.label)
        if spikes is not None and not spikes.any():
            message = f"{info.label}: none of the {size:,} neurons spiked for any image"
            evidence = f"0 spikes in {result.n_images:,} images"
            change = f"give it a larger gain or bias, or more input; {_DIAGNOSE}"
            yield Finding("no-spikes", "error", (info.label,), message, evidence, change)
        elif k and counts is not None and result.n_images >= 20:
            never = float((~counts.any(axis=0)).mean())
            if never > _NEVER:
                message = f"{info.label}: most neurons never spike"
                evidence = f"{never:.0%} of {size:,} neurons, in {result.n_images:,} images"
                change = "use fewer neurons, or a larger gain"
                yield Finding("silent-neurons", "note", (info.label,), message, evidence, change)


def _at_top(result: Result) -> Iterator[Finding]:
    """Find layers after the input that fire at one rate, as neurons at their ceiling do."""
    for info in result.layers[1:]:
        counts = result.counts.get(info.label)
        largest = 0 if counts is None else int(np.abs(counts).max(initial=0))
        if largest < 10:  # few different counts lie close together anyway
            continue
        share = float((np.abs(counts) > SATURATED * largest).mean())
        if share > _AT_TOP:
            rate = largest / (result.n_steps * result.dt)
            message = f"{info.label}: neurons fire at their largest rate or not at all, which "
            message += "looks like a ceiling"
            evidence = f"{share:.0%} of all rates lie within 10 % of the largest, {rate:,.0f} Hz"
            change = f"lower the gain or the input; {_DIAGNOSE}"
            yield Finding("saturation", "warning", (info.label,), message, evidence, change)


def _answers(result: Result, labels: np.ndarray | None) -> Iterator[Finding]:
    """Find ties, a class that is answered too often, and answers that still change."""
    n, last = result.n_images, result.layers[-1].label
    answers, tied = result.predictions(), result.tied()
    if tied.mean() > _TIES:
        evidence = f"{tied.sum():,} of {n:,} images, where the lower class number wins"
        change = "show the images longer, or let the last layer spike more"
        message = "several classes share the highest score in many images"
        yield Finding("ties", "warning", (last,), message, evidence, change)
    common = np.bincount(answers, minlength=result.steps.shape[2]) / n
    most = int(common.argmax())
    usual = 0.0
    if labels is not None:
        usual = float((as_labels(labels, n, len(common)) == most).mean())
    if len(common) > 2 and n >= 20 and common[most] > max(_ONE_CLASS, 2 * usual):
        evidence = f"{common[most]:.0%} of {n:,} answers"
        evidence += "" if labels is None else f", and {usual:.0%} of the labels"
        message = f"class {most} is the answer to most images"
        change = f"compare the gains and biases of the last layer; {_DIAGNOSE}"
        yield Finding("one-class", "warning", (last,), message, evidence, change)
    before = 9 * result.n_steps // 10
    moving = float((result.predictions(n_steps=before) != answers).mean()) if before else 0.0
    if moving > _MOVING:
        message = "answers still change at the end of the presentation"
        evidence = f"{moving:.1%} of the images have another answer after {before} of "
        evidence += f"{result.n_steps} steps"
        change = "show the images longer"
        if result.settings["readout"] == "last_step":
            change = "use a readout of all steps, such as mean, or a synapse before the last layer"
        yield Finding("still-changing", "note", (last,), message, evidence, change)
