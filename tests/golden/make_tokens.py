#!/usr/bin/env python3
"""Compares `bifocal tokenize` with sentencepiece, tokenizers and transformers on a generated corpus, and makes the golden sample.

  make_tokens.py make FOLDER [--llama tokenizer.model] [--clip bpe_simple_vocab_16e6.txt.gz] [--lines 100000]
        writes FOLDER/corpus.txt and, for every tokenizer, its files in FOLDER/NAME/ and the ids of every line in NAME/ids.jsonl
  make_tokens.py check FOLDER PROGRAM [NAME]...     runs the program on the corpus with each tokenizer and compares the ids (and texts)
  make_tokens.py golden                             small tokenizers and 45 lines for tests/data/test_tokens.c, written to tokens/ (clip's
        vocabulary differs from run to run: tokenizers' trainer breaks ties at random when there is a suffix)

The last twentieth of the corpus is not UTF-8; only sentencepiece takes such lines.
"""
import argparse
import gzip
import json
import os
import random
import shutil
import subprocess
import time
import unicodedata
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from make_tokenizer import LLAMA3, PARAGRAPHS

OUT = Path(__file__).parent / "tokens"
QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
          r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
EMOJI = ["👩‍👩‍👧‍👦", "👍🏽", "🇰🇷", "❤️", "🏳️‍🌈", "😀", "🧑🏿‍🚀", "©️", "1️⃣",
         "👨‍❤️‍💋‍👨", "🤷🏻‍♀️", "🇯", "\u200d", "\ufe0f"]
CODE = ["for (int i = 0; i < n; ++i) {", "\treturn a[i] != b[i] ? -1 : 0;", "    def f(self, *args, **kw) -> None:  # no",
        "x = {'a': [1, 22, 333]}",
        "<div class=\"a b\">&amp;&lt;</div>", "SELECT * FROM t WHERE x >= 10e-3;", "#include <stdio.h>",
        "\\begin{align} \\alpha_{i}^{2} &= 0 \\\\",
        "https://example.org/a/b?c=d%20e&f=1#g", "0x7fff 1_000_000 3.14159 1e-10", "!!??...---___***===>>><<<", "a\r\rb"]
SPECIAL = ["<s>", "</s>", "<unk>", "<image>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|startoftext|>", "<tool>", "<mask>",
           "<pad>", "▁", "</w>",
           "<0x0A>", "word"]
SPACES = [" ", "  ", "   ", " " * 7, " " * 16, " " * 33, "\t", "\t\t", "\u00a0", "\u2003", "\u3000", "\u2028", "\u200b", "\x0b", "\x0c",
          "\x85", "\r", ""]


# Characters since Unicode 11 that normal forms change or reorder: utf8proc knows them, tokenizers 0.23 does not yet.
NEW = {0x7fd, *range(0x898, 0x8a0), *range(0x8ca, 0x8d4), 0x9fe, 0xc3c, *range(0xd3b, 0xd3d), 0xeba, 0x1715, *range(0x1abf,
       0x1acf), *range(0x1df6, 0x1dfb), 0x32ff, *range(0xa7f2, 0xa7f5), 0xa82c, 0xab69, *range(0x10781, 0x107bb), *range(0x10d24,
       0x10d28), *range(0x10eab, 0x10ead), *range(0x10efd, 0x10f00), *range(0x10f46, 0x10f51), *range(0x10f82, 0x10f86), 0x11070,
       0x1133b, 0x1145e, *range(0x11839, 0x1183b), 0x11938, *range(0x1193d, 0x1193f), 0x11943, 0x119e0, 0x11a34, 0x11a47, 0x11a99,
       *range(0x11d42, 0x11d46), 0x11d97, *range(0x11f41, 0x11f43), *range(0x16ff0, 0x16ff2), *range(0x1e030, 0x1e06e), 0x1e08f,
       *range(0x1e130, 0x1e137), 0x1e2ae, *range(0x1e2ec, 0x1e2f0), *range(0x1e4ec, 0x1e4f0), 0x1f16c, *range(0x1fbf0, 0x1fbfa)}


