"""`bifocal probe` of CLIP pairs against transformers, and back:  python check_probe_clip.py PATH/bifocal [CASE]...

Small random CLIPs are written as Hugging Face, open_clip and OpenAI store them; ids and pixels must be CLIPProcessor's (values
to 1e-6), embeddings, logits, loss and the gradient of every parameter CLIPModel's (relative L2 of each tensor at most 1e-4).
Then `bifocal train` trains two steps from that folder, and CLIPModel opens what it wrote: the same again.
"""
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import CLIPModel
from transformers.utils import logging

from check_probe import bifocal, far
from small_clip import CASES, make_clip, make_pairs, processed, run_clip, save_clip

LIMIT = 1e-4
BIAS = -1.5


def forward(program, folder, data, model, inputs, bias):
    bifocal(program, "probe", folder, data / "pairs.jsonl", "--image-root", data / "images", "--out", data / "out", "--grad")
    probe = load_file(data / "out")
    want = run_clip(model, inputs, bias)
    if not all(torch.equal(probe[k], inputs[k]) for k in ("input_ids", "lengths")):
        raise SystemExit(f"{folder}: other ids\n{probe['input_ids']}\n{inputs['input_ids']}")
    pixels = (probe["pixel_values"] - inputs["pixel_values"]).abs().max().item()
    if not pixels <= 1e-6:
        raise SystemExit(f"{folder}: pixel values differ by {pixels}")
    parameters = dict(model.named_parameters())
    worst = {k: far(probe[k], v) for k, v in want.items()}
    for name, p in parameters.items():
        distance = far(probe["grad." + name], p.grad)
        if name == "logit_scale":  # a sum of logits of both signs that may cancel: of the order of what is summed
            distance = (probe["grad." + name] - p.grad).abs().item() / want["logits_per_image"].abs().mean().item()
        if name.endswith("k_proj.bias"):  # zero but for rounding
            distance = max(probe["grad." + name].norm().item(), p.grad.norm().item()) / parameters[name[:-4] + "weight"].grad.norm().item()
        worst["grad." + name] = distance
    extra = sorted(k for k in probe if k not in worst and k not in inputs)
    if extra:
        raise SystemExit(f"{folder}: tensors of nothing: {extra}")
    gradients = {k: v for k, v in worst.items() if k.startswith("grad.")}
    at = max(gradients, key=gradients.get)
    return {k: v for k, v in worst.items() if k not in gradients} | {at: gradients[at]}, len(gradients)


def train(program, case, folder, data, out):
    bifocal(program, "data", "pack", "--input", data / "train.jsonl", "--image-root", data / "images", "--out", data / "shards",
            "--prefix", "s")
    recipe = data / "clip.yaml"
    recipe.write_text(f"""stage: clip
output: {out}
threads: 2
model: {{init: {folder}}}
clip: {{loss: {'sigmoid' if CASES[case][5] else 'infonce'}}}
data: {{shards: [{data / 'shards'}], tokenizer: {folder}, image_fit: crop, max_tokens: {CASES[case][1][4]}}}
batch: {{samples: 8, micro_tokens: 4096}}
train: {{steps: 2, checkpoint_every: 0, log_every: 0}}
optimizer: {{lr: 1.0e-3, warmup_steps: 1}}
""")
    bifocal(program, "train", recipe)
    return max(out.glob("step_*"))


def check(program, case, scratch):
    folder, data, sigmoid = scratch / case, scratch / (case + ".data"), CASES[case][5]
    seed = len(case)
    model = make_clip(case, seed)
    bias = BIAS if sigmoid else None
    save_clip(case, model, folder, bias)
    make_pairs(data, 13, seed)
    # A pair for training has a caption and at least one word.
    (data / "train.jsonl").write_text("".join(l.replace('"text"', '"caption"') for i, l in enumerate(open(data / "pairs.jsonl")) if i != 1))
    inputs = processed(case, data)
    for what in ("from Python", "from bifocal train"):
        if what != "from Python":
            folder = train(program, case, folder, data, scratch / (case + ".run"))
            model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
            bias = load_file(folder / "model.safetensors")["logit_bias"].item() if sigmoid else None
        worst, gradients = forward(program, folder, data, model, inputs, bias)
        ok = all(v <= LIMIT for v in worst.values())
        print(f"{case:10} {what:19}", "  ".join(f"{k} {v:.1e}" for k, v in worst.items()), f"(worst of {gradients} gradients)",
              "" if ok else "  <-- DIFFERS", flush=True)
        if not ok:
            return False
    return True


def main():
    torch.set_num_threads(2)
    logging.disable_progress_bar()
    cases = sys.argv[2:] or list(CASES)
    with tempfile.TemporaryDirectory() as scratch:
        results = [check(str(Path(sys.argv[1]).resolve()), case, Path(scratch)) for case in cases]
    raise SystemExit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
