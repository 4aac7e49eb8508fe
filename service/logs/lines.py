"""Makes lines of log records: what others have written begins no line and colours no terminal."""

import codecs
import copy
import logging
import re
from typing import Final

from service.results.short import shorten

MAX_TEXT: Final = 16_384  # characters, of a line with its traceback: an error may have arguments
_INDENT: Final = (
    "    "  # before each line of a traceback: none looks like the beginning of a record
)
# Python reads a codec from a file when it is first asked for; by then no file may be to be had.
_escape: Final = codecs.getencoder("unicode_escape")
# Control characters, what separates lines elsewhere, what turns the direction of a text, and halves
# of characters, which cannot be written.
HARMFUL: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def on_one_line(text: str) -> str:
    r"""The text with what is harmful written as Python writes it: `\n`, `\x1b`, `\u2028`."""
    if text.isprintable():
        return text
    return HARMFUL.sub(lambda found: _escape(found[0])[0].decode(), text)


class LineFormatter(logging.Formatter):
    """Writes a record on one line, and its traceback on lines that are indented.

    What is in a record is escaped; the line breaks of the format itself stay.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's own
        """The line without the traceback."""
        line = super().formatMessage(record)
        if line.isprintable():
            return line
        safe = copy.copy(record)
        for name, value in vars(record).items():
            if type(value) is str:
                setattr(safe, name, on_one_line(value))
        return super().formatMessage(safe)

    def format(self, record: logging.LogRecord) -> str:
        """All of it; the middle of a long text is cut."""
        text = super().format(record)
        if record.exc_text or record.stack_info:
            head = self.formatMessage(record)
            first, *others = text[len(head) :].split("\n")
            text = "\n".join([head + first, *(_INDENT + on_one_line(each) for each in others)])
        return text if len(text) <= MAX_TEXT else shorten(text, MAX_TEXT)
