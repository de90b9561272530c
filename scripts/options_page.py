"""Write the tables of docs/options.md from the declarations of the options: ``python scripts/options_page.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gan_shared.atomic import replacing
from gan_shared.config import EXECUTION, Config, groups
from gan_shared.markdown import with_section
from gan_shared.options import Option, Value

PAGE = Path(__file__).resolve().parents[1] / "docs" / "options.md"
BEGIN, END = "<!-- options: begin -->", "<!-- options: end -->"
SCHEDULED = " [One value, or two](#scheduled-numbers)."


def tables() -> str:
    """Return a heading, what the group is, and a table for every group of options, as Markdown."""
    values, parts = Config().values(), []
    for name, kind, declared in groups():
        title = name.replace("_", " ").replace("optimizer", "optimiser").capitalize()
        about = " ".join((kind.__doc__ or "").split())
        # What the execution group says of itself.
        about += "" if name == EXECUTION else " A resumed run keeps these."
        rows = [row(each, values[each.name]) for each in declared]
        parts.append(f"### {title}\n\n{about}\n\n| option | default | meaning |\n|---|---|---|\n" + "\n".join(rows))
    return "\n\n".join(parts)


def row(option: Option, default: Value) -> str:
    """Return the line of one option."""
    meaning = option.description + (SCHEDULED if option.scheduled else "")
    return f"| `--{option.name.replace('_', '-')}` | {shown(default)} | {meaning} |"


def shown(value: Value) -> str:
    """Return a default as it would be typed."""
    if value is None or value == ():
        return "not given"
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(map(str, value)) if isinstance(value, tuple) else f"`{value}`"


def main() -> int:
    """Write the page and return the exit status."""
    text = with_section(PAGE, tables(), BEGIN, END)
    with replacing(PAGE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
