"""Who may enter: a file of names, roles and password hashes (scrypt, RFC 7914)."""

import base64
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import NamedTuple

from gan_shared.atomic import replacing
from gan_shared.data.source import reading
from gan_shared.errors import unexpected

# What a person may do. An owner may do what a viewer may, train and delete.
ROLES = ("viewer", "owner")
FORMAT, VERSION = "twin-gan users", 1
# Cost of a hash, after OWASP's Password Storage Cheat Sheet: 64 MiB of memory, about a fifth of a second.
COST, BLOCK_SIZE, PARALLEL, KEY_BYTES, SALT_BYTES = 2**16, 8, 1, 32, 16
MAX_MEMORY = 2 * 128 * COST * BLOCK_SIZE
MIN_PASSWORD, MAX_PASSWORD = 10, 1024
MAX_BYTES = 10**7


class User(NamedTuple):
    """A person who may enter.

    Attributes:
        name: what they are called.
        role: one of ROLES.
        since: changes with the password, so that sessions of the one before end.
    """

    name: str
    role: str
    since: str = ""


class Users:
    """The users of a file, which is read again when it changes.

    Args:
        file: see ``add``.

    Raises:
        UserError: it cannot be read, or is no file of users.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp: tuple[int, int] | None = None
        self._entries: dict[str, dict[str, str]] = {}
        # What an unknown name is compared with, so that it takes as long as a known one.
        self._nobody = _hash(secrets.token_urlsafe(16))
        self.refresh()

    def refresh(self) -> None:
        """Read the file again where it has changed."""
        with reading(self._file, "a file of users"):
            status = os.stat(self._file)
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp != self._stamp:
                self._entries = _read(self._file)
                self._stamp = stamp

    def find(self, name: str) -> User | None:
        """Return a user by name; None where there is none, or no more."""
        self.refresh()
        entry = self._entries.get(name)
        return User(name, entry["role"], entry["hash"]) if entry else None

    def verify(self, name: str, password: str) -> User | None:
        """Return the user whose name and password these are, or None; both take as long."""
        self.refresh()
        entry = self._entries.get(name)
        right = _matches(password, entry["hash"] if entry else self._nobody)
        return User(name, entry["role"], entry["hash"]) if entry and right else None


def add(file: Path, name: str, password: str, role: str | None = None) -> str:
    """Add a user to a file, which is made when it is not there, or give one another password or role.

    Args:
        file: of users.
        name: of the user.
        password: which is not kept, its hash is.
        role: one of ROLES; None for the one that the user has, or viewer.

    Returns:
        The role.

    Raises:
        UserError: the name, the password or the role cannot be used, or the file cannot be read.
    """
    if not name or len(name) > 64 or not name.isprintable() or name != name.strip():
        raise unexpected("name", repr(name), "1 to 64 characters that can be seen")
    if role not in (None, *ROLES):
        raise unexpected("role", repr(role), "a role", ROLES)
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        expected = f"{MIN_PASSWORD} to {MAX_PASSWORD:,}"
        raise unexpected("password", f"{len(password)} characters", expected)
    entries = _read(file) if file.exists() else {}
    role = role or entries.get(name, {}).get("role", ROLES[0])
    entries[name] = {"role": role, "hash": _hash(password)}
    with replacing(file) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # for its owner alone
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(json.dumps({"format": FORMAT, "version": VERSION, "users": entries}, indent=1) + "\n")
    return role


def _read(file: Path) -> dict[str, dict[str, str]]:
    """Return role and hash of each user."""
    with reading(file, "a file of users"):
        if file.stat().st_size > MAX_BYTES:
            raise ValueError(f"{file.stat().st_size:,} bytes")
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (FORMAT, VERSION):
            raise ValueError("another format")
        users = content["users"] if isinstance(content.get("users"), dict) else {}
        for name, entry in users.items():
            if not isinstance(entry, dict) or entry.get("role") not in ROLES or not _is_hash(entry.get("hash")):
                raise ValueError(f"the entry of {name!r}")
        if not users:
            raise ValueError("no users")
        return users


def _hash(password: str) -> str:
    """Return what is kept of a password: the costs, a random salt and the key."""
    salt = secrets.token_bytes(SALT_BYTES)
    key = _key(password, salt, COST, BLOCK_SIZE, PARALLEL)
    encoded = (base64.b64encode(part).decode() for part in (salt, key))
    return "$".join(["scrypt", str(COST), str(BLOCK_SIZE), str(PARALLEL), *encoded])


def _is_hash(value: object) -> bool:
    """Return whether a value is what ``_hash`` returns, at a cost that does not stop the server."""
    try:
        kind, cost, block_size, parallel, salt, key = str(value).split("$")
        costs = int(cost), int(block_size), int(parallel)
        lengths = len(base64.b64decode(salt, validate=True)), len(base64.b64decode(key, validate=True))
    except ValueError:
        return False
    return kind == "scrypt" and costs == (COST, BLOCK_SIZE, PARALLEL) and lengths == (SALT_BYTES, KEY_BYTES)


def _matches(password: str, kept: str) -> bool:
    """Return whether a password is the one that was hashed."""
    _, cost, block_size, parallel, salt, key = kept.split("$")
    found = _key(password[:MAX_PASSWORD], base64.b64decode(salt), int(cost), int(block_size), int(parallel))
    return secrets.compare_digest(found, base64.b64decode(key))


def _key(password: str, salt: bytes, cost: int, block_size: int, parallel: int) -> bytes:
    """Derive a key from a password."""
    secret = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(secret, salt=salt, n=cost, r=block_size, p=parallel, maxmem=MAX_MEMORY, dklen=KEY_BYTES)
