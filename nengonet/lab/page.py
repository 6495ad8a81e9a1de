"""The page: knobs on the left, prediction and run beside each other, and what is inside."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable

import panel as pn

from nengonet.exceptions import InputError
from nengonet.html import Html, card, display, finding_cards, join, table, tag
from nengonet.lab import views
from nengonet.lab.knobs import Knob
from nengonet.lab.state import Done, Lab, Run
from nengonet.results.readout import Accuracy

_EVERY = 100  # milliseconds between two looks at what a run has done
_N_IMAGES, _N_RUNS, _N_CHANGED = 36, 20, 6  # in the grid, in the list of runs, and of their knobs
_KNOB = ":host { margin: 2px 4px; } label { font-size: 12px; }"
_CHANGED = f"{_KNOB} label {{ color: #B34700; font-weight: 700; }}"
_CHANGED += " input, select { border: 2px solid #D55E00 !important; }"
_CODE = "textarea { font: 12px/1.4 monospace; white-space: pre; }"
_WIDE = {"sizing_mode": "stretch_width"}


def page(lab: Lab) -> pn.viewable.Viewable:
    """Return a page of a lab."""
    pn.extension()
    return Page(lab).view()


def _text(value: object, none: str = "none") -> str:
    """Write the value of a knob."""
    return none if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _numbers(title: str, found: Accuracy | None, below: str, old: bool = False) -> Html:
    """Write an accuracy large, with its interval."""
    large, words = "–", []
    if found is not None:
        ties = f", {found.ties:,} ties" if found.ties else ""
        words = ["95 % interval {:.3f} to {:.3f}".format(*found.interval)]
        words, large = [*words, f"{found.n_images:,} images{ties}"], f"{found.value:.3f}"
    large = tag("div", large, class_="big", style="opacity: .35" if old else None)
    return card(title, large, *(tag("div", each, class_="quiet") for each in (*words, below)))


class Page:
    """One page, of one `Lab`."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self._seen, self._widgets, self._is_quiet = lab, (), {}, False
        self._column = pn.Column(scroll=True, width=348, styles={"height": "calc(100vh - 150px)"})
        self._message = pn.pane.Alert("", alert_type="danger", visible=False, css_classes=["says"])
        self._top = pn.pane.HTML("", css_classes=["numbers"], **_WIDE)
        self._bar = pn.indicators.Progress(value=0, max=100, height=8, **_WIDE)
        self._state = pn.pane.HTML("", css_classes=["state"])
        self._networks = {
            name: self._button(name, "network", functools.partial(lab.choose, name))
            for name in lab.networks
        }
        self._runs, self._findings = pn.pane.HTML(css_classes=["runs"], **_WIDE), pn.pane.HTML()
        self._again = pn.widgets.Select(name="take the knobs of run", options={"–": 0}, width=160)
        self._again.param.watch(self._restore, "value")
        self._code = pn.widgets.TextAreaInput(rows=36, stylesheets=[_CODE], **_WIDE)
        self._code.css_classes, self._code.max_length = ["code"], 10**7
        self._inside = Inside(lab)
        tabs = {"runs": pn.Column(self._again, self._runs), "findings": self._findings}
        tabs |= self._inside.tabs | {"code": self._code_tab()}
        self._names, self._tabs = list(tabs), pn.Tabs(*tabs.items(), css_classes=["inside"])
        self._tabs.param.watch(lambda event: self._show_tab(), "active")
        self._show_knobs()
        lab.run()

    def view(self) -> pn.viewable.Viewable:
        """Return the whole page."""
        pn.state.add_periodic_callback(self.look, _EVERY)
        if pn.state.curdoc is not None:
            pn.state.on_session_destroyed(lambda context: self.lab.cancel())
        title = pn.pane.HTML(display(tag("h1", self.lab.title)))
        back = self._button("↶ back", "back", self.lab.back)
        left = pn.Column(pn.FlexBox(*self._networks.values(), back), self._column, width=360)
        main = [self._message, self._top, self._bar, self._state, self._tabs]
        right = pn.Column(*main, min_width=560, **_WIDE)
        return pn.Column(title, pn.Row(left, right, **_WIDE), margin=12, **_WIDE)

    # -- knobs

    def _button(self, name: str, kind: str, change: Callable[[], None]) -> pn.widgets.Button:
        button = pn.widgets.Button(name=name, css_classes=[kind], margin=3)
        button.on_click(lambda event: self._do(change))
        return button

    def _do(self, change: Callable[[], None]) -> None:
        """Change the knobs, and run; what cannot be is said, and nothing changes."""
        try:
            change()
        except InputError as error:
            self._message.param.update(object=str(error), visible=True)
        else:
            self._message.visible = False
            self.lab.run()
        self._show_knobs()

    def _restore(self, event: object) -> None:
        if event.new:
            self._do(functools.partial(self.lab.restore, event.new))
            self._again.value = 0

    def _show_knobs(self) -> None:
        """Show the values; widgets are made anew where there are other knobs."""
        lab, knobs, self._is_quiet = self.lab, self.lab.knobs, True
        if list(self._widgets) != list(knobs):
            self._widgets = {name: self._widget(knob) for name, knob in knobs.items()}
            layers = dict.fromkeys(knob.layer for knob in knobs.values())
            self._column[:] = [self._card(layer) for layer in layers]
        for name, knob in knobs.items():
            was = lab.changed.get(name)
            words = f"{knob.word} ({knob.unit})" if knob.unit else knob.word
            words += f", was {_text(was[0], knob.none or '–')}" if was else ""
            style = _CHANGED if was else _KNOB
            shown = {"value": lab.now.values[name], "visible": knob.used(lab.now.values)}
            self._widgets[name].param.update(name=words, stylesheets=[style], **shown)
        for name, button in self._networks.items():
            button.button_type = "primary" if name == lab.now.name else "default"
        self._is_quiet = False

    def _card(self, layer: str) -> pn.Card:
        own = [self._widgets[name] for name, knob in self.lab.knobs.items() if knob.layer == layer]
        return pn.Card(pn.FlexBox(*own), title=layer, width=320, margin=4)

    def _widget(self, knob: Knob) -> pn.widgets.Widget:
        value = self.lab.now.values[knob.name]
        given = {"width": 142, "value": value}
        given["css_classes"] = [f"knob-{knob.name}".replace(".", "-").replace(" ", "-")]
        if knob.choices:
            widget = pn.widgets.Select(options=list(knob.choices), **given)
        elif knob.is_whole:
            widget = pn.widgets.IntInput(**given)
        else:
            step = 10.0 ** (math.floor(math.log10(abs(value))) - 1) if value else 0.01
            form = {"step": step, "format": "0,0.[00000000]", "placeholder": knob.none}
            widget = pn.widgets.FloatInput(**given, **form)
        widget.param.watch(functools.partial(self._turned, knob.name), "value")
        return widget

    def _turned(self, name: str, event: object) -> None:
        if not self._is_quiet:
            self._do(functools.partial(self.lab.set, name, event.new))

    # -- what is known

    def look(self) -> None:
        """Show what has come since the last look."""
        lab = self.lab
        self._bar.value = int(100 * lab.job.share) if lab.is_running else 0
        seen = (lab.now, lab.predicted, lab.is_running, lab.trouble, lab.done)
        if seen == self._seen:
            return
        has_run, self._seen = lab.done is not (self._seen or (None,))[-1], seen
        self._top.object = self._write_top()
        words = "running …" if lab.is_running else "done"
        if lab.trouble is not None:
            self._message.param.update(object=lab.trouble, visible=True)
            words = "no run"
        self._state.object = display(tag("span", words, class_="quiet"))
        if lab.predicted is not None:
            none = tag("p", "no findings", class_="quiet")
            self._findings.object = display(finding_cards(lab.predicted.findings) or none)
        if has_run:
            runs = [_row_of(run) for run in lab.history[: -_N_RUNS - 1 : -1]]
            self._runs.object = display(table([_RUNS, *runs], left=(1, 2)))
            self._again.options = {"–": 0} | {str(run.number): run.number for run in lab.history}
            self._show_knobs()
        if has_run or self._names[self._tabs.active] == "code":
            self._show_tab()

    def _write_top(self) -> Html:
        lab, found, last = self.lab, self.lab.predicted, [*self.lab.history[-1:]]
        accuracy, words, rates = None, "", {}
        if found is not None:
            accuracy, ann = found.predicted_accuracy_with_noise, found.ann_accuracy
            words = f"the ANN: {ann.value:.3f}" if ann else ""
        cards = [_numbers("predicted" if found else "predicted …", accuracy, words)]
        for run in last:
            old = run.settings is not lab.now
            words = f"run {run.number}{', of other knobs' if old else ''}; {run.seconds:.2f} s"
            cards.append(_numbers("run", run.accuracy, words, old))
            rates = run.rates
        if lab.now.published is not None:
            large = tag("div", f"{lab.now.published:.2f}", class_="big")
            cards.append(card("published", large))
        rows = [["layer", "neurons", "predicted, mean Hz", "run, mean Hz", "silent", "saturated"]]
        forms = {"neurons": ",", "noisy_mean_rate": ",.1f", "run": ",.1f"}
        forms |= {"silent": ".0%", "saturated": ".0%"}
        for layer in found.layers if found else ():
            values = layer | {"run": rates.get(layer["label"])}
            cells = [None if values[k] is None else f"{values[k]:{v}}" for k, v in forms.items()]
            rows += [[layer["label"], *cells]] if layer["mean_rate"] is not None else []
        return display(tag("div", *cards, table(rows), class_="row"))

    # -- code

    def _code_tab(self) -> pn.Column:
        copy = pn.widgets.Button(name="copy", button_type="primary", css_classes=["copy"])
        copy.js_on_click({"code": self._code}, "navigator.clipboard.writeText(code.value)")
        file = pn.widgets.FileDownload(
            callback=lambda: io.StringIO(self.lab.code()), filename="network.py", label="download"
        )
        return pn.Column(pn.Row(copy, file), self._code, **_WIDE)

    def _show_tab(self) -> None:
        """Fill the tab that is looked at."""
        name = self._names[self._tabs.active]
        if name == "code":
            self._code.value = self.lab.code()
        elif name in self._inside.tabs:
            self._inside.show(name)


