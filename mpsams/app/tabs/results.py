"""Results: the paper's tables and plots, made from the records that ship with the project."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr
from markupsafe import Markup

from mpsams import methods, tables
from mpsams.app.components import html, result_report
from mpsams.app.components.result_reader import Reader, find_records, records_version
from mpsams.app.components.result_report import Choice
from mpsams.app.components.templates import render
from mpsams.app.events import on_event
from mpsams.app.gradio_compat import save_to_cache
from mpsams.app.session import Session
from mpsams.tables import AVERAGED, HEADS, MEASURES, NAMED, TITLES, Results

TITLE = "Results"
PLACE = 9

FORMS = {"csv": "CSV, all tables of the plan", "md": "Markdown", "tex": "LaTeX"}
PRESS = "() => setTimeout(() => document.querySelector('#table-file').click(), 200)"
INTRO = """<p class="lead"><strong>What you see.</strong> How well each method outlines lesions on images that no
training saw, from the records of runs of this program, beside the paper's own numbers. Every number and every sentence
here is computed from the records.</p>"""
MAKE = Markup("""<strong>No records here yet.</strong> The tables and plots of this tab come from <code>*.jsonl</code>
files in the folder given by <code>--results</code>. Make them with <code>python -m train.reproduce table1 --data.name
busi --data.root Dataset_BUSI_with_GT</code> (<code>table2</code> for the ablation; <code>--data.name phantom</code>
needs no data), then copy the run's <code>records.jsonl</code> there. <code>python -m train.report</code> writes the
same tables to files.""")


def rivals() -> str:
    """Return the differences of the rivals here from their papers, as HTML that opens on request."""
    differences = [(TITLES.get(name, "All"), difference) for name, difference in methods.deviations().items()]
    return render("results/rivals", differences=differences)


def build(session: Session) -> None:
    """Lay out the tab and register its events; nothing is read or computed before it is opened."""
    ResultsTab(session)


class ResultsTab:
    """The components of the tab and their listeners.

    key: the version of the records. controls: what a ``Choice`` is made of, in its order; pairing: what the scatter
    plot needs besides; drawn: the tables and plots.
    """

    def __init__(self, session: Session) -> None:
        self.registry, self.reader = session.registry, Reader(session.registry)
        self.key = gr.State("")
        gr.HTML(INTRO)
        self.nothing = gr.HTML("", elem_classes="stage")
        with gr.Column(visible=False, elem_id="results") as self.body:
            self._lay_out_controls()
            self.numbers = gr.HTML("", elem_classes="stage")
            self._lay_out_downloads()
            self._lay_out_plots()
            gr.HTML(rivals())
        self.controls = (self.plan, self.table, self.recipe, self.averaging, self.measure, self.per)
        self.pairing = (self.across, self.up, self.share)
        self.drawn = [self.numbers, self.by_labels, self.points, self.lines]
        self._listen(session)

    def _lay_out_controls(self) -> None:
        with gr.Row(elem_classes="controls", equal_height=True):
            self.plan = gr.Dropdown([], label="Plan that was run", min_width=150)
            self.recipe = gr.Radio(["strong"], value="strong", label="Recipe", min_width=150)
            measures = [(HEADS[name], name) for name in MEASURES]
            self.measure = gr.Radio(measures, value="dsc", label="Measure", min_width=190)
        with gr.Row(elem_classes="controls", equal_height=True):
            shown = [(title, name) for name, title in NAMED.items()]
            self.table = gr.Radio(shown, value="table1", label="Methods", scale=4, min_width=250)
            means = [(label.capitalize(), name) for name, label in AVERAGED.items()]
            self.averaging = gr.Radio(means, value="lesion", label="Mean over", scale=6, min_width=300)
            self.per = gr.Radio(
                [("Slice", "image"), ("Volume", "volume")],
                value="image",
                label="One case is a",
                visible=False,
                scale=3,
                min_width=150,
            )

    def _lay_out_downloads(self) -> None:
        with gr.Row(elem_classes="controls export", equal_height=True):
            forms = [(label, name) for name, label in FORMS.items()]
            self.form = gr.Radio(forms, value="csv", label="Download as", min_width=330)
            self.button = gr.Button("Download the table", variant="primary", min_width=180)
            # never seen: pressed when the file is written
            self.ready = gr.DownloadButton("File", elem_id="table-file")

    def _lay_out_plots(self) -> None:
        self.by_labels = gr.HTML("")
        with gr.Row(elem_classes="controls", equal_height=True):
            self.across = gr.Dropdown([], label="Image by image: across", min_width=120)
            self.up = gr.Dropdown([], label="Up", min_width=120)
            self.share = gr.Dropdown([], label="Labels", min_width=90)
        self.points = gr.HTML("")
        self.lines = gr.HTML("")

    def _listen(self, session: Session) -> None:
        inputs = {self.key, *self.controls, *self.pairing}
        filled = [self.nothing, self.body, *self.controls, *self.pairing, *self.drawn]
        session.on_case(lambda case: records_version(self.registry), [], self.key)
        # not plan.input, which a dropdown sends twice, the second time with choices that the plan may not have
        on_event(gr.on, self._fill, inputs, filled, triggers=[self.key.change, self.plan.change])
        on_event(gr.on, self._draw, inputs, self.drawn, triggers=[control.input for control in self.controls[1:]])
        on_event(gr.on, self._pair, inputs, self.points, triggers=[control.input for control in self.pairing])
        written = on_event(
            self.button.click,
            self._table_file,
            {*inputs, self.form},
            self.ready,
            show_progress="minimal",
            show_progress_on=self.button,
        )
        written.then(None, js=PRESS)

    def _fill(self, values: dict) -> Iterator[dict]:
        """Update the tab for another plan or other records: the choices, then the numbers."""
        there = find_records(self.registry)
        wrong = Markup().join(html.note(f"A file of records was left out: {line}", "warning") for line in there.wrong)
        if not there.plans:
            yield {self.nothing: wrong or html.note(MAKE, "warning"), self.body: gr.Column(visible=False)}
            return
        try:
            name = values[self.plan] if values[self.plan] in there.plans else next(iter(there.plans))
            results = self.reader.results(there.key, name, "image")
        except ValueError as error:
            yield {self.nothing: html.note(str(error), "warning"), self.body: gr.Column(visible=False)}
            return
        kept = {self.plan: name} | self._keep_choices(values, results)
        yield {self.nothing: wrong, self.body: gr.Column(visible=True)} | self._choices(
            list(there.plans), kept, results
        )
        yield from self._draw(values | kept | {self.key: there.key})

    def _keep_choices(self, values: dict, results: Results) -> dict:
        """Return the chosen values that the results have too, else their first or usual ones."""
        rivals = [method for method in results.methods if method != result_report.METHOD] or results.methods
        return {
            self.table: kept_of(values[self.table], tables.tables_with_runs(results)),
            self.recipe: kept_of(values[self.recipe], results.recipes),
            self.per: values[self.per] if results.volumes else "image",
            self.across: kept_of(values[self.across], rivals),
            self.up: kept_of(values[self.up], results.methods, result_report.METHOD),
            self.share: kept_of(values[self.share], results.labels, 0.1),
        }

    def _choices(self, plans: list[str], kept: dict, results: Results) -> dict:
        """Return updates of the controls: the values to choose from, and the chosen ones."""
        methods = [(TITLES.get(method, method), method) for method in results.methods]
        shown = [(NAMED[name], name) for name in tables.tables_with_runs(results)]
        recipes = [(recipe.capitalize(), recipe) for recipe in results.recipes]
        shares = [(f"{100 * labels:g}%", labels) for labels in results.labels]
        return {
            self.plan: gr.Dropdown(plans, value=kept[self.plan]),
            self.table: gr.Radio(shown, value=kept[self.table]),
            self.recipe: gr.Radio(recipes, value=kept[self.recipe]),
            self.per: gr.Radio(value=kept[self.per], visible=results.volumes),
            self.across: gr.Dropdown(methods, value=kept[self.across]),
            self.up: gr.Dropdown(methods, value=kept[self.up]),
            self.share: gr.Dropdown(shares, value=kept[self.share]),
        }

    def _choice(self, values: dict) -> Choice:
        return Choice(*(values[control] for control in self.controls))

    def _draw(self, values: dict) -> Iterator[dict]:
        """Yield the numbers at once, and the plots when they are ready."""
        choice, key = self._choice(values), values[self.key]
        try:
            yield {self.numbers: self.reader.numbers(key, choice)}
            yield {self.by_labels: self.reader.by_labels(key, choice)}
            yield self._pair(values)
            yield {self.lines: self.reader.curves(key, choice.plan)}
        except ValueError as error:
            yield dict.fromkeys(self.drawn, "") | {self.numbers: html.note(str(error), "warning")}

    def _pair(self, values: dict) -> dict:
        methods = values[self.across], values[self.up]
        return {self.points: self.reader.scatter(values[self.key], self._choice(values), methods, values[self.share])}

    def _table_file(self, values: dict) -> str:
        choice, form = self._choice(values), values[self.form]
        text = self.reader.file(values[self.key], choice, form).encode("utf-8")
        return save_to_cache(text, f"{choice.plan}-{choice.table}.{form}", self.ready)


def kept_of(value, allowed, preferred=None):
    """Return the value if it is allowed, else the preferred one if that is, else the first allowed one."""
    return next((one for one in (value, preferred) if one in allowed), allowed[0])
