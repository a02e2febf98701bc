"""A training step of the quickstart's stage 2 against transformers' LlavaForConditionalGeneration, in turns in one run.

  bash launch/easy_vqa.sh OUT [FOLDER]
  python step_vs_transformers.py BUILD OUT        BUILD: folder with bifocal and tests/bench_train_step

Same weights (random, quickstart sizes), same 32 conversations of one to three questions, same AdamW (the encoder
frozen on both sides). First the loss of step 1 must agree within 1e-4 and the losses of the next three within 1e-3,
relative; then both are timed in turns (A B B A A B ...) for 50 seconds, with two threads each. PyTorch gets its best:
SDPA, fused AdamW, no gradients and no graph for the encoder, and the faster of its two ways to pad (with an attention
mask, or without one, which right-padding allows: is_causal kernels).

Run it on a machine that does nothing else. CPU time is printed beside wall time, because other load disturbs it less.
Threads of both sides sleep while they wait (OMP_WAIT_POLICY=passive unless the environment says otherwise): spinning
made PyTorch half as fast on a machine with other work.
"""
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = {"OMP_WAIT_POLICY": "passive", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
for name, value in SETTINGS.items():
    os.environ.setdefault(name, value)  # before torch starts its threads

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration  # noqa: E402
from transformers.utils import logging  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent.parent / "golden"))
from small_llava import tokenizer  # noqa: E402

SAMPLES, THREADS, STEPS, VOCAB, SECONDS = 32, 2, 4, 360, 50
LR, BETAS, EPS, DECAY, CLIP = 1e-3, (0.9, 0.999), 1e-8, 0.05, 1.0  # as in bench_train_step.c


def make_folder(folder, talks):
    """A random stage-2 model of the quickstart's sizes (configs/quickstart), its tokenizer trained on the conversations."""
    human = "USER: {} ASSISTANT:"
    lines = [(human if t["from"] == "human" else " {}").format(t["value"].replace("<image>\n", ""))
             for talk in talks for t in talk["conversations"]]
    words = tokenizer(VOCAB, lines[:4000])
    text = LlamaConfig(hidden_size=128, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
                       intermediate_size=384, vocab_size=len(words), max_position_embeddings=512, rms_norm_eps=1e-5,
                       tie_word_embeddings=True, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
                       pad_token_id=None)
    vision = CLIPVisionConfig(hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=512,
                              patch_size=8, image_size=64, hidden_act="quick_gelu")
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(LlavaConfig(
        vision_config=vision, text_config=text, image_token_id=words.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2, vision_feature_select_strategy="full", image_seq_length=65, tie_word_embeddings=True))
    model.save_pretrained(folder)
    words.save_pretrained(folder)


class Torch:
    def __init__(self, folder, probe):
        self.model = LlavaForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa")
        self.model.train()
        self.model.model.vision_tower.requires_grad_(False)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.trained = trained
        self.optimizer = torch.optim.AdamW([{"params": [p for p in trained if p.dim() > 1], "weight_decay": DECAY},
                                            {"params": [p for p in trained if p.dim() == 1], "weight_decay": 0.0}],
                                           lr=LR, betas=BETAS, eps=EPS, fused=True)
        bounds = probe["cu_seqlens"].tolist()
        length = max(b - a for a, b in zip(bounds, bounds[1:]))
        ids = torch.zeros(len(bounds) - 1, length, dtype=torch.long)
        labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
        for i, (a, b) in enumerate(zip(bounds, bounds[1:])):
            ids[i, :b - a], labels[i, :b - a], mask[i, :b - a] = probe["input_ids"][a:b], probe["labels"][a:b], 1
        self.padding = 1 - mask.float().mean().item()
        self.batch = {"input_ids": ids, "labels": labels, "pixel_values": probe["pixel_values"], "use_cache": False}
        self.mask = mask

    def steps(self, count, masked=True):
        losses = []
        start, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.model(**self.batch, attention_mask=self.mask if masked else None).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.trained, CLIP)
            self.optimizer.step()
            losses.append(loss.item())
        return time.perf_counter() - start, time.process_time() - cpu, losses


