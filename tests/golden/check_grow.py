"""Stock language models trained on pictures, against transformers:  python check_grow.py PATH/bifocal [CASE]...

Small decoders as their makers publish them, with tokenizers that have no <image>: SentencePiece, tokenizer.json and vocab.json with
merges.txt. `bifocal train` trains two steps of stage pretrain, resumes, and goes on in stage finetune with the stock tokenizer. transformers
opens each result: AutoTokenizer gives <image> (and <pad>) the id of config.json, embedding and head have the rows the conversion of LLaVA
gives them, old rows are the stock ones (stage pretrain), new ones are distributed as N(mean, 1e-5 covariance) and never trained, and the
logits of the first `bifocal_classes` columns are those of `bifocal probe` on the same inputs.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import (AutoTokenizer, CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM,
                          LlavaForConditionalGeneration, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM)
from transformers.utils import logging

from small_llava import make_samples, randomise, run_probe_inputs

HERE = Path(__file__).parent
LIMIT = 1e-4
ENV = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
COMMON = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=512)
TEXT = "A red circle, isn't it?"


def bifocal(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, env=ENV)
    if done.returncode != 0:
        raise SystemExit(f"bifocal {' '.join(map(str, arguments))}\nexit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stderr


def far(a, b):
    difference, size = (a.double() - b.double()).norm().item(), b.double().norm().item()
    return 0.0 if difference == 0.0 else difference / max(size, 1e-12)


def as_vocab(text, folder):
    """tokenizer.json taken apart, as Qwen2's repositories have it."""
    root = json.loads(text)
    (folder / "vocab.json").write_text(json.dumps(root["model"]["vocab"]))
    merges = [m if isinstance(m, str) else " ".join(m) for m in root["model"]["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    decoder = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in root["added_tokens"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": decoder, "eos_token": "</s>", "pad_token": "<|im_end|>"}))


