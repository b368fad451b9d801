"""Logging without what could name a file or a patient: one line for each record, without the messages of exceptions."""

from __future__ import annotations

import logging
import traceback
import warnings
from pathlib import Path

# libraries whose logs quote headers of files
NOISY = ("pydicom", "nibabel", "PIL", "highdicom", "httpx", "python_multipart")


class RedactingFormatter(logging.Formatter):
    """One line for each record; of an exception only its type and place: its message may name a file or a patient."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage().partition("\n")[0]
        error = record.exc_info[1] if record.exc_info else None
        return f"{record.levelname}: {message}" + (
            f" ({type(error).__name__} at {traceback_location(error)})" if error else ""
        )


def traceback_location(error: BaseException) -> str:
    """Return the files and lines where an exception was raised, from the outside in, without its message."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)


def configure_logging() -> None:
    """Log warnings through ``RedactingFormatter``, and nothing of libraries whose logs quote headers of files."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter())
    # pydicom sets its level anew when it is imported
    handler.addFilter(lambda record: record.name.partition(".")[0] not in NOISY)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in NOISY:  # some have handlers of their own
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore")
