"""Numbers of LoRA from PEFT (fp32, eager) on tiny random decoders: networks/lora_<case>.safetensors, laid out as make_networks.py does;
the base trains too, so that its gradients beside adapters are there. The case `dropout` replaces PEFT's dropout by masks of the Philox
numbers that train/lora.c and kernels/ops.h describe, written here a second time.

Needs torch, transformers, peft, safetensors:  python make_lora.py <folder of this script>
"""
import os
import sys

import torch
from make_networks import VOCAB, inputs, packed
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SEED, DROPOUT, STEP = 42, 7, 0x9E3779B97F4A7C15
PLACES = [3, 2 ** 32 + 5, 2 ** 31 + 1]  # of the sequences in the order of samples


def philox(key, counter):
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k[1], p0 & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


class Mask(torch.nn.Module):
    place = 0

    def __init__(self, p, layer, target):
        super().__init__()
        seed = SEED ^ ((layer * 7 + target + 1) * STEP & (2 ** 64 - 1))
        self.p, self.key = p, (seed & 0xFFFFFFFF, seed >> 32)

    def forward(self, x):
        rows, columns = x.shape[-2:]
        words = [[philox(self.key, (c // 4, DROPOUT, t, Mask.place & 0xFFFFFFFF))[c % 4] for c in range(columns)] for t in range(rows)]
        keep = torch.tensor(words) >= int(self.p * 2 ** 32)
        return x * keep / (1 - self.p)


def table_name(name):
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".default.", ".")


def case(folder, name, base, targets, rank, alpha, dropout, seed):
    generator = torch.Generator().manual_seed(seed)
    model = get_peft_model(base, LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets, bias="none"))
    with torch.no_grad():
        for key, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator) * (0.25 if p.dim() > 1 else 0.1)
            p.copy_((noise + (1.0 if "norm" in key else 0.0)).half().float())
            p.requires_grad_(True)
    if dropout > 0:
        for key, module in model.named_modules():
            if hasattr(module, "lora_dropout"):
                layer, target = int(key.split("layers.")[1].split(".")[0]), TARGETS.index(key.split(".")[-1])
                module.lora_dropout["default"] = Mask(dropout, layer, target)
    ids, labels, image_row = packed([7, 4, 12], generator)
    total, count, logits = 0.0, 0, []
    for seq, label, place in zip(ids, labels, PLACES):
        Mask.place = place
        out = model(input_ids=seq[None], use_cache=False).logits[0]
        total = total + torch.nn.functional.cross_entropy(out[:-1], label[1:], ignore_index=-100, reduction="sum")
        count += int((label[1:] != -100).sum())
        logits.append(out.detach())
    loss = total / count
    loss.backward()
    tensors = {"out.loss": loss.detach().reshape(1), "out.logits": torch.cat(logits)} | inputs(ids, labels, image_row)
    for key, p in model.named_parameters():
        tensors["w." + table_name(key)] = p.detach().half()
        if p.grad is not None and p.grad.abs().max() > 0:
            tensors["g." + table_name(key)] = p.grad.detach()
    path = os.path.join(folder, f"lora_{name}.safetensors")
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, path)
    print(f"lora_{name}: {os.path.getsize(path)} bytes, loss {loss.item():.6f}")


def main():
    folder = os.path.join(sys.argv[1], "networks")
    small = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, vocab_size=VOCAB, max_position_embeddings=128,
                 attn_implementation="eager", num_attention_heads=4, num_key_value_heads=2)

    def llama():
        return LlamaForCausalLM(LlamaConfig(**small, rms_norm_eps=1e-5, tie_word_embeddings=False))

    case(folder, "llama", llama(), TARGETS, 4, 8, 0.0, 11)
    case(folder, "dropout", llama(), TARGETS, 4, 8, 0.25, 12)
    case(folder, "qwen3", Qwen3ForCausalLM(Qwen3Config(**small, head_dim=8, rms_norm_eps=1e-6, tie_word_embeddings=True)),
         ["q_proj", "v_proj", "up_proj"], 3, 5, 0.0, 13)


if __name__ == "__main__":
    main()
