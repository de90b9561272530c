"""What a set is to hold: the sha256 of every picture, perhaps signed, compared before the set is trained on.

    {"format": "twin-gan data manifest", "version": 1, "sha256": {"cat/1.png": "..."}}

Of a folder or an archive of pictures these are the pictures; of other sets the files. A signature is detached: the file
of the same name with ``.sig`` holds it in base64, made with Ed25519 (RFC 8032) over the bytes of the manifest.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gan_shared.atomic import replacing
from gan_shared.data.collection import named
from gan_shared.data.source import Contents, Source, reading
from gan_shared.errors import unexpected

FORMAT, VERSION = "twin-gan data manifest", 1
SIGNATURE_SUFFIX = ".sig"
# Ten million names.
MAX_BYTES = 2 * 10**9


def write(source: Source, file: Path, sign_with: Path | None = None) -> int:
    """Write what a set holds now.

    Args:
        source: the set.
        file: where.
        sign_with: the user's private key (Ed25519, in PEM or OpenSSH's format, without a passphrase), or None.

    Returns:
        The number of pictures, or of files.

    Raises:
        UserError: a picture or the key cannot be read, or the files cannot be written.
    """
    key = None if sign_with is None else _private_key(sign_with)
    hashes = dict(sorted(_hashes(source).items()))
    content = (json.dumps({"format": FORMAT, "version": VERSION, "sha256": hashes}, indent=1) + "\n").encode()
    with replacing(file) as temporary:
        temporary.write_bytes(content)
    if key is not None:
        with replacing(signature_of(file)) as temporary:
            temporary.write_bytes(base64.b64encode(key.sign(content)) + b"\n")
    return len(hashes)


def expecting(source: Source, file: Path, key: Path | None = None) -> Source:
    """Return a set that is read only if it holds what a manifest lists, no more and no less.

    Names are compared at once, contents when the set is decoded; its entry in the cache is one of its own.

    Args:
        source: the set.
        file: the manifest.
        key: the public key (Ed25519, in PEM or OpenSSH's format) that it must be signed with; None for none.

    Raises:
        UserError: the manifest is none or not signed with that key, or pictures are missing or too many.
    """
    content, hashes = _read(file, key)
    names = source.names or source.files
    for what, which in (
        ("pictures that it does not list", set(names) - hashes.keys()),
        ("no picture for names that it lists", hashes.keys() - set(names)),
    ):
        if which:
            raise unexpected(str(file), f"{what}: {named(sorted(which))}", f"the {len(hashes)} that it lists")

    def check(name: str, digest: str) -> None:
        if digest != hashes[name]:
            listed = f"{hashes[name][:12]}... as in {file}"
            raise unexpected(str(source.root / name), f"sha256 {digest[:12]}...", f"{listed}: it has been changed")

    def read(resolution: int, channels: int) -> Contents:
        if source.names:
            return source.read(resolution, channels, check)
        for name, digest in _hashes(source).items():
            check(name, digest)
        return source.read(resolution, channels)

    return source._replace(kind=f"{source.kind} {hashlib.sha256(content).hexdigest()}", read=read)


def signature_of(file: Path) -> Path:
    """Return the file of a manifest's signature."""
    return file.with_name(file.name + SIGNATURE_SUFFIX)


def _hashes(source: Source) -> dict[str, str]:
    """Return the sha256 of every picture of a set by name, or of its files."""
    if source.pictures is not None:
        return {name: hashlib.sha256(read()).hexdigest() for name, read in source.pictures()}
    found = {}
    for name in source.files:
        with reading(source.root / name, "a file that can be read"), open(source.root / name, "rb") as stream:
            found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def _read(file: Path, key: Path | None) -> tuple[bytes, Mapping[str, str]]:
    """Return a manifest's bytes and hashes, after checking its signature where a key is given."""
    expected = f'a "{FORMAT}" of version {VERSION}'
    with reading(file, expected), open(file, "rb") as stream:
        content = stream.read(MAX_BYTES)
    if key is not None:
        _check_signature(file, content, key)
    with reading(file, expected):
        value = json.loads(content)
    hashes = value.get("sha256") if isinstance(value, dict) else None
    known = isinstance(value, dict) and value.get("format") == FORMAT and value.get("version") == VERSION
    if not (known and isinstance(hashes, dict) and all(isinstance(each, str) for each in hashes.values())):
        raise unexpected(str(file), "other JSON", expected)
    return content, hashes


def _check_signature(file: Path, content: bytes, key: Path) -> None:
    """Refuse a manifest that the owner of a key has not signed."""
    load = _serialization(key)
    from cryptography.exceptions import InvalidSignature

    public: Any = _loaded(key, partial(_public_key, load))
    signature = signature_of(file)
    with reading(signature, "the signature of the manifest"):
        given = base64.b64decode(signature.read_bytes(), validate=False)
    try:
        public.verify(given, content)
    except InvalidSignature as error:
        raise unexpected(str(signature), "another signature", f"one of {file.name} by {key}") from error


def _private_key(path: Path) -> Any:
    """Return the user's private key."""
    load = _serialization(path)

    def read(content: bytes) -> Any:
        openssh = b"OPENSSH" in content[:100]
        return (load.load_ssh_private_key if openssh else load.load_pem_private_key)(content, None)

    return _loaded(path, read, private=True)


def _public_key(load: Any, content: bytes) -> Any:
    """Return the public key in a file of PEM or of OpenSSH's format."""
    return (load.load_ssh_public_key if content.startswith(b"ssh-") else load.load_pem_public_key)(content)


def _loaded(path: Path, read: Any, private: bool = False) -> Any:
    """Return a key of Ed25519 from a file."""
    from cryptography.hazmat.primitives.asymmetric import ed25519

    kind = ed25519.Ed25519PrivateKey if private else ed25519.Ed25519PublicKey
    expected = (
        f"a {'private' if private else 'public'} key of Ed25519, in PEM or OpenSSH's format, without a passphrase"
    )
    with reading(path, expected):
        content = path.read_bytes()
    try:
        key = read(content)
    except Exception as error:  # what the package raises for damaged keys differs by its version
        raise unexpected(str(path), f"no such key ({type(error).__name__})", expected) from error
    if not isinstance(key, kind):
        raise unexpected(str(path), f"a key of {type(key).__name__}", expected)
    return key


def _serialization(key: Path) -> Any:
    """Return the readers of keys of the package cryptography, which only signatures need.

    Raises:
        UserError: it is not installed.
    """
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        found = "no package cryptography, which signatures need"
        raise unexpected(str(key), found, "it installed: pip install -e '.[sign]'") from error
    return serialization