def stock(case, folder):
    """A decoder's folder with its tokenizer, which is one of golden/tokens without its <image>. Returns its tokens and the rows of the embedding."""
    folder.mkdir()
    kind, numbers, source, spare = CASES[case]
    source = HERE / "tokens" / source
    if source.name == "smollm2":
        text = (source / "tokenizer.json").read_text().replace("<image>", "<|endoftext|>")
        if kind is Qwen2ForCausalLM:
            as_vocab(text, folder)
        if case != "qwen2_vocab":
            (folder / "tokenizer.json").write_text(text)
    elif source.name == "llama_prepend":
        root = json.loads((source / "tokenizer.json").read_text())
        root["added_tokens"] = [t for t in root["added_tokens"] if t["id"] < 520]
        (folder / "tokenizer.json").write_text(json.dumps(root))
        (folder / "tokenizer_config.json").write_text(json.dumps(  # as published: the unknown token pads
            {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}))
    else:
        shutil.copy(source / "tokenizer.model", folder)
        root = json.loads((source / "tokenizer_config.json").read_text())
        root["added_tokens_decoder"] = {k: v for k, v in root["added_tokens_decoder"].items() if int(k) < 520}
        root |= {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": None}
        (folder / "tokenizer_config.json").write_text(json.dumps(root))
        (folder / "special_tokens_map.json").write_text(json.dumps({k: root[k] for k in ("bos_token", "eos_token", "unk_token")}))
    tokens = len(AutoTokenizer.from_pretrained(folder))
    rows = tokens + spare
    config = kind.config_class(**(COMMON | numbers), vocab_size=rows)
    randomise(kind(config), torch.Generator().manual_seed(5)).save_pretrained(folder)
    return tokens, rows


CASES = {  # class, numbers, tokenizer, spare rows of the embedding
    "llama": (LlamaForCausalLM, dict(bos_token_id=1, eos_token_id=2, rms_norm_eps=1e-5), "llama", 0),
    "mistral": (MistralForCausalLM, dict(num_key_value_heads=2, head_dim=8, sliding_window=None, bos_token_id=1, eos_token_id=2),
                "llama_prepend", 0),
    "smollm2_tied": (LlamaForCausalLM, dict(num_key_value_heads=1, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1), "smollm2", 0),
    "qwen2": (Qwen2ForCausalLM, dict(num_key_value_heads=2, bos_token_id=None, eos_token_id=1), "smollm2", 71),
    "qwen2_vocab": (Qwen2ForCausalLM, dict(num_key_value_heads=2, bos_token_id=None, eos_token_id=1), "smollm2", 71),
}


NATIVE = {LlamaForCausalLM: "LlavaLlamaForCausalLM", MistralForCausalLM: "LlavaMistralForCausalLM", Qwen2ForCausalLM: "LlavaQwenForCausalLM"}


def recipe(path, stage, output, model, data, tokenizer, steps, more=""):
    path.write_text(f"""stage: {stage}
output: {output}
threads: 2
model: {model}
data: {{shards: [{data / 'shards'}], tokenizer: {tokenizer}, template: {'plain' if stage == 'pretrain' else 'vicuna_v1'}, image_fit: pad, max_tokens: 512}}
batch: {{samples: 8, micro_tokens: 4096}}
train: {{steps: {steps}, checkpoint_every: 0, log_every: 0}}
optimizer: {{lr: 1.0e-3, warmup_steps: 1}}
{more}""")
    return path


def check(program, folder, data, tokens, rows, tag):
    """One of our folders in transformers. Returns what it says of the vocabulary."""
    config = json.loads((folder / "config.json").read_text())
    image, pad, classes = config["image_token_index"], config["pad_token_id"], config.get("bifocal_classes", config["text_config"]["vocab_size"])
    grown = config["text_config"]["vocab_size"]
    assert image == tokens, (image, tokens)
    assert (grown, classes) == ((rows, rows) if rows > tokens + 1 else ((tokens + 2 + 63) // 64 * 64, rows)), (grown, classes, rows)
    words = AutoTokenizer.from_pretrained(folder)
    assert words.convert_tokens_to_ids("<image>") == image and words.image_token == "<image>", tag
    assert words.pad_token_id == pad and words.pad_token != "<unk>", (words.pad_token, words.pad_token_id, pad)
    ids = words(f"<image>{TEXT}<image>", add_special_tokens=False).input_ids
    assert ids.count(image) == 2 and ids[0] == ids[-1] == image, ids
    ours = subprocess.run([program, "tokenize", "--tokenizer", folder], input=f"<image>{TEXT}<image>", capture_output=True, text=True, check=True)
    assert json.loads(ours.stdout) == ids, (ours.stdout, ids)
    out = data / f"{tag}.safetensors"
    bifocal(program, "probe", folder, data / "samples.jsonl", "--image-root", data / "images", "--template", "vicuna_v1", "--out", out)
    probe = load_file(out)
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    logits, _ = run_probe_inputs(model, probe, gradients=False)
    assert probe["logits"].shape[1] == classes and logits.shape[1] == grown
    worst = far(probe["logits"], logits[:, :classes])
    assert worst < LIMIT, worst
    want = torch.nn.functional.cross_entropy(probe["logits"][:-1].float(), probe["labels"][1:].long(), ignore_index=-100) \
        if len(probe["cu_seqlens"]) == 2 else None
    assert want is None or abs(want - probe["loss"]) < 1e-4
    greedy = (logits.argmax(1) < classes).float().mean().item()
    return load_file(folder / "model.safetensors"), grown, worst, greedy


def normal(old, new):
    """The new rows, whitened by the old ones' covariance, are standard normal times sqrt(1e-5)."""
    mean, n = old.double().mean(0), len(old)
    centred = old.double() - mean
    root = torch.linalg.cholesky(1e-5 * centred.T @ centred / n)
    white = torch.linalg.solve_triangular(root, (new.double() - mean).T, upper=False)
    assert 0.9 < white.std().item() < 1.1 and abs(white.mean().item()) < 0.1, (white.std(), white.mean())


def run(program, case, data, work):
    folder = work / "stock"
    tokens, rows = stock(case, folder)
    tower = CLIPVisionModel(CLIPVisionConfig(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2, image_size=32,
                                             patch_size=8, hidden_act="quick_gelu"))
    randomise(tower, torch.Generator().manual_seed(6)).save_pretrained(work / "tower")
    first = recipe(work / "pretrain.yaml", "pretrain", work / "pretrain", f"{{encoder: {work / 'tower'}, decoder: {folder}, projector_type: mlp2x_gelu}}",
                   data, folder, 2)
    done = subprocess.run([program, "train", str(first), "--set", "train.stop_after=1"], capture_output=True, text=True, env=ENV)
    assert done.returncode == 75, done.stderr
    line = [x for x in done.stderr.splitlines() if "vocabulary:" in x]
    assert len(line) == 1, done.stderr
    bifocal(program, "train", first)  # goes on from step 1
    pretrained = work / "pretrain" / "step_00000002"
    weights, grown, worst, greedy = check(program, pretrained, data, tokens, rows, "pretrain")
    old = load_file(folder / "model.safetensors")
    for ours, theirs in (("language_model.model.embed_tokens.weight", "model.embed_tokens.weight"), ("language_model.lm_head.weight", "lm_head.weight")):
        if theirs in old:
            assert torch.equal(weights[ours][:rows], old[theirs]), "old rows changed"
            if grown > rows:
                normal(old[theirs], weights[ours][rows:])
    second = recipe(work / "finetune.yaml", "finetune", work / "finetune", f"{{init: {work / 'pretrain'}}}", data, folder, 2)
    assert "vocabulary:" not in bifocal(program, "train", second)
    tuned, _, worst2, greedy2 = check(program, work / "finetune" / "step_00000002", data, tokens, rows, "finetune")
    for name in ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight"):
        if name in tuned:
            assert not torch.equal(tuned[name][:rows], weights[name][:rows]), "nothing was trained"
            if grown > rows:
                assert torch.equal(tuned[name][rows:], weights[name][rows:]), "rows that are no classes were trained"
    # In the layout of LLaVA's authors, who have a class for each family, and back.
    native, back = work / "native", work / "back"
    bifocal(program, "export", "--format", "llava", work / "finetune", native)
    name = json.loads((native / "config.json").read_text())["architectures"][0]
    assert name == NATIVE[CASES[case][0]], name
    bifocal(program, "import", native, back)
    again = load_file(back / "model.safetensors")
    assert again.keys() == tuned.keys() and all(torch.equal(again[k], tuned[k]) for k in tuned), "the authors' layout and back"
    assert AutoTokenizer.from_pretrained(back).convert_tokens_to_ids("<image>") == tokens
    print(f"{case}: {tokens} tokens, {rows} -> {grown} rows; logits off by {worst:.1e} (pretrain), {worst2:.1e} (finetune); "
          f"greedy answers among the classes {100 * greedy:.0f} %, {100 * greedy2:.0f} %\n    {line[0].strip()}")


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    program = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        data.mkdir()
        make_samples(data, 12, 3)
        lines = [json.loads(line) for line in (data / "samples.jsonl").read_text().splitlines()]
        bifocal(program, "data", "pack", "--input", data / "samples.jsonl", "--image-root", data / "images", "--out", data / "shards", "--prefix", "s")
        assert lines
        for case in sys.argv[2:] or CASES:
            work = Path(name) / case
            work.mkdir()
            run(program, case, data, work)


main()
