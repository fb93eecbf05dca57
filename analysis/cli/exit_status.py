"""What commands do with an error and with a stop: one line, and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable

from analysis.errors import AnalysisError


def exit_status(run: Callable[[], int], stopped: str = "interrupted") -> int:
    """What ``run`` returns; 1 after an error that says what is wrong, 130 after a stop."""
    try:
        return run()
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130
