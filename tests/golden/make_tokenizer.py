#!/usr/bin/env python3
"""Golden files for the tokenizer and the chat templates, from Hugging Face tokenizers. Run in this folder; output in tokenizer/.

  make_tokenizer.py                 writes tokenizer/*
  make_tokenizer.py check FILE...   opens tokenizer.json files that bifocal wrote in tokenizers and transformers, and compares the
                                    merges with HF's trainer when the text they were trained on follows as --text FILE
"""
import json
import random
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

OUT = Path(__file__).parent / "tokenizer"
SPECIALS = ["<s>", "</s>", "<image>", "<|im_start|>", "<|im_end|>"]
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")

PARAGRAPHS = [
    "A photograph shows two dogs running along the beach while a child throws a red ball into the water. The dogs' owner "
    "didn't bring a leash, and she's watching them from the pier; they'll be tired by the evening.",
    "Question: how many people are in the picture? Answer: there are 3 people, 12 birds and about 1,250 pebbles. "
    "The train left at 10:45 and it's now 11:07, so we've waited 22 minutes.",
    "사진 속에는 두 마리의 개가 해변을 따라 달리고 있고, 아이가 빨간 공을 물에 던지고 있습니다. 개의 주인은 부두에서 그들을 지켜보고 있습니다. "
    "이 그림에는 몇 명의 사람이 있습니까? 세 사람과 열두 마리의 새가 있습니다.",
    "한국어 문장은 띄어쓰기로 나뉘지만 어절 안에는 여러 형태소가 들어 있습니다. 그래서 바이트 단위의 병합이 자주 쓰입니다.",
    "写真には、海辺を走る二匹の犬と、赤いボールを水に投げる子供が写っています。照片里有两只狗在沙滩上奔跑，一个孩子把红球扔进水里。",
    "На фотографии две собаки бегут по пляжу, а ребёнок бросает красный мяч в воду. Η φωτογραφία δείχνει δύο σκύλους.",
    "تظهر الصورة كلبين يركضان على الشاطئ بينما يرمي طفل كرة حمراء في الماء.",
    "Les chiens courent le long de la plage; l'enfant a jeté son ballon à l'eau. Größe, Übermut, naïve café, São Paulo, ærø.",
    "for (int i = 0; i < n; i++) {\n    if (a[i] != b[i]) {\n\t\treturn -1;\n    }\n}\n\n\nreturn 0;\n",
    "x = [1, 22, 333, 4444, 55555]\nprint(f\"{x!r}  {sum(x):>10}\")   # three spaces before\n",
    "Emoji: 😀😀 👩‍👩‍👧 🇰🇷 ❤️ 👍🏽 and symbols ∑∫√ €£¥ → ← ½ ²³ ①② Ⅷ ٣٤ १२.",
]


def corpus():
    rng = random.Random(7)
    words = " ".join(PARAGRAPHS).split()
    lines = list(PARAGRAPHS)
    for _ in range(60):
        lines.append(" ".join(rng.choice(words) for _ in range(rng.randint(3, 25))) + rng.choice([".", "!", "?", "", "..."]))
    return lines


CASES = PARAGRAPHS + [
    "", " ", "  ", "\n", "a", "Hello world", " Hello  world ", "Hello\tworld\r\n\r\nagain", "don't I'll WE'VE you'RE 'S 'ſ",
    "한글", "각 각", "ㄱㄴㄷ 가나다 힣", "é é Å Å ﬁ", "क़ क़", "\u00a0\u2003\u3000x\u180ey\u200bz\u0085w",
    "\x01\x02\x1b[31mred\x1b[0m\x7f\x80\x9f", "\ufeffBOM", "\ufffd\U0010ffff\ue000", "a" * 100, " " * 50 + "x" + "\n" * 20, "^" * 70,
    "<s>not a token</s> <image><image>\n<|im_start|>user\nhi<|im_end|>", "<<s>> <imag <image <|im_start|", "<tool> x<tool>y <tool>",
    "word<mask> next  <mask>  end", "1234567890 12 3.14 1e-5 ①②③٣٤٥", "👩‍👩‍👧‍👦👍🏽🇰🇷", "ABC\u0301 e\u0301\u0323",
]


def trainer(specials, size):
    return trainers.BpeTrainer(vocab_size=size, special_tokens=specials, show_progress=False,
                               initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def byte_level(**kw):
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False, **kw})


def hf_gpt2(lines):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = byte_level(add_prefix_space=True)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(lines, trainer(SPECIALS, 900))
    t.add_tokens([AddedToken("<tool>", normalized=True)])
    t.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False)])
    t.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    return t


def hf_llama3(lines):
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), byte_level(use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(lines, trainer([], 900))
    t.add_special_tokens(SPECIALS)
    t.add_tokens([AddedToken("<tool>", normalized=True), AddedToken("é", normalized=True)])
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    return t


def hf_digits(lines):
    t = Tokenizer(models.BPE(unk_token="<s>"))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()])
    t.decoder = decoders.ByteLevel()
    few = trainers.BpeTrainer(vocab_size=500, special_tokens=SPECIALS, show_progress=False)  # only the bytes that occur
    t.train_from_iterator(lines[:2], few)
    return t


