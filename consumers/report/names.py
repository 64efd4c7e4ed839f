"""Texts that come from outside, in what others open: file names, ids and names of classes.

A spreadsheet, a Markdown reader or a terminal shows them and never obeys them.
"""

from __future__ import annotations

import re

# C0, DEL and C1, and what turns the direction of text or ends a line of it; halves of characters.
_CONTROLS = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# https://owasp.org/www-community/attacks/CSV_Injection, with the wide forms that it names; an
# apostrophe, so that one in front always means that there is one to take off.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠']")
# What CommonMark allows to be escaped, but for what means nothing within a line.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#|~!$^:@]|(?<=www)\.)", re.IGNORECASE)
_LONGEST = 200


def on_one_line(text: str) -> str:
    r"""A text with escapes in place of control characters, as JSON has them.

    >>> print(on_one_line("a\x1b[2Jb\nc"))
    a\u001b[2Jb\u000ac
    """
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def as_csv_cell(text: str) -> str:
    """A text on one line that no spreadsheet takes for a formula.

    Where it begins like one, and where it begins with an apostrophe, an apostrophe is put in front:
    a reader who wants the text itself takes one apostrophe off, if there is one.

    >>> as_csv_cell("=1+1"), as_csv_cell("-a.png"), as_csv_cell("a.png")
    ("'=1+1", "'-a.png", 'a.png')
    """
    shown = on_one_line(text)
    return f"'{shown}" if _FORMULA.match(shown) else shown


def as_markdown(text: str) -> str:
    r"""A text as part of a line, or of a table's cell, of Markdown, where it means only itself.

    What is longer than 200 characters is cut.

    >>> print(as_markdown("a|b <i>*c*"))
    a\|b &lt;i&gt;\*c\*
    """
    shown = on_one_line(text)
    if len(shown) > _LONGEST:
        shown = shown[: _LONGEST - 1] + "…"
    escaped = _MARKDOWN.sub(r"\\\1", shown)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
