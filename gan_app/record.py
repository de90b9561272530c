"""The access log: who asked for what and when, one JSON object a line, without passwords, tokens or pictures."""

import json
import logging
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

# A file of more bytes becomes FILE.1, which takes the place of the one before.
MAX_BYTES, OLDER_FILES = 10 * 10**6, 3
# Characters of a value that is logged: a name or a path may be of any length.
LONGEST = 200


class AccessLog:
    """A file that events are appended to.

    Args:
        file: where; its folder is made when missing. None for nowhere.
    """

    def __init__(self, file: Path | None) -> None:
        self._logger = logging.Logger("twin-gan application")
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            handler = RotatingFileHandler(file, maxBytes=MAX_BYTES, backupCount=OLDER_FILES, encoding="utf-8")
            handler.setFormatter(logging.Formatter("%(message)s"))
            self._logger.addHandler(handler)

    def close(self) -> None:
        """Close the file."""
        for handler in [*self._logger.handlers]:
            self._logger.removeHandler(handler)
            handler.close()

    def write(self, event: str, *, user: str = "", address: str = "", **more: object) -> None:
        """Append an event.

        Args:
            event: what happened.
            user: who; empty where it is not known.
            address: from where.
            more: what else is to be said, in numbers and short text.
        """
        line: dict[str, object] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event}
        line |= {"user": user, "address": address} | more
        short = {name: _ascii(value) if isinstance(value, str) else value for name, value in line.items()}
        self._logger.info(json.dumps(short))


def _ascii(text: str) -> str:
    """Return text in ASCII, cut to what is logged of a value."""
    return text[:LONGEST].encode("ascii", "backslashreplace").decode()[:LONGEST]
