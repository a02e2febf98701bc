#!/usr/bin/env python3
"""Entries, captions and which of them match, by the rule of data/concepts.h done with Python's own strings: tests/golden/concepts/cases.json.
    make_concepts.py OUT"""
import json
import random
import sys

PUNCTUATION = ",.;:?!`"


def spaced(caption):
    padded = " " + caption + " "
    for mark in PUNCTUATION:
        padded = padded.replace(mark, " " + mark + " ")
    return padded.replace("\t", " ").replace("\n", " ").replace("\r", " ")


def matches(caption, entries):
    text = spaced(caption)
    return [i for i, entry in enumerate(entries) if " " + entry + " " in text]


rng = random.Random(20261121)
WORDS = ["a", "b", "cat", "Cat", "CAT", "cats", "dog", "the", "New", "York", "New York", "York City", "New York City", "é", "É", "straße", "ÅNGSTRÖM", "ångström",
         "猫", "猫 犬", "犬", "🐈", "🐈‍⬛", "naïve", "nai\u0308ve", "don't", "U.S.", "U . S .", "U . S", "S", "p.m.", "hot-dog", "C++", "100%", "$5", "a b", "b a", "a a", "a a a",
         "a b a", "b a b", "\u00a0", "\u3000", "x\u00a0y", "ǅ", "ß", "İ", "ﬁ", "\u2028", "Ⱥ", "\u0001", "\u007f", "q\\r", "\"quoted\"", "'", "—", "end", "start"]
MARKS = list(PUNCTUATION) + ["", " ", "  ", "\t", "\n", "\r", "\r\n", "-", "...", ", ", " ,", " , ", "?!", "? !", "``", "/"]
entries = ["", " ", "   ", ",", ".", ", ,", ",  ,", ",,", "a,", "a ,", ", a", "a , b", "a  b", " a", "a ", " a ", "a\tb", "a\nb", "a\r", "cat", "cat", "Cat", "? !", "?  !", "`", "a . . .",
           ".   .", ".  .  ."] + WORDS
while len(entries) < 220:
    entries.append(rng.choice([" ", " ", " ", "  ", " , ", " . ", "-"]).join(rng.choice(WORDS) for _ in range(rng.randint(1, 5))))
captions = ["", " ", "  ", "\n", ",", ",,", "...", "a", " a", "a ", "a\tb\nc\rd", "U.S.", "the U.S. of A", "a,b", "a , b", "cat.dog?bird!", "`cat`", "New York City", "New  York City", "New York\nCity",
            "a a a a a a a", "catcat", "acat", "cat-dog", "x" * 300, "a " * 100]
while len(captions) < 400:
    captions.append("".join(rng.choice(WORDS) + rng.choice(MARKS + [" "] * 12) for _ in range(rng.randint(1, 14))))

with open(sys.argv[1], "w", encoding="ascii") as out:
    json.dump({"entries": entries, "captions": captions, "matches": [matches(c, entries) for c in captions]}, out, separators=(",", ":"))
    out.write("\n")
