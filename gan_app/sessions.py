"""Who has entered: sessions that expire, and attempts that become slower."""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import NamedTuple

from gan_app.users import User

# Length of a session's token and of that of ``--token``.
TOKEN_BYTES = 32
# Sessions and addresses that are remembered; the oldest give way, so that a flood does not fill the memory.
MAX_SESSIONS, MAX_REMEMBERED = 10_000, 100_000
# Wrong attempts that cost nothing, and the longest delay behind the others.
FREE_ATTEMPTS, MAX_DELAY = 3, 900.0


class Session(NamedTuple):
    """A person who has entered.

    Attributes:
        user: who.
        expires: when the session ends whatever happens, in seconds of the clock.
        idle_until: when it ends where nothing is asked for.
    """

    user: User
    expires: float
    idle_until: float


class Sessions:
    """The sessions of a server, in its memory alone: they end with it.

    Args:
        lifetime: seconds until a session ends whatever happens.
        idle: seconds until it ends where nothing is asked for.
        clock: seconds that never go back.
    """

    def __init__(self, lifetime: float, idle: float, clock: Callable[[], float] = monotonic) -> None:
        self._lifetime, self._idle, self._clock = lifetime, idle, clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = Lock()

    def begin(self, user: User) -> str:
        """Begin a session and return its token, which is not kept: what is kept is its hash."""
        token, now = secrets.token_urlsafe(TOKEN_BYTES), self._clock()
        with self._lock:
            self._sessions[_digest(token)] = Session(user, now + self._lifetime, now + self._idle)
            while len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        return token

    def find(self, token: str) -> User | None:
        """Return whose session a token is of, and prolong it; None where there is none, or no more."""
        key, now = _digest(token), self._clock()
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                return None
            if now >= min(session.expires, session.idle_until):
                del self._sessions[key]
                return None
            self._sessions[key] = session._replace(idle_until=now + self._idle)
            return session.user

    def end(self, token: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(_digest(token), None)


class Throttle:
    """Delays of wrong attempts, by whatever they are counted by: an address, a user's name.

    After FREE_ATTEMPTS wrong ones an attempt is refused until 1, 2, 4, ... seconds have gone by, up to MAX_DELAY; a
    right one forgets them.

    Args:
        clock: seconds that never go back.
        free: wrong attempts that cost nothing.
        most: the longest delay.
    """

    def __init__(
        self, clock: Callable[[], float] = monotonic, free: int = FREE_ATTEMPTS, most: float = MAX_DELAY
    ) -> None:
        self._clock, self._free, self._most = clock, free, most
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._lock = Lock()

    def wait(self, *keys: str) -> float:
        """Return the seconds until an attempt is taken; 0 where it is taken now."""
        now = self._clock()
        with self._lock:
            return max([0.0, *(self._wrong[key][1] - now for key in keys if key in self._wrong)])

    def failed(self, *keys: str) -> None:
        """Count a wrong attempt."""
        now = self._clock()
        with self._lock:
            for key in keys:
                count = self._wrong.pop(key, (0, 0.0))[0] + 1
                delay = min(2.0 ** min(count - self._free, 20), self._most) if count >= self._free else 0.0
                self._wrong[key] = (count, now + delay)
            while len(self._wrong) > MAX_REMEMBERED:
                self._wrong.popitem(last=False)

    def succeeded(self, *keys: str) -> None:
        """Forget the wrong attempts."""
        with self._lock:
            for key in keys:
                self._wrong.pop(key, None)


def _digest(token: str) -> str:
    """Return what a token is kept as."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
