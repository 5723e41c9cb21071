"""Errors that a user of the plugin meets; each message is one line first, evidence after it.

PYTEST_DONT_REWRITE: nothing is asserted here.
"""

from __future__ import annotations


class FtcheckError(Exception):
    """Base of every error that this package raises on purpose."""


class RecipeError(FtcheckError, ValueError):
    """A recipe or method was declared with a value that cannot work; the message says what is allowed."""


class TrainingError(FtcheckError):
    """A training ran and cannot be believed: it stopped, diverged, or trained nothing."""


class TimeLimitError(TrainingError):
    """A training took longer than it may; trying it again, or with more data, would take as long."""


class OutOfMemoryError(TrainingError):
    """A training needed more memory than there is; with a smaller batch it may not."""


class DeviceError(FtcheckError):
    """The device that was asked for is not there."""


class RecordError(FtcheckError, ValueError):
    """A stored record does not have the form that its type declares."""


class NotApplicable(Exception):  # noqa: N818 - not an error: an answer
    """A recipe gives a check nothing to look at; the text says why."""


class PredictionError(FtcheckError):
    """A training step cannot be predicted; the message says what is not supported and what to do."""


class ComparisonError(FtcheckError):
    """Two trainings cannot be compared; the message says why, and what is allowed."""


class TrainingEndedError(ComparisonError):
    """A training came to its end while it was its turn; what it had measured before stands."""


class HistoryError(FtcheckError):
    """A history of measurements cannot be read or written; the message names the place, in one line."""


class CacheError(FtcheckError):
    """The place where runs are kept cannot be opened; the message names it, in one line."""


class ExecutorError(FtcheckError):
    """A run cannot be carried out elsewhere; the message says why, and what to do."""


class ReportError(FtcheckError):
    """A report cannot be written; the message names the place, or what is missing, in one line."""


class AcceptanceError(FtcheckError):
    """What is seen cannot become what is declared; the message says why."""
