"""Run records -> the paper's two tables: means, intervals, paired comparisons, and how they are written down."""

from mpsams.tables.comparisons import LEVEL, POWER, Comparison, compare, holm, needed, power, smallest_seen, strongest
from mpsams.tables.means import AVERAGED, AVERAGINGS, HEADS, MEASURES, NAMED, RESAMPLES, TABLES, Cell, Line, Table, per_image, resample, score, shown, table
from mpsams.tables.results import METHODS, TITLES, Results, Run, plans, read
from mpsams.tables.writing import DASH, comparison_table, comparisons_csv, csv, latex, markdown, note, number, sentence, signed

__all__ = [
    "AVERAGED", "AVERAGINGS", "DASH", "HEADS", "LEVEL", "MEASURES", "METHODS", "NAMED", "POWER", "RESAMPLES", "TABLES", "TITLES", "Cell", "Comparison", "Line",
    "Results", "Run", "Table", "compare", "comparison_table", "comparisons_csv", "csv", "holm", "latex", "markdown", "needed", "note", "number",
    "per_image", "plans", "power", "read", "resample", "score", "sentence", "shown", "signed", "smallest_seen", "strongest", "table",
]  # fmt: skip
