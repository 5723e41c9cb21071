"""As much of a terminal as pytest and the progress line use: what can be seen in the end of what was written."""

from __future__ import annotations

import re

# A control sequence, a control character, or text.
TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


def seen(written: str) -> list[str]:
    """The lines of a tall screen after ``written``, without the blanks at their ends."""
    rows: list[list[str]] = [[]]
    row = column = 0
    for match in TOKEN.finditer(written):
        number, command, control, text = match.groups()
        count = int(number) if (number or "").isdigit() else 1
        if control == "\n":
            row += 1
            rows += [[]] if row == len(rows) else []
        elif control == "\r":
            column = 0
        elif text:
            line = rows[row]
            line += [" "] * (column + len(text) - len(line))
            line[column : column + len(text)] = text
            column += len(text)
        elif command == "A":
            row -= count
        elif command == "C":
            column += count
        elif command == "K":
            del rows[row][column:]
        else:
            assert command == "m", f"not understood: {match[0]!r}"
    return ["".join(line).rstrip() for line in rows]
