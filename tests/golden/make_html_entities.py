#!/usr/bin/env python3
"""Writes data/html_entities.inc: the named character references of HTML5, as Python's html.entities lists them (some without a semicolon).

The second table holds names that ftfy also takes in capitals and whose characters have other capitals; Python's str.upper gives them.
"""
import html
import html.entities
from pathlib import Path

OUT = Path(__file__).parents[2] / "data" / "html_entities.inc"


def table(name, entries):
    lines, line = [], "   "
    for key, text in sorted(entries.items()):
        item = " {\"%s\", {%s}}," % (key, ", ".join(f"0x{ord(c):X}" for c in text))
        if len(line) + len(item) > 138:
            lines.append(line)
            line = "   "
        line += item
    return f"static const entity {name}[] = {{\n" + "\n".join([*lines, line]) + "\n};\n"


def main():
    uppers = {}
    for name, text in html.entities.html5.items():
        upper = name.upper()
        if name.endswith(";") and name == name.lower() and html.unescape("&" + upper) == "&" + upper and text.upper() != text:
            uppers[upper] = text.upper()
    OUT.write_text("/* Made by tests/golden/make_html_entities.py; sorted by strcmp. */\n" + table("entities", html.entities.html5) +
                   table("uppers", uppers))


main()
