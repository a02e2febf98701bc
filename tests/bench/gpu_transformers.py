"""transformers' LlavaForConditionalGeneration at LLaVA-1.5-7B's shapes on this GPU, random weights, for the table beside bench_gpu_step.

  python gpu_transformers.py BIFOCAL PROBE      PROBE: tests/golden/probe

First the losses must agree: the small model of PROBE in bf16 on both sides, within 1 %. Then stage 1 (projector trains, 600 tokens a sample) and
stage 2 (projector and decoder train, 770 tokens), bf16 weights, gradients and AdamW states (8 bytes a parameter, against our 16 with an f32 master),
SDPA, fused AdamW: eager and torch.compile, with and without checkpointing, each at the largest batch of a short list that fits. A way that does not
fit is said so. Rows without padding, so that its fastest attention kernels apply.
"""
import gc
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

WARMUP, TIMED = 2, 4


def agree(program, probe):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.safetensors"
        subprocess.run([program, "probe", probe, f"{probe}/samples.jsonl", "--image-root", f"{probe}/images", "--template", "vicuna_v1", "--system", "",
                        "--image-fit", "pad", "--device", "cuda", "--precision", "bf16", "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
        ours = load_file(out)
    model = LlavaForConditionalGeneration.from_pretrained(probe, dtype=torch.bfloat16, attn_implementation="sdpa").cuda()
    bounds, total, count, image = ours["cu_seqlens"].tolist(), 0.0, 0, 0
    for a, b in zip(bounds, bounds[1:]):
        ids, labels = ours["input_ids"][a:b].long()[None].cuda(), ours["labels"][a:b].long()[None].cuda()
        pictures = int((ids == model.config.image_token_id).sum()) // model.config.image_seq_length
        pixels = ours["pixel_values"][image:image + pictures].bfloat16().cuda() if pictures else None
        image += pictures
        with torch.no_grad():
            logits = model(input_ids=ids, pixel_values=pixels).logits[0, :-1].float()
        keep = labels[0, 1:] != -100
        total += torch.nn.functional.cross_entropy(logits[keep], labels[0, 1:][keep], reduction="sum").item()
        count += int(keep.sum())
    theirs, mine = total / count, ours["loss"].item()
    print(f"loss of the small model in bf16: transformers {theirs:.4f}, bifocal {mine:.4f}")
    assert abs(theirs - mine) <= 0.01 * theirs, "the losses do not agree; nothing is timed"


def build():
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336, patch_size=14),
        text_config=LlamaConfig(vocab_size=32064), image_token_id=32000, image_seq_length=576, vision_feature_layer=-2, vision_feature_select_strategy="default")
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = LlavaForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    return model


def batch_of(samples, text, supervised):
    ids = torch.randint(4, 31000, (samples, 576 + text), device="cuda")
    ids[:, 4:580] = 32000
    labels = ids.clone()
    labels[:, :-supervised] = -100
    return {"input_ids": ids, "labels": labels, "pixel_values": torch.randn(samples, 3, 336, 336, device="cuda", dtype=torch.bfloat16), "use_cache": False}


def measure(stage, compiled, checkpointing, samples):
    model = build()
    model.train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("multi_modal_projector" in name or (stage == 2 and "vision_tower" not in name))
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)
    run = torch.compile(model) if compiled else model
    batch = batch_of(samples, *((24, 20) if stage == 1 else (194, 150)))
    times = []
    for i in range(WARMUP + TIMED):
        torch.cuda.synchronize()
        start = time.perf_counter()
        loss = run(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return samples / min(times[WARMUP:]), loss.item()


def main():
    agree(sys.argv[1], sys.argv[2])
    import transformers
    print(f"\ntorch {torch.__version__}, transformers {transformers.__version__}; one optimiser step a batch\n")
    print("| stage | way | samples a batch | samples/s | loss |\n|---|---|---|---|---|", flush=True)
    for stage, sizes in ((1, (32, 16, 8)), (2, (16, 8, 4))):
        for compiled in (False, True):
            for checkpointing in (False, True):
                way = ("compile" if compiled else "eager") + (", checkpointing" if checkpointing else "")
                for samples in sizes:
                    try:
                        rate, loss = measure(stage, compiled, checkpointing, samples)
                        print(f"| {stage} | {way} | {samples} | {rate:.2f} | {loss:.3f} |", flush=True)
                        break
                    except torch.cuda.OutOfMemoryError:
                        print(f"| {stage} | {way} | {samples} | out of memory | |", flush=True)
                    finally:
                        torch._dynamo.reset()
                        gc.collect()
                        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
