"""Tables in Markdown, and the part of a page that a command writes."""

from collections.abc import Iterable
from pathlib import Path

from gan_shared.errors import unexpected


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table as Markdown.

    Args:
        header: names of the columns.
        rows: cells, as many in each row as there are columns.
    """
    rule = tuple("---" for _ in header)
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def with_section(page: Path, content: str, begin: str, end: str) -> str:
    """Return the text of ``page`` with ``content`` in place of what stands between two marks.

    Args:
        page: a file that holds both marks.
        content: the new text.
        begin: mark before it, a comment.
        end: mark after it.

    Raises:
        UserError: a mark is missing, or they stand in the wrong order.
    """
    text = page.read_text(encoding="utf-8")
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise unexpected(str(page), "no place for the tables", f"the marks {begin} and {end}")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"