def assigned(rng):
    while True:
        c = rng.choice([rng.randint(0x20, 0x24f), rng.randint(0x250, 0x2fff), rng.randint(0x3000, 0xffff), rng.randint(0x10000, 0x1ffff)])
        if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co") and c not in NEW:
            return chr(c)


def piece(rng, words):
    kind = rng.randrange(22)
    if kind < 8:
        return " ".join(rng.choice(words) for _ in range(rng.randint(1, 8)))
    if kind == 8:
        return "".join(chr(rng.randint(0xac00, 0xd7a3)) for _ in range(rng.randint(1, 9)))
    if kind == 9:
        return "".join(chr(rng.choice([rng.randint(0x3041, 0x3096), rng.randint(0x30a1, 0x30fa),
                                       rng.randint(0x4e00, 0x9fa5)])) for _ in range(rng.randint(1, 12)))
    if kind == 10:
        return "".join(chr(rng.choice([rng.randint(0x621, 0x64a), rng.randint(0x64b, 0x652),
                                       rng.randint(0x5d0, 0x5ea)])) for _ in range(rng.randint(1, 9)))
    if kind == 11:
        return "".join(rng.choice(EMOJI) for _ in range(rng.randint(1, 4)))
    if kind == 12:
        return "".join(rng.choice("aeiouAEIOUncsxyzÅé각") + "".join(chr(rng.randint(0x300, 0x36f)) for _ in range(rng.randint(0,
                                                            3))) for _ in range(rng.randint(1, 6)))
    if kind == 13:
        return "".join(chr(c) for c in (rng.choice([*range(1, 9), *range(11, 32), *range(127, 160)]) for _ in range(rng.randint(1, 4))))
    if kind == 14:
        return rng.choice(SPACES) * rng.randint(1, 3)
    if kind == 15:
        return rng.choice(CODE)
    if kind == 16:
        return rng.choice(SPECIAL)
    if kind == 17:
        return "".join(assigned(rng) for _ in range(rng.randint(1, 8)))
    if kind == 18:
        return str(rng.randint(0, 10 ** rng.randint(1, 12)))
    if kind == 19:
        return rng.choice("aA.-=한é \"'") * rng.randint(1, 40)
    if kind == 20:
        return rng.choice(["don't", "I'LL", "we'Ve", "'S", "İstanbul", "ΑΣ", "ſt", "ǅ", "ß", "ﬁ", "Å", "½", "①", "Ⅷ",
                           "क़", "ﷺ", "\ufeff", "\ufffd"])
    return rng.choice(words).upper()


def corpus(count, seed=11):
    """Lines as bytes; the last twentieth with bytes that are not UTF-8."""
    rng = random.Random(seed)
    words = " ".join(PARAGRAPHS).split()
    lines = []
    for i in range(count):
        text = rng.choice([" ", " ", "", "  "]).join(piece(rng, words) for _ in range(rng.randint(0, 7))).replace("\n", " ")
        line = text.encode()
        if i >= count - count // 20:
            line = bytearray(line)
            for _ in range(rng.randint(1, 4)):
                at = rng.randint(0, len(line))
                line[at:at + rng.randint(0, 2)] = rng.choice([b"\xff", b"\xc3", b"\xe2\x96", b"\xed\xa0\x80", b"\xf0\x9f\x98",
                                                            b"\xc0\x80", b"\xf4\x90\x80\x80", b"\x80"])
            line = bytes(line)
        lines.append(line)
    return lines


# ---- tokenizers: each writes its files to a folder and gives the function text -> ids ----

def save_json(folder, t):
    folder.mkdir(parents=True, exist_ok=True)
    t.save(str(folder / "tokenizer.json"), pretty=False)
    return lambda text: t.encode(text, add_special_tokens=False).ids


