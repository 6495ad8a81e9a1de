"""A run as one HTML file: settings, accuracy, findings, layers, figures, wrong images."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from nengonet import html, plots
from nengonet.checks import as_labels, as_pixels, described
from nengonet.exceptions import InputError
from nengonet.explain.comparison import Comparison
from nengonet.explain.diagnosis import Diagnosis
from nengonet.explain.findings import SEVERITIES, Finding
from nengonet.explain.observed import observed_findings
from nengonet.files import output_path, printable, write_whole
from nengonet.html import Html, tag
from nengonet.plots.frame import as_image, as_png, image_as_png, names_of_classes
from nengonet.results.result import Result
from nengonet.results.summary import COLUMNS, layer_rows
from nengonet.run.content import digest
from nengonet.tables import cells
from nengonet.version import __version__

_N_SHOWN = 48  # wrong images, and ties
_OPERATIONS = {"operations": ("operations", ",.0f")}
_DIAGNOSIS = (
    "J is the current into the neurons (of LIF, the threshold is 1); mean, peak, silent and "
    "saturated are of predicted rates; output/act. is the mean output for an activation of 1."
)


def check_page_path(path: str | os.PathLike) -> pathlib.Path:
    """Return the path of a page, or raise `InputError` where none can be written."""
    return output_path(path, "page", (".html", ".htm"))


def write_report(path: str | os.PathLike, *content: object, **options: object) -> None:
    """Write `report` to a file, whole or not at all; one that exists is replaced."""
    path = check_page_path(path)
    write_whole(path, report(*content, **options).encode("utf-8", "backslashreplace"))


def report(
    result: Result,
    *,
    images: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    diagnosis: Diagnosis | None = None,
    comparison: Comparison | None = None,
    title: str | None = None,
) -> Html:
    """Return the page: see `nengonet.Result.to_html`, whose arguments these are."""
    n, n_classes = result.n_images, result.steps.shape[2]
    labels = None if labels is None else as_labels(labels, n, n_classes)
    findings, shown = [], None
    if images is not None:
        pixels = as_pixels(images)
        if len(pixels) != n:
            raise InputError(f"images: expected {n}, one for each of the run, got {len(pixels)}")
        shown = drawable(pixels)
        findings += other_images(result, images)
    names_of_classes(class_names, n_classes)  # as many as there are
    for name, given, kind in (
        ("diagnosis", diagnosis, Diagnosis),
        ("comparison", comparison, Comparison),
    ):
        if given is not None and not isinstance(given, kind):
            function = f"nengonet.{'diagnose' if kind is Diagnosis else 'compare'}"
            raise InputError(
                f"{name}: expected a {kind.__name__}, as {function} returns, got {described(given)}"
            )
    names = list(map(str, range(n_classes) if class_names is None else class_names))
    findings += observed_findings(result, labels)
    if diagnosis is not None:
        # What the network shows says more than the same thing seen in the counts.
        known = {each.code for each in diagnosis.findings}
        findings = [*diagnosis.findings, *(each for each in findings if each.code not in known)]
        findings.sort(key=lambda each: SEVERITIES.index(each.severity))
    head = printable(title or f"Run of {n:,} images")
    parts = [
        tag("h1", head),
        tag("p", _subtitle(result), class_="quiet"),
        _cards(result, labels, diagnosis),
        tag("h2", "Findings"),
        html.finding_cards(findings) or tag("p", _nothing(labels, diagnosis), class_="quiet"),
        tag("h2", "Settings of the run"),
        html.facts(result.about() | _versions(result)),
        tag("h2", "Layers"),
        _layers(result),
        *_images(result, shown, labels, names),
        tag("h2", "Figures"),
        tag("div", *_figures(result, shown, labels, names, comparison), class_="row"),
    ]
    if diagnosis is not None:
        title = tag("h2", "Diagnosis: predicted before the network is run")
        words = tag("p", _DIAGNOSIS, class_="quiet")
        parts += [title, diagnosis.to_html(findings=False), words]
    if comparison is not None:
        parts += [tag("h2", "Observed beside predicted rates"), comparison.to_html()]
    return html.page(head, *parts)


def _subtitle(result: Result) -> str:
    layers = " → ".join(printable(info.label) for info in result.layers)
    time = f"each for {result.n_steps} steps of {result.dt:g} s"
    return (
        f"{result.n_images:,} images, {time}; layers {layers}. Written by nengonet {__version__}."
    )


def other_images(result: Result, images: np.ndarray | None) -> Iterator[Finding]:
    """Yield a finding where images are not those that a saved run was shown."""
    saved = result.settings.get("fingerprint", {}).get("images")
    if images is None or saved is None:
        return
    rows = np.reshape(images, (result.n_images, -1))
    as_shown = (as_pixels(rows), rows.astype(np.float64), np.asarray(images))
    if saved not in (digest((each,), "images") for each in as_shown):
        yield Finding(
            "other-images",
            "warning",
            (result.layers[0].label,),
            "the images of this page differ from those that the run was shown",
            "their digests differ",
            "pass the images of the run, in their order; otherwise the pictures mean nothing, nor "
            "does the accuracy if the labels belong to other images",
        )


def _nothing(labels: np.ndarray | None, diagnosis: Diagnosis | None) -> str:
    words = "The counts and answers show nothing unusual."
    more = [] if labels is not None else ["labels"]
    more += [] if diagnosis is not None else ["a diagnosis, which needs the network"]
    return words + (f" Not given: {', '.join(more)}." if more else "")


def _cards(result: Result, labels: np.ndarray | None, diagnosis: Diagnosis | None) -> Html:
    """Return the cards with the main figures."""

    def one(title: str, figure: str, words: str) -> Html:
        big = tag("div", figure, class_="big")
        return html.card(title, big, tag("div", words, class_="quiet"))

    def accuracy(title: str, found: object, words: str = "") -> Html:
        low, high = (100 * end for end in found.interval)
        words = f"95 % interval {low:.2f} to {high:.2f} %, {found.n_images:,} images{words}"
        return one(title, f"{100 * found.value:.2f} %", words)

    if labels is None:
        found = [one("Accuracy", "–", "unknown: no labels were given")]
    else:
        right = result.accuracy(labels)
        wrong = f", {round((1 - right.value) * right.n_images):,} wrong"
        found = [accuracy("Accuracy", right, wrong)]
    tied = int(result.tied().sum())
    found.append(one("Ties", f"{tied:,}", "images in which classes share the highest score"))
    if result.spikes:
        spikes = sum(result.spikes_per_image().values())
        found.append(one("Spikes per image", f"{spikes:,.0f}", "all layers together"))
    for name, each in () if diagnosis is None else diagnosis.accuracies():
        title = "Accuracy of the ANN" if name == "ANN" else f"Predicted: {name}"
        found.append(accuracy(title, each))
    return tag("div", *found, class_="row even")


def _versions(result: Result) -> dict[str, str]:
    """Return the versions with which a saved run was computed."""
    saved = result.settings.get("fingerprint", {})
    return {name: saved[name] for name in ("nengonet", "Nengo", "NumPy", "Python") if name in saved}


def _layers(result: Result) -> Html:
    operations = result.operations_per_image()
    rows = [row | {"operations": operations.get(row["label"])} for row in layer_rows(result)]
    words = (
        "Rates are in Hz, for each neuron and image; silent is the share of these without a "
        "spike. Spikes and synaptic operations (weights other than 0 that spikes reach) are means "
        "per image. A dash means that a value does not apply or was not kept."
    )
    table = html.table(cells(rows, COLUMNS | _OPERATIONS))
    return html.join(table, tag("p", words, class_="quiet"))


def _figures(result, images, labels, names, comparison) -> Iterator[Html]:
    """Yield the figures that the run allows, each with a description."""
    drawn: list[tuple[str, str, Figure]] = []
    if labels is not None:
        curves = {result.settings["readout"].replace("_", " "): result.latency(labels)}
        latency = plots.plot_latency(curves, dt=result.dt, n_images=result.n_images)
        drawn += [
            ("Accuracy over time", "Accuracy if the run had ended after this many steps.", latency),
            (
                "Confusion matrix",
                "One row for each true class; everything off the diagonal is wrong.",
                plots.plot_confusion(result, labels, names),
            ),
        ]
    if result.counts:
        words = "Number of occurrences of each rate, over all neurons and images of a layer."
        drawn.append(("Rates", words, plots.plot_rates(result)))
    if comparison is not None:
        words = "One dot for each neuron and image; on the line, observed and predicted agree."
        drawn.append(("Rates against prediction", words, plots.plot_comparison(comparison)))
    if images is not None:
        label = None if labels is None else names[labels[0]]
        words = "The score of every class over time; the highest at the end is the answer."
        figure = plots.plot_output(images[0], result, 0, label, names)
        drawn.append(("Image 0", words, figure))
    for layer in result.rasters:
        words = "Each mark is a spike of the presentation of image 0."
        drawn.append((f"Spikes of {layer}", words, plots.plot_raster(result, layer, 0)))
    for title, words, figure in drawn:
        width = round(84 * figure.get_figwidth())
        picture = html.picture(as_png(figure), alt=f"{title}. {words}", width=width)
        caption = tag("figcaption", tag("b", printable(title)), html.escaped(f": {words}"))
        yield tag("figure", caption, picture, style=f"width: {width}px")


def image_card(
    k: int,
    images: np.ndarray | None,
    labels: np.ndarray | None,
    answers: np.ndarray,
    tied: np.ndarray,
    names: Sequence[str],
) -> Html:
    """Return a card of image ``k``: its picture, if there is one, its right class and its answer.

    Its edge is red for a wrong answer, orange for a tie, and blue for any other.
    """
    right = None if labels is None else names[labels[k]]
    wrong = right is not None and labels[k] != answers[k]
    seen = None
    if images is not None:
        seen = html.picture(image_as_png(images[k]), f"image {k}", class_="pixels")
    texts = [f"image {k}", right and f"right: {right}", f"answer: {names[answers[k]]}"]
    texts += ["a tie"] if tied[k] else []
    lines = [tag("div", each) for each in texts if each is not None]
    kind = "warning" if tied[k] else "error" if wrong else "note"
    return tag("div", seen, *lines, class_=f"card {kind}")


def drawable(images: np.ndarray) -> np.ndarray | None:
    """Return images in [0, 1]; None if they have another shape than images."""
    shown = as_pixels(images)
    if shown.min() < 0 or shown.max() > 1:  # standardised, for example
        shown = (shown - shown.min()) / (shown.max() - shown.min())
    try:
        as_image(shown[0])
    except InputError:
        return None
    return shown


def _images(result, images, labels, names) -> Iterator[Html]:
    """Yield the wrong images, then the ties that are right, or all ties without labels."""
    answers, tied = result.predictions(), result.tied()

    def grid(title: str, numbers: np.ndarray, words: str) -> Html:
        n, shown = len(numbers), numbers[:_N_SHOWN]
        about = images, labels, answers, tied, names
        cards = [image_card(k, *about) for k in shown]
        words += f" The first {len(shown)} are shown." if n > len(shown) else ""
        head = [tag("h2", f"{title}: {n:,}"), tag("p", words, class_="quiet")]
        return html.join(*head, tag("div", *cards, class_="tiles"))

    if labels is not None:
        words = f"Of {result.n_images:,} images; right is the label, answer the network's class."
        yield grid("Wrong images", np.flatnonzero(answers != labels), words)
    title = "Ties" if labels is None else "Right answers by a tie"
    words = "Several classes share the highest score, and the lower class number wins."
    found = np.flatnonzero(tied if labels is None else tied & (answers == labels))
    if labels is None or len(found):
        yield grid(title, found, words)
