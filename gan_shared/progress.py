"""How far a run is: a bar in a notebook or a terminal, a line now and then on standard error anywhere else."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from tqdm import tqdm

from gan_shared.hooks import Event
from gan_shared.progress_bar import progress_bar, shows_bars, shows_progress

# Seconds between two redraws of the bar.
REDRAW_SEC = 0.2
# Seconds between two lines where there is no bar: a notebook soon shows one, and a day leaves less than 3,000.
LINE_SEC = 30.0


class Progress:
    """Shows the steps done; nothing where there is no standard error, it has been closed, or nothing is to be shown.

    Args:
        name: of the run; may be empty.
        total: the last step.
        start: steps done before.
    """

    def __init__(self, name: str, total: int, start: int) -> None:
        self._name, self._total, self._start = name, total, start
        self._step, self._numbers = start, ""
        self._began = perf_counter()
        self._shown_step, self._shown_at = start, self._began
        self._shows = shows_progress()
        self._bar: tqdm | None = None
        with self._guarded():
            if self._shows and shows_bars():
                options = {"desc": name or None, "unit": "step", "mininterval": REDRAW_SEC}
                self._bar = progress_bar(delay=0.0, total=total, initial=start, **options)

    def advance(self, event: Event) -> None:
        """Show that the steps of ``event`` are done; nothing here waits for the device."""
        steps, self._step = event.step - self._step, event.step
        with self._guarded():
            if self._bar is not None:
                self._bar.update(steps)
            elif perf_counter() - self._shown_at >= LINE_SEC:
                self._print_steps()

    def restart(self, start: int) -> None:
        """Go on from another step."""
        self._step = self._start = self._shown_step = start
        self._began = self._shown_at = perf_counter()
        with self._guarded():
            if self._bar is not None:
                self._bar.n = self._bar.initial = start
                self._bar.refresh()

    def show(self, numbers: str) -> None:
        """Show ``numbers`` beside the steps from the next time on."""
        self._numbers = numbers
        if self._bar is not None:
            self._bar.set_postfix_str(numbers, refresh=False)

    def print_line(self, line: str) -> None:
        """Print a line of its own."""
        with self._guarded():
            if self._bar is not None:
                self._bar.write(line, file=self._bar.fp)
            elif self._shows:
                print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Show the last step."""
        with self._guarded():
            if self._bar is not None:
                self._bar.close()
            elif self._step > self._shown_step:
                self._print_steps()

    def _print_steps(self) -> None:
        """Print one line about the steps done."""
        self._shown_step, self._shown_at = self._step, perf_counter()
        rate = (self._step - self._start) / (self._shown_at - self._began)
        step = f"step {self._step} of {self._total}"
        left = f"{tqdm.format_interval((self._total - self._step) / rate)} left"
        parts = (f"{self._name}: {step}" if self._name else step, self._numbers, f"{rate:.3g} steps/s", left)
        if self._shows:
            print(", ".join(part for part in parts if part), file=sys.stderr, flush=True)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Show nothing more once writing has failed: a run goes on without its progress."""
        try:
            yield
        except (OSError, ValueError):  # ``2>&1 | head``; a stream that is closed, or cannot write the run's name
            self._shows = False
            if self._bar is not None:
                self._bar.disable, self._bar = True, None