def bpe_trainer(size, alphabet=True, specials=("<s>", "</s>", "<image>", "<|im_start|>", "<|im_end|>")):
    return trainers.BpeTrainer(vocab_size=size, special_tokens=list(specials), show_progress=False,
                               initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet else [])


def byte_level(pre, lines, size, normalizer=None, **model):
    t = Tokenizer(models.BPE(**model))
    t.normalizer = normalizer
    t.pre_tokenizer = pre
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(lines, bpe_trainer(size))
    t.add_tokens([AddedToken("<tool>", normalized=True), AddedToken("word", single_word=True)])
    t.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True)])
    return t


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def byte_level_ones(lines, size):
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    sequence = pre_tokenizers.Sequence
    yield "gpt2", byte_level(plain, lines, size)
    yield "llama3", byte_level(sequence([split(LLAMA3), bare]), lines, size, ignore_merges=True)
    yield "qwen2", byte_level(sequence([split(QWEN), bare]), lines, size, normalizers.NFC())
    yield "tekken", byte_level(sequence([split(TEKKEN), bare]), lines, size)
    yield "smollm2", byte_level(sequence([pre_tokenizers.Digits(individual_digits=True), plain]), lines, size)
    yield "nfkc_lower", byte_level(sequence([split(r"\p{L}+", "contiguous"), bare]), lines, size,
                                   normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]))
    yield "behaviors", byte_level(sequence([split("-", "merged_with_previous"), split(r"[.,]", "merged_with_next"), split(r"\s", "removed"),
                                            pre_tokenizers.Split("a", "isolated"), bare]), lines, size, normalizers.NFKD())


def metaspace_ones(lines, size):
    """Words of characters with unknown ones, and with a byte for each of them."""
    for name, prepend, cut in (("metaspace_always", "always", True), ("metaspace_first", "first", False),
                               ("metaspace_never", "never", True)):
        t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=cut))
        t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend, split=True)
        t.decoder = decoders.Metaspace(prepend_scheme=prepend)
        t.train_from_iterator(lines,
                              trainers.BpeTrainer(vocab_size=size, special_tokens=["<unk>", "<s>"], show_progress=False,
                                                  limit_alphabet=300))
        t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend, split=cut)
        t.add_tokens([AddedToken("<tool>", normalized=True)])
        yield name, t


def llama_json(model_file, folder):
    """The two layouts of tokenizer.json that Llama-2 and Mistral are published in, from the model's own pieces."""
    from transformers.tokenization_utils_sentencepiece import SentencePieceExtractor
    vocab, _, merges = SentencePieceExtractor(str(model_file)).extract(True)
    for name in ("llama_prepend", "llama_metaspace"):
        t = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        if name == "llama_prepend":
            t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        else:
            t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        t.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in ("<unk>", "<s>", "</s>", "<image>")])
        t.add_tokens([AddedToken("<pad>", normalized=False)])
        yield name, t


def clip_files(merges_gz, folder):
    """vocab.json and merges.txt as OpenAI's code builds them."""
    lines = gzip.open(merges_gz).read().decode().split("\n")[1:49152 - 256 - 2 + 1]
    letters = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(c) for c in letters] + [chr(256 + n) for n in range(256 - len(letters))]
    vocab = letters + [c + "</w>" for c in letters] + ["".join(m.split()) for m in lines] + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(vocab)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n")


def sp_train(lines, folder, **options):
    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "train.txt"
    text.write_text("\n".join(lines) + "\n")
    back = os.getcwd()
    os.chdir(folder)  # the model keeps the names it was trained with
    try:
        sentencepiece.SentencePieceTrainer.train(input="train.txt", model_prefix="tokenizer", minloglevel=2, character_coverage=0.98,
                                                 max_sentence_length=100000, num_threads=1, hard_vocab_limit=False, **options)
    finally:
        os.chdir(back)
    text.unlink()
    (folder / "tokenizer.vocab").unlink()


