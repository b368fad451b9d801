"""Run records -> the paper's two tables: means, intervals, paired comparisons, and how they are written down."""

from mpsams.tables.comparisons import Comparison, compare, holm, strongest
from mpsams.tables.effects import LEVEL, POWER
from mpsams.tables.means import (
    AVERAGED,
    AVERAGINGS,
    HEADS,
    MEASURES,
    NAMED,
    TABLES,
    Cell,
    Line,
    Table,
    over_images,
    paper_numbers,
    per_image,
    resample,
    score,
    table,
    tables_with_runs,
)
from mpsams.tables.results import METHODS, TITLES, Results, RunScores, plans, read
from mpsams.tables.writing import (
    DASH,
    HOLDS,
    MARKS,
    comparison_table,
    comparisons_csv,
    csv,
    format_signed,
    intervals,
    latex,
    markdown,
    note,
    number,
    sentence,
)

__all__ = [
    "AVERAGED", "AVERAGINGS", "DASH", "HEADS", "HOLDS", "LEVEL", "MARKS", "MEASURES", "METHODS", "NAMED", "POWER",
    "TABLES", "TITLES", "Cell", "Comparison", "Line", "Results", "RunScores", "Table", "compare", "comparison_table",
    "comparisons_csv", "csv", "holm", "format_signed", "intervals", "latex", "markdown", "note", "number", "over_images", "paper_numbers",
    "per_image", "plans", "read", "resample", "score", "sentence", "strongest", "table", "tables_with_runs",
]  # fmt: skip
