"""Contrastive losses and gradients of 12 pairs from PyTorch, on one process and in double: networks/{infonce,sigmoid,dropout}.safetensors for
tests/mpi/test_contrastive.c. Files as make_networks.py writes them, with out.loss and the gradients of logit_scale and logit_bias.

infonce: CLIP's loss, the mean over pairs of both directions' cross-entropies, halved. sigmoid: SigLIP's, summed over all 144 combinations and
divided by the pairs. dropout: infonce with half of each picture's 16 patches left out; which ones is drawn here as train/inputs.c draws them (Philox
4x32-10; SEED, purpose 6, index = STEP * 12 + pair).
    python make_contrastive.py <folder of this script>
"""
import os
import sys

import torch
from transformers import CLIPConfig, CLIPModel

from make_networks import MEAN, STD, VOCAB, finish, inputs, randomise, vision

PAIRS, EOS = 12, 63
SEED, STEP, PURPOSE, KEPT = 5, 3, 6, 8


def philox(seed, purpose, index, sub):
    low = 0xffffffff
    c, k = [sub, purpose, index & low, index >> 32], [seed & low, seed >> 32]
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [p1 >> 32 ^ c[1] ^ k[0], p1 & low, p0 >> 32 ^ c[3] ^ k[1], p0 & low]
        k = [k[0] + 0x9E3779B9 & low, k[1] + 0xBB67AE85 & low]
    return c


def kept_patches(patches, index):
    """Algorithm S: a patch stays with the probability (still wanted) / (still to come)."""
    chosen = []
    for patch in range(patches):
        word = philox(SEED, PURPOSE, index, patch // 4)[patch % 4]
        if (patches - patch) * word >> 32 < KEPT - len(chosen):
            chosen.append(patch)
    assert len(chosen) == KEPT
    return chosen


def vision_rows(model, pixels, drop):
    """The vision tower as open_clip runs it: patches are dropped behind the positions, the class token stays."""
    tower = model.vision_model
    x = tower.embeddings(pixels)
    if drop:
        rows = torch.tensor([[0] + [1 + p for p in kept_patches(x.shape[1] - 1, STEP * PAIRS + i)] for i in range(len(x))])
        x = torch.gather(x, 1, rows[:, :, None].expand(-1, -1, x.shape[2]))
    return tower.post_layernorm(tower.encoder(inputs_embeds=tower.pre_layrnorm(x)).last_hidden_state[:, 0])


def embeddings(model, ids, pixels, drop):
    image = model.visual_projection(vision_rows(model, pixels, drop))
    text = torch.cat([model.text_projection(model.text_model(s[None]).pooler_output) for s in ids])
    return torch.nn.functional.normalize(image, dim=-1), torch.nn.functional.normalize(text, dim=-1)


def infonce(logits):
    same = torch.arange(len(logits))
    return (torch.nn.functional.cross_entropy(logits, same) + torch.nn.functional.cross_entropy(logits.T, same)) / 2


def sigmoid(logits):
    sign = 2 * torch.eye(len(logits), dtype=logits.dtype) - 1
    return -torch.nn.functional.logsigmoid(sign * logits).sum() / len(logits)


def case(folder, name, seed):
    generator = torch.Generator().manual_seed(seed)
    config = CLIPConfig(text_config=dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, vocab_size=VOCAB,
                                         max_position_embeddings=12, hidden_act="quick_gelu", layer_norm_eps=1e-5, bos_token_id=62,
                                         eos_token_id=EOS, pad_token_id=EOS),
                        vision_config=vision(2), projection_dim=12, attn_implementation="eager")
    model = randomise(CLIPModel(config), generator).double()
    with torch.no_grad():
        model.logit_scale.fill_(2.0)
    lengths = torch.randint(3, 13, (PAIRS,), generator=generator).tolist()
    ids = [torch.cat([torch.tensor([62]), torch.randint(0, 62, (n - 2,), generator=generator), torch.tensor([EOS])]) for n in lengths]
    levels = torch.randint(0, 256, (PAIRS, 16, 16, 3), generator=generator, dtype=torch.uint8)
    pixels = ((levels.double() / 255 - torch.tensor(MEAN).double()) / torch.tensor(STD).double()).permute(0, 3, 1, 2)
    image, text = embeddings(model, ids, pixels, name == "dropout")
    logits = model.logit_scale.exp() * image @ text.T
    none = [torch.full_like(s, -1) for s in ids]
    if name == "sigmoid":
        bias = torch.tensor(-3.0, dtype=torch.double, requires_grad=True)
        logits = logits + bias
        model.register_parameter("logit_bias", torch.nn.Parameter(bias.detach().clone()))
    loss = sigmoid(logits) if name == "sigmoid" else infonce(logits)
    loss.backward()
    if name == "sigmoid":
        model.logit_bias.grad = bias.grad
    for parameter, p in model.named_parameters():
        if p.grad is not None:
            p.grad = None if parameter.endswith("k_proj.bias") else p.grad.float().double()
    model.float()
    finish(folder, name, model, inputs(ids, none, none) | {"in.pixels": levels, "out.loss": loss.detach().float().reshape(1)})


if __name__ == "__main__":
    for n, loss_name in enumerate(("infonce", "sigmoid", "dropout")):
        case(os.path.join(sys.argv[1], "networks"), loss_name, 21 + n)
