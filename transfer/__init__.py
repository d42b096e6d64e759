"""The code that the commands share; docs/architecture.md shows which module does what."""

import sys
from pathlib import Path

_before = sys.excepthook


def _excepthook(kind, error, traceback):
    """Ends a script in one line on Ctrl-C, too, while it still imports what it needs."""
    if issubclass(kind, KeyboardInterrupt):
        print(f"{Path(sys.argv[0]).name}: interrupted", file=sys.stderr)
    else:
        _before(kind, error, traceback)


sys.excepthook = _excepthook