SP_MODELS = [
    ("sp_bpe_nfkc",
     dict(model_type="bpe", normalization_rule_name="nmt_nfkc", byte_fallback=True,
          user_defined_symbols=["<tool>", "  ", "don't", "한국"])),
    ("sp_bpe_unk", dict(model_type="bpe", normalization_rule_name="identity", remove_extra_whitespaces=False, control_symbols=["<mask>"])),
    ("sp_unigram_nfkc",
     dict(model_type="unigram", normalization_rule_name="nmt_nfkc_cf", user_defined_symbols=["<tool>", "ing", "▁the"])),
    ("sp_unigram_bytes", dict(model_type="unigram", normalization_rule_name="identity", byte_fallback=True, add_dummy_prefix=False,
                              remove_extra_whitespaces=False)),
]


def sp_ids(folder):
    sp = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    return sp.encode, sp.decode


def slow_llama(folder, legacy):
    """transformers' Python LlamaTokenizer: legacy puts the prefix space before every piece, else it stands at the start of the text."""
    from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

    class Slow(SentencePieceBackend):
        def tokenize(self, text, **kwargs):
            if self.legacy or not text:
                return super().tokenize(text, **kwargs)
            tokens = super().tokenize("▁" + text.replace("▁", " "), **kwargs)
            # (before an added token that is not special the class keeps the prefix; the tokenizer.json that it is converted to does not)
            return tokens[1:] if len(tokens) > 1 and tokens[0] == "▁" and tokens[1] in self.added_tokens_encoder else tokens

    extra = [AddedToken("<image>", special=True, normalized=False),
             AddedToken("<mask>", lstrip=True, rstrip=True, special=True, normalized=False)]
    t = Slow(vocab_file=str(folder / "tokenizer.model"), legacy=True, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
             extra_special_tokens=extra)
    t.add_tokens([AddedToken("<tool>", normalized=False)])
    if not legacy:  # what the class does with protobuf: the last normalizer_spec wins, this one has add_dummy_prefix = false
        t.legacy = False
        t.sp_model.LoadFromSerializedProto((folder / "tokenizer.model").read_bytes() + b"\x1a\x02\x18\x00")
    decoder = {}
    for i, a in t.added_tokens_decoder.items():
        decoder[str(i)] = {k: getattr(a, k) for k in ("content", "lstrip", "normalized", "rstrip", "single_word", "special")}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", "legacy": legacy,
                                                            "added_tokens_decoder": decoder}))
    return lambda text: t.convert_tokens_to_ids(t.tokenize(text))


