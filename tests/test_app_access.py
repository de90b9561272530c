"""Who may come into the application, and what gets through: users, sessions, delays and every kind of request."""

import json
import stat
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec("gradio") is None:
    pytest.skip("the extra app is not installed", allow_module_level=True)

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from gan_app import access, users
from gan_app.access import (
    BURST,
    COOKIE,
    MAX_BODY_BYTES,
    NAME_ATTEMPTS,
    NAME_DELAY,
    AccessControl,
    Allowance,
    Credentials,
    host_name,
)
from gan_app.record import AccessLog
from gan_app.sessions import FREE_ATTEMPTS, MAX_DELAY, Sessions, Throttle
from gan_app.users import User, Users, add
from gan_shared.errors import UserError

PASSWORD = "correct horse battery"
USERS = '{{"format": "twin-gan users", "version": 1, "users": {{"a": {{"role": "owner", "hash": "{hash}"}}}}}}'


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes of a thousandth of the cost."""
    monkeypatch.setattr(users, "COST", 2**6)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of a viewer and an owner."""
    path = tmp_path / "users.json"
    add(path, "vera", PASSWORD, "viewer")
    add(path, "otto", PASSWORD + "!", "owner")
    return path


class Clock:
    """Seconds that go by when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# --- users --------------------------------------------------------------------------------------------------


def test_a_user_is_who_has_the_name_and_the_password(file: Path):
    known = Users(file)
    assert known.verify("vera", PASSWORD) == known.find("vera") != known.find("otto")
    for name, password, role in (("vera", PASSWORD, "viewer"), ("otto", PASSWORD + "!", "owner")):
        found = known.verify(name, password)
        assert found is not None and found[:2] == (name, role)
    for name, password in (
        ("vera", ""),
        ("vera", PASSWORD + "!"),
        ("nobody", PASSWORD),
        ("", ""),
        ("vera\0", PASSWORD),
    ):
        assert known.verify(name, password) is None
    assert known.find("nobody") is None


def test_no_password_is_in_the_file_and_equal_ones_do_not_look_equal(file: Path):
    add(file, "twin", PASSWORD, "viewer")
    text = file.read_text()
    hashes = [entry["hash"] for entry in json.loads(text)["users"].values()]
    assert PASSWORD not in text and len(set(hashes)) == 3
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_change_of_the_file_counts_at_once(file: Path):
    known = Users(file)
    assert add(file, "vera", "another password", "owner") == "owner"
    now = known.find("vera")
    assert now is not None and now.role == "owner" and known.verify("vera", PASSWORD) is None
    assert add(file, "vera", "a third password") == "owner" and add(file, "new", PASSWORD) == "viewer"
    content = json.loads(file.read_text())
    del content["users"]["vera"]
    file.write_text(json.dumps(content))
    assert known.find("vera") is None and known.verify("vera", "a third password") is None


@pytest.mark.parametrize(
    ("name", "password", "role", "message"),
    [
        ("", PASSWORD, "viewer", "name: found '', expected 1 to 64 characters that can be seen"),
        ("a\nb", PASSWORD, "viewer", "name: found 'a\\nb', expected 1 to 64 characters"),
        ("vera", "short", "viewer", "password: found 5 characters, expected 10 to 1,024"),
        ("vera", "x" * 1025, "viewer", "password: found 1025 characters, expected 10 to 1,024"),
        ("vera", PASSWORD, "king", "role: found 'king', expected a role; choices: viewer, owner"),
    ],
)
def test_what_makes_no_user_is_refused(tmp_path: Path, name: str, password: str, role: str, message: str):
    with pytest.raises(UserError) as raised:
        add(tmp_path / "users.json", name, password, role)
    assert str(raised.value).startswith(message) and not (tmp_path / "users.json").exists()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": "twin-gan users", "version": 2, "users": {}}',
        '{"format": "twin-gan users", "version": 1, "users": {}}',
        USERS.format(hash="secret"),
        USERS.format(hash="scrypt$1048576$8$1$AA==$AA=="),  # a cost that would keep the server busy for ever
    ],
)
def test_a_file_that_is_no_file_of_users_is_refused(tmp_path: Path, content: str):
    path = tmp_path / "users.json"
    path.write_text(content)
    with pytest.raises(UserError, match="expected a file of users"):
        Users(path)


# --- sessions and delays ------------------------------------------------------------------------------------


def test_a_session_ends_when_it_is_idle_and_when_it_is_old():
    clock = Clock()
    sessions, vera = Sessions(100.0, 30.0, clock), User("vera", "viewer")
    token = sessions.begin(vera)
    for _ in range(3):
        clock.now += 29
        assert sessions.find(token) == vera
    clock.now += 29  # not idle, but 116 seconds old
    assert sessions.find(token) is None
    token = sessions.begin(vera)
    clock.now += 30
    assert sessions.find(token) is None
    token = sessions.begin(vera)
    sessions.end(token)
    assert sessions.find(token) is None and sessions.find("") is None


def test_tokens_are_new_each_time_long_and_not_kept():
    sessions = Sessions(100.0, 30.0)
    tokens = {sessions.begin(User("vera", "viewer")) for _ in range(100)}
    assert len(tokens) == 100 and min(map(len, tokens)) >= 43  # 256 bits in base64
    assert not any(token in repr(vars(sessions)) for token in tokens)


def test_wrong_attempts_wait_longer_and_longer_and_a_right_one_forgets_them():
    clock = Clock()
    throttle, waits = Throttle(clock), []
    for _ in range(FREE_ATTEMPTS + 12):
        throttle.failed("address 1", "user vera")
        waits.append(throttle.wait("address 1"))
        clock.now += waits[-1]
        assert throttle.wait("address 1", "user vera") == 0
    assert waits == [0.0] * (FREE_ATTEMPTS - 1) + [min(2.0**i, MAX_DELAY) for i in range(13)]
    assert throttle.wait("address 2") == 0
    throttle.failed("user vera")
    assert throttle.wait("address 2", "user vera") == MAX_DELAY  # the same name from elsewhere
    throttle.succeeded("user vera")
    assert throttle.wait("address 2", "user vera") == 0


def test_an_allowance_comes_back_with_time():
    clock = Clock()
    allowance = Allowance(clock=clock)
    assert [allowance.take("vera") for _ in range(int(BURST) + 2)] == [True] * int(BURST) + [False] * 2
    assert allowance.take("otto")
    clock.now += 1
    assert [allowance.take("vera") for _ in range(6)] == [True] * int(access.PER_SECOND) + [False] * 2


# --- requests -----------------------------------------------------------------------------------------------


LOGS: list[AccessLog] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close the logs of a test's servers."""
    yield
    while LOGS:
        LOGS.pop().close()


