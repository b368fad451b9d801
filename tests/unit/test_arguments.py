"""Command lines of the package: what is wrong with an option is one sentence, as in the training commands."""

from __future__ import annotations

import pytest

from mpsams.annotation import __main__ as annotation
from mpsams.app import main as app
from mpsams.imaging import __main__ as imaging


@pytest.mark.parametrize(
    "command, argv, sentence",
    [
        (imaging.main, ["--chioce", "3", "x"], "unknown option --chioce; did you mean --choice?"),
        (imaging.main, [], "FILE is missing"),
        (imaging.main, ["x", "--choice"], "--choice needs a value"),
        (imaging.main, ["x", "--modality", "CT"], "--modality 'CT' is none of ultrasound, ct, mri"),
        (annotation.main, ["import", "p", "f", "--whoo", "x"], "unknown option --whoo; did you mean --who?"),
        (
            annotation.main,
            ["exprt"],
            "'exprt' is none of import, export, add, second, agreement, consensus; did you mean",
        ),
        (annotation.main, ["export", "p", "nift", "out"], "did you mean nifti?"),
        (app.main, ["--projct", "x"], "unknown option --projct; did you mean --project?"),
        (app.main, ["--port", "many"], "argument --port"),
    ],
)
def test_what_is_wrong_with_an_option_is_one_sentence_and_no_usage(command, argv, sentence, capsys):
    with pytest.raises(SystemExit) as end:
        command(argv)
    printed = capsys.readouterr().err
    assert end.value.code == 2 and sentence in printed and printed.count("\n") == 1 and "usage" not in printed
