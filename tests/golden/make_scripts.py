"""Writes data/text_scripts.c: the script of every letter of Unicode, from fontTools' copy of Scripts.txt (pip install fonttools).

    python make_scripts.py > ../../data/text_scripts.c

A row is the first letter of a run with one script, 24 bits, and the number of the script, 8 bits. Code points that are no letters do not
end a run: only letters are looked up.
"""

import re
import unicodedata
from pathlib import Path

from fontTools.unicodedata import Scripts, script

version = re.search(r"Scripts-([0-9.]+)\.txt", Path(Scripts.__file__).read_text(encoding="utf-8")).group(1)
names, runs, last = [], [], None
for code in range(0x110000):
    value = script(chr(code))
    category = unicodedata.category(chr(code))
    if not (category[0] == "L" or (category == "Cn" and value != "Zzzz")):
        continue
    if value != last:
        if value not in names:
            names.append(value)
        runs.append((code, value))
        last = value
assert len(names) < 255
names.sort()
print("/* Made by tests/golden/make_scripts.py of Scripts.txt %s: the script of every letter. */" % version)
print('#include "data/text_measures.h"\n')
print("const char bif_script_codes[][5] = {")
for at in range(0, len(names), 12):
    print("    " + " ".join('"%s",' % name for name in names[at:at + 12]))
print("};")
print("const int bif_scripts = %d;\n" % len(names))
print("/* First letter << 8 | script, rising. */")
print("const uint32_t bif_script_runs[] = {")
for at in range(0, len(runs), 10):
    print("    " + " ".join("0x%08x," % (code << 8 | names.index(value)) for code, value in runs[at:at + 10]))
print("};")
print("const int bif_script_run_count = %d;" % len(runs))
