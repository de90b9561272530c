"""A bar on standard error that shows how far something is; that it cannot be written is no error."""

import sys
from typing import Any

from tqdm import tqdm

# Seconds before a bar is shown: what is done sooner needs none.
DELAY_SEC = 2.0


class _Unfailing:
    """A stream that is not written to any more once that has failed.

    tqdm keeps the lock that all bars of a process share when writing raises: the next bar, in another thread, would
    wait for ever.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, self._failed = stream, False

    def write(self, text: str) -> None:
        self._try("write", text)

    def flush(self) -> None:
        self._try("flush")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, name: str, *of: str) -> None:
        if self._failed:
            return
        try:
            getattr(self._stream, name)(*of)
        except (OSError, ValueError):  # ``2>&1 | head``; a stream that is closed, or cannot write a name
            self._failed = True


def progress_bar(delay: float = DELAY_SEC, **options: Any) -> tqdm:
    """Return a bar of tqdm on standard error, shown in a terminal only.

    Args:
        delay: seconds before it is shown.
        options: tqdm's.
    """
    stream = sys.stderr
    try:
        shown = stream is not None and stream.isatty()
    except ValueError:  # a stream that is closed
        shown = False
    return tqdm(file=_Unfailing(stream), delay=delay, disable=not shown, **options)
