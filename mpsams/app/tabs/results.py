"""Results: the paper's tables and plots, made from the records that ship with the project."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import gradio as gr

from mpsams import methods, tables
from mpsams.app.components import html, result_report
from mpsams.app.components.result_reader import Reader, shelf, state
from mpsams.app.components.result_report import Choice
from mpsams.app.events import on_event
from mpsams.app.gradio_compat import save_to_cache
from mpsams.app.session import Session
from mpsams.tables import AVERAGED, HEADS, MEASURES, NAMED, TITLES

TITLE = "Results"
PLACE = 9

FORMS = {"csv": "CSV, all tables of the plan", "md": "Markdown", "tex": "LaTeX"}
PRESS = "() => setTimeout(() => document.querySelector('#table-file').click(), 200)"
INTRO = """<p class="lead"><strong>What you see.</strong> How well each method outlines lesions on images that no
training saw, from the records of runs of this program, beside the paper's own numbers. Every number and every sentence
here is computed from the records.</p>"""
MAKE = """<strong>No records here yet.</strong> The tables and plots of this tab come from <code>*.jsonl</code> files in
the folder given by <code>--results</code>. Make them with <code>python -m train.reproduce table1 --data.name busi
--data.root Dataset_BUSI_with_GT</code> (<code>table2</code> for the ablation; <code>--data.name phantom</code> needs no
data), then copy the run's <code>records.jsonl</code> there. <code>python -m train.report</code> writes the same tables
to files."""


def rivals() -> str:
    """In what the rivals differ here from their papers, as HTML that opens on request."""
    rows = (
        f"<li><strong>{escape(TITLES.get(name, 'All'))}</strong>: {escape(difference)}</li>"
        for name, difference in methods.deviations().items()
    )
    return (
        "<details><summary>In what the rivals differ here from their"
        f" papers</summary><ul>{''.join(rows)}</ul></details>"
    )


def build(session: Session) -> None:
    """Lay out the tab; nothing is read or computed before it is opened."""
    registry, reader = session.registry, Reader(session.registry)
    key = gr.State("")
    gr.HTML(INTRO)
    nothing = gr.HTML("", elem_classes="stage")
    with gr.Column(visible=False, elem_id="results") as body:
        with gr.Row(elem_classes="controls", equal_height=True):
            plan = gr.Dropdown([], label="Plan that was run", min_width=150)
            recipe = gr.Radio(["strong"], value="strong", label="Recipe", min_width=150)
            measure = gr.Radio([(HEADS[name], name) for name in MEASURES], value="dsc", label="Measure", min_width=190)
        with gr.Row(elem_classes="controls", equal_height=True):
            table = gr.Radio(
                [(title, name) for name, title in NAMED.items()],
                value="table1",
                label="Methods",
                scale=4,
                min_width=250,
            )
            averaging = gr.Radio(
                [(label.capitalize(), name) for name, label in AVERAGED.items()],
                value="lesion",
                label="Mean over",
                scale=6,
                min_width=300,
            )
            per = gr.Radio(
                [("Slice", "image"), ("Volume", "volume")],
                value="image",
                label="One case is a",
                visible=False,
                scale=3,
                min_width=150,
            )
        numbers = gr.HTML("", elem_classes="stage")
        with gr.Row(elem_classes="controls export", equal_height=True):
            form = gr.Radio(
                [(label, name) for name, label in FORMS.items()], value="csv", label="Download as", min_width=330
            )
            button = gr.Button("Download the table", variant="primary", min_width=180)
            ready = gr.DownloadButton("File", elem_id="table-file")  # never seen: pressed when the file is written
        by_labels = gr.HTML("")
        with gr.Row(elem_classes="controls", equal_height=True):
            across = gr.Dropdown([], label="Image by image: across", min_width=120)
            up = gr.Dropdown([], label="Up", min_width=120)
            share = gr.Dropdown([], label="Labels", min_width=90)
        points = gr.HTML("")
        lines = gr.HTML("")
        gr.HTML(rivals())

    controls = (plan, table, recipe, averaging, measure, per)
    pairing = (across, up, share)
    inputs = {key, *controls, *pairing}

    def fill(values: dict) -> Iterator[dict]:
        """Another plan, or other records: what can be chosen of them, then the numbers."""
        there = shelf(registry)
        wrong = "".join(html.note(f"A file of records was left out: {line}", "warning") for line in there.wrong)
        if not there.plans:
            yield {nothing: wrong or html.note(MAKE, "warning"), body: gr.Column(visible=False)}
            return
        try:
            name = values[plan] if values[plan] in there.plans else next(iter(there.plans))
            results = reader.results(there.key, name, "image")
        except ValueError as error:
            yield {nothing: html.note(str(error), "warning"), body: gr.Column(visible=False)}
            return
        methods = [(TITLES.get(method, method), method) for method in results.methods]
        shares = [(f"{100 * labels:g}%", labels) for labels in results.labels]
        kept = {
            plan: name,
            table: kept_of(values[table], tables.tables_with_runs(results)),
            recipe: kept_of(values[recipe], results.recipes),
            per: values[per] if results.volumes else "image",
            across: kept_of(
                values[across], [m for m in results.methods if m != result_report.METHOD] or results.methods
            ),
            up: kept_of(values[up], results.methods, result_report.METHOD),
            share: kept_of(values[share], results.labels, 0.1),
        }
        yield {
            nothing: wrong,
            body: gr.Column(visible=True),
            plan: gr.Dropdown(list(there.plans), value=name),
            table: gr.Radio([(NAMED[t], t) for t in tables.tables_with_runs(results)], value=kept[table]),
            recipe: gr.Radio([(r.capitalize(), r) for r in results.recipes], value=kept[recipe]),
            per: gr.Radio(value=kept[per], visible=results.volumes),
            across: gr.Dropdown(methods, value=kept[across]),
            up: gr.Dropdown(methods, value=kept[up]),
            share: gr.Dropdown(shares, value=kept[share]),
        }
        yield from draw(values | kept | {key: there.key})

    def draw(values: dict) -> Iterator[dict]:
        """The numbers at once, the plots when they are ready."""
        choice = Choice(*(values[control] for control in controls))
        try:
            yield {numbers: reader.numbers(values[key], choice)}
            yield {by_labels: reader.by_labels(values[key], choice)}
            yield pair(values)
            yield {lines: reader.curves(values[key], choice.plan)}
        except ValueError as error:
            yield {numbers: html.note(str(error), "warning"), by_labels: "", lines: "", points: ""}

    def pair(values: dict) -> dict:
        choice = Choice(*(values[control] for control in controls))
        return {points: reader.scatter(values[key], choice, (values[across], values[up]), values[share])}

    def table_file(values: dict) -> str:
        choice = Choice(*(values[control] for control in controls))
        text = reader.file(values[key], choice, values[form]).encode("utf-8")
        return save_to_cache(text, f"{choice.plan}-{choice.table}.{values[form]}", ready)

    drawn = [numbers, by_labels, points, lines]
    session.on_case(lambda case: state(registry), [], key)
    on_event(gr.on, fill, inputs, [nothing, body, *controls, *pairing, *drawn], triggers=[key.change, plan.input])
    on_event(gr.on, draw, inputs, drawn, triggers=[control.input for control in controls[1:]])
    on_event(gr.on, pair, inputs, points, triggers=[control.input for control in pairing])
    on_event(button.click, table_file, {*inputs, form}, ready, show_progress="minimal", show_progress_on=button).then(
        None, js=PRESS
    )


def kept_of(value, allowed, preferred=None):
    """The value if it is allowed, else what is wished for if that is, else the first."""
    return next((one for one in (value, preferred) if one in allowed), allowed[0])
