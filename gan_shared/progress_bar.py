"""A bar that shows how far something is: a widget in a notebook, else on standard error in a terminal.

That it cannot be written is no error.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

# Seconds before a bar is shown: what is done sooner needs none.
DELAY_SEC = 2.0
_shown: ContextVar[bool] = ContextVar("shown", default=True)


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


@contextmanager
def showing_progress(shown: bool) -> Iterator[None]:
    """Show how far things are while the block runs, or nothing of it."""
    token = _shown.set(shown)
    try:
        yield
    finally:
        _shown.reset(token)


def shows_progress() -> bool:
    """Return whether anything is to be shown, and there is a standard error for it."""
    return _shown.get() and sys.stderr is not None


def shows_bars() -> bool:
    """Return whether bars are shown: in a notebook and in a terminal.

    Raises:
        ValueError: standard error has been closed.
    """
    return shows_progress() and (_widget() is not None or sys.stderr.isatty())


def progress_bar(delay: float = DELAY_SEC, **options: Any) -> tqdm:
    """Return a bar of tqdm, shown in a notebook and in a terminal only.

    Args:
        delay: seconds before it is shown.
        options: tqdm's.
    """
    try:
        shown = shows_bars()
    except ValueError:  # a stream that is closed
        shown = False
    widget = _widget() if shown else None
    if widget is not None:
        return widget(delay=delay, **options)
    return tqdm(file=_Unfailing(sys.stderr), delay=delay, disable=not shown, **options)


def _widget() -> type[tqdm] | None:
    """Return tqdm's bar for notebooks in a notebook that can show it (the package ipywidgets is there), else None."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if "IPKernelApp" not in getattr(shell, "config", ()):  # tqdm's own rule
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm's, where there is no ipywidgets
        from tqdm.auto import tqdm as chosen
        from tqdm.notebook import tqdm_notebook
    return chosen if issubclass(chosen, tqdm_notebook) else None
