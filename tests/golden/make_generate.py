"""What transformers' generate says for the LLaVA of probe/ and the decoder of probe_lm/ (fp32): greedy, by beams, and the log-probabilities of given
answers; and what its warpers of temperature, top_k and top_p leave of some logits: generate/expected.json. tests/mpi/test_generate.c and
tests/eval/test_choose.c compare.

Random models hardly ever stop by themselves, so a case names its stop token: one that the greedy answer holds, or </s>.
"""
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlavaForConditionalGeneration, PreTrainedTokenizerFast
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from make_probe import pixels

HERE = Path(__file__).parent
PROMPTS = [("what is this?", ["a.png"]), ("is it a circle?", ["a.png"]), ("are there two?", ["b.png", "a.png"]), ("what colour is the small square there?", ["b.png"]),
           ("what is blue?", []), ("is it a circle?", ["b.png"]), ("no", ["a.png"])]
OPTIONS = ["yes", "no", "a small circle", "red and green things", "it's 42"]


def prompt_ids(words, text, images, per_image):
    image = words.convert_tokens_to_ids("<image>")
    ids = [words.bos_token_id]
    for k, piece in enumerate(("USER: " + "<image>\n" * len(images) + text + " ASSISTANT:").split("<image>")):
        ids += ([image] * per_image if k > 0 else []) + words.encode(piece, add_special_tokens=False)
    return ids


def main():
    out = {"cases": [], "ranks": [], "warped": []}
    for folder in ["probe", "probe_lm"]:
        words = PreTrainedTokenizerFast(tokenizer_file=str(HERE / folder / "tokenizer.json"), bos_token="<s>", eos_token="</s>")
        kind = LlavaForConditionalGeneration if folder == "probe" else AutoModelForCausalLM
        model = kind.from_pretrained(HERE / folder, dtype=torch.float32, attn_implementation="eager").eval()
        per_image = model.config.image_seq_length if folder == "probe" else 0
        prompts = PROMPTS if folder == "probe" else [p for p in PROMPTS if not p[1]] + [("are there two?", [])]
        for text, images in prompts:
            ids = torch.tensor([prompt_ids(words, text, images, per_image)])
            more = {"pixel_values": torch.stack([pixels(HERE / "probe/images" / name) for name in images])} if images else {}

            def answer(new, stop, **kwargs):
                with torch.no_grad():
                    y = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new, eos_token_id=stop, pad_token_id=0,
                                       bos_token_id=words.bos_token_id, **more, **kwargs)[0, ids.shape[1]:].tolist()
                return y[: y.index(stop)] if stop in y else y

            greedy = answer(12, words.eos_token_id)
            for beams, penalty, new in [(1, 1.0, 12), (2, 1.0, 10), (3, 1.0, 8), (4, 0.0, 8), (4, 2.0, 8), (5, -1.0, 6)]:
                for stop in sorted({words.eos_token_id, greedy[2], greedy[5]}):
                    out["cases"].append(dict(folder=folder, prompt=text, images=images, beams=beams, length_penalty=penalty, max_new=new, stop=stop,
                                             ids=answer(new, stop, num_beams=beams, length_penalty=penalty) if beams > 1 else answer(new, stop)))
            scores = []
            for option in OPTIONS:
                tail = words.encode(" " + option, add_special_tokens=False) + [words.eos_token_id]
                with torch.no_grad():
                    logits = model(torch.cat([ids, torch.tensor([tail])], 1), **more).logits[0].double()
                logp = torch.log_softmax(logits[ids.shape[1] - 1: -1], -1)
                scores.append(sum(logp[t, tail[t]].item() for t in range(len(tail))))
            out["ranks"].append(dict(folder=folder, prompt=text, images=images, options=OPTIONS, scores=scores))
    generator = torch.Generator().manual_seed(3)
    for heat, k, p in [(1.0, 0, 1.0), (0.7, 0, 1.0), (1.0, 5, 1.0), (1.0, 0, 0.9), (1.3, 0, 0.5), (0.2, 10, 0.8), (2.0, 40, 0.95), (1.0, 1, 0.5), (1.0, 0, 0.01)]:
        logits = (torch.randn(1, 48, generator=generator) * 2).round(decimals=4)
        x = logits.clone()
        x = TemperatureLogitsWarper(heat)(None, x)
        x = TopKLogitsWarper(k)(None, x) if k else x
        x = TopPLogitsWarper(p)(None, x) if p < 1 else x
        out["warped"].append(dict(temperature=heat, top_k=k, top_p=p, logits=[round(v, 4) for v in logits[0].tolist()],
                                  probabilities=[round(v, 7) for v in torch.softmax(x.double(), -1)[0].tolist()]))
    (HERE / "generate").mkdir(exist_ok=True)
    (HERE / "generate/expected.json").write_text("{" + ",\n".join(
        f'"{key}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]" for key, rows in out.items()) + "}\n")
    lengths = sorted(len(c["ids"]) for c in out["cases"])
    print(len(out["cases"]), "answers of", lengths[0], "to", lengths[-1], "tokens,", len({tuple(c["ids"]) for c in out["cases"]}), "of them differ")


if __name__ == "__main__":
    main()
