"""Many users at once: ``python -m benchmarks.load --help``.

Starts the application as a process of its own with an account for each user, and lets all of them log in and ask for
images, each as soon as the last ones have come. What is measured is what a user waits, from the request to the last
image; a refusal is no error if it is a sentence of the application, and anything else is.
"""

import json
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx
import numpy as np
import tyro

from benchmarks import machine
from benchmarks.harness import ROOT, say
from gan_app.models import EXAMPLE, NEWEST
from gan_app.users import add
from gan_shared.atomic import replacing
from gan_shared.command import guarded
from gan_shared.errors import UserError, unexpected
from gan_shared.manifest import write_json

# Seconds until the page must answer, and that one request may take.
START, PATIENCE = 60.0, 300.0
# Seconds between two readings of the server's memory.
READING = 5.0
# Sentences that the application refuses with when there are too many requests.
REFUSALS = ("Queue is full", "other images are still being made")


@dataclass(frozen=True)
class Options:
    """Let many users ask the application for images at once, and print what they wait."""

    users: int = 50
    """Users, each with a session of their own."""

    images: int = 16
    """Images of each request."""

    seconds: float = 300.0
    """How long they ask."""

    backend: str = "torch"
    """What makes the images: torch or jax."""

    out: Path = Path("benchmarks/results/load.json")
    """JSON file of the result."""


class Server(NamedTuple):
    """The application, as a process.

    Attributes:
        url: of its page.
        pid: of its process.
        start_seconds: from its start until the page was there.
        passwords: of the users, by name.
    """

    url: str
    pid: int
    start_seconds: float
    passwords: dict[str, str]


@dataclass
class Waits:
    """What happened to the requests.

    Attributes:
        seconds: that each which was answered took.
        refused: requests that were answered with a sentence that there are too many.
        errors: what else was answered.
        megabytes: the server's memory, reading by reading.
    """

    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    errors: list[str] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = tyro.cli(Options, args=argv)
    return guarded(lambda: run(options))


