"""Writes text_measures.jsonl: texts with what Python and Unicode's Scripts.txt say of them (pip install fonttools).

    python make_text_measures.py > text_measures.jsonl
"""

import collections
import json
import random
import unicodedata

from fontTools.unicodedata import script

texts = [
    "", " ", "a", "A photo of a dog.", "  two  words ", "tab\tand\nline\x0bfeed\x85next\u3000wide", "IMG_1234.jpg", "dog dog dog dog", "Dog dog DOG",
    "the cat sat on the mat and the cat sat on the mat", "고양이 사진", "한국어와 English 섞기", "猫の写真です", "漢字かなカナー", "Кошка на окне",
    "صورة قطة", "बिल्ली की तस्वीर", "ภาพแมว", "Μια γάτα", "חתול", "12345", "2021-01-01 10:00", "no1 can read th1s", "éàü ñ", "e\u0301a\u0300", "😀 smile 😀",
    "a\u200bb", "x\u00a0y", "\u2003em", "50% off!!! $$$", "http://example.com/a.png", "ĲŒæß", "ꙮ", "a b c d e f g", "a a b b a a b b", "𝒜𝓁𝓅", "漢" * 30,
]
pieces = ["dog", "Cat", "고양이", "猫", "кот", "42", "!", "é", "the", "the", "sat", "काला"]
draw = random.Random(7)
texts += [" ".join(draw.choice(pieces) for _ in range(draw.randrange(1, 14))) for _ in range(30)]


def repetition(text, n):
    words = ["".join(c.lower() if c < "\x80" else c for c in word) for word in text.split()]
    runs = [tuple(words[i:i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if len(runs) > 1 else 0.0


for text in texts:
    letters = [c for c in text if unicodedata.category(c)[0] == "L"]
    marked = [c for c in text if unicodedata.category(c)[0] in "LM"]
    scripts = collections.Counter(s for s in map(script, letters) if s not in ("Zyyy", "Zinh"))
    solid = len("".join(text.split()))
    most = min((name for name in scripts if scripts[name] == max(scripts.values())), default=None)
    total = sum(scripts.values())
    print(json.dumps({
        "text": text, "chars": len(text), "words": len(text.split()), "letters": len(letters), "scripted": total,
        "alphabetic": len(marked) / solid if solid else 0.0, "script": most,
        "latin_or_korean": (scripts["Latn"] + scripts["Hang"] + scripts["Hani"]) / total if total else 0.0,
        "repeated": [repetition(text, n) for n in (1, 2, 3)],
    }))