def behind(tmp_path: Path, credentials: Credentials | None, **more: Any) -> TestClient:
    """A server that says who asked for what, behind access control."""

    async def answer(request: Request) -> JSONResponse:
        return JSONResponse({"user": list(request.state.user[:2]), "bytes": len(await request.body())})

    paths = ["/{path:path}"]
    application = Starlette(routes=[Route(path, answer, methods=["GET", "POST", "PUT"]) for path in paths])
    LOGS.append(AccessLog(tmp_path / "log" / "access.jsonl"))
    control = AccessControl(
        application,
        LOGS[-1],
        credentials,
        Sessions(3600.0, 600.0),
        **({"secure": False, "max_upload_bytes": 5000} | more),
    )
    return TestClient(control, base_url="http://localhost", follow_redirects=False)


@pytest.fixture
def client(tmp_path: Path, file: Path) -> TestClient:
    known = Users(file)
    return behind(tmp_path, Credentials(known.verify, known.find, False))


def log_in(client: TestClient, name: str = "vera", password: str = PASSWORD) -> Any:
    return client.post("/login", data={"name": name, "password": password})


def logged(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "log" / "access.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize(
    "path", ["/", "/config", "/gradio_api/file=/etc/passwd", "/assets/x.js", "/nothing", "//", "/login/"]
)
def test_nothing_is_answered_without_a_session(client: TestClient, method: str, path: str):
    found = client.request(method, path)
    assert found.status_code == 401 and "user" not in found.text


def test_a_browser_is_led_to_the_login_and_back(client: TestClient):
    first = client.get("/", headers={"accept": "text/html,*/*"})
    assert (first.status_code, first.headers["location"]) == (303, "/login")
    form = client.get("/login")
    assert form.status_code == 200 and 'name="password"' in form.text and "default-src 'none'" in str(form.headers)
    entered = log_in(client)
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    cookie = entered.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=") and "HttpOnly; SameSite=Strict" in cookie and "Secure" not in cookie
    assert client.get("/").json() == {"user": ["vera", "viewer"], "bytes": 0}
    assert client.post("/logout").status_code == 303
    assert client.get("/").status_code == 401


