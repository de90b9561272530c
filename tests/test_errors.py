"""Messages of errors."""

import errno

import pytest

from gan_shared.errors import UserError, one_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "a/b: no space left on device"),
        # A file that was to take the place of another: the second is what was asked for.
        (OSError(errno.EISDIR, "Is a directory", ".x.partial", None, "x"), "x: is a directory"),
        (OSError(errno.ENOENT, "No such file or directory", b"a  b"), "a  b: no such file or directory"),
        (OSError(errno.EBADF, "Bad file descriptor", 7), "[Errno 9] Bad file descriptor: 7"),
        (OSError("no file at all"), "no file at all"),
        (UserError("data: found\n  two lines"), "data: found two lines"),
        (UserError("data: found \x1b[31m and \x07"), "data: found \\x1b[31m and \\x07"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_message_is_one_line_that_names_the_file_first(error, line):
    assert one_line(error) == line