class Ours:
    def __init__(self, program, folder, probe):
        self.process = subprocess.Popen([program, folder, probe, str(THREADS)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.device = self.process.stdout.readline().strip()

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("bench_train_step ended")
        return answer.split()

    def steps(self, count):
        return [float(x) for x in self.ask(f"step {count}")]


def agree(what, ours, theirs, limit):
    distance = abs(ours - theirs) / abs(theirs)
    print(f"{what}: ours {ours:.6f}, transformers {theirs:.6f}, relative {distance:.1e}")
    if not distance <= limit:
        raise SystemExit(f"{what} differs by more than {limit}")


def main():
    build, data = Path(sys.argv[1]), Path(sys.argv[2])
    logging.disable_progress_bar()
    torch.set_num_threads(THREADS)
    talks = [json.loads(line) for line in open(data / "conversations.jsonl")]
    random.Random(3).shuffle(talks)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        folder, samples, probe_file = scratch / "model", scratch / "samples.jsonl", scratch / "probe.safetensors"
        make_folder(folder, talks)
        samples.write_text("".join(json.dumps(talk) + "\n" for talk in talks[:SAMPLES]))
        subprocess.run([build / "bifocal", "probe", folder, samples, "--image-root", data / "data" / "train" / "images",
                        "--template", "vicuna_v1", "--system", "", "--image-fit", "pad", "--out", probe_file],
                       check=True)
        probe = load_file(probe_file)
        theirs, ours = Torch(folder, probe), Ours(build / "tests" / "bench_train_step", folder, probe_file)
        supervised = int((probe["labels"] != -100).sum())
        print(f"{SAMPLES} conversations, {len(probe['input_ids'])} tokens, {supervised} supervised; padded by "
              f"{100 * theirs.padding:.0f} %; torch {torch.__version__}, {torch.get_num_threads()} threads; {ours.device}")

        for k, limit in enumerate((1e-4, 1e-3, 1e-3, 1e-3), 1):
            agree(f"loss of step {k}", ours.steps(1)[2], theirs.steps(1)[2][0], limit)
        ways = {masked: min(theirs.steps(1, masked)[0] for _ in range(4)) for masked in (True, False)}
        masked = ways[True] <= ways[False]
        print(f"torch with a mask {ways[True] * 1e3:.0f} ms a step, without {ways[False] * 1e3:.0f}; the faster is used")
        ours.steps(3)

        wall, cpu, peaks, end = {"ours": [], "torch": []}, {"ours": [], "torch": []}, [], time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            peaks.append(float(ours.ask("peak")[0]))
            for who in ("ours", "torch") if len(peaks) % 2 == 0 else ("torch", "ours"):
                result = ours.steps(STEPS) if who == "ours" else theirs.steps(STEPS, masked)
                wall[who].append(result[0] / STEPS)
                cpu[who].append(result[1] / STEPS)
        flops = ours.steps(1)[3]
        ops = ours.ask("ops 20")
    shares = list(zip(ops[::2], map(float, ops[1::2])))
    products = sum(share for name, share in shares if name in ("linear", "linear_backward"))
    wall_ratios, cpu_ratios = ([b / a for a, b in zip(t["ours"], t["torch"])] for t in (wall, cpu))
    rate = {who: flops / statistics.median(wall[who]) / 1e9 for who in wall}
    peak = statistics.median(peaks) / 1e9
    print(f"\n{'':8}{'samples/s':>10}{'ms a step':>11}{'CPU ms':>9}{'GFLOP/s':>9}  (bif_stage_flops: no attention)")
    for who in wall:
        seconds, busy = statistics.median(wall[who]), statistics.median(cpu[who])
        print(f"{who:8}{SAMPLES / seconds:10.0f}{1e3 * seconds:11.2f}{1e3 * busy:9.2f}{rate[who]:9.1f}")
    for what, ratios in (("wall", wall_ratios), ("CPU", cpu_ratios)):
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"ratio by {what} time: median {middle:.2f}, quartiles {low:.2f} and {high:.2f}, {len(ratios)} pairs")
    print(f"square product of the same run {peak:.1f} GFLOP/s; the step reaches {100 * rate['ours'] / peak:.0f} %; "
          f"products are {100 * products:.0f} % of its time")
    print("share of the step: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares if share >= 0.005))
    raise SystemExit(0 if statistics.median(wall_ratios) >= 2 else 1)


if __name__ == "__main__":
    main()
