"""The Markdown pages that people read: their fenced blocks and their links."""

from __future__ import annotations

import dataclasses
import pathlib
import re

from tests.helpers.commands import ROOT

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]

RUNS = ("sh", "python")

_NOT_RUN = re.compile(r"<!-- not run: (.*) -->")
_PRINTED = "<!-- printed -->"


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
      place: page and line, for messages.
      language: the word behind the fence.
      text: what is between the fences.
      not_run: the reason that the page gives for not running it, or None.
      is_printed: whether the page says that the block before prints this.
    """

    place: str
    language: str
    text: str
    not_run: str | None
    is_printed: bool


def blocks(page: pathlib.Path) -> list[Block]:
    """The fenced blocks of a page, in order.

    `<!-- not run: WHY -->` on the line above a block excuses it; `<!-- printed -->` there says that
    it is what the block before prints, with `…` for what differs from time to time.
    """
    found = []
    lines = page.read_text().splitlines()
    at = 0
    while at < len(lines):
        if not lines[at].startswith("```"):
            at += 1
            continue
        above = lines[at - 1] if at else ""
        end = lines.index("```", at + 1)
        excuse = _NOT_RUN.fullmatch(above)
        found.append(
            Block(
                place=f"{page.relative_to(ROOT)}:{at + 1}",
                language=lines[at][3:],
                text="\n".join(lines[at + 1 : end]) + "\n",
                not_run=excuse[1] if excuse else None,
                is_printed=above == _PRINTED,
            )
        )
        at = end + 1
    return found


def links(page: pathlib.Path) -> list[str]:
    """Targets of the page's Markdown links and pictures, outside fenced blocks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(page: pathlib.Path) -> set[str]:
    """The anchors that GitHub makes of the page's headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}
