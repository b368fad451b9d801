"""Figures: what stands in their panels, that files are the same every time, and that outlines differ in more than
colour.
"""

import base64
import io
import re
import zlib

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from mpsams import plots, tables
from mpsams.plots import Row, images, looks
from tests.support import made_records


def disc(y, x, radius, shape=(40, 60)):
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    return (yy - y) ** 2 + (xx - x) ** 2 <= radius**2


IMAGE = np.random.default_rng(0).random((40, 60))
TRUTH = disc(20, 30, 9)
MASKS = {
    "scratch": disc(20, 34, 9),
    "mae": disc(20, 30, 9),
    "mps_ams": disc(20, 30, 6),
    "swav": np.zeros((40, 60), bool),
}


def panels(figure):
    """Axes of cells by row, the upper row first."""
    rows = {}
    for ax in figure.axes:
        if ax.axison:
            continue  # the colour bar
        rows.setdefault(-round(ax.get_position().y0, 4), []).append(ax)
    return [sorted(rows[key], key=lambda ax: ax.get_position().x0) for key in sorted(rows)]


def words(figure):
    return [text.get_text() for ax in figure.axes for text in [*ax.texts, ax.title] if text.get_text()]


def outlines(ax):
    """(colour, whether dashed) of each outline in a cell."""
    return [(to_hex(c.get_edgecolor()[0]).upper(), c.get_linestyle()[0][1] is not None) for c in ax.collections]


# --- Figure 2


def test_a_comparison_shows_image_truth_methods_and_disagreement():
    figure = plots.comparison([Row("benign (1)", IMAGE, TRUTH, MASKS)], list(MASKS), tables.TITLES)
    (cells,) = panels(figure)
    assert [ax.get_title() for ax in cells] == ["Image", "Truth", "U-Net", "MAE", "MPS-AMS", "SwAV", "Disagreement"]
    assert all((ax.get_images()[0].get_array() == IMAGE).all() for ax in cells[:-1])
    truth, predicted = (looks.TRUTH, False), (looks.PREDICTED, True)
    assert [outlines(ax) for ax in cells] == [
        [],
        [truth],
        *[[truth, predicted]] * 3,
        [truth],
        [truth],
    ]  # SwAV found nothing
    overlap = 2 * (MASKS["scratch"] & TRUTH).sum() / (MASKS["scratch"].sum() + TRUTH.sum())
    assert [ax.texts[0].get_text() for ax in cells[2:6]] == [
        f"{overlap:.2f}",
        "1.00",
        f"{2 * MASKS['mps_ams'].sum() / (MASKS['mps_ams'].sum() + TRUTH.sum()):.2f}",
        "0.00",
    ]
    assert "benign (1)" in [text.get_text() for text in figure.texts]


def test_disagreement_is_0_where_all_agree_and_1_where_half_do():
    figure = plots.comparison([Row("a", IMAGE, None, MASKS)], list(MASKS))
    found = panels(figure)[0][-1].get_images()[0]
    for y, x in ((0, 0), (20, 30), (20, 38), (20, 42)):
        p = sum(bool(mask[y, x]) for mask in MASKS.values()) / 4
        assert found.get_array()[y, x] == pytest.approx(4 * p * (1 - p))
    assert found.get_array()[20, 38] == 1.0 and found.get_array()[0, 0] == 0.0 and found.get_clim() == (0, 1)


def test_an_outline_lies_on_the_masks_border_even_at_the_images_own():
    mask = np.zeros((40, 60), bool)
    mask[30:, 50:] = True
    ax = panels(plots.comparison([Row("a", IMAGE, None, {"mae": mask})], ["mae"]))[0][1]
    (path,) = ax.collections[0].get_paths()
    low, high = path.vertices.min(axis=0), path.vertices.max(axis=0)
    assert low == pytest.approx([49.5, 29.5]) and high == pytest.approx([59.5, 39.5])
    assert ax.get_xlim() == (-0.5, 59.5) and ax.get_ylim() == (39.5, -0.5)


def test_cells_have_the_shape_of_their_images_and_do_not_overlap():
    tall, wide = np.zeros((80, 40)), np.zeros((30, 90))
    rows = [Row("tall", tall, None, {"mae": tall > 1}), Row("wide", wide, None, {"mae": wide > 1})]
    figure = plots.comparison(rows, ["mae", "simmim"])
    height = figure.get_figheight() / figure.get_figwidth()
    for cells, ratio in zip(panels(figure), (2.0, 1 / 3), strict=True):
        assert len(cells) == 4
        for ax in cells:
            assert ax.get_position().height * height / ax.get_position().width == pytest.approx(ratio)
    above, below = (row[0].get_position() for row in panels(figure))
    assert above.y0 > below.y1
    empty = panels(figure)[0][2]  # simmim has no mask
    assert empty.texts[0].get_text() == "–" and empty.get_title() == "simmim" and not empty.get_images()


