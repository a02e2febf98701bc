#!/usr/bin/env python3
"""transformers' SiglipTokenizer (which wants protobuf) on small SentencePiece models.

  make_siglip_tokens.py golden                 tokens/siglip/ for tests/data/test_tokens.c: the lines of make_tokens.py, which comes first
  make_siglip_tokens.py make FOLDER [LINES]    a corpus and ids for `make_tokens.py check FOLDER PROGRAM`
"""
import json
import sys
from pathlib import Path

from transformers import SiglipTokenizer

from make_tokenizer import PARAGRAPHS
from make_tokens import OUT, corpus, sp_train, write_golden

# As T5's and SigLIP's models are laid out; they take nmt_nfkc and identity alike.
LAYOUT = dict(model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
SPECIAL = ("</s>", "<unk>")
KINDS = {"siglip": dict(normalization_rule_name="nmt_nfkc"),
         "identity": dict(normalization_rule_name="identity"),
         "siglip_bytes": dict(normalization_rule_name="identity", byte_fallback=True),
         "siglip_spaces": dict(normalization_rule_name="nmt_nfkc_cf", remove_extra_whitespaces=False, add_dummy_prefix=False)}


def siglip_tokenizer(folder, lines, vocab=260, kind="siglip", **more):
    """Trained on the lines and saved as transformers saves it."""
    sp_train(lines, folder, vocab_size=vocab, **LAYOUT, **KINDS[kind])
    (folder / "tokenizer.model").rename(folder / "spiece.model")
    words = SiglipTokenizer(vocab_file=str(folder / "spiece.model"), **more)
    words.save_pretrained(folder)
    return words


def encoder(words):
    """Ids without EOS. Special tokens that a text spells are no business of captions."""
    def encode(line):
        text = line.decode() if isinstance(line, bytes) else line
        return None if any(special in text for special in SPECIAL) else words(text, padding="do_not_pad").input_ids[:-1]
    return encode


def main():
    small = [line for line in PARAGRAPHS if line.isascii()] * 3 + [PARAGRAPHS[2]]
    if sys.argv[1] == "golden":
        words = siglip_tokenizer(OUT / "siglip", small, kind="identity")
        write_golden("siglip", (OUT / "lines.txt").read_bytes().split(b"\n")[:-1], encoder(words), False)
        return
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    lines = corpus(int(sys.argv[3]) if len(sys.argv) > 3 else 100000)
    lines = [line for line in lines[:len(lines) - len(lines) // 20] if not any(s.encode() in line for s in SPECIAL)]  # those that are UTF-8
    (folder / "corpus.txt").write_bytes(b"".join(line + b"\n" for line in lines))
    texts = [line.decode() for line in lines]
    for kind in KINDS:
        encode = encoder(siglip_tokenizer(folder / kind, PARAGRAPHS * 3, vocab=600, kind=kind))
        (folder / kind / "about.json").write_text(json.dumps({"lines": len(texts), "special": False}))
        with open(folder / kind / "ids.jsonl", "w") as out:
            out.writelines(json.dumps(encode(text), separators=(",", ":")) + "\n" for text in texts)


if __name__ == "__main__":
    main()