def ours(lines):
    """HF's training in bifocal's layout of ids: bytes, merges, specials."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = byte_level()
    t.train_from_iterator(lines, trainer([], 1000 - len(SPECIALS)))
    model = json.loads(t.to_str())["model"]
    size = len(model["vocab"])
    model["vocab"].update({s: size + i for i, s in enumerate(SPECIALS)})
    t = Tokenizer(models.BPE(model["vocab"], [tuple(m) for m in model["merges"]]))
    t.pre_tokenizer = byte_level()
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens(SPECIALS)
    return t


def write_cases(name, t):
    rows = []
    for text in CASES:
        t.encode_special_tokens = False
        parsed = t.encode(text, add_special_tokens=False).ids
        t.encode_special_tokens = True
        plain = t.encode(text, add_special_tokens=False).ids
        rows.append({"text": text, "special": parsed} | ({} if plain == parsed else {"plain": plain}))
    t.encode_special_tokens = False
    t.save(str(OUT / f"{name}.json"), pretty=False)
    (OUT / f"{name}.cases.json").write_text(json.dumps(rows, ensure_ascii=False, separators=(",", ":")) + "\n")


def chat_text(segments, t):
    """Ids and labels of (text or special, supervised) segments, each encoded alone."""
    ids, labels = [], []
    for text, supervised in segments:
        part = [t.token_to_id(text)] if text in SPECIALS else t.encode(text, add_special_tokens=False).ids
        ids += part
        labels += part if supervised else [-100] * len(part)
    return {"ids": ids, "labels": labels}


def write_chat(t):
    t.encode_special_tokens = True
    system = ("A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
              "and polite answers to the user's questions.")
    talk = [("human", "What is in it?\n<image>"), ("gpt", "Two dogs."), ("human", " 몇 마리? "), ("gpt", "두 마리입니다. </s>")]
    sample = json.dumps({"conversations": [{"from": a, "value": b} for a, b in talk]}, ensure_ascii=False)
    many = json.dumps({"conversations": [{"from": "human", "value": "<image> compare\u3000<image>\n"}, {"from": "gpt", "value": " same "}]})
    caption = json.dumps({"caption": "A red ball"})
    picture = [("<image>", False)] * 3
    rows = [
        {"template": "plain", "images": 1, "json": caption, **chat_text([("<s>", False), *picture, ("A red ball\n", True)], t)},
        {"template": "vicuna_v1", "images": 1, "json": sample, "prompt": talk[0][1], **chat_text([
            ("<s>", False), (system + " USER: ", False), *picture, ("\nWhat is in it? ASSISTANT:", False), (" Two dogs.", True),
            ("</s>", True), ("USER:  몇 마리?  ASSISTANT:", False), (" 두 마리입니다. </s>", True), ("</s>", True)], t)},
        {"template": "vicuna_v1", "images": 2, "json": many, "prompt": "<image> compare\u3000<image>\n", **chat_text([
            ("<s>", False), (system + " USER: ", False), *picture, ("\n", False), *picture, ("\ncompare ASSISTANT:", False),
            ("  same ", True), ("</s>", True)], t)},
        {"template": "vicuna_v1", "images": 1, "json": caption, "prompt": "", **chat_text([
            ("<s>", False), (system + " USER: ", False), *picture, (" ASSISTANT:", False), (" A red ball", True), ("</s>", True)], t)},
        {"template": "chatml", "images": 1, "json": sample, "prompt": talk[0][1], **chat_text([
            ("<|im_start|>", False), ("system\nYou are a helpful assistant.", False), ("<|im_end|>", False), ("\n", False),
            ("<|im_start|>", False), ("user\n", False), *picture, ("\nWhat is in it?", False), ("<|im_end|>", False), ("\n", False),
            ("<|im_start|>", False), ("assistant\n", False), ("Two dogs.", True), ("<|im_end|>", True), ("\n", False),
            ("<|im_start|>", False), ("user\n 몇 마리? ", False), ("<|im_end|>", False), ("\n", False),
            ("<|im_start|>", False), ("assistant\n", False), ("두 마리입니다. </s>", True), ("<|im_end|>", True), ("\n", False)], t)},
    ]
    t.encode_special_tokens = False
    (OUT / "chat.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n")


def check(files):
    from transformers import PreTrainedTokenizerFast
    text = None
    if "--text" in files:
        at = files.index("--text")
        text = Path(files[at + 1]).read_bytes().decode("utf-8", "ignore")
        del files[at:at + 2]
    for name in files:
        t = Tokenizer.from_file(name)
        fast = PreTrainedTokenizerFast(tokenizer_file=name)
        for case in CASES:
            ids = t.encode(case, add_special_tokens=False).ids
            assert fast.encode(case, add_special_tokens=False) == ids, (name, case)
        print(f"{name}: {t.get_vocab_size()} ids, opens in tokenizers and transformers")
        if text is not None:
            model = json.loads(t.to_str())["model"]
            hf = Tokenizer(models.BPE())
            hf.pre_tokenizer = byte_level()
            hf.train_from_iterator([text], trainer([], len(model["merges"]) + 256))
            merges = json.loads(hf.to_str())["model"]["merges"]
            same = sum(a == b for a, b in zip(merges, model["merges"]))
            print(f"{name}: {same} of {len(model['merges'])} merges equal HF's ({len(merges)})")


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "check":
        return check(sys.argv[2:])
    OUT.mkdir(exist_ok=True)
    lines = corpus()
    (OUT / "corpus.json").write_text(json.dumps(lines, ensure_ascii=False, indent=0) + "\n")
    for name, make in (("ours", ours), ("hf_gpt2", hf_gpt2), ("hf_llama3", hf_llama3), ("hf_digits", hf_digits)):
        write_cases(name, make(lines))
    write_chat(Tokenizer.from_file(str(OUT / "ours.json")))


if __name__ == "__main__":
    main()
