"""What transformers' cosine schedule and torch's AdamW give with LLaVA-1.5's numbers -> schedule/cosine.txt, schedule/adamw.txt (hexadecimal, exact), read by
tests/train/test_schedule.c.

cosine.txt: steps, warm-up, step, share of the peak. 2,181 steps are 558,128 samples / 256 in one epoch, 5,198 are 665,298 / 128; the warm-up is Hugging Face's
ceil(0.03 steps). adamw.txt: 24 values in f32 before, then for each of 10 steps the gradients and the values after.
"""
import math
import random
from pathlib import Path

import torch
from transformers import get_cosine_schedule_with_warmup

OUT = Path(__file__).parent / "schedule"


def optimizer(lr, values):
    return torch.optim.AdamW([{"params": [values], "weight_decay": 0.0}], lr=lr, betas=(0.9, 0.999), eps=1e-8)


def main():
    OUT.mkdir(exist_ok=True)
    lines = []
    for samples, batch in ((558128, 256), (665298, 128)):
        steps = math.ceil(samples / batch)
        warmup = math.ceil(0.03 * steps)
        share = get_cosine_schedule_with_warmup(optimizer(1.0, torch.zeros(1, requires_grad=True)), warmup, steps).lr_lambdas[0]
        at = {0, 1, 2, warmup - 1, warmup, warmup + 1, steps // 2, steps - 2, steps - 1} | set(random.Random(1).sample(range(steps), 200))
        lines += [f"{steps} {warmup} {step} {float(share(step)).hex()}\n" for step in sorted(at)]
    (OUT / "cosine.txt").write_text("".join(lines))

    generator = torch.Generator().manual_seed(1)
    values = (torch.randn(24, generator=generator) * 0.1).requires_grad_()
    adamw = optimizer(2e-5, values)
    schedule = get_cosine_schedule_with_warmup(adamw, 3, 10)
    row = lambda x: " ".join(float(v).hex() for v in x) + "\n"
    lines = [row(values.detach())]
    for step in range(10):  # from large gradients to those that eps meets
        values.grad = torch.randn(24, generator=generator) * torch.logspace(1, -9, 24)
        lines.append(row(values.grad))
        adamw.step()
        schedule.step()
        lines.append(row(values.detach()))
    (OUT / "adamw.txt").write_text("".join(lines))
    print([(p.name, p.stat().st_size) for p in OUT.iterdir()])


main()
