"""Downloads that do not hang: a time limit, and two more tries after a growing wait."""

import socket
import time

from transfer.terminal import say

TIMEOUT = 30  # seconds without a byte
WAITS = (1, 4)  # seconds before the second and the third try


def patiently(download):
    """Calls a function that downloads something, and again where it fails.

    Args:
        download: Function without arguments; it raises whatever it likes where it fails.

    Returns:
        What the function returns. What its third try raises is passed on.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        for wait in WAITS:
            try:
                return download()
            except Exception as error:  # noqa: BLE001  (whatever it likes)
                reason = " ".join(str(error).split())
                say("download", f"failed: {reason}; retrying in {wait} s", flush=True)
                time.sleep(wait)
        return download()
    finally:
        socket.setdefaulttimeout(before)
