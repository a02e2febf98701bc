"""`bifocal probe` against transformers, and back:  python check_probe.py PATH/bifocal [CASE]...

Small random LLaVAs of every decoder family, and the decoders alone ("lm_..."), are saved by transformers and opened by
bifocal; logits, loss and the gradient of every parameter are compared (relative L2 of each tensor at most 1e-4). Then
`bifocal train` trains two steps from that folder, and transformers opens what it wrote: its logits must be those of
`bifocal probe` on the new folder, and its tokenizer must give the same ids.
"""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlavaForConditionalGeneration, PreTrainedTokenizerFast
from transformers.utils import logging

from small_llava import CASES, WORDS, make_decoder, make_model, make_samples, run_probe_inputs, table_name, tokenizer

LIMIT = 1e-4
ENV = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def bifocal(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, env=ENV)
    if done.returncode != 0:
        raise SystemExit(f"bifocal {' '.join(map(str, arguments))}\nexit {done.returncode}\n{done.stdout}{done.stderr}")
    if "warning" in done.stderr.lower():
        print(done.stderr.strip())


def far(a, b):
    """Relative L2 distance of a from b; two zeros are equal."""
    difference, size = (a.double() - b.double()).norm().item(), b.double().norm().item()
    return 0.0 if difference == 0.0 else difference / max(size, 1e-12)


def forward(program, kind, folder, data, out):
    bifocal(program, "probe", folder, data / "samples.jsonl", "--image-root", data / "images", "--out", out, "--grad")
    probe = load_file(out)
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model.eval()
    logits, loss = run_probe_inputs(model, probe)
    worst = {"logits": far(probe["logits"], logits), "loss": far(probe["loss"], loss), "gradient": 0.0}
    at, expected = "", set()
    for name, p in model.named_parameters():
        ours = "grad." + (table_name(name) if kind is LlavaForConditionalGeneration else name)
        expected.add(ours)
        if ours not in probe:
            raise SystemExit(f"the probe lacks {ours}")
        distance = far(probe[ours].reshape(p.shape), p.grad if p.grad is not None else torch.zeros_like(p))
        if "vision_tower" in name and name.endswith("k_proj.bias") and p.grad is not None:
            # Softmax does not see what is added to all keys alike: this gradient is zero and both sides hold rounding.
            # (With RoPE it does.)
            scale = dict(model.named_parameters())[name[:-4] + "weight"].grad.norm().item()
            distance = max(probe[ours].norm().item(), p.grad.norm().item()) / scale
        if not distance <= worst["gradient"]:
            worst["gradient"], at = distance, ours
    extra = sorted(k for k in probe if k.startswith("grad.") and k not in expected)
    if extra:
        raise SystemExit(f"the probe has gradients of nothing: {extra}")
    return worst, at, len(expected), len(probe["input_ids"])


def train(program, stage, folder, data, out):
    bifocal(program, "data", "pack", "--input", data / "samples.jsonl", "--image-root", data / "images",
            "--out", data / "shards", "--prefix", "s")
    recipe = data / "recipe.yaml"
    encoder = ", train_encoder: true" if stage == "finetune" else ""
    recipe.write_text(f"""stage: {stage}
output: {out}
threads: 2
model: {{init: {folder}{encoder}}}
data:
  {{shards: [{data / 'shards'}], tokenizer: {folder / 'tokenizer.json'}, template: vicuna_v1, image_fit: pad, max_tokens: 512}}
batch: {{samples: 8, micro_tokens: 4096}}
train: {{steps: 2, checkpoint_every: 0, log_every: 0}}
optimizer: {{lr: 1.0e-3, warmup_steps: 1}}
""")
    bifocal(program, "train", recipe)
    return max(out.glob("step_*"))


def check(program, case, scratch):
    folder, data = scratch / case, scratch / (case + ".data")
    words = tokenizer(320)
    alone = case.startswith("lm_")
    kind, stage, make = (AutoModelForCausalLM, "lm", make_decoder) if alone else (LlavaForConditionalGeneration, "finetune", make_model)
    make(case.removeprefix("lm_"), words, seed=len(case)).save_pretrained(folder)
    words.save_pretrained(folder)
    make_samples(data, 12, seed=len(case), pictures=not alone)
    for what, place in ("from transformers", folder), ("from bifocal train", None):
        place = place or train(program, stage, folder, data, scratch / (case + ".run"))
        worst, at, gradients, tokens = forward(program, kind, place, data, data / "probe.safetensors")
        # AutoTokenizer would make of a Qwen2 folder's file a Qwen2 tokenizer, also of the one transformers wrote.
        read = (PreTrainedTokenizerFast if alone else AutoTokenizer).from_pretrained(place)
        if set(read.get_vocab().items()) != set(words.get_vocab().items()) or \
                read(" ".join(WORDS)).input_ids != words(" ".join(WORDS)).input_ids:
            raise SystemExit(f"{place}: the tokenizer gives other ids")
        ok = all(v <= LIMIT for v in worst.values())
        print(f"{case:16} {what:20} {tokens:5} tokens  logits {worst['logits']:.1e}  loss {worst['loss']:.1e}  "
              f"{gradients} gradients, worst {worst['gradient']:.1e} {at if not ok else ''} {'' if ok else '  <-- DIFFERS'}", flush=True)
        if not ok:
            return False
    return True


def main():
    torch.set_num_threads(2)
    logging.disable_progress_bar()
    cases = sys.argv[2:] or [*CASES, *("lm_" + case for case in CASES)]
    with tempfile.TemporaryDirectory() as scratch:
        results = [check(str(Path(sys.argv[1]).resolve()), case, Path(scratch)) for case in cases]
    raise SystemExit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
