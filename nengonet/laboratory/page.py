"""The page: knobs on the left, prediction and run side by side, and tabs to look inside."""

from __future__ import annotations

import asyncio
import functools
import io
import math
from collections.abc import Callable

import numpy as np
import panel as pn
import param
from bokeh.models import LayoutDOM

import nengonet as nn
from nengonet.html import Html, card, display, join, table, tag
from nengonet.laboratory import views
from nengonet.laboratory.knobs import Knob
from nengonet.laboratory.state import Lab, Run, Settings
from nengonet.report import image_card

_EVERY = 100  # milliseconds between two looks at what a run has done
_N_IMAGES, _N_RUNS = 36, 20  # in the grid, and in the list of runs
_RUNS = ("run", "network", "changed since the run before", "predicted", "accuracy of the run", "s")
_KNOB = ":host { margin: 2px 4px; } label { font-size: 12px; }"
_CHANGED = f"{_KNOB} label {{ color: #B34700; font-weight: 700; }}"
_CHANGED += " input, select { border: 2px solid #D55E00 !important; }"
_CODE = "textarea { font: 12px/1.4 monospace; white-space: pre; }"
_UNITS = dict.fromkeys(("tau_rc", "tau_ref", "tau_n", "synapse", "presentation_time", "dt"), "s")
_UNITS |= {"max_rate": "Hz", "max_rates": "Hz"}
_WIDE = {"sizing_mode": "stretch_width"}
#: The choices and views of each tab.
_TABS = {
    "prediction": ("prediction",),
    "runs": ("runs",),
    "images": ("which", "start", "image", "grid", "example"),
    "neuron": ("layer", "neuron", "image", "one_neuron"),
    "layer": ("layer", "one_layer"),
    "code": ("code",),
    "report": ("report",),
}


def page(lab: Lab) -> pn.viewable.Viewable:
    """Return a page of a lab."""
    pn.extension()
    return Page(lab).view()


def _text(value: object, none: str = "none") -> str:
    """Return the value of a knob as text."""
    return none if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _accuracy(title: str, found: nn.Accuracy | None, below: str = "", old: bool = False) -> Html:
    """Return an accuracy in large type, with its interval."""
    style = {"class_": "big", "style": "opacity: .35" if old else None}
    large = tag("div", f"{found.value:.3f}" if found else "–", **style)
    return card(title, large, *(tag("div", each, class_="quiet") for each in (found, below)))


def _row_of(run: Run) -> list[object]:
    """Return a row of the list of runs."""
    changed = (f"{name}: {_text(a)} → {_text(b)}" for name, (a, b) in run.changed.items())
    style = "max-height: 9em; overflow: auto"
    words = tag("div", *(tag("div", each) for each in changed), style=style)
    predicted = run.diagnosis.predicted_accuracy_with_noise
    accuracies = [tag("b", f"{each:.3f}") if each else "–" for each in (predicted, run.accuracy)]
    interval = str(run.accuracy or "").partition(" ")[2]
    accuracies[1] = join(accuracies[1], " ", interval)
    return [run.number, run.settings.name, words, *accuracies, f"{run.seconds:.2f}"]


def _view(tab: str, *needs: str) -> Callable:
    """Decorate a method that makes a view of these parameters.

    It is called in the background, when its tab is open and its parameters have changed.
    """

    def decorate(make: Callable) -> Callable:
        @param.depends("tab", *needs)
        @functools.wraps(make)
        async def shown(page: Page) -> object:
            given = [getattr(page, each) for each in needs]
            if page.tab != tab or None in given or page.known.get(make) == given:
                raise param.Skip
            page.n_drawing += 1
            try:
                made = await asyncio.wrap_future(page.lab.later(make, page, *given))
            except nn.InputError as error:
                made = pn.pane.Alert(str(error), alert_type="warning")
            finally:
                page.n_drawing -= 1
            page.known[make] = given
            return pn.pane.Bokeh(made, **_WIDE) if isinstance(made, LayoutDOM) else made

        return shown

    return decorate