def test_an_encrypted_connection_has_a_cookie_of_its_own_kind(tmp_path: Path, file: Path):
    known = Users(file)
    client = behind(tmp_path, Credentials(known.verify, known.find, False), secure=True)
    assert "; Secure" in log_in(client).headers["set-cookie"]


def test_a_session_that_somebody_chose_is_none_and_the_one_before_ends(client: TestClient):
    client.cookies.set(COOKIE, "chosen")
    entered = log_in(client)
    token = entered.headers["set-cookie"].split(";")[0].removeprefix(f"{COOKIE}=")
    assert token != "chosen"
    client.cookies.clear()
    client.cookies.set(COOKIE, "chosen")
    assert client.get("/").status_code == 401
    client.cookies.clear()
    client.cookies.set(COOKIE, token)
    assert client.get("/").status_code == 200
    log_in(client)
    client.cookies.clear()
    client.cookies.set(COOKIE, token)
    assert client.get("/").status_code == 401


def test_who_is_removed_or_has_another_role_is_that_at_once(client: TestClient, file: Path):
    log_in(client)
    content = json.loads(file.read_text())
    content["users"]["vera"]["role"] = "owner"
    file.write_text(json.dumps(content))
    assert client.get("/").json()["user"] == ["vera", "owner"]
    file.write_text("a mistake")
    assert client.get("/").status_code == 503 and log_in(client).status_code == 503
    file.write_text(json.dumps(content))
    assert client.get("/").status_code == 200
    add(file, "vera", PASSWORD)  # the same password, set anew
    assert client.get("/").status_code == 401
    log_in(client)
    content = json.loads(file.read_text())
    del content["users"]["vera"]
    file.write_text(json.dumps(content))
    assert client.get("/").status_code == 401