def run(options: Options) -> None:
    """Serve, ask, and write what was measured.

    Raises:
        UserError: an option cannot be used, the server did not start, or a request ended in an error.
    """
    if options.backend not in ("torch", "jax"):
        raise unexpected("backend", options.backend, "a backend", ("torch", "jax"))
    for name in ("users", "images", "seconds"):
        if getattr(options, name) <= 0:
            raise unexpected(name, getattr(options, name), "a number above 0")
    waits = Waits()
    with serving(options.users) as server:
        clients = [logged_in(server, name) for name in server.passwords]
        function = function_of(clients[0])
        began = time.perf_counter()
        first = ask(clients[0], function, secrets.token_hex(8), options, 0)
        if first is not None:
            raise UserError(f"the first request failed: {first}")
        first_seconds = time.perf_counter() - began
        say(f"page after {server.start_seconds:.1f} s, first images {first_seconds:.1f} s after that")
        end = time.perf_counter() + options.seconds
        threads = [
            threading.Thread(target=keep_asking, args=(client, function, options, number * 10**6, end, waits))
            for number, client in enumerate(clients)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            waits.megabytes.append(memory(server.pid))
            time.sleep(READING)
        for client in clients:
            client.close()
    found = result(options, server, first_seconds, waits)
    with replacing(options.out) as temporary:
        write_json(temporary, found)
    print(shown(found))
    if waits.errors:
        raise UserError(f"{len(waits.errors)} requests ended in an error, the first: {waits.errors[0]}")


@contextmanager
def serving(users: int) -> Iterator[Server]:
    """Run the application for as many users until the block ends.

    Raises:
        UserError: it did not start.
    """
    with socket.socket() as free, TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        accounts = Path(folder) / "users.json"
        passwords = {f"user-{number:03d}": secrets.token_urlsafe() for number in range(users)}
        for name, password in passwords.items():
            add(accounts, name, password, "viewer")
        command = [sys.executable, "-m", "gan_app.server", str(Path(folder) / "runs"), "--port", str(port)]
        command += ["--device", "cpu", "--auth-file", str(accounts)]
        url, began = f"http://127.0.0.1:{port}", time.perf_counter()
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            try:
                while not answers(url):
                    if process.poll() is not None or time.perf_counter() - began > START:
                        raise UserError(f"the application did not start within {START:.0f} seconds")
                    time.sleep(0.05)
                yield Server(url, process.pid, time.perf_counter() - began, passwords)
            finally:
                process.terminate()


def answers(url: str) -> bool:
    """Return whether the page is there."""
    try:
        return httpx.get(f"{url}/login").status_code == 200
    except httpx.TransportError:
        return False


def logged_in(server: Server, name: str) -> httpx.Client:
    """Return a client with a session of a user.

    Raises:
        UserError: there is none.
    """
    client = httpx.Client(base_url=server.url, timeout=PATIENCE)
    found = client.post("/login", data={"name": name, "password": server.passwords[name]})
    if found.status_code != 303:
        raise UserError(f"{name}: could not log in: {found.status_code}")
    return client


def function_of(client: httpx.Client) -> int:
    """Return the number that the page has for what makes images."""
    functions = client.get("/config").json()["dependencies"]
    return next(each["id"] for each in functions if each["api_name"] == "generate")


def keep_asking(client: httpx.Client, function: int, options: Options, seed: int, end: float, waits: Waits) -> None:
    """Ask for images until the time has come, of another seed each time, in one page."""
    session = secrets.token_hex(8)
    while time.perf_counter() < end:
        seed += 1
        began = time.perf_counter()
        try:
            failure = ask(client, function, session, options, seed)
        except (httpx.HTTPError, ValueError, KeyError) as error:
            failure = f"{type(error).__name__}: {error}"
        if failure is None:
            waits.seconds.append(time.perf_counter() - began)
        elif any(sentence in failure for sentence in REFUSALS):
            waits.refused += 1
            time.sleep(1.0)  # as somebody who reads it would
        else:
            waits.errors.append(failure)


def ask(client: httpx.Client, function: int, session: str, options: Options, seed: int) -> str | None:
    """Ask for images of a seed as the script of an open page does; return what was wrong, None where nothing was."""
    data = [EXAMPLE, NEWEST, options.backend, [], str(seed), options.images, 3, True]
    joined = client.post("/gradio_api/queue/join", json={"data": data, "fn_index": function, "session_hash": session})
    if joined.status_code != 200:
        return f"{joined.status_code}: {joined.text}"
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
        for line in stream.iter_lines():
            event = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
            if event.get("msg") == "process_completed":
                return None if event["success"] else str(event["output"].get("error"))
    return "the stream ended without an answer"


def memory(pid: int) -> float:
    """Return the resident memory of a process in megabytes; Linux says it."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def result(options: Options, server: Server, first_seconds: float, waits: Waits) -> dict[str, Any]:
    """Return what is written."""
    if not waits.seconds:
        raise UserError("no request was answered")
    p50, p95 = np.percentile(waits.seconds, [50, 95])
    readings = waits.megabytes
    return {
        "users": options.users,
        "images": options.images,
        "seconds": options.seconds,
        "backend": options.backend,
        "start_seconds": round(server.start_seconds, 2),
        "first_images_seconds": round(first_seconds, 2),
        "answered": len(waits.seconds),
        "refused": waits.refused,
        "errors": len(waits.errors),
        "p50_seconds": round(float(p50), 2),
        "p95_seconds": round(float(p95), 2),
        "megabytes": [round(each) for each in readings],
        "machine": machine.describe(),
        "versions": machine.versions(),
    }


def shown(found: dict[str, Any]) -> str:
    """Return a result in a line for people."""
    readings = found["megabytes"]
    return (
        f"{found['users']} users, {found['images']} images each time, {found['seconds']:.0f} s ({found['backend']}): "
        f"{found['answered']} answered, {found['refused']} refused, {found['errors']} errors; "
        f"p50 {found['p50_seconds']} s, p95 {found['p95_seconds']} s; "
        f"memory {readings[0]} MB at first, {readings[len(readings) // 2]} MB halfway, {readings[-1]} MB at the end"
    )


if __name__ == "__main__":
    sys.exit(main())
