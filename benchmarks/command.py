"""How a command of this room ends: a user's mistake is one line on standard error and status 2, as in training."""

import sys
from collections.abc import Callable

from gan_shared.cli import INTERRUPTED
from gan_shared.errors import UserError


def guarded(work: Callable[[], None], left: str = "nothing was written") -> int:
    """Run ``work`` and return the exit status; ``left`` says what there is when it is interrupted."""
    try:
        work()
    except (UserError, OSError) as error:  # a full disk or a missing file is no fault of the program
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped: {left}", file=sys.stderr)
        return INTERRUPTED
    return 0