def all_tokenizers(folder, lines, args):
    """(name, takes any bytes, special tokens are parsed, encode, decode or None)"""
    sample = [line.decode() for line in lines[:4000]]
    for name, t in [*byte_level_ones(sample, 3000), *metaspace_ones(sample, 1500)]:
        yield name, False, True, save_json(folder / name, t), None
    for name, options in SP_MODELS:
        sp_train(sample, folder / name, vocab_size=5000, **options)
        yield (name, True, False, *sp_ids(folder / name))
    if args.llama:
        for name in ("llama_sp", "llama_legacy", "llama_new"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(args.llama, folder / name / "tokenizer.model")
        yield ("llama_sp", True, False, *sp_ids(folder / "llama_sp"))
        yield "llama_legacy", False, True, slow_llama(folder / "llama_legacy", True), None
        yield "llama_new", False, True, slow_llama(folder / "llama_new", False), None
        for name, t in llama_json(args.llama, folder):
            encode = save_json(folder / name, t)
            yield name, False, True, encode, t.decode
    if args.clip:
        from transformers import CLIPTokenizer
        for name in ("clip_files", "clip_json"):
            clip_files(args.clip, folder / name)
            t = CLIPTokenizer.from_pretrained(str(folder / name))
            if name == "clip_json":
                t.save_pretrained(str(folder / name))
                (folder / name / "vocab.json").unlink()
                (folder / name / "merges.txt").unlink()
            yield name, False, True, lambda text, t=t: t.encode(text, add_special_tokens=False), lambda ids, t=t: t.decode(ids,
                                                            skip_special_tokens=True)


def make(args):
    folder = Path(args.folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines = corpus(args.lines)
    (folder / "corpus.txt").write_bytes(b"".join(line + b"\n" for line in lines))
    valid = lines[:len(lines) - len(lines) // 20]
    for name, any_bytes, special, encode, decode in all_tokenizers(folder, lines, args):
        start = time.time()
        texts = lines if any_bytes else [line.decode() for line in valid]
        rows = [encode(text) for text in texts]
        took = time.time() - start
        (folder / name / "about.json").write_text(json.dumps({"lines": len(texts), "special": special}))
        with open(folder / name / "ids.jsonl", "w") as out:
            out.writelines(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
        if decode is not None:
            with open(folder / name / "texts.jsonl", "w") as out:
                out.writelines(json.dumps(None if any_bytes and 0 in row else decode(row)) + "\n" for row in rows[:len(valid)])
        print(f"{name}: {len(rows)} lines, {sum(map(len, rows))} ids, {took:.1f} s", flush=True)


def run(program, folder, name, text, *options):
    start = time.time()
    out = subprocess.run([program, "tokenize", "--tokenizer", str(folder / name), *options], input=text, stdout=subprocess.PIPE,
                         check=True).stdout
    return out.decode().split("\n")[:-1], time.time() - start


def check(args):
    folder = Path(args.folder)
    lines = (folder / "corpus.txt").read_bytes().split(b"\n")[:-1]
    bad = 0
    for path in sorted(folder.glob("*/about.json")):
        name, about = path.parent.name, json.loads(path.read_text())
        if args.name and name not in args.name:
            continue
        text = b"".join(line + b"\n" for line in lines[:about["lines"]])
        got, took = run(args.program, folder, name, text, *([] if about["special"] else ["--no-special"]))
        want = (path.parent / "ids.jsonl").read_text().splitlines()
        wrong = [i for i in range(len(want)) if i >= len(got) or got[i] != want[i]]
        print(f"{name}: {len(want) - len(wrong)} of {len(want)} lines the same, {took:.1f} s", flush=True)
        for i in wrong[:args.show]:
            print("  ", lines[i], "\n    got ", got[i] if i < len(got) else None, "\n    want", want[i])
        bad += len(wrong)
        texts = path.parent / "texts.jsonl"
        if texts.exists():
            rows = [json.loads(row) for row in texts.read_text().splitlines()]
            back, _ = run(args.program, folder, name, ("\n".join(want[:len(rows)]) + "\n").encode(), "--decode", "--no-special")
            wrong = [i for i in range(len(rows)) if rows[i] is not None and json.loads(back[i]) != rows[i]]
            print(f"{name}: {len(rows) - len(wrong)} of {len(rows)} texts the same", flush=True)
            for i in wrong[:args.show]:
                print("  ", want[i], "\n    got ", back[i], "\n    want", json.dumps(rows[i]))
            bad += len(wrong)
    raise SystemExit(bad > 0)


RULES = [("ﬁ", "fi"), ("\u212b", "\u00c5"), ("①", "1"), ("½", "1 2"), ("\u3000", " "), ("\t", " "), ("\u200b", ""), ("Ⅷ", "VIII"),
         ("A", "a"), ("AB", "xyz")]


SPLITS = ["a-a", "a--a", "--a-", "-", "aa---aa-", "a", "---"]


def write_golden(name, lines, encode, special):
    """Lines that the authority refuses are null."""
    rows = []
    for line in lines:
        try:
            rows.append(encode(line if not special else line.decode()))
        except UnicodeDecodeError:
            rows.append(None)
    (OUT / name / "ids.json").write_text(json.dumps(rows, separators=(",", ":")) + "\n")


def golden(args):
    """Small vocabularies, 45 short lines of the corpus, and their ids."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    lines = [line for line in corpus(4000, seed=5) if 10 < len(line) < 70]
    lines = lines[:34] + [line for line in lines if b"\xff" in line][:3] + ["  İ a  ".encode(), b"", b" ", b"a--b...c,,d -- ..e--",
                                                            b"-.-,a a  -a", "ﬁ①½ABA\u200b don't<tool> word words <mask> x".encode()]
    (OUT / "lines.txt").write_bytes(b"".join(line + b"\n" for line in lines))
    text = PARAGRAPHS * 3
    small = [line for line in PARAGRAPHS if line.isascii()] * 3 + [PARAGRAPHS[2]]

    for name, t in byte_level_ones(text, 400):
        if name in ("behaviors", "smollm2"):
            write_golden(name, lines, save_json(OUT / name, t), True)
    for name, t in metaspace_ones(text, 500):
        if name != "metaspace_never":
            write_golden(name, lines, save_json(OUT / name, t), True)

    rows = []  # a vocabulary in which every join of neighbours shows
    for behavior in ("isolated", "removed", "merged_with_previous", "merged_with_next", "contiguous"):
        for invert in (False, True):
            t = Tokenizer(models.BPE({"a": 0, "-": 1, "--": 2, "a-": 3, "-a": 4, "aa": 5},
                                     [("-", "-"), ("a", "a"), ("a", "-"), ("-", "a")]))
            t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split("-", behavior, invert),
                                                       pre_tokenizers.ByteLevel(False, use_regex=False)])
            t.decoder = decoders.ByteLevel()
            rows.append({"file": t.to_str(), "ids": [t.encode(text).ids for text in SPLITS]})
    (OUT / "splits.json").write_text(json.dumps({"texts": SPLITS, "rows": rows}, separators=(",", ":")) + "\n")

    t = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.train_from_iterator([line.lower() for line in small],
                          trainers.BpeTrainer(vocab_size=420, show_progress=False, end_of_word_suffix="</w>"))
    model = json.loads(t.to_str())["model"]
    folder = OUT / "clip"
    folder.mkdir()
    vocab = sorted(model["vocab"], key=model["vocab"].get) + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(vocab)}, ensure_ascii=False, separators=(",", ":")))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in model["merges"]))
    from transformers import CLIPTokenizer
    t = CLIPTokenizer.from_pretrained(str(folder))
    write_golden("clip", lines, lambda line: t.encode(line, add_special_tokens=False), True)

    rules = OUT / "rules.tsv"
    rules.write_text("".join(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n" for a, b in RULES))
    for name, options in (("sp_bpe",
                           dict(model_type="bpe", normalization_rule_tsv=str(rules), byte_fallback=True,
                                user_defined_symbols=["<tool>", "don't"])),
                          ("sp_unigram",
                           dict(model_type="unigram", normalization_rule_tsv=str(rules), user_defined_symbols=["<tool>", "ing"])),
                          ("llama",
                           dict(model_type="bpe", normalization_rule_name="identity", byte_fallback=True, remove_extra_whitespaces=False))):
        sp_train(small, OUT / name, vocab_size=520 if name != "sp_unigram" else 260, **options)
        if name != "llama":
            write_golden(name, lines, sp_ids(OUT / name)[0], False)
    rules.unlink()
    shutil.copytree(OUT / "llama", OUT / "llama_legacy")
    for name in ("llama", "llama_legacy"):
        write_golden(name, lines, slow_llama(OUT / name, name == "llama_legacy"), True)
    for name, t in llama_json(OUT / "llama" / "tokenizer.model", OUT):
        if name == "llama_prepend":
            write_golden(name, lines, save_json(OUT / name, t), True)


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    p = commands.add_parser("make")
    p.add_argument("folder")
    p.add_argument("--llama")
    p.add_argument("--clip")
    p.add_argument("--lines", type=int, default=100000)
    p.set_defaults(run=make)
    p = commands.add_parser("check")
    p.add_argument("folder")
    p.add_argument("program")
    p.add_argument("name", nargs="*")
    p.add_argument("--show", type=int, default=3)
    p.set_defaults(run=check)
    p = commands.add_parser("golden")
    p.set_defaults(run=golden)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
