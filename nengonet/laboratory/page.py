"""The page: knobs on the left, prediction and run side by side, and tabs to look inside.

A visitor's actions are noted, and done at the next look at the lab. Every look sends what it has
changed in order, and the word for the state at the end: once it is done, so is the whole page.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import numpy as np
import panel as pn
import param
from bokeh.models import LayoutDOM

import nengonet as nn
from nengonet.explain.diagnosis import Diagnosis
from nengonet.html import Html, card, display, join, table, tag
from nengonet.laboratory.knobs import Knob
from nengonet.laboratory.state import Lab, Run, Settings
from nengonet.plots import interactive
from nengonet.report import image_card

_EVERY = 50  # milliseconds between two looks at what a run has done
_N_IMAGES, _N_RUNS = 36, 20  # in the grid, and in the list of runs
_RUNS = ("run", "network", "changed since the run before", "predicted", "accuracy of the run", "s")
_KNOB = ":host { margin: 2px 4px; } label { font-size: 12px; }"
# The mark is a matter of style: a new name would draw the widget anew, without what is being typed.
_CHANGED = (
    "label { color: #B34700; font-weight: 700; } label::after { content: %s; display: block; }"
)
_CHANGED += " input, select { border: 2px solid #D55E00 !important; }"
_CODE = "textarea { font: 12px/1.4 monospace; white-space: pre; }"
_UNITS = dict.fromkeys(("tau_rc", "tau_ref", "tau_n", "synapse", "presentation_time", "dt"), "s")
_UNITS |= {"max_rate": "Hz", "max_rates": "Hz"}
_WIDE = {"sizing_mode": "stretch_width"}
#: The choices and views of each tab.
_TABS = {
    "prediction": ("prediction", "observed"),
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


def _view(*needs: str) -> Callable:
    """Decorate a method that makes a view of these attributes of the page, in the background."""

    def decorate(make: Callable) -> Callable:
        make.needs = needs
        return make

    return decorate


@contextlib.contextmanager
def _in_order() -> Iterator[None]:
    """Let Bokeh send all changes at the end: Panel might keep the last ones until the next."""
    document = pn.state.curdoc
    if document is not None:
        document.hold()
    try:
        yield
    finally:
        if document is not None:
            document.unhold()


class Page(param.Parameterized):
    """One page, of one `Lab`."""

    #: What the visitor has chosen.
    tab = param.Selector(objects=[*_TABS])
    which = param.Selector(objects=["all", "wrong", "ties"])
    start, image, neuron = param.Integer(label="From"), param.Integer(), param.Integer()
    layer = param.Selector(objects=[])

    def __init__(self, lab: Lab) -> None:
        super().__init__()
        self.lab, self.message = lab, ""
        #: The lab's state at the last look.
        self.now, self.predicted, self.done = None, None, None
        #: The visitor's actions since then.
        self._todo: list[Callable[[], object]] = []
        #: The attributes of which each view is shown, and the view that is to come.
        self._given: dict[str, list[object]] = {}
        self._coming: dict[str, Future] = {}
        self._places = {view: pn.Column(**_WIDE) for tab in _TABS.values() for view in tab}
        self._top = pn.pane.HTML(**_WIDE)
        self._base, self._is_quiet = None, False
        self._column = pn.Column(scroll=True, width=348, styles={"height": "calc(100vh - 150px)"})
        self._bar = pn.indicators.Progress(value=0, max=100, height=8, **_WIDE)
        self._networks = [self._button(name, "network", lab.choose, name) for name in lab.networks]
        self._show_knobs()
        lab.run()

    def view(self) -> pn.viewable.Viewable:
        """Return the whole page."""
        # What changes while a browser loads the page could reach it in another order.
        pn.state.onload(lambda: pn.state.add_periodic_callback(self.look, _EVERY))
        if pn.state.curdoc is not None:
            pn.state.on_session_destroyed(lambda context: self.lab.cancel())
        back = self._button("↶ back", "back", self.lab.back)
        left = pn.Column(pn.FlexBox(*self._networks, back), self._column, width=360)
        tabs = pn.Tabs(*((name, self._inside(name, each)) for name, each in _TABS.items()))
        tabs.param.watch(lambda event: self.param.update(tab=[*_TABS][event.new]), "active")
        right = pn.Column(self._top, self._bar, tabs, min_width=560, **_WIDE)
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
        views = [self._places[each] for each in parts if each not in self.param]
        css = {"css_classes": [f"inside-{name}"], "min_height": 60}
        return pn.Column(choices, *views, **css, **_WIDE)

    # -- knobs

    def _button(self, name: str, kind: str, change: Callable, *given: object) -> pn.widgets.Button:
        pressed = self._asks(self._change, change, *given)
        return pn.widgets.Button(name=name, css_classes=[kind], margin=3, on_click=pressed)

    def _asks(self, act: Callable, *given: object) -> Callable[[object], None]:
        """Return a function that notes an action of the visitor."""
        return lambda event: self._todo.append(functools.partial(act, *given))

    def _change(self, change: Callable, *given: object) -> None:
        """Change the knobs, and run. An impossible change shows a message and does nothing else."""
        self.message = ""
        try:
            change(*given)
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
            shown = {"value": lab.now.values[knob.layer][knob.word], "stylesheets": [_KNOB]}
            if name in changed:
                words = f"was {_text(changed[name][0], knob.none or '–')}"
                shown["stylesheets"].append(_CHANGED % json.dumps(words, ensure_ascii=False))
            self._widgets[name].param.update(visible=knob.used(lab.now.values), **shown)
        for button in self._networks:
            button.button_type = "primary" if button.name == lab.now.name else "default"
        self._is_quiet = False

    def _widget(self, name: str, knob: Knob) -> pn.widgets.Widget:
        value = self.lab.now.values[knob.layer][knob.word]
        css = f"knob-{name}".replace(".", "-").replace(" ", "-")
        unit = f" ({_UNITS[knob.word]})" if knob.word in _UNITS else ""
        given = {"name": knob.word + unit, "width": 142, "value": value, "css_classes": [css]}
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
                self._asks(self._change, self.lab.set, name, event.new)(event)

        widget.param.watch(turned, "value")
        return widget

    # -- results

    def look(self) -> None:
        """Do what the visitor has asked for, and show what is new in the lab."""
        lab, was = self.lab, self.done
        with _in_order():
            todo, self._todo = self._todo, []
            for act in todo:
                act()
            running = lab.is_running  # asked first: what a run leaves is there when it ends
            self.now, self.predicted, self.done = lab.now, lab.predicted, lab.done
            if self.done is not was:
                self.param.layer.objects = [*self.done.layers]
                self._show_knobs()
            self._bar.value = int(100 * lab.job.share) if running else 0
            views = [each for each in _TABS[self.tab] if each not in self.param]
            drawn = all([self._draw(each) for each in views])
            state = "no run" if lab.trouble else "done" if drawn else "drawing …"
            self._top.object = self._head("running …" if running else state)

    def _draw(self, view: str) -> bool:
        """Draw a view if what it shows has changed, and return whether it is up to date."""
        make, place = getattr(self, view), self._places[view]
        given = [getattr(self, each) for each in make.needs]
        if None not in given and given != self._given.get(view):
            self._given[view], self._coming[view] = given, self.lab.later(make, *given)
        if view in self._coming and self._coming[view].done():
            coming = self._coming.pop(view)
            try:
                made = coming.result()
            except nn.InputError as error:
                made = pn.pane.Alert(str(error), alert_type="warning")
            place[:] = [pn.pane.Bokeh(made, **_WIDE) if isinstance(made, LayoutDOM) else made]
        return view not in self._coming

    def _head(self, state: str) -> Html:
        """Return what is refused, predicted and observed accuracies, and what is going on."""
        found, run, now = self.predicted, self.done, self.now
        accuracy = found and found.predicted_accuracy_with_noise
        cards = [_accuracy("predicted" if found else "predicted …", accuracy)]
        if run is not None:
            old = run.settings is not now
            words = f"run {run.number}{', of other knobs' if old else ''}; {run.seconds:.2f} s"
            cards.append(_accuracy("run", run.accuracy, words, old))
        if now.published is not None:
            cards.append(card("published", tag("div", f"{now.published:.2f}", class_="big")))
        message = self.lab.trouble or self.message
        said = tag("div", message, class_="card error says") if message else None
        cards = tag("div", *cards, class_="row even numbers")
        return display(said, cards, tag("div", state, class_="quiet state"))

    @_view("predicted")
    def prediction(self, predicted: Diagnosis) -> pn.pane.HTML:
        """Show the prediction for each layer, and the findings."""
        return pn.pane.HTML(display(predicted.to_html()), **_WIDE)

    @_view("done")
    def observed(self, run: Run) -> pn.pane.HTML:
        """Show the rates of the run."""
        return pn.pane.HTML(display(Html(run.result._repr_html_())), **_WIDE)

    @_view("done")
    def runs(self, run: Run) -> pn.pane.HTML:
        """Show the list of runs, the last one first."""
        rows = map(_row_of, self.lab.history[run.number - 1 :: -1][:_N_RUNS])
        found = display(table([_RUNS, *rows], left=(1, 2, 4)))
        return pn.pane.HTML(found, css_classes=["runs"], **_WIDE)

    # -- inside the last run

    @_view("done", "which", "start")
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
                self._card(run, k),
                pn.widgets.Button(
                    name="look inside",
                    on_click=self._asks(functools.partial(self.param.update, image=k)),
                ),
            )
            for k in shown.tolist()
        ]
        box = {"max-height": "420px", "overflow": "auto"}
        return pn.Column(words, pn.FlexBox(*tiles, styles=box), **_WIDE)

    def _card(self, run: Run, k: int, size: float = 1.0) -> pn.pane.HTML:
        """Return an image with its answer."""
        about = run.pictures, run.labels, *run.answers, self.lab.class_names
        return pn.pane.HTML(display(tag("div", image_card(k, *about), style=f"zoom: {size}")))

    @_view("done", "image")
    def example(self, run: Run, k: int) -> pn.Row:
        """Show the chosen image, and what it does in the network."""
        k = min(k, len(run.images) - 1)
        label = None if run.labels is None else int(run.labels[k])
        view = interactive.plot_example(run.again(k)[0], label, self.lab.class_names)
        parts = self._card(run, k, 1.6), pn.pane.Bokeh(view, **_WIDE)
        return pn.Row(*parts, css_classes=["example"], **_WIDE)

    @_view("done", "layer", "neuron", "image")
    def one_neuron(self, run: Run, layer: str, neuron: int, k: int) -> LayoutDOM:
        """Draw the chosen neuron, and what it does for the chosen image."""
        k, neuron = min(k, len(run.images) - 1), min(neuron, run.layers[layer].size - 1)
        place = np.unravel_index(neuron, run.layers[layer].shape)
        where = f" at {tuple(map(int, place))}" if len(place) > 1 else ""  # row, column, channel
        name = f"{layer}[{neuron}]{where}, image {k}"
        return interactive.plot_neuron(**run.neuron(k, layer, neuron), name=name)

    @_view("done", "layer")
    def one_layer(self, run: Run, layer: str) -> LayoutDOM:
        """Draw the rates of the chosen layer against the prediction."""
        rates = run.result.rates(layer), run.predicted[layer].rates
        return interactive.plot_layer(*rates, layer, run.ceiling(layer))

    @_view("now")
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

    @_view("done")
    def report(self, run: Run) -> pn.Column:
        """Show the report of the run, to download."""
        text = run.report(self.lab.title, self.lab.class_names)
        style = {"sandbox": "", "style": "width: 100%; height: 75vh; border: 0"}
        frame = pn.pane.HTML(tag("iframe", srcdoc=text, **style), **_WIDE)
        return pn.Column(_download(f"run_{run.number}.html", text.encode()), frame, **_WIDE)


def _download(name: str, content: bytes) -> pn.widgets.FileDownload:
    given = {"filename": name, "label": f"download {name}", "css_classes": ["download"]}
    return pn.widgets.FileDownload(io.BytesIO(content), **given)