def test_what_is_unknown_has_no_place_or_says_so():
    alone = plots.comparison([Row("a", IMAGE, None, MASKS)], ["mae"], tables.TITLES)
    assert [ax.get_title() for ax in panels(alone)[0]] == ["Image", "MAE"]  # no truth, nothing to disagree with
    both = plots.comparison([Row("a", IMAGE, TRUTH, MASKS), Row("b", IMAGE, None, MASKS)], ["mae"])
    assert "unknown" in words(both) and sum(bool(re.fullmatch(r"\d\.\d\d", text)) for text in words(both)) == 1


@pytest.mark.parametrize(
    "image, truth, masks, message",
    [
        (IMAGE * 255, None, {}, r"shape \(40, 60\); expected one channel.*\[0, 1\]"),
        (IMAGE[None], None, {}, r"\(1, 40, 60\)"),
        (IMAGE * np.nan, None, {}, r"\[0, 1\]"),
        (IMAGE, TRUTH[:20], {}, r"the truth of 'case 7' has shape \(20, 60\); its image has \(40, 60\)"),
        (IMAGE, TRUTH, {"mae": TRUTH.T}, r"mae of 'case 7' has shape \(60, 40\)"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(image, truth, masks, message):
    with pytest.raises(ValueError, match=message):
        Row("case 7", image, truth, masks)


def test_nothing_to_draw_is_refused():
    for draw, message in (
        (lambda: plots.comparison([], ["mae"]), "no cases"),
        (lambda: plots.curves([]), "no pretraining"),
        (lambda: plots.against_labels([]), "no mean"),
        (lambda: plots.scatter({}, {}, "a", "b"), "0 and 0 cases"),
        (lambda: plots.scatter({"a": 1}, {"b": 1}, "a", "b"), "1 and 1 cases, 0 of them"),
    ):
        with pytest.raises(ValueError, match=message):
            draw()


# --- files


def small():
    return plots.comparison([Row("benign (1)", IMAGE, TRUTH, MASKS)], ["mps_ams"], tables.TITLES)


@pytest.mark.parametrize("suffix, start", [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_files_are_the_same_every_time(suffix, start):
    figure = small()
    found = plots.as_bytes(figure, suffix)
    assert found.startswith(start) and found == plots.as_bytes(figure, suffix) == plots.as_bytes(small(), suffix)
    assert not re.search(rb"CreationDate|<dc:date>|Matplotlib v", found)


def test_a_png_has_300_dots_per_inch_and_a_pdf_its_fonts_as_truetype():
    from io import BytesIO

    from PIL import Image

    figure = small()
    assert Image.open(BytesIO(plots.as_bytes(figure, "png"))).size == pytest.approx(
        300 * figure.get_size_inches(), abs=1.5
    )
    pdf = plots.as_bytes(figure, "pdf")
    pages = b"".join(
        zlib.decompress(part.lstrip(b"\r\n"))
        for part in re.findall(rb"FlateDecode.*?stream(.*?)endstream", pdf, re.S)
        if b"\x78" in part[:4]
    )
    assert b"/FontFile2" in pdf + pages and b"/Type3" not in pdf + pages
    with pytest.raises(ValueError, match="suffix is 'gif'; expected one of: png, pdf, svg"):
        plots.as_bytes(figure, "gif")


def test_fonts_are_as_before_afterwards():
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots.as_bytes(small(), "svg")
    assert dict(matplotlib.rcParams) == before


# --- looks


def test_methods_can_be_distinguished_without_colour():
    assert set(plots.LOOKS) == set(tables.METHODS) and list(plots.LOOKS) == list(tables.METHODS)
    assert len({marker for _, marker, _ in plots.LOOKS.values()}) == len(plots.LOOKS)
    assert len({(colour, dashes) for colour, _, dashes in plots.LOOKS.values()}) == len(plots.LOOKS)
    okabe_ito = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
    assert {colour for colour, *_ in plots.LOOKS.values()} - {looks.GREY} <= okabe_ito
    assert plots.colour("mps_ams") == "#D55E00" and plots.colour("another") == looks.GREY


# --- curves, scores


def test_curves_have_a_panel_per_method_and_per_fact():
    rows = [made_records.pretraining(method, seed) for method in ("mps_ams", "simclr", "mae") for seed in (0, 1)]
    figure = plots.curves(rows, tables.TITLES)
    by_title = {ax.get_title(loc="left"): ax for ax in figure.axes if ax.get_title(loc="left")}
    assert list(by_title) == ["SimCLR", "MAE", "MPS-AMS", "hidden", "effective rank"]
    first, second = by_title["SimCLR"].lines
    assert (
        first.get_ydata().tolist() == rows[2]["loss"]
        and second.get_ydata().tolist() == rows[3]["loss"]
        and first.get_xdata()[0] == 1
    )
    assert to_hex(first.get_color()).upper() == plots.colour("simclr")
    ranks = [line for line in by_title["effective rank"].lines if len(line.get_xdata()) > 1]
    assert len(ranks) == 4 and by_title["effective rank"].get_ylabel() == ""
    assert len(plots.curves([rows[0] | {"facts": {}}]).axes) == 1


def test_scores_against_labels_stand_at_their_means_with_their_intervals():
    def cell(method, labels, mean):
        return tables.Cell(
            method,
            labels,
            "dsc",
            (),
            mean,
            None,
            None if mean is None else mean - 0.1,
            None if mean is None else mean + 0.05,
        )

    cells = [
        cell("scratch", 0.05, 0.4),
        cell("mps_ams", 0.05, 0.5),
        cell("mps_ams", 0.1, None),
        cell("scratch", 1.0, 0.8),
    ]
    figure = plots.against_labels(cells, tables.TITLES, "DSC")
    (ax,) = figure.axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["5%", "100%"]
    points = {
        to_hex(line.get_color()).upper(): line for line in ax.lines if line.get_marker() not in ("", "None", None)
    }
    assert points[plots.colour("scratch")].get_ydata().tolist() == [0.4, 0.8] and points[
        plots.colour("mps_ams")
    ].get_ydata().tolist() == [0.5]
    x = points[plots.colour("scratch")].get_xdata()
    # apart where both are, in the middle when alone
    assert x[0] < 0 < points[plots.colour("mps_ams")].get_xdata()[0] and x[1] == 1
    ends = sorted(tuple(segment[:, 1].round(6)) for lines in ax.collections for segment in lines.get_segments())
    assert ends == [(0.3, 0.45), (0.4, 0.55), (0.7, 0.85)]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["U-Net", "MPS-AMS"]


def test_a_scatter_counts_cases_and_tells_classes_apart():
    x = {"benign (1)": 0.5, "benign (2)": 0.9, "malignant (1)": 0.2, "malignant (2)": 0.7}
    y = {"malignant (2)": 0.7, "benign (1)": 0.6, "benign (2)": 0.8, "malignant (1)": 0.6}
    figure = plots.scatter(x, y, "U-Net", "MPS-AMS")
    (ax,) = figure.axes
    benign, malignant = ax.collections
    assert benign.get_offsets().tolist() == [[0.5, 0.6], [0.9, 0.8]] and malignant.get_offsets().tolist() == [
        [0.2, 0.6],
        [0.7, 0.7],
    ]
    assert {text.get_text() for text in ax.texts} == {"MPS-AMS better\n2 of 4", "U-Net better\n1 of 4"}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "benign (2)",
        "malignant (2)",
        "mean (0.575, 0.675)",
    ]
    assert ax.get_aspect() == 1 and ax.get_xlim() == ax.get_ylim() == (0, 1)
    assert len(plots.scatter({"p/1": 0.5}, {"p/1": 0.6}, "a", "b").axes[0].collections) == 1


# --- the handout


def test_a_handout_is_one_page_in_a4_with_embedded_fonts_and_a_link_that_can_be_followed():
    long = "A sentence of twelve words that is as long as any there is. " * 4
    image, coarse = IMAGE[:40, :40], np.eye(4, dtype=bool)
    shown = [
        plots.Panel(f"Step {k}", long, image, [("lesion", coarse)], [("truth", TRUTH[:, :40])], 4) for k in range(9)
    ]
    figure = plots.handout(
        "Title",
        ["first line", "second line"],
        [*shown, plots.Panel("Curve", long, curve=([1, 2], [0.25, 0.5], 1))],
        "Source " * 30,
        "http://x/?step=1&" + "a" * 150,
    )
    made = plots.as_bytes(figure, "pdf")
    assert (
        made == plots.as_bytes(figure, "pdf")
        and made.count(b"/Type /Page ") == 1
        and b"/FontFile2" in made
        and b"/URI (http://x/?step=1&aaa" in made
    )
    width, height = map(float, re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", made).groups())
    assert abs(width - 595.3) < 1 and abs(height - 841.9) < 1
    figure.draw_without_rendering()
    boxes = {text: text.get_window_extent() for text in figure.texts}
    page = figure.bbox
    assert all(
        page.x0 < box.x0 and box.x1 < page.x1 - 20 and page.y0 < box.y0 and box.y1 < page.y1 for box in boxes.values()
    )
    ordered = list(boxes.values())
    assert not any(one.overlaps(other) for i, one in enumerate(ordered) for other in ordered[:i])
    pictures = [ax.get_window_extent() for ax in figure.axes]
    assert len(pictures) == 10 and not any(box.overlaps(picture) for box in ordered for picture in pictures)
    marked = figure.axes[-1].lines[1]
    assert list(marked.get_xdata()) == [2] and list(marked.get_ydata()) == [0.5]


def test_a_handout_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        plots.handout("Title", [], [], "", "")


def test_a_heat_map_as_a_picture_of_few_colours_looks_the_same():
    values_hw = np.random.default_rng(0).uniform(-0.1, 0.6, (40, 50))
    shown = Image.open(io.BytesIO(base64.b64decode(images.heat_uri(values_hw, 0.4).partition(",")[2])))
    difference = np.asarray(shown.convert("RGB")).astype(int) - images.heat(values_hw, 0.4)
    assert shown.size == (50, 40) and shown.mode == "P" and abs(difference).max() <= 2