def test_ten_thousand_attempts_are_refused_nearly_all_without_a_look_at_the_password(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    looked = []
    monkeypatch.setattr(users, "_matches", lambda password, kept: looked.append(password) or False)
    statuses = [log_in(client, "vera", str(attempt)).status_code for attempt in range(10_000)]
    assert set(statuses) == {401, 429} and statuses[:FREE_ATTEMPTS] == [401] * FREE_ATTEMPTS
    assert len(looked) < 20  # a second, then two, then four
    found = log_in(client, "otto", PASSWORD + "!")
    assert found.status_code == 429 and "retry-after" in found.headers  # from the same address
    assert len(logged(tmp_path)) < 40  # a flood pushes nothing out of the log


def test_a_stranger_does_not_lock_a_user_out_for_long(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    """Wrong attempts from many addresses at one name."""
    addresses = iter(range(10**6))
    known = access.Request.__init__

    def from_another_address(self: access.Request, scope: Any) -> None:
        known(self, scope)
        self.address = f"10.0.0.{next(addresses)}"

    monkeypatch.setattr(access.Request, "__init__", from_another_address)
    statuses = [log_in(client, "vera", "wrong password").status_code for _ in range(NAME_ATTEMPTS + 5)]
    assert statuses == [401] * NAME_ATTEMPTS + [429] * 5
    assert int(log_in(client).headers["retry-after"]) <= NAME_DELAY + 1
    assert log_in(client, "otto", PASSWORD + "!").status_code == 303


def test_cookies_of_other_servers_are_no_hindrance(client: TestClient):
    token = log_in(client).headers["set-cookie"].split(";")[0]
    client.cookies.clear()
    for other in ("prefs=a b", 'a={"x":1}', "a[1]=2", "path=/x", "x", "", "=;=", "a=\xe9"):
        for cookies in (f"{other}; {token}", f"{token}; {other}"):
            assert client.get("/", headers=[(b"cookie", cookies.encode("latin-1"))]).status_code == 200


def test_no_address_is_fetched(client: TestClient):
    log_in(client)
    for path in ("http://x/a", "HTTPS://x/a", "http:/x", "ftp://x"):
        assert client.get(f"/gradio_api/file={path}").status_code == 404
        assert client.get(f"/gradio_api/file={path.replace(':', '%3a')}").status_code == 404


def test_only_what_the_page_needs_is_let_through(client: TestClient):
    log_in(client)
    for path in ("/", "/config", "/theme.css", "/assets/a/b.js", "/gradio_api/queue/data", "/gradio_api/file=x"):
        assert client.get(path).status_code == 200
    for path in ("/gradio_api/proxy=http://x", "/monitoring", "/gradio_api/vibe-edit/", "/docs", "/gradio_api/run/a"):
        assert client.get(path).status_code == 404
    assert client.put("/config").status_code == 405


def test_viewers_may_not_upload_and_owners_may_up_to_a_size(client: TestClient):
    log_in(client)
    assert client.post("/gradio_api/upload", content=b"x").status_code == 403
    client.post("/logout")
    log_in(client, "otto", PASSWORD + "!")
    assert client.post("/gradio_api/upload", content=b"x" * 5000).json()["bytes"] == 5000
    assert client.post("/gradio_api/upload", content=b"x" * 5001).status_code == 413
    assert client.post("/config", content=b"x" * (MAX_BODY_BYTES + 1)).status_code == 413
    assert client.post("/config", headers={"content-length": "9" * 30}, content=b"").status_code == 413


def test_a_body_that_is_longer_than_announced_is_cut(client: TestClient):
    log_in(client, "otto", PASSWORD + "!")

    def endless():
        for _ in range(100):
            yield b"x" * 1000

    with pytest.raises(Exception, match=r"[Dd]isconnect|^$"):
        client.post("/gradio_api/upload", content=endless()).json()


def test_a_page_of_another_site_can_do_nothing(client: TestClient):
    log_in(client)
    found = client.post("/gradio_api/queue/join", headers={"origin": "http://evil.example"})
    assert found.status_code == 403 and "another site" in found.text
    for origin in ("null", "http://[", "localhost", "http://localhost.evil.example"):
        assert client.post("/gradio_api/queue/join", headers={"origin": origin}).status_code == 403
    assert client.get("/logout").status_code == 405 and client.get("/").status_code == 200
    assert client.post("/gradio_api/queue/join", headers={"origin": "http://localhost"}).status_code == 200


def test_a_flood_of_requests_is_slowed_down(client: TestClient):
    log_in(client)
    statuses = [client.post("/gradio_api/queue/join").status_code for _ in range(200)]
    assert statuses[: int(BURST)] == [200] * int(BURST) and statuses.count(429) > 100
    assert client.get("/config").status_code == 200


def test_without_credentials_only_this_machine_is_answered(tmp_path: Path):
    client = behind(tmp_path, None)
    for host in ("localhost", "localhost:7860", "127.0.0.1:7860", "[::1]:7860", "LOCALHOST"):
        assert client.get("/", headers={"host": host}).json()["user"] == ["local", "owner"]
    foreign = ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:7860", "", "192.168.0.1")
    for host in (*foreign, "[::1].evil.example", "localhost:x@evil.example"):
        assert client.get("/", headers={"host": host}).status_code == 403
    assert client.get("/login").status_code == 404


def test_a_host_is_its_name_without_the_port():
    assert [host_name(host) for host in ("A:1", "[::1]:7860", "[::1]", "a")] == ["a", "::1", "::1", "a"]


def test_the_log_says_who_did_what_and_holds_no_secret(client: TestClient, tmp_path: Path):
    log_in(client, "vera", "wrong password")
    log_in(client)
    client.get("/nothing")
    client.post("/logout")
    events = [(line["event"], line["user"], line["address"]) for line in logged(tmp_path)]
    here = "testclient"
    known = ["login failed", "logged in", "refused", "logged out"]
    assert events == [(event, "vera", here) for event in known]
    text = (tmp_path / "log" / "access.jsonl").read_text()
    assert PASSWORD not in text and "wrong password" not in text
    log_in(client, "a\nb" * 1000, "x")
    assert len(logged(tmp_path)) == 5 and len(logged(tmp_path)[-1]["user"]) == 200


def test_every_answer_forbids_frames_and_guessing(client: TestClient):
    log_in(client)
    for path in ("/", "/login", "/nothing"):
        headers = client.get(path).headers
        assert headers["x-frame-options"] == "DENY" and headers["x-content-type-options"] == "nosniff"


def test_a_token_is_all_that_its_owner_needs(tmp_path: Path):
    owner = User("owner", "owner")
    credentials = Credentials(lambda name, secret: owner if secret == "t" * 43 else None, lambda name: owner, True)
    client = behind(tmp_path, credentials)
    assert 'name="token"' in client.get("/login").text
    assert client.post("/login", data={"token": "wrong"}).status_code == 401
    assert client.post("/login", data={"name": "owner", "password": "t" * 43}).status_code == 401
    assert client.post("/login", data={"token": "t" * 43}).status_code == 303
    assert client.get("/").json()["user"] == ["owner", "owner"]


def test_a_websocket_is_closed(client: TestClient):
    log_in(client)
    with pytest.raises(WebSocketDisconnect) as raised, client.websocket_connect("/gradio_api/queue/join"):
        pass
    assert raised.value.code == 1008
