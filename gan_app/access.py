"""What stands in front of every request: who may come in, and what they may ask for.

An ASGI application around another. It answers ``/login`` and ``/logout`` itself and lets nothing else through without a
session, be it a page, a file, an upload or a stream of events. With credentials every request needs a session; without,
the server listens to this machine alone, and only requests that name it are let through, so that a page of another site
cannot reach it by a name of its own (DNS rebinding).
"""

import html
import json
import re
from collections.abc import Callable, Mapping
from time import monotonic
from typing import NamedTuple
from urllib.parse import parse_qs

from anyio import CapacityLimiter, move_on_after, to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gan_app.record import AccessLog
from gan_app.sessions import Sessions, Throttle
from gan_app.users import User
from gan_shared.errors import UserError

COOKIE = "twin_gan_session"
# Names of this machine, which a browser sends where it was asked for it.
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
# What Gradio's page needs, and nothing else that Gradio offers: paths, and beginnings of paths.
PATHS = {"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt", "/gradio_api/info"}
PATHS |= {f"/gradio_api/{name}" for name in ("queue/join", "queue/data", "reset", "startup-events", "app_id")}
PATHS |= {"/gradio_api/theme.css", "/gradio_api/upload_progress"}
BEGINNINGS = ("/assets/", "/static/", "/svelte/", "/pwa_icon", "/gradio_api/heartbeat/", "/gradio_api/file=")
UPLOAD = "/gradio_api/upload"
# Largest bodies: of the login form, of any other request, and of an upload.
MAX_FORM_BYTES, MAX_BODY_BYTES = 10_000, 500_000
# Seconds that the login form may take to arrive.
FORM_SECONDS = 10
# Requests for computation that a user may make at once, and how many come back each second.
BURST, PER_SECOND = 40.0, 4.0
# Wrong attempts at one name, from wherever, that cost nothing, and the longest delay behind the others in seconds.
NAME_ATTEMPTS, NAME_DELAY = 20, 30.0
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with none, a browser does not say which page a form is sent from
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>twin GAN: log in</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body {{ font: 16px/1.5 system-ui, sans-serif; display: grid; place-items: center; min-height: 90vh; }}
form {{ display: grid; gap: .6em; width: 18em; }} input, button {{ font: inherit; padding: .4em; }}
p {{ color: #a00; min-height: 1.5em; margin: 0; }}</style></head><body><form method="post" action="/login">
<h1>twin GAN</h1>{fields}<button>Log in</button><p role="alert">{message}</p></form></body></html>"""
NAME_FIELDS = """<label>Name <input name="name" autocomplete="username" autofocus required></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>"""
TOKEN_FIELD = """<label>Token <input name="token" type="password" autocomplete="off" autofocus required></label>"""


class Credentials(NamedTuple):
    """How a person proves who they are.

    Attributes:
        verify: (name, password or token) -> the user, or None; with a token the name is empty.
        find: name -> the user as they are now, or None where they may not enter any more.
        by_token: whether there is one token instead of names and passwords.
    """

    verify: Callable[[str, str], User | None]
    find: Callable[[str], User | None]
    by_token: bool


class Allowance:
    """How often something is allowed: so many times at once, and so many times a second in the long run.

    Args:
        burst: times at once.
        per_second: times in the long run.
        clock: seconds that never go back.
    """

    def __init__(
        self, burst: float = BURST, per_second: float = PER_SECOND, clock: Callable[[], float] = monotonic
    ) -> None:
        self._burst, self._per_second, self._clock = burst, per_second, clock
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, key: str) -> bool:
        """Return whether one more is allowed, and count it."""
        now = self._clock()
        if len(self._left) > 10_000:
            full = self._burst / self._per_second
            self._left = {each: value for each, value in self._left.items() if now - value[1] < full}
        left, since = self._left.get(key, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._per_second)
        self._left[key] = (left - 1 if left >= 1 else left, now)
        return left >= 1


class AccessControl:
    """Let through what is allowed.

    Args:
        application: what is asked for, an ASGI application; ``scope["state"]["user"]`` says by whom.
        log: where logins and refusals are written to.
        credentials: how a person proves who they are; None for this machine alone, whose user is an owner.
        sessions: who has entered.
        secure: whether the connection is encrypted, so that cookies must be too.
        max_upload_bytes: largest upload.
    """

    def __init__(
        self,
        application: ASGIApp,
        log: AccessLog,
        credentials: Credentials | None,
        sessions: Sessions,
        *,
        secure: bool,
        max_upload_bytes: int,
    ) -> None:
        self._application, self._log, self._credentials = application, log, credentials
        self._sessions, self._secure, self._max_upload_bytes = sessions, secure, max_upload_bytes
        self._throttle, self._by_name = Throttle(), Throttle(free=NAME_ATTEMPTS, most=NAME_DELAY)
        self._allowance, self._refusals = Allowance(), Allowance(burst=5, per_second=1 / 60)
        # A hash of a password takes 64 MiB, so that few are computed at once.
        self._verifying = CapacityLimiter(2)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] == "lifespan":
            return await self._application(scope, receive, send)
        request = Request(scope)
        if scope["type"] != "http":  # no page of this application opens a websocket
            await receive()
            return await send({"type": "websocket.close", "code": 1008})
        refused = self._refused_origin(request)
        if refused is None and self._credentials is not None and request.path in ("/login", "/logout"):
            return await self._enter_or_leave(request, receive, send)
        try:
            user = None if refused else self._user(request)
        except UserError as error:  # a mistake in the file of users
            return await self._unavailable(error, send)
        if user is None and refused is None:
            if request.method == "GET" and request.path == "/" and "text/html" in request.header("accept"):
                return await respond(send, 303, "", {"location": "/login"})
            refused = Refusal(401, "log in first")
        refused = refused or self._refused(request, user)
        if refused is not None:
            if refused.status != 401:
                named = user.name if user else ""
                self._log.write("refused", user=named, address=request.address, path=request.path, why=refused.message)
            return await respond(send, refused.status, json.dumps({"detail": refused.message}), JSON)
        assert user is not None, "without a refusal there is a user"
        limit = self._max_upload_bytes if request.path == UPLOAD else MAX_BODY_BYTES
        known = {**scope, "state": {**scope.get("state", {}), "user": user}}
        await self._application(known, limited(receive, limit), with_headers(send))

    def _refused_origin(self, request: "Request") -> "Refusal | None":
        """Return why a request does not come from a page of this server."""
        host = request.header("host")
        if self._credentials is None and host_name(host) not in LOCAL_HOSTS:
            return Refusal(403, f"this server is for this machine alone, not for {host[:100]!r}")
        origin = request.header("origin")
        if request.method not in ("GET", "HEAD") and origin and origin.partition("://")[2].lower() != host.lower():
            return Refusal(403, "the request comes from a page of another site")
        return None

    def _user(self, request: "Request") -> User | None:
        """Return who makes a request; None where that is not known."""
        if self._credentials is None:
            return User("local", "owner")
        user = self._sessions.find(request.cookie(COOKIE)) if request.cookie(COOKIE) else None
        # Who was removed from the file, has another role or another password now, is that at once.
        now = self._credentials.find(user.name) if user else None
        return now if now and user and now.since == user.since else None

    def _refused(self, request: "Request", user: User | None) -> "Refusal | None":
        """Return why a known user may not make a request."""
        assert user is not None, "who is unknown was refused before"
        limit = self._max_upload_bytes if request.path == UPLOAD else MAX_BODY_BYTES
        if request.path not in (*PATHS, UPLOAD) and not request.path.startswith(BEGINNINGS):
            return Refusal(404, "there is nothing of that name")
        if ":/" in request.path:  # an address, which the server would fetch
            return Refusal(404, "there is nothing of that name")
        if request.method not in ("GET", "HEAD", "POST"):
            return Refusal(405, "only GET, HEAD and POST are answered")
        if request.path == UPLOAD and user.role != "owner":
            return Refusal(403, "only owners may upload pictures")
        if request.content_length > limit:
            return Refusal(413, f"the request has more than {limit:,} bytes")
        if request.path == "/gradio_api/queue/join" and not self._allowance.take(user.name):
            return Refusal(429, "too many requests: wait a few seconds")
        return None

    async def _enter_or_leave(self, request: "Request", receive: Receive, send: Send) -> None:
        """Answer the pages that anybody may see."""
        if request.path == "/logout":
            if request.method != "POST":  # what another site's page can ask for
                return await respond(send, 405, "", {})
            left = self._sessions.find(request.cookie(COOKIE))
            self._sessions.end(request.cookie(COOKIE))
            if left is not None:
                self._log.write("logged out", user=left.name, address=request.address)
            return await respond(send, 303, "", {"location": "/login", "set-cookie": self._cookie("", 0)})
        if request.method in ("GET", "HEAD"):
            return await self._form(send, 200, "")
        if request.method != "POST":
            return await respond(send, 405, "", {})
        body = None
        with move_on_after(FORM_SECONDS):
            body = await read_body(receive, MAX_FORM_BYTES)
        if body is None:
            return await self._form(send, 413, "That is too long.")
        fields = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        await self._enter(request, fields, send)

    async def _enter(self, request: "Request", fields: Mapping[str, str], send: Send) -> None:
        """Begin a session for who proves who they are; wrong attempts become slower."""
        assert self._credentials is not None, "there is a login where there are credentials"
        by_token = self._credentials.by_token
        name = "" if by_token else fields.get("name", "")
        secret = fields.get("token" if by_token else "password", "")
        # By address; and by name, from wherever, but softly: a stranger must not lock its owner out.
        key, named = f"address {request.address}", f"user {name[:100]}"
        wait = max(self._throttle.wait(key), 0.0 if by_token else self._by_name.wait(named))
        if wait > 0:
            if self._refusals.take(key):  # a flood of them must not push older lines out of the log
                self._log.write("login refused", user=name, address=request.address, why="too many wrong attempts")
            message = f"Too many wrong attempts: wait {wait:.0f} seconds."
            return await self._form(send, 429, message, {"retry-after": str(int(wait) + 1)})
        # Counted before it is known, so that attempts at the same time are counted too.
        self._throttle.failed(key)
        self._by_name.failed(named)
        try:
            user = await to_thread.run_sync(self._credentials.verify, name, secret, limiter=self._verifying)
        except UserError as error:
            return await self._unavailable(error, send)
        if user is None:
            self._log.write("login failed", user=name, address=request.address)
            return await self._form(send, 401, "Wrong token." if by_token else "Wrong name or password.")
        self._throttle.succeeded(key)
        self._by_name.succeeded(named)
        self._sessions.end(request.cookie(COOKIE))
        token = self._sessions.begin(user)
        self._log.write("logged in", user=user.name, address=request.address)
        await respond(send, 303, "", {"location": "/", "set-cookie": self._cookie(token)})

    async def _unavailable(self, error: UserError, send: Send) -> None:
        """Answer that nobody can come in, and log why."""
        self._log.write("nobody can log in", why=str(error))
        await respond(send, 503, json.dumps({"detail": "nobody can log in now: see the server's log"}), JSON)

    def _cookie(self, token: str, seconds: int | None = None) -> str:
        """Return the header that sets the session's cookie, or with 0 seconds removes it."""
        age = "" if seconds is None else f"; Max-Age={seconds}"
        return f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict{'; Secure' if self._secure else ''}{age}"

    async def _form(self, send: Send, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        """Send the page to log in with."""
        by_token = self._credentials is not None and self._credentials.by_token
        text = PAGE.format(fields=TOKEN_FIELD if by_token else NAME_FIELDS, message=html.escape(message))
        policy = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"}
        await respond(send, status, text, {"content-type": "text/html; charset=utf-8", **policy, **(headers or {})})


JSON = {"content-type": "application/json"}


class Refusal(NamedTuple):
    """Why a request is not answered.

    Attributes:
        status: of HTTP.
        message: a sentence.
    """

    status: int
    message: str


class Request:
    """What access control needs of an ASGI scope.

    Args:
        scope: of a request.

    Attributes:
        method: GET, say.
        path: as the application sees it.
        address: of the other side.
    """

    def __init__(self, scope: Scope) -> None:
        self.method: str = scope.get("method", "")
        self.path: str = scope["path"]
        self.address: str = (scope.get("client") or ("",))[0]
        self._headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}

    def header(self, name: str) -> str:
        """Return a header; empty where there is none."""
        return self._headers.get(name, "")

    def cookie(self, name: str) -> str:
        """Return a cookie; empty where there is none."""
        # By hand: other servers of this machine may have set cookies that the standard library stops at.
        pairs = (each.strip().partition("=") for each in self.header("cookie").split(";"))
        return next((value for key, _, value in pairs if key == name), "")

    @property
    def content_length(self) -> int:
        """The length of the body as it is announced; 0 where it is not, and what is no number is too large."""
        text = self.header("content-length")
        return 0 if not text else int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 2**62


def host_name(host: str) -> str:
    """Return the name of a Host header without its port; empty where it is no such header."""
    match = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9.-]+))(?::[0-9]+)?", host.lower())
    return (match[1] or match[2]) if match else ""


async def read_body(receive: Receive, limit: int) -> bytes | None:
    """Return a request's body, or None where it is longer than a limit."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > limit:
            return None
        if not message.get("more_body", False):
            return body


def limited(receive: Receive, limit: int) -> Receive:
    """Return a ``receive`` that ends a request whose body is longer than a limit, announced or not."""
    total = 0

    async def counted() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > limit:
            return {"type": "http.disconnect"}
        return message

    return counted


def with_headers(send: Send) -> Send:
    """Return a ``send`` that adds the headers that every answer has."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name.lower() for name, _ in message.get("headers", [])}
            more = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in own]
            message = {**message, "headers": [*message.get("headers", []), *more]}
        await send(message)

    return sent


async def respond(send: Send, status: int, body: str, headers: Mapping[str, str]) -> None:
    """Send a short answer, which no cache keeps."""
    content = body.encode()
    every = {"cache-control": "no-store", "content-length": str(len(content)), **headers}
    listed = [(name.encode(), value.encode()) for name, value in every.items()]
    secured = with_headers(send)
    await secured({"type": "http.response.start", "status": status, "headers": listed})
    await secured({"type": "http.response.body", "body": content})
