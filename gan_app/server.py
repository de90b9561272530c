"""The application's command: ``python scripts/app.py --help``."""

import getpass
import os
import secrets
import socket
import ssl
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Semaphore
from typing import Annotated

import tyro
from tyro.conf import Positional

from gan_app.access import LOCAL_HOSTS, AccessControl, Credentials
from gan_app.record import AccessLog
from gan_app.sessions import TOKEN_BYTES, Sessions
from gan_app.users import User, Users, add
from gan_shared.command import guarded
from gan_shared.errors import optional_module, unexpected
from gan_shared.interrupt import handling, stop_at_once
from gan_shared.paths import expanded

# Seconds until a session ends: whatever happens, and where nothing is asked for.
LIFETIME, IDLE = 12 * 3600.0, 2 * 3600.0
# Connections at once; more are answered that the server is busy.
MAX_CONNECTIONS = 1000


@dataclass(frozen=True)
class Options:
    """Make images in a browser: the runs of a folder, in either backend."""

    runs: Positional[Path] = Path("runs")
    """Folder of runs."""

    host: str = "127.0.0.1"
    """Address to listen to. Any but this machine's own needs --auth-file or --token."""

    port: int = 7860
    """Port to listen to."""

    auth_file: Path | None = None
    """File of users: names, roles and password hashes, made by --add-user."""

    add_user: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Add a user to --auth-file, or give one another password, and do nothing else. The password is asked for, or read
    from standard input where that is no terminal."""

    role: str | None = None
    """Role of --add-user: a viewer makes images, an owner trains and deletes too. When not given, the one that the user
    has, or viewer."""

    token: bool = False
    """Print a token once, which whoever has it logs in with, as an owner."""

    ssl_certfile: Path | None = None
    """Certificate (PEM) to encrypt the connection with."""

    ssl_keyfile: Path | None = None
    """Its private key, where that is not in the same file."""

    device: str = "auto"
    """Where to compute: cpu, gpu, or auto (a GPU when there is one)."""

    log: Path | None = None
    """File that logins, refusals and requests are written to; access.jsonl in the folder of runs when not given."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = tyro.cli(Options, args=argv)
    return guarded(lambda: _add_user(options) if options.add_user is not None else serve(options), "no more is served")


def _add_user(options: Options) -> None:
    """Ask for a password and write the user."""
    if options.auth_file is None:
        raise unexpected("auth_file", "none", "a file to add the user to")
    if sys.stdin.isatty():
        password = getpass.getpass(f"Password of {options.add_user}: ")
        if getpass.getpass("Once more: ") != password:
            raise unexpected("password", "two different ones", "the same twice")
    else:
        password = sys.stdin.readline().rstrip("\n")
    role = add(expanded(options.auth_file), options.add_user or "", password, options.role)
    print(f"{options.add_user} is a user of {options.auth_file} in the role of {role}")


def check(options: Options) -> None:
    """Refuse what cannot be served, or must not.

    Raises:
        UserError: naming the option.
    """
    if options.role is not None:
        raise unexpected("role", repr(options.role), "none without --add-user")
    if not 0 <= options.port < 2**16:
        raise unexpected("port", options.port, f"a number from 0 to {2**16 - 1}")
    if options.auth_file is not None and options.token:
        raise unexpected("token", "it beside auth_file", "one of the two")
    if options.host not in LOCAL_HOSTS and options.auth_file is None and not options.token:
        raise unexpected("host", options.host, "127.0.0.1, or --auth-file or --token for who may enter")
    if options.ssl_keyfile is not None and options.ssl_certfile is None:
        raise unexpected("ssl_keyfile", options.ssl_keyfile, "a --ssl-certfile that it belongs to")
    if options.ssl_certfile is not None:
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(options.ssl_certfile, options.ssl_keyfile, password="")
        except (ssl.SSLError, OSError) as error:
            raise unexpected("ssl_certfile", options.ssl_certfile, f"a certificate and its key ({error})") from error


def credentials_of(options: Options) -> tuple[Credentials | None, str]:
    """Return how people prove who they are, and the token where there is one."""
    if options.auth_file is not None:
        users = Users(expanded(options.auth_file))
        return Credentials(users.verify, users.find, False), ""
    if not options.token:
        return None, ""
    token, owner = secrets.token_urlsafe(TOKEN_BYTES), User("owner", "owner")

    def verify(name: str, secret: str) -> User | None:
        return owner if secrets.compare_digest(secret.encode(), token.encode()) else None

    return Credentials(verify, lambda name: owner if name == owner.name else None, True), token


