"""List the sha256 of every picture of a set: ``python -m gan_shared.data_manifest --help``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from tyro.conf import Positional

from gan_shared.command import guarded
from gan_shared.data import data_manifest
from gan_shared.data.named import STACKED
from gan_shared.data.sources import find_source
from gan_shared.errors import printable, unexpected
from gan_shared.interrupt import handling, stop_at_once
from gan_shared.paths import expanded


@dataclass(frozen=True)
class Options:
    """List the sha256 of every picture of a set, for --data-manifest of train."""

    data: Positional[str]
    """The set: what --data takes."""

    out: Positional[Path]
    """The list, a JSON file."""

    sign_with: Path | None = None
    """Your private key (Ed25519, PEM or OpenSSH, without a passphrase): the signature is written beside the list."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = tyro.cli(Options, args=argv)

    def write() -> None:
        key, out = options.sign_with and expanded(options.sign_with), expanded(options.out)
        source = find_source(STACKED.get(options.data, options.data))
        inputs = [*(source.root / name for name in source.files), *([key] if key else [])]
        if out.is_dir():
            raise unexpected("out", f"{out}, a folder", "a file")
        for each in (out, data_manifest.signature_of(out)) if key else (out,):
            if each.exists() and any(each.samefile(other) for other in inputs if other.exists()):
                raise unexpected("out", each, "another file than what is listed or signed with")
        count = data_manifest.write(source, out, key)
        print(printable(f"wrote {options.out}: {count:,} names{', and its signature' if key else ''}"))

    def work() -> None:
        with handling(stop_at_once):  # what is half-written is removed
            write()

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
