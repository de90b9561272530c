"""What a set is to hold: the sha256 of every picture, perhaps signed, compared before the set is trained on.

    {"format": "twin-gan data manifest", "version": 1, "sha256": {"cat/1.png": "..."}, "classes": {"cat/1.png": "cat"}}

Of a collection of pictures these are the pictures, with their classes where they have any; of other sets the files. A
signature is detached: the file of the same name with ``.sig`` holds it in base64, made with Ed25519 (RFC 8032) over the
bytes of the manifest.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gan_shared.atomic import replacing
from gan_shared.data.collection import named
from gan_shared.data.source import Chunk, Contents, Source, check_plain, reading
from gan_shared.errors import optional_module, unexpected

FORMAT, VERSION = "twin-gan data manifest", 1
SIGNATURE_SUFFIX = ".sig"
# Ten million names; and more than any key or signature has.
MAX_BYTES, MAX_KEY_BYTES = 2 * 10**9, 10**5


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
    listed = {"format": FORMAT, "version": VERSION, "sha256": hashes, "classes": _classes(source)}
    content = (json.dumps(listed, indent=1) + "\n").encode()
    if key is not None and signature_of(file).is_dir():
        raise unexpected(str(signature_of(file)), "a folder", "a place for the signature")
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
    content, hashes, classes = _read(file, key)
    names = source.names or source.files
    for what, which in (
        ("pictures that it does not list", set(names) - hashes.keys()),
        ("no picture for names that it lists", hashes.keys() - set(names)),
    ):
        if which:
            raise unexpected(str(file), f"{what}: {named(sorted(which))}", f"the {len(hashes)} that it lists")

    now = _classes(source)
    other = sorted(name for name in now.keys() | classes.keys() if now.get(name) != classes.get(name))
    if other:
        found = f"{other[0]} in class {now.get(other[0])}" + (f", and {len(other) - 1} more" if len(other) > 1 else "")
        raise unexpected(str(source.root), found, f"class {classes.get(other[0])} as in {file}: it has been changed")

    def check(name: str, digest: str) -> None:
        if digest != hashes[name]:
            listed = f"{hashes[name][:12]}... as in {file}"
            raise unexpected(str(source.root / name), f"sha256 {digest[:12]}...", f"{listed}: it has been changed")

    def check_files() -> None:
        for name, digest in _hashes(source).items():
            check(name, digest)

    def read(resolution: int, channels: int) -> Contents:
        if source.names:
            return source.read(resolution, channels, check)
        check_files()
        contents = source.read(resolution, channels)

        def chunks() -> Iterator[Chunk]:
            yield from contents.chunks
            check_files()  # again: they were opened anew, and may have been changed in between

        return contents._replace(chunks=chunks())

    return source._replace(kind=f"{source.kind} {hashlib.sha256(content).hexdigest()}", read=read)


def signature_of(file: Path) -> Path:
    """Return the file of a manifest's signature."""
    return file.with_name(file.name + SIGNATURE_SUFFIX)


def _classes(source: Source) -> dict[str, str]:
    """Return the class of each picture of a collection by its name; nothing where it has none."""
    return dict(sorted(zip(source.names, source.classes, strict=True))) if source.classes else {}


def _hashes(source: Source) -> dict[str, str]:
    """Return the sha256 of every picture of a set by name, or of its files."""
    if source.pictures is not None:
        return {name: hashlib.sha256(read()).hexdigest() for name, read in source.pictures()}
    found = {}
    for name in source.files:
        with reading(source.root / name, "a file that can be read"), open(source.root / name, "rb") as stream:
            found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def _read(file: Path, key: Path | None) -> tuple[bytes, Mapping[str, str], Mapping[str, str]]:
    """Return a manifest's bytes, hashes and classes, after checking its signature where a key is given."""
    expected = f'a "{FORMAT}" of version {VERSION}'
    content = _content(file, expected, MAX_BYTES)
    if key is not None:
        _check_signature(file, content, key)
    with reading(file, expected):
        value = json.loads(content)
    hashes = value.get("sha256") if isinstance(value, dict) else None
    known = isinstance(value, dict) and value.get("format") == FORMAT and value.get("version") == VERSION
    classes = value.get("classes", {}) if isinstance(value, dict) else None
    if not (known and _is_text(hashes) and _is_text(classes)):
        raise unexpected(str(file), "other JSON", expected)
    return content, hashes or {}, classes or {}


def _is_text(value: Any) -> bool:
    """Whether a value of JSON is an object of strings."""
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _content(path: Path, expected: str, most: int) -> bytes:
    """Return a file, so many bytes of it at most."""
    with reading(path, expected):
        check_plain(path)
        with open(path, "rb") as stream:
            return stream.read(most)


def _check_signature(file: Path, content: bytes, key: Path) -> None:
    """Refuse a manifest that the owner of a key has not signed."""
    load = _cryptography("hazmat.primitives.serialization", key)
    invalid = _cryptography("exceptions", key).InvalidSignature
    public: Any = _loaded(key, partial(_public_key, load))
    signature = signature_of(file)
    with reading(signature, "the signature of the manifest"):
        given = base64.b64decode(_content(signature, "the signature of the manifest", MAX_KEY_BYTES), validate=False)
    try:
        public.verify(given, content)
    except invalid as error:
        raise unexpected(str(signature), "another signature", f"one of {file.name} by {key}") from error


def _private_key(path: Path) -> Any:
    """Return the user's private key."""
    load = _cryptography("hazmat.primitives.serialization", path)

    def read(content: bytes) -> Any:
        openssh = b"OPENSSH" in content[:100]
        return (load.load_ssh_private_key if openssh else load.load_pem_private_key)(content, None)

    return _loaded(path, read, private=True)


def _public_key(load: Any, content: bytes) -> Any:
    """Return the public key in a file of PEM or of OpenSSH's format."""
    return (load.load_ssh_public_key if content.startswith(b"ssh-") else load.load_pem_public_key)(content)


def _loaded(path: Path, read: Any, private: bool = False) -> Any:
    """Return a key of Ed25519 from a file."""
    ed25519 = _cryptography("hazmat.primitives.asymmetric.ed25519", path)
    kind = ed25519.Ed25519PrivateKey if private else ed25519.Ed25519PublicKey
    expected = (
        f"a {'private' if private else 'public'} key of Ed25519, in PEM or OpenSSH's format, without a passphrase"
    )
    content = _content(path, expected, MAX_KEY_BYTES)
    try:
        key = read(content)
    except Exception as error:  # what the package raises for damaged keys differs by its version
        raise unexpected(str(path), f"no such key ({type(error).__name__})", expected) from error
    if not isinstance(key, kind):
        raise unexpected(str(path), f"a key of {type(key).__name__}", expected)
    return key


def _cryptography(module: str, key: Path) -> Any:
    """Return a module of the package cryptography, which only signatures need.

    Raises:
        UserError: it is not installed.
    """
    found = "no package cryptography, which signatures need"
    return optional_module(f"cryptography.{module}", str(key), found, "sign")
