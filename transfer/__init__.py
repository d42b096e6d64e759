"""What the training scripts, compare.py and predict.py are made of; docs/architecture.md draws it."""

import sys


def _excepthook(kind, error, traceback):
    """Ends a script in one line on Ctrl-C, too, while it still imports what it needs."""
    if issubclass(kind, KeyboardInterrupt):
        print(f"{sys.argv[0]}: interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = _excepthook