class Page(param.Parameterized):
    """One page, of one `Lab`."""

    #: The lab's state when the page last looked at it, and the number of views being drawn.
    now, predicted, done = param.Parameter(), param.Parameter(), param.Parameter()
    state, message, n_drawing = param.String(), param.String(), param.Integer()
    #: What the visitor has chosen.
    tab = param.Selector(objects=[*_TABS])
    which = param.Selector(objects=["all", "wrong", "ties"])
    start, image, neuron = param.Integer(label="From"), param.Integer(), param.Integer()
    layer = param.Selector(objects=[])

    def __init__(self, lab: Lab) -> None:
        super().__init__()
        self.lab, self.known, self._base, self._is_quiet, self._seen = lab, {}, None, False, ()
        self._column = pn.Column(scroll=True, width=348, styles={"height": "calc(100vh - 150px)"})
        self._bar = pn.indicators.Progress(value=0, max=100, height=8, **_WIDE)
        choices = {name: functools.partial(lab.choose, name) for name in lab.networks}
        self._networks = [self._button(name, "network", each) for name, each in choices.items()]
        self._show_knobs()
        lab.run()

    def view(self) -> pn.viewable.Viewable:
        """Return the whole page."""
        pn.state.add_periodic_callback(self.look, _EVERY)
        if pn.state.curdoc is not None:
            pn.state.on_session_destroyed(lambda context: self.lab.cancel())
        back = self._button("↶ back", "back", self.lab.back)
        left = pn.Column(pn.FlexBox(*self._networks, back), self._column, width=360)
        tabs = pn.Tabs(*((name, self._inside(name, each)) for name, each in _TABS.items()))
        tabs.param.watch(lambda event: self.param.update(tab=[*_TABS][event.new]), "active")
        right = pn.Column(self.top, self._bar, tabs, min_width=560, **_WIDE)
        title = pn.pane.HTML(display(tag("h1", self.lab.title)))
        return pn.Column(title, pn.Row(left, right, **_WIDE), margin=12, **_WIDE)

    def _inside(self, name: str, parts: tuple[str, ...]) -> pn.Column:
        """Return the content of a tab: choices above views."""
        kinds, choices = (
            {"which": pn.widgets.RadioButtonGroup, "layer": pn.widgets.Select},
            pn.Row(),
        )
        for each in (each for each in parts if each in self.param):
            kind, style = kinds.get(each, pn.widgets.IntInput), {"css_classes": [each]}
            style["width"] = 240 if each in kinds else 110
            choices.append(kind.from_param(self.param[each], **style))
        views = [getattr(self, each) for each in parts if each not in self.param]
        css = {"css_classes": [f"inside-{name}"], "min_height": 60}
        return pn.Column(choices, *views, **css, **_WIDE)

    # -- knobs

    def _button(self, name: str, kind: str, change: Callable[[], None]) -> pn.widgets.Button:
        pressed = {"on_click": lambda event: self._do(change)}
        return pn.widgets.Button(name=name, css_classes=[kind], margin=3, **pressed)

    def _do(self, change: Callable[[], None]) -> None:
        """Change the knobs, and run. An impossible change shows a message and does nothing else."""
        self.message = ""
        try:
            change()
            self.lab.run()
        except nn.InputError as error:
            self.message = str(error)
        self._show_knobs()

    def _show_knobs(self) -> None:
        """Show the values, in new widgets for another network."""
        lab, knobs, changed, self._is_quiet = self.lab, self.lab.knobs, self.lab.changed, True
        if self._base is not lab.now.base:
            self._base, boxes = lab.now.base, {knob.layer: pn.FlexBox() for knob in knobs.values()}
            self._widgets = {name: self._widget(name, knob) for name, knob in knobs.items()}
            for name, knob in knobs.items():
                boxes[knob.layer].append(self._widgets[name])
            style = {"width": 320, "margin": 4}
            self._column[:] = [pn.Card(own, title=layer, **style) for layer, own in boxes.items()]
        for name, knob in knobs.items():
            unit, was = _UNITS.get(knob.word), changed.get(name)
            words = f"{knob.word} ({unit})" if unit else knob.word
            words += f", was {_text(was[0], knob.none or '–')}" if was else ""
            shown = {"value": lab.now.values[knob.layer][knob.word], "name": words}
            style = {"stylesheets": [_CHANGED if was else _KNOB]}
            self._widgets[name].param.update(visible=knob.used(lab.now.values), **shown, **style)
        for button in self._networks:
            button.button_type = "primary" if button.name == lab.now.name else "default"
        self._is_quiet = False

    def _widget(self, name: str, knob: Knob) -> pn.widgets.Widget:
        value = self.lab.now.values[knob.layer][knob.word]
        css = f"knob-{name}".replace(".", "-").replace(" ", "-")
        given = {"width": 142, "value": value, "css_classes": [css]}
        if knob.choices:
            widget = pn.widgets.Select(options=list(knob.choices), **given)
        elif isinstance(value, int):
            widget = pn.widgets.IntInput(**given)
        else:
            size = abs(value) if value and math.isfinite(value) else 0.1
            form = {
                "step": 10.0 ** (math.floor(math.log10(size)) - 1),
                "placeholder": knob.none or "no limit",
            }
            widget = pn.widgets.FloatInput(**given, **form, format="0,0.[00000000]")

        def turned(event: object) -> None:
            if not self._is_quiet:
                self._do(functools.partial(self.lab.set, name, event.new))

        widget.param.watch(turned, "value")
        return widget

    # -- results

    def look(self) -> None:
        """Show what has changed in the lab since the last look."""
        lab = self.lab
        self._bar.value = int(100 * lab.job.share) if lab.is_running else 0
        seen = [lab.now, lab.predicted, lab.done, lab.is_running, lab.trouble]
        if list(map(id, seen)) == list(map(id, self._seen)):
            return
        self._seen = seen
        if lab.done is not self.done:
            self.param.layer.objects = [*lab.done.layers]
            self._show_knobs()
        self.message = lab.trouble or self.message
        self.state = "running …" if lab.is_running else "no run" if lab.trouble else "done"
        self.param.update(now=lab.now, predicted=lab.predicted, done=lab.done)

    @param.depends("now", "predicted", "done", "state", "message", "n_drawing")
    def top(self) -> pn.pane.HTML:
        """Show what is refused, and predicted and observed accuracies."""
        found, run, now = self.predicted, self.done, self.now
        accuracy = found and found.predicted_accuracy_with_noise
        cards = [_accuracy("predicted" if found else "predicted …", accuracy)]
        if run is not None:
            old = run.settings is not now
            words = f"run {run.number}{', of other knobs' if old else ''}; {run.seconds:.2f} s"
            cards.append(_accuracy("run", run.accuracy, words, old))
        if now is not None and now.published is not None:
            cards.append(card("published", tag("div", f"{now.published:.2f}", class_="big")))
        said = tag("div", self.message, class_="card error says") if self.message else None
        words = "drawing …" if self.n_drawing and self.state == "done" else self.state
        state = tag("div", words, class_="quiet state")
        cards = tag("div", *cards, class_="row even numbers")
        return pn.pane.HTML(display(said, cards, state), **_WIDE)

    @param.depends("predicted", "done")
    def prediction(self) -> pn.pane.HTML:
        """Show the prediction for each layer, the findings, and the rates of the run."""
        predicted, run = self.predicted and self.predicted.to_html(), self.done
        return pn.pane.HTML(display(predicted, run and Html(run.result._repr_html_())), **_WIDE)

    @param.depends("done")
    def runs(self) -> pn.pane.HTML:
        """Show the list of runs, the last one first."""
        rows = map(_row_of, self.lab.history[: -_N_RUNS - 1 : -1])
        found = display(table([_RUNS, *rows], left=(1, 2, 4)))
        return pn.pane.HTML(found, css_classes=["runs"], **_WIDE)

    # -- inside the last run

    @_view("images", "done", "which", "start")
    def grid(self, run: Run, which: str, start: int) -> pn.Column:
        """Show images with their answers, and a button to choose each."""
        answers, tied = run.answers
        wrong = (answers != run.labels) & (run.labels is not None)
        among = np.flatnonzero({"all": tied | True, "wrong": wrong, "ties": tied}[which])
        shown = among[max(start, 0) :][:_N_IMAGES]
        words = (
            f"{wrong.sum():,} of {len(wrong):,} images wrong (red), {tied.sum():,} tied (orange). "
        )
        words += f"Shown: {which}, {len(shown)} from {start} on, of {len(among):,}."
        tiles = [
            pn.Column(
                self._card(run, k), pn.widgets.Button(name="look inside", on_click=self._to(k))
            )
            for k in shown.tolist()
        ]
        box = {"max-height": "420px", "overflow": "auto"}
        return pn.Column(words, pn.FlexBox(*tiles, styles=box), **_WIDE)

    def _card(self, run: Run, k: int, size: float = 1.0) -> pn.pane.HTML:
        """Return an image with its answer."""
        about = run.pictures, run.labels, *run.answers, self.lab.class_names
        return pn.pane.HTML(display(tag("div", image_card(k, *about), style=f"zoom: {size}")))

    def _to(self, k: int) -> Callable:
        return lambda event: self.param.update(image=k)

    @_view("images", "done", "image")
    def example(self, run: Run, k: int) -> pn.Row:
        """Show the chosen image, and what it does in the network."""
        k = min(k, len(run.images) - 1)
        label = None if run.labels is None else int(run.labels[k])
        view = views.example_view(run.again(k)[0], label, self.lab.class_names)
        parts = self._card(run, k, 1.6), pn.pane.Bokeh(view, **_WIDE)
        return pn.Row(*parts, css_classes=["example"], **_WIDE)

    @_view("neuron", "done", "layer", "neuron", "image")
    def one_neuron(self, run: Run, layer: str, neuron: int, k: int) -> LayoutDOM:
        """Draw the chosen neuron, and what it does for the chosen image."""
        k, neuron = min(k, len(run.images) - 1), min(neuron, run.layers[layer].size - 1)
        place = np.unravel_index(neuron, run.layers[layer].shape)
        where = f" at {tuple(map(int, place))}" if len(place) > 1 else ""  # row, column, channel
        name = f"{layer}[{neuron}]{where}, image {k}"
        return views.neuron_view(**run.neuron(k, layer, neuron), name=name)

    @_view("layer", "done", "layer")
    def one_layer(self, run: Run, layer: str) -> LayoutDOM:
        """Draw the rates of the chosen layer against the prediction."""
        rates = run.result.rates(layer), run.predicted[layer].rates
        return views.layer_view(*rates, layer, run.ceiling(layer))

    @_view("code", "now")
    def code(self, now: Settings) -> pn.Column:
        """Show the script of the network of now, to copy or download."""
        script = self.lab.code()
        text = pn.widgets.TextAreaInput(value=script, rows=36, stylesheets=[_CODE], **_WIDE)
        text.css_classes, text.max_length = ["code"], 10**7
        copy = pn.widgets.Button(name="copy", button_type="primary", css_classes=["copy"])
        copy.js_on_click({"code": text}, "navigator.clipboard.writeText(code.value)")
        files = {"network.py": script.encode(), "network.npz": script.npz()}
        offered = [_download(name, content) for name, content in files.items() if content]
        return pn.Column(pn.Row(copy, *offered), text, **_WIDE)

    @_view("report", "done")
    def report(self, run: Run) -> pn.Column:
        """Show the report of the run, to download."""
        text = run.report(self.lab.title, self.lab.class_names)
        style = {"sandbox": "", "style": "width: 100%; height: 75vh; border: 0"}
        frame = pn.pane.HTML(tag("iframe", srcdoc=text, **style), **_WIDE)
        return pn.Column(_download(f"run_{run.number}.html", text.encode()), frame, **_WIDE)


def _download(name: str, content: bytes) -> pn.widgets.FileDownload:
    given = {"filename": name, "label": f"download {name}", "css_classes": ["download"]}
    return pn.widgets.FileDownload(io.BytesIO(content), **given)