def application(
    options: Options, credentials: Credentials | None, log: AccessLog, files: Path, stack: ExitStack
) -> AccessControl:
    """Build the ASGI application: the page behind access control.

    Args:
        options: of the command.
        credentials: see ``credentials_of``.
        log: where requests are written to.
        files: a folder for uploads, and for what is made for downloads.
        stack: ends what was begun, with the server.

    Raises:
        UserError: neither framework is installed.
    """
    # Before Gradio is imported: nothing is sent anywhere, and its files are in the folder that ends with the server.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(files), "HF_HUB_OFFLINE": "1"}
    gradio = optional_module("gradio", "app", "it without gradio", "app")
    fastapi = optional_module("fastapi", "app", "it without fastapi", "app")
    # Gradio fetches addresses that it is given in the place of files; this server fetches nothing for anybody.
    safehttpx = optional_module("safehttpx", "app", "it without safehttpx", "app")
    safehttpx.async_validate_url = _fetch_nothing
    from gan_app import page
    from gan_app.auditing import Auditor
    from gan_app.context import Context, Limits
    from gan_app.models import Models, installed_backends
    from gan_app.training import Trainer

    backends = installed_backends()
    if not backends:
        raise unexpected("backends", "neither PyTorch nor JAX", "one of them installed", ("torch", "jax"))
    runs, limits = expanded(options.runs), Limits()
    trainer = Trainer(runs, options.device, limits.training_seconds)
    stack.callback(trainer.close)
    auditor = Auditor(limits.seconds)
    stack.callback(auditor.close)
    models = Models(runs, backends, options.device)
    context = Context(models, log, limits, trainer, auditor, files / "made", Semaphore(1))
    blocks = page.build(context, with_login=credentials is not None)
    app = gradio.mount_gradio_app(
        fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        max_file_size=limits.upload_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        css=page.CSS,
    )
    secure = options.ssl_certfile is not None
    sessions = Sessions(LIFETIME, IDLE)
    return AccessControl(app, log, credentials, sessions, secure=secure, max_upload_bytes=limits.upload_bytes)


def serve(options: Options) -> None:
    """Serve the page until a signal ends it.

    Raises:
        UserError: it must not or cannot be served.
    """
    check(options)
    credentials, token = credentials_of(options)
    uvicorn = optional_module("uvicorn", "app", "it without uvicorn", "app")
    log = AccessLog(expanded(options.log or options.runs / "access.jsonl"))
    # The server ends with the signals that end a process; what it began is ended behind it, whichever came.
    with handling(stop_at_once), ExitStack() as stack:
        bound = stack.enter_context(_bound(options))
        files = stack.enter_context(tempfile.TemporaryDirectory(prefix="twin-gan-app-"))
        stack.callback(log.close)
        asgi = application(options, credentials, log, Path(files), stack)
        scheme = "http" if options.ssl_certfile is None else "https"
        config = uvicorn.Config(
            asgi,
            host=options.host,
            port=options.port,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            ssl_certfile=options.ssl_certfile and str(options.ssl_certfile),
            ssl_keyfile=options.ssl_keyfile and str(options.ssl_keyfile),
            timeout_graceful_shutdown=3,
            limit_concurrency=MAX_CONNECTIONS,
        )
        if token:
            print(f"token: {token}", flush=True)
        shown = f"[{options.host}]" if ":" in options.host else options.host
        print(f"the page is at {scheme}://{shown}:{bound.getsockname()[1]}", flush=True)
        uvicorn.Server(config).run(sockets=[bound])


async def _fetch_nothing(host: str) -> str:
    """Refuse to look up an address; takes the place of the check that stands before every request that Gradio makes."""
    raise ValueError("this server fetches nothing from elsewhere")


def _bound(options: Options) -> socket.socket:
    """Return a socket that listens to the address of the options.

    Raises:
        UserError: there is no such address, or it is taken.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind)
    except OSError as error:
        raise unexpected("host", options.host, f"an address of this machine ({error.strerror})") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise unexpected("port", options.port, f"one that is free at {options.host} ({error.strerror})") from error
    return bound


if __name__ == "__main__":
    sys.exit(main())