_RUNS = ["run", "network", "changed since the run before", "predicted", "run", "95 % interval"]
_RUNS += ["ties", "s"]


def _row_of(run: Run) -> list[object]:
    """Return a row of the list of runs."""
    changed = [f"{name}: {_text(a)} → {_text(b)}" for name, (a, b) in run.changed.items()]
    more = len(changed) - _N_CHANGED
    changed[_N_CHANGED:] = [f"and {more} more"] if more > 0 else []
    found, words = run.accuracy, join(*(tag("div", each) for each in changed))
    accuracies = [f"{each.value:.3f}" if each else "–" for each in (run.predicted, found)]
    interval = "{:.3f} to {:.3f}".format(*found.interval) if found else "–"
    figures = (accuracies[0], tag("b", accuracies[1]), interval, run.ties, f"{run.seconds:.2f}")
    return [run.number, run.settings.name, words, *figures]


class Inside:
    """The last run, image by image, neuron by neuron, layer by layer."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self._active = lab, "images"

        def whole(name: str, **given: object) -> pn.widgets.IntInput:
            return pn.widgets.IntInput(name=name, start=0, css_classes=[name], width=110, **given)

        self._which = pn.widgets.RadioButtonGroup(options=["all", "wrong", "ties"], width=240)
        self._first, self._image = whole("from", step=_N_IMAGES), whole("image")
        self._neuron = whole("neuron")
        self._layer = pn.widgets.Select(name="layer", css_classes=["layer"], width=160)
        self._grid = pn.Column(**_WIDE)
        self._panes = {name: pn.Column(**_WIDE) for name in ("images", "neuron", "layer")}
        choices = {
            "images": (self._which, self._first, self._image),
            "neuron": (self._layer, self._neuron, self._image),
            "layer": (self._layer,),
        }
        self.tabs = {
            name: pn.Column(pn.Row(*own), css_classes=[f"inside-{name}"], **_WIDE)
            for name, own in choices.items()
        }
        self.tabs["images"].append(self._grid)
        for name, pane in self._panes.items():
            self.tabs[name].append(pane)
        for widget in (self._which, self._first, self._image, self._layer, self._neuron):
            widget.param.watch(lambda event: self.show(self._active), "value")

    def show(self, name: str) -> None:
        """Fill a tab."""
        self._active, done = name, self.lab.done
        if done is None:
            return
        labels = [layer.label for layer in done.layers]
        if self._layer.options != labels:
            self._layer.param.update(options=labels, value=done.first.label)
        self._image.end = done.result.n_images - 1
        self._neuron.end = done.layer(self._layer.value).size - 1
        number = min(self._image.value, self._image.end)
        neuron = min(self._neuron.value, self._neuron.end)
        try:
            view = getattr(self, f"_{name}_view")(done, number, neuron)
            self._panes[name][:] = [pn.pane.Bokeh(view, **_WIDE)]
        except InputError as error:
            self._panes[name][:] = [pn.pane.Alert(str(error), alert_type="warning")]

    def _images_view(self, done: Done, number: int, neuron: int) -> object:
        result, names = done.result, {"class_names": self.lab.class_names}
        grid, source = views.image_grid(
            done.pictures(),
            done.labels,
            result.predictions(),
            tied=result.tied(),
            show=self._which.value,
            start=self._first.value,
            n=_N_IMAGES,
            **names,
        )
        self._watch(source, {"index": self._image})
        self._grid[:] = [pn.pane.Bokeh(grid, **_WIDE)]
        return views.example_view(**done.example(number), name=f"image {number}", **names)

    def _neuron_view(self, done: Done, number: int, neuron: int) -> object:
        label = self._layer.value
        found = done.neuron(number, label, neuron)
        return views.neuron_view(**found, name=f"{label}[{neuron}], image {number}")

    def _layer_view(self, done: Done, number: int, neuron: int) -> object:
        label = self._layer.value
        rates = done.result.rates(label), done.predicted[label].rates
        view, source = views.layer_view(*rates, name=label, ceiling=done.ceiling(label))
        self._watch(source, {"image": self._image, "neuron": self._neuron})
        return view

    def _watch(self, source: object, widgets: dict[str, pn.widgets.IntInput]) -> None:
        """Let a click choose: a column of what was clicked is a widget's value."""

        def chosen(attribute: str, old: list, new: list) -> None:
            for name, widget in widgets.items() if new else ():
                widget.value = int(source.data[name][new[0]])

        source.selected.on_change("indices", chosen)
