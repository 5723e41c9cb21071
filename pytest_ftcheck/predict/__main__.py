"""Will it fit? ``python -m pytest_ftcheck.predict --model config.json``; see ``--help``."""

from __future__ import annotations

import sys
import time
from argparse import Namespace

from ..errors import FtcheckError, RecipeError
from ..failures import one_line
from .architecture import configuration, model_of
from .arguments import PROGRAM, USAGE, gpu_of, methods_of, parsed, workload_of
from .comparison import Comparison, compare, title
from .predictions import Predictions
from .workload import Workload

INTERRUPTED = 130
# To the start of the line, and nothing after it (ECMA-48).
CLEAR = "\r\x1b[K"


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0, or 2 for an option that cannot be, 1 for what cannot be predicted. Nothing is printed on the
    standard output before everything is known.
    """
    options = parsed(arguments)
    try:
        comparison = _compared(options)
    except FtcheckError as error:
        wrong_option = isinstance(error, RecipeError)
        print(f"{PROGRAM}: {_first_line(error) if wrong_option else error}", file=sys.stderr)
        return USAGE if wrong_option else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    if options.json:
        print(comparison.to_json())
    else:
        from ..report.prediction import comparison_lines

        print("\n".join(comparison_lines(comparison)))
    return 0


def _compared(options: Namespace) -> Comparison:
    workload = _checked(options)
    progress = _Progress()
    predictions = Predictions(gpu_of(options), time_limit_s=options.time_limit, tell=progress.tell)
    try:
        return compare(
            workload,
            predictions,
            methods_of(options),
            batch_search=not options.no_batch_search,
            switch_search=not options.no_switches,
        )
    finally:
        progress.end()


def _checked(options: Namespace) -> Workload:
    """The workload, its model once built: what is wrong with it is said at once, and what it imports is imported here,
    and not by each prediction anew.
    """
    import peft
    import torch
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        config = configuration(options.model)
        workload = workload_of(options, getattr(config, "max_position_embeddings", None))
        with torch.device("meta"):
            model_of(config, workload.attention, workload.dtype)
    except FtcheckError:
        raise
    except Exception as error:
        # What a model's own code makes of a wrong configuration may be anything.
        raise RecipeError(f"model is {options.model!r}; allowed: one that can be built ({one_line(error)})") from error
    if getattr(config, "quantization_config", None):
        raise RecipeError(f"model is {options.model!r}, with a quantization_config; allowed: a configuration without")
    assert peft
    return workload


class _Progress:
    """A line on the standard error that says what is being predicted, where somebody may be looking at it."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def tell(self, workload: Workload, made: int) -> None:
        if sys.stderr.isatty():
            what = f"{title(workload)}, batch {workload.batch_size}, {workload.dtype}, {workload.optimizer}"
            print(
                f"{CLEAR}{time.monotonic() - self._began:.0f} s, prediction {made + 1}: {what}", end="", file=sys.stderr
            )
            sys.stderr.flush()

    def end(self) -> None:
        if sys.stderr.isatty():
            print(CLEAR, end="", file=sys.stderr)
            sys.stderr.flush()


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
