"""The page: knobs on the left, prediction and run side by side, and tabs to look inside."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable

import panel as pn

from nengonet.exceptions import InputError
from nengonet.html import Html, card, display, finding_cards, join, table, tag
from nengonet.laboratory import views
from nengonet.laboratory.knobs import Knob
from nengonet.laboratory.state import Done, Lab, Run, bundle
from nengonet.plain.script import Script
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
    """Return the value of a knob as text."""
    return none if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _numbers(title: str, found: Accuracy | None, below: str, old: bool = False) -> Html:
    """Return an accuracy in large type, with its interval."""
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
        self._inside = Inside(lab)
        tabs = {"runs": pn.Column(self._again, self._runs), "findings": self._findings}
        tabs |= self._inside.tabs
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
        """Change the knobs, and run. An impossible change shows a message and does nothing else."""
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
        """Show the values. New widgets are made where the knobs have changed."""
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

    # -- results

    def look(self) -> None:
        """Show the results that arrived since the last look."""
        lab = self.lab
        self._inside.fill()
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

    def _show_tab(self) -> None:
        self._inside.show(self._names[self._tabs.active])


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


# The views of each tab, and the choices on which each view depends beside the run.
_TABS = {"images": ("grid", "example"), "neuron": ("neuron",), "layer": ("layer",)}
_TABS |= {"code": ("code",), "report": ("report",)}
_NEEDS = {"grid": ("which", "from"), "example": ("image",), "neuron": ("layer", "neuron", "image")}
_NEEDS |= {"layer": ("layer",), "report": (), "code": ()}
_CHOICES = {"images": ("which", "from", "image"), "neuron": ("layer", "neuron", "image")}
_CHOICES |= {"layer": ("layer",)}


class Inside:
    """The tabs of the last run: images, neurons, layers, and files to download.

    Views are made in the background while the page keeps working. They stay until their content
    changes.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab, self._active = lab, ""
        self._known, self._coming, self._files = {}, {}, {"code": b"", "report": b""}
        small = {"width": 110, "start": 0}
        self._chosen = {
            "which": pn.widgets.RadioButtonGroup(options=["all", "wrong", "ties"], width=240),
            "from": pn.widgets.IntInput(name="from", step=_N_IMAGES, css_classes=["from"], **small),
            "image": pn.widgets.IntInput(name="image", css_classes=["image"], **small),
            "neuron": pn.widgets.IntInput(name="neuron", css_classes=["neuron"], **small),
            "layer": pn.widgets.Select(name="layer", css_classes=["layer"], width=160),
        }
        for widget in self._chosen.values():
            widget.param.watch(lambda event: self.show(self._active), "value")
        self._text = pn.widgets.TextAreaInput(rows=36, stylesheets=[_CODE], **_WIDE)
        self._text.css_classes, self._text.max_length = ["code"], 10**7
        copy = pn.widgets.Button(name="copy", button_type="primary", css_classes=["copy"])
        copy.js_on_click({"code": self._text}, "navigator.clipboard.writeText(code.value)")
        above = {name: [self._chosen[each] for each in own] for name, own in _CHOICES.items()}
        self._buttons = {name: self._button(name) for name in self._files}
        above |= {"code": [copy, self._buttons["code"]], "report": [self._buttons["report"]]}
        shown = (view for own in _TABS.values() for view in own)
        self._panes = {view: pn.Column(min_height=60, **_WIDE) for view in shown}
        self._panes["code"].append(self._text)
        self._grid = None
        self.tabs = {}
        for name, own in _TABS.items():
            parts = pn.Row(*above[name]), *(self._panes[each] for each in own)
            self.tabs[name] = pn.Column(*parts, css_classes=[f"inside-{name}"], **_WIDE)

    def _button(self, name: str) -> pn.widgets.FileDownload:
        given = {"filename": name, "label": "download", "css_classes": [f"download-{name}"]}
        content = functools.partial(lambda each: io.BytesIO(self._files[each]), name)
        return pn.widgets.FileDownload(callback=content, disabled=True, **given)

    def show(self, name: str) -> None:
        """Begin to fill a tab, unless its content is current."""
        self._active, done = name, self.lab.done
        chosen = self._choices(done) if done is not None else {}
        for view in _TABS.get(name, ()):
            if view != "code" and done is None:
                continue
            wanted = [chosen[each] for each in _NEEDS[view]]
            key = (self.lab.now if view == "code" else done.number, *wanted)
            if self._known.get(view) != key:
                self._known[view] = key
                self._panes[view].loading = view != "grid"  # which can be clicked meanwhile
                make = functools.partial(getattr(self, f"_{view}_view"), done, *key[1:])
                self._coming[view] = self.lab.later(make)

    def _choices(self, done: Done) -> dict[str, object]:
        """Return the chosen image, layer and neuron, limited to those that exist."""
        widgets, labels = self._chosen, [layer.label for layer in done.layers]
        if widgets["layer"].options != labels:
            widgets["layer"].param.update(options=labels, value=done.first.label)
        widgets["image"].end = done.result.n_images - 1
        widgets["neuron"].end = done.layer(widgets["layer"].value).size - 1
        chosen = {name: widget.value for name, widget in widgets.items()}
        return chosen | {each: min(chosen[each], widgets[each].end) for each in ("image", "neuron")}

    def fill(self) -> None:
        """Put the views that are finished into their places."""
        for view in [name for name, coming in self._coming.items() if coming.done()]:
            pane, coming = self._panes[view], self._coming.pop(view)
            try:
                place = coming.result()
            except InputError as error:
                pane[:] = [pn.pane.Alert(str(error), alert_type="warning")]
            else:
                place(pane)
            finally:
                pane.loading = False

    def _put(self, content: object, pane: pn.Column) -> None:
        pane[:] = [pn.pane.Bokeh(content, **_WIDE)]

    def _grid_view(self, done: Done, which: str, first: int) -> Callable:
        result, given = done.result, {"class_names": self.lab.class_names, "n": _N_IMAGES}
        given |= {"tied": result.tied(), "show": which, "start": first}
        made = views.image_grid(done.pictures(), done.labels, result.predictions(), **given)
        return functools.partial(self._put_grid, *made)

    def _put_grid(self, grid: object, source: object, pane: pn.Column) -> None:
        """Show a grid in the existing figure, so that a click in the meantime still works."""
        if self._grid is None:
            self._grid = pn.pane.Bokeh(grid, **_WIDE), source
            self._watch(source, {"index": self._chosen["image"]})
            pane[:] = [self._grid[0]]
            return
        shown, old = self._grid[0].object, self._grid[1]
        shown.title.text, shown.aspect_ratio = grid.title.text, grid.aspect_ratio
        shown.y_range.start = grid.y_range.start
        old.selected.indices, old.data = [], dict(source.data)

    def _example_view(self, done: Done, number: int) -> Callable:
        words = {"name": f"image {number}", "class_names": self.lab.class_names}
        return functools.partial(self._put, views.example_view(**done.example(number), **words))

    def _neuron_view(self, done: Done, label: str, neuron: int, number: int) -> Callable:
        name = f"{label}[{neuron}], image {number}"
        view = views.neuron_view(**done.neuron(number, label, neuron), name=name)
        return functools.partial(self._put, view)

    def _layer_view(self, done: Done, label: str) -> Callable:
        rates = done.result.rates(label), done.predicted[label].rates
        view, source = views.layer_view(*rates, name=label, ceiling=done.ceiling(label))
        self._watch(source, {each: self._chosen[each] for each in ("image", "neuron")})
        return functools.partial(self._put, view)

    def _code_view(self, done: Done | None) -> Callable:
        try:
            script = self.lab.code()
        except InputError as error:
            script = Script(f"# {error}", {})
        found = bundle(script)

        def place(pane: pn.Column) -> None:  # in which the text stays: "copy" knows it
            self._text.value = script
            self._offer("code", *found)

        return place

    def _report_view(self, done: Done) -> Callable:
        page = done.report(self.lab.title, self.lab.class_names)
        frame = tag("iframe", srcdoc=page, sandbox="", style="width: 100%; height: 75vh; border: 0")

        def place(pane: pn.Column) -> None:
            pane[:] = [pn.pane.HTML(frame, **_WIDE)]
            self._offer("report", f"run_{done.number}.html", page.encode())

        return place

    def _offer(self, name: str, file: str, content: bytes) -> None:
        """Let a button offer a file for download."""
        self._files[name] = content
        self._buttons[name].param.update(filename=file, disabled=False)

    def _watch(self, source: object, widgets: dict[str, pn.widgets.IntInput]) -> None:
        """Let a click set widgets: each takes its value from a column of the clicked row."""

        def chosen(attribute: str, old: list, new: list) -> None:
            for name, widget in widgets.items() if new else ():
                widget.value = int(source.data[name][new[0]])

        source.selected.on_change("indices", chosen)
