"""What every tab of the page is given, and how its handlers answer a user's mistakes."""

import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import isgeneratorfunction
from pathlib import Path
from threading import Semaphore
from time import monotonic, time
from typing import Any, NamedTuple, TypeAlias

import gradio as gr

from gan_app.auditing import Auditor
from gan_app.models import Models
from gan_app.record import AccessLog
from gan_app.training import Trainer
from gan_app.users import User
from gan_shared.errors import UserError, one_line, unexpected

# Of handlers that compute images: both cores are in one already.
ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "images", "concurrency_limit": 1}
Handler: TypeAlias = Callable[..., Any]
# Files that were made for a download are removed after this many seconds.
FILES_LIVE = 3600


class Limits(NamedTuple):
    """How much one request may ask for.

    Attributes:
        images: at once.
        frames: of a walk.
        seconds: that a request computes for.
        projection_steps: of a projection into a latent space.
        steps: of a training.
        training_seconds: after which a training is asked to save and end.
        waiting: requests that wait; more are refused.
        upload_bytes: of one upload, which may have several files.
    """

    images: int = 256
    frames: int = 300
    seconds: float = 300.0
    projection_steps: int = 1000
    steps: int = 10**6
    training_seconds: float = 12 * 3600.0
    waiting: int = 100
    upload_bytes: int = 200 * 10**6


class Context(NamedTuple):
    """What the tabs have in common.

    Attributes:
        models: the runs.
        log: of who asked for what.
        limits: of a request.
        trainer: what trains.
        auditor: what audits the images of runs.
        files: folder of files that were made for a download.
        computing: held by the handler that computes images; one that was cancelled computes on until it ends.
    """

    models: Models
    log: AccessLog
    limits: Limits
    trainer: Trainer
    auditor: Auditor
    files: Path
    computing: Semaphore

    def new_folder(self) -> Path:
        """Return a folder for one request's files; old ones are removed."""
        self.files.mkdir(parents=True, exist_ok=True)
        for old in self.files.iterdir():
            if time() - old.stat().st_mtime > FILES_LIVE:
                shutil.rmtree(old, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=self.files))

    def clock(self) -> Callable[[], bool]:
        """Return a function that says whether a request has computed for too long."""
        end = monotonic() + self.limits.seconds
        return lambda: monotonic() > end

    def deadline(self) -> Callable[[], None]:
        """Return a function that refuses to go on when a request has computed for too long."""
        time_is_up = self.clock()

        def check() -> None:
            if time_is_up():
                raise UserError(f"this took more than {self.limits.seconds:.0f} seconds: ask for less at once")

        return check


def check_number(name: str, value: float, most: float) -> int:
    """Return a number that was asked for as a whole one.

    Raises:
        UserError: it is none, below 1, or more than one may ask for.
    """
    if not isinstance(value, (int, float)) or value != value or not 1 <= value <= most or value != int(value):
        raise unexpected(name, value, f"a number from 1 to {most:,.0f}")
    return int(value)


def user_of(request: gr.Request) -> User:
    """Return who asks; ``AccessControl`` says it."""
    return request.state.user


def answering(
    context: Context, action: str, role: str = "viewer", *, computes: bool = False
) -> Callable[[Handler], Handler]:
    """Make a handler: it is logged, held to a role, and its mistakes become sentences in the page.

    Args:
        context: of the application.
        action: what is logged.
        role: ``owner`` for what only owners may do.
        computes: whether it computes images, which one handler does at a time.

    Returns:
        A decorator of functions, or of generators, whose last parameter is the request.
    """

    def allowed(request: gr.Request) -> None:
        user, address = user_of(request), request.client.host
        if role == "owner" and user.role != "owner":
            context.log.write("refused", user=user.name, address=address, why=f"only owners may {action}")
            raise gr.Error(f"Only owners may {action}.", print_exception=False)
        context.log.write(action, user=user.name, address=address)

    def sentence(error: Exception) -> gr.Error:
        if isinstance(error, gr.Error):
            return error
        if isinstance(error, (UserError, OSError)):
            return gr.Error(one_line(error), print_exception=False)
        traceback.print_exception(error, file=sys.stderr)
        return gr.Error(f"The server made a mistake ({type(error).__name__}); it is in the server's output.")

    @contextmanager
    def alone() -> Iterator[None]:
        if not computes:
            yield
        elif not context.computing.acquire(timeout=context.limits.seconds):
            raise UserError("other images are still being made: try again later")
        else:
            try:
                yield
            finally:
                context.computing.release()

    def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
        if isgeneratorfunction(handler):

            @wraps(handler)
            def generator(*arguments: Any) -> Iterator[Any]:
                allowed(arguments[-1])
                try:
                    with alone():
                        yield from handler(*arguments)
                except Exception as error:
                    raise sentence(error) from error

            return generator

        @wraps(handler)
        def function(*arguments: Any) -> Any:
            allowed(arguments[-1])
            try:
                with alone():
                    return handler(*arguments)
            except Exception as error:
                raise sentence(error) from error

        return function

    return decorate
