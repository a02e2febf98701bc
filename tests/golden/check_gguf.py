"""`bifocal export --format gguf` against llama.cpp:

  python check_gguf.py PATH/bifocal LIBRARIES [CASE]...
  python check_gguf.py PATH/bifocal LIBRARIES --tokens FOLDER [LINES]

LIBRARIES: the folder with libllama.so and libmtmd.so of a build of llama.cpp (its bin/), of the release that the Python package llama_cpp
was made for; the package must be importable, its own libraries are not used. Needs numpy and what small_llava.py needs.

Small random LLaVAs of every decoder family, and each decoder alone, are saved by transformers and exported as F32: llama.cpp's logits at
every position of a text, and of a picture and a text, must be those of `bifocal probe` (relative L2). The pictures have the tower's side,
so that nothing is resized. A picture's rows are compared with transformers' (which checks the feature layer: the layers before and behind
are printed too, and must be far). A llama.cpp with issue 25814 is found by its rows, and its logits with pictures are only printed. Then
F16 and BF16 files of one model, and a linear projector. Where LIBRARIES also holds llama-mtmd-cli, its greedy answer about a picture, by
the chat template in the file, must be that of `bifocal generate`.

--tokens: FOLDER holds tokenizers in folders of their own, as `make_tokens.py make` writes them, and corpus.txt. A small model is made for
each, and for the lines that are UTF-8 llama.cpp must give the ids that `bifocal tokenize` gives.
"""
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

import small_llava
from small_llava import CASES, SIGLIP, make_model, randomise, tokenizer

TEXT_LIMIT, PICTURE_LIMIT = 2e-5, 5e-3  # llama.cpp looks GELU up in a table of F16 and takes its tanh form in the projector
ENV = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
llama = mtmd = None


def load_libraries(folder):
    global llama, mtmd
    os.environ["LLAMA_CPP_LIB_PATH"] = os.environ["MTMD_CPP_LIB"] = folder
    from llama_cpp import llama_cpp, mtmd_cpp
    llama, mtmd = llama_cpp, mtmd_cpp
    llama.llama_backend_init()
    load_libraries.quiet = llama.llama_log_callback(lambda level, text, _: level == 4 and sys.stderr.write(text.decode(errors="replace")))
    llama.llama_log_set(load_libraries.quiet, None)
    mtmd.mtmd_log_set(load_libraries.quiet, None)
    mtmd.mtmd_helper_log_set(load_libraries.quiet, None)


def bifocal(program, *arguments, stdin=None):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, env=ENV, input=stdin)
    if done.returncode != 0:
        raise SystemExit(f"bifocal {' '.join(map(str, arguments))}\nexit {done.returncode}\n{done.stdout.decode()}{done.stderr.decode()}")
    return done.stdout


def far(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-12))


class Model:
    class_last = False  # this llama.cpp has issue 25814

    def __init__(self, folder, name, kind, vocab_only=False):
        params = llama.llama_model_default_params()
        params.vocab_only = vocab_only
        self.model = llama.llama_model_load_from_file(str(folder / f"{name}-{kind}.gguf").encode(), params)
        assert self.model, "llama.cpp does not load the model"
        self.vocab = llama.llama_model_get_vocab(self.model)
        self.context = self.vision = None
        if vocab_only:
            return
        settings = llama.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = 512
        settings.type_k = settings.type_v = 0  # F32
        settings.flash_attn_type = 0
        settings.n_threads = settings.n_threads_batch = 2
        self.context = llama.llama_init_from_model(self.model, settings)
        self.width = llama.llama_model_n_embd(self.model)
        self.words = llama.llama_vocab_n_tokens(self.vocab)
        if (folder / f"mmproj-{name}-{kind}.gguf").exists():
            settings = mtmd.mtmd_context_params_default()
            settings.use_gpu, settings.print_timings, settings.n_threads, settings.warmup = False, False, 2, False
            settings.flash_attn_type = 0
            self.vision = mtmd.mtmd_init_from_file(str(folder / f"mmproj-{name}-{kind}.gguf").encode(), self.model, settings)
            assert self.vision, "llama.cpp does not load the mmproj"

    def close(self):
        for free, what in (("mtmd_free", self.vision), ("llama_free", self.context), ("llama_model_free", self.model)):
            if what:
                getattr(mtmd if free == "mtmd_free" else llama, free)(what)

    def tokenize(self, text, special=True, bos=False):
        out = (llama.llama_token * (2 * len(text) + 16))()
        count = llama.llama_tokenize(self.vocab, text, len(text), out, len(out), bos, special)
        return list(out[:count])

    def embed(self, pixels):
        """pixels u8 [side, side, 3] -> [patches, width]"""
        side = pixels.shape[0]
        raw = (ctypes.c_uint8 * pixels.size).from_buffer_copy(np.ascontiguousarray(pixels).tobytes())
        bitmap, chunks = mtmd.mtmd_bitmap_init(side, side, raw), mtmd.mtmd_input_chunks_init()
        marker = mtmd.mtmd_default_marker()
        text = mtmd.mtmd_input_text(text=marker, text_len=len(marker), add_special=False, parse_special=True)
        assert mtmd.mtmd_tokenize(self.vision, chunks, ctypes.byref(text), (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap), 1) == 0
        pictures = [mtmd.mtmd_input_chunks_get(chunks, i) for i in range(mtmd.mtmd_input_chunks_size(chunks))]
        pictures = [c for c in pictures if mtmd.mtmd_input_chunk_get_type(c) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE]
        assert len(pictures) == 1
        assert mtmd.mtmd_encode_chunk(self.vision, pictures[0]) == 0
        rows = mtmd.mtmd_input_chunk_get_n_tokens(pictures[0])
        values = np.ctypeslib.as_array(ctypes.cast(mtmd.mtmd_get_output_embd(self.vision), ctypes.POINTER(ctypes.c_float)),
                                       shape=(rows, self.width)).copy()
        mtmd.mtmd_input_chunks_free(chunks)
        mtmd.mtmd_bitmap_free(bitmap)
        return values

    def decode(self, at, tokens=None, embeddings=None):
        """Logits [rows, vocabulary] of what follows position `at`."""
        rows = len(tokens) if embeddings is None else len(embeddings)
        batch = llama.llama_batch_init(rows, 0 if embeddings is None else self.width, 1)
        batch.n_tokens = rows
        for i in range(rows):
            if embeddings is None:
                batch.token[i] = tokens[i]
            batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = at + i, 1, 0, 1
        if embeddings is not None:
            ctypes.memmove(batch.embd, np.ascontiguousarray(embeddings, np.float32).ctypes.data, embeddings.size * 4)
        assert llama.llama_decode(self.context, batch) == 0
        logits = [np.ctypeslib.as_array(llama.llama_get_logits_ith(self.context, i), shape=(self.words,)).copy() for i in range(rows)]
        llama.llama_batch_free(batch)
        return np.stack(logits)

    def sequence(self, ids, image, pictures):
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)
        out, at, pictures = [], 0, list(pictures)
        while at < len(ids):
            if ids[at] == image:
                rows = self.embed(pictures.pop(0))
                out.append(self.decode(at, embeddings=rows))
            else:
                end = at
                while end < len(ids) and ids[end] != image:
                    end += 1
                out.append(self.decode(at, tokens=[int(i) for i in ids[at:end]]))
            at += len(out[-1])
        assert not pictures
        return np.concatenate(out)


def levels(pixel_values, siglip):
    """The bytes that probe's pixel_values came from."""
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    if siglip:
        mean = std = 0.5
    return np.rint((pixel_values.transpose(1, 2, 0) * std + mean) * 255.0).astype(np.uint8)


def square_samples(folder, side, count=6):
    small_llava.make_samples(folder, count, seed=3)
    noise = np.random.default_rng(5)
    for path in (folder / "images").iterdir():
        coarse = noise.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((side, side), Image.BICUBIC).save(path.with_suffix(".png"))
        if path.suffix != ".png":
            path.unlink()
    text = (folder / "samples.jsonl").read_text().replace(".jpg", ".png")
    (folder / "samples.jsonl").write_text(text)


def compare(program, folder, data, out, kind, image, picture_limit, text_limit, check_first=None):
    """Logits of llama.cpp and of the probe: distance at text sequences, at those with pictures, share of equal best tokens."""
    gguf = out.parent / f"{out.name}-{kind}"
    bifocal(program, "export", "--format", "gguf", "--type", kind.lower(), folder, gguf)
    bifocal(program, "probe", folder, data / "samples.jsonl", "--image-root", data / "images", "--out", data / "probe.safetensors",
            "--template", "vicuna_v1", "--image-fit", "squash")
    probe = {k: v.numpy() for k, v in load_file(data / "probe.safetensors").items()}
    model, bounds, used = Model(gguf, gguf.name, kind), probe["cu_seqlens"].tolist(), 0
    if check_first is not None:
        check_first(model, probe)
    text, picture, equal, total = 0.0, 0.0, 0, 0
    tower = json.loads((folder / "config.json").read_text())["vision_config"]
    rows, siglip = (probe["pixel_values"].shape[-1] // tower["patch_size"]) ** 2, "siglip" in tower["model_type"]
    for first, last in zip(bounds, bounds[1:]):
        ids = probe["input_ids"][first:last]
        count = int((ids == image).sum()) // rows
        logits = model.sequence(ids, image, [levels(p, siglip) for p in probe["pixel_values"][used:used + count]])
        used += count
        distance = far(logits, probe["logits"][first:last])
        text, picture = (text, max(picture, distance)) if count else (max(text, distance), picture)
        equal += int((logits.argmax(1) == probe["logits"][first:last].argmax(1)).sum())
        total += last - first
    print(f"  {gguf.name}: logits of text {text:.1e}, with pictures {picture:.1e}; {equal} of {total} best tokens are the same")
    if not (text <= text_limit and (picture <= picture_limit or Model.class_last)):
        raise SystemExit("too far")
    return model, probe


def tower_output(hf, pixels, layer, class_last=False):
    """A picture's rows when the projector takes hidden state `layer`. class_last: computed as by a llama.cpp with issue 25814."""
    pixels, tower = torch.from_numpy(pixels), hf.model.vision_tower
    if not hasattr(tower.embeddings, "class_embedding"):
        hidden = tower(pixels, output_hidden_states=True).hidden_states[layer]
        return hf.model.multi_modal_projector(hidden)[0].detach().numpy()
    if not class_last:
        hidden = tower(pixels, output_hidden_states=True).hidden_states[layer]
    else:
        rows = tower.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        rows = torch.cat([rows, tower.embeddings.class_embedding.expand(1, 1, -1)], dim=1)
        rows = rows + tower.embeddings.position_embedding.weight[None]
        hidden = tower.pre_layrnorm(rows)
        for block in tower.encoder.layers[:layer]:
            hidden = block(hidden, attention_mask=None)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    return hf.model.multi_modal_projector(hidden[:, 1:])[0].detach().numpy()


def check_picture(hf, model, probe, layer, blocks):
    pixels = probe["pixel_values"][:1]
    siglip = not hasattr(hf.model.vision_tower.embeddings, "class_embedding")
    ours = model.embed(levels(pixels[0], siglip))
    layer = layer if layer >= 0 else blocks + 1 + layer
    late = 1.0 if siglip else far(ours, tower_output(hf, pixels, layer, class_last=True))
    distances = {k: far(ours, tower_output(hf, pixels, k, late < 0.1)) for k in range(max(layer - 1, 0), min(layer + 1, blocks) + 1)}
    print(f"  a picture's rows against transformers{' with the class token last' if late < 0.1 else ''}: "
          + ", ".join(f"hidden state {k}: {d:.1e}" for k, d in distances.items()))
    if distances[layer] > PICTURE_LIMIT or min(d for k, d in distances.items() if k != layer) < 0.1:
        raise SystemExit("not the feature layer's rows")
    Model.class_last = late < 0.1


def decoder_alone(folder, out):
    """The language model of a LLaVA's folder as a folder of its own."""
    config = json.loads((folder / "config.json").read_text())
    text = config["text_config"] | {"bos_token_id": 317, "eos_token_id": 318,
                                    "tie_word_embeddings": config.get("tie_word_embeddings", False)}
    out.mkdir()
    names = {"qwen2": "Qwen2", "qwen3": "Qwen3", "mistral": "Mistral", "llama": "Llama"}
    (out / "config.json").write_text(json.dumps(text | {"architectures": [names[text["model_type"]] + "ForCausalLM"]}))
    tensors = {}
    for name, value in load_file(folder / "model.safetensors").items():
        for prefix in "language_model.model.", "model.language_model.":
            if name.startswith(prefix):
                tensors["model." + name[len(prefix):]] = value
        if name.endswith("lm_head.weight"):
            tensors["lm_head.weight"] = value
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    for name in "tokenizer.json", "tokenizer_config.json":
        shutil.copy(folder / name, out / name)


def check_case(program, case, scratch):
    print(case)
    kind, numbers, vision, feature, _, tied = CASES[case]
    CASES[case] = (kind, numbers, vision, feature, "full" if case in SIGLIP else "default", tied)  # llama.cpp takes the patches alone
    folder, data, words = scratch / case, scratch / f"{case}.data", tokenizer(320)
    hf = make_model(case, words, seed=len(case))
    hf.save_pretrained(folder)
    words.save_pretrained(folder)
    square_samples(data, vision[1])
    image = words.convert_tokens_to_ids("<image>")
    model, probe = compare(program, folder, data, scratch / f"{case}.gguf", "F32", image, PICTURE_LIMIT, TEXT_LIMIT,
                           lambda model, probe: check_picture(hf, model, probe, feature, vision[0]))
    model.close()
    if not Model.class_last and (Path(os.environ["LLAMA_CPP_LIB_PATH"]) / "llama-mtmd-cli").exists():
        check_answer(program, folder, scratch, sorted((data / "images").iterdir())[0])
    if case == "llama":
        for kind, limit in ("F16", 2e-2), ("BF16", 5e-2):
            compare(program, folder, data, scratch / f"{case}.gguf", kind, image, limit, limit)[0].close()
        check_linear(program, folder, scratch, data, image)
    alone = scratch / f"{case}.alone"
    decoder_alone(folder, alone)
    bifocal(program, "export", "--format", "gguf", "--type", "f32", alone, scratch / "alone" / case)
    model = Model(scratch / "alone" / case, case, "F32")
    ids = [int(i) for i in probe["input_ids"][:40] if i != image]
    with torch.no_grad():
        want = hf.model.language_model(input_ids=torch.tensor([ids])).last_hidden_state @ hf.lm_head.weight.T
    llama.llama_memory_clear(llama.llama_get_memory(model.context), True)
    distance = far(model.decode(0, tokens=ids), want[0].detach().numpy())
    print(f"  the decoder alone against transformers: {distance:.1e}")
    if distance > TEXT_LIMIT:
        raise SystemExit("too far")
    model.close()


def check_answer(program, folder, scratch, picture):
    """24 tokens that a random model says; special ones are shown by llama.cpp alone, and broken UTF-8 by both in their own way. The
    beginning must be the same: a picture's rows differ by 4e-4, so that of two tokens nearly as likely the other may come."""
    talker, out = scratch / "talker", scratch / "talker-gguf"
    shutil.copytree(folder, talker)
    config = json.loads((talker / "config.json").read_text()) | {"bifocal_template": "vicuna_v1", "bifocal_image_fit": "pad"}
    (talker / "config.json").write_text(json.dumps(config))
    bifocal(program, "export", "--format", "gguf", "--type", "f32", talker, out)
    done = subprocess.run([Path(os.environ["LLAMA_CPP_LIB_PATH"]) / "llama-mtmd-cli", "-m", out / "talker-gguf-F32.gguf", "--mmproj",
                           out / "mmproj-talker-gguf-F32.gguf", "--image", picture, "-p", "<__media__>\nwhat is the colour?", "--temp", "0",
                           "-n", "24", "-t", "2", "--jinja", "--no-warmup", "-fa", "off", "-ctk", "f32", "-ctv", "f32"],
                          capture_output=True)
    ours = bifocal(program, "generate", talker, "--image", picture, "--prompt", "what is the colour?", "--max-new-tokens", "24")
    plain = []
    for text in ours.decode(errors="replace"), done.stdout.decode(errors="replace"):
        for hidden in "<image>", "<s>", "</s>", "\ufffd":
            text = text.replace(hidden, "")
        plain.append(" ".join(text.split()))
    same = len(os.path.commonprefix(plain))
    print(f"  an answer: {plain[0]!r}, {'the same' if plain[0] == plain[1] else f'the same for {same} characters'}")
    if done.returncode != 0 or same < min(6, len(plain[0])):
        raise SystemExit(f"llama-mtmd-cli says {plain[1]!r}\n{done.stderr.decode(errors='replace')[-2000:]}")
    shutil.rmtree(talker)
    shutil.rmtree(out)


def check_linear(program, folder, scratch, data, image):
    linear = scratch / "linear"
    shutil.copytree(folder, linear)
    config = json.loads((linear / "config.json").read_text())
    config["bifocal_projector"] = "linear"
    (linear / "config.json").write_text(json.dumps(config))
    tensors = {k: v for k, v in load_file(linear / "model.safetensors").items() if "linear_2" not in k}
    save_file(tensors, linear / "model.safetensors", metadata={"format": "pt"})
    compare(program, linear, data, scratch / "linear.gguf", "F32", image, PICTURE_LIMIT, TEXT_LIMIT)[0].close()


def check_tokens(program, folder, most):
    lines = []
    for line in (folder / "corpus.txt").read_bytes().split(b"\n"):
        try:
            line.decode("utf-8")
            lines += [line] if line and b"\0" not in line else []
        except UnicodeDecodeError:
            pass
    lines = lines[:most]
    with tempfile.TemporaryDirectory() as scratch:
        for place in sorted(p for p in folder.iterdir() if p.is_dir()):
            check_tokenizer(program, place, Path(scratch), lines)


def check_tokenizer(program, place, scratch, lines):
    files = [f for f in place.iterdir() if f.name != "ids.jsonl" and f.name != "ids.json"]
    text = subprocess.run([program, "tokenize", "--tokenizer", place], input=b"\n".join(lines) + b"\n", capture_output=True, env=ENV)
    if text.returncode != 0:
        print(f"{place.name}: bifocal does not read it")
        return
    want = [json.loads(line) for line in text.stdout.splitlines()]
    top = 320 + max(max(ids, default=0) for ids in want)
    source, out = scratch / place.name, scratch / f"{place.name}-gguf"
    config = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=top, bos_token_id=1,
                         eos_token_id=2)
    randomise(LlamaForCausalLM(config), torch.Generator().manual_seed(1)).save_pretrained(source)
    for file in files:
        shutil.copy(file, source / file.name)
    done = subprocess.run([program, "export", "--format", "gguf", source, out], capture_output=True, text=True, env=ENV)
    if done.returncode != 0:
        print(f"{place.name}: {done.stderr.strip()[:300]}")
        return
    model = Model(out, out.name, "F16", vocab_only=True)
    spec = json.loads((place / "tokenizer.json").read_text()) if (place / "tokenizer.json").exists() else {}
    odd = [t["content"] for t in spec.get("added_tokens", []) if t["lstrip"] or t["rstrip"] or t["single_word"]]
    nfc = (spec.get("normalizer") or {}).get("type") == "NFC"
    side = json.loads((place / "tokenizer_config.json").read_text()) if (place / "tokenizer_config.json").exists() else {}
    odd += ["<"] if side.get("legacy") is False else []  # llama.cpp puts a space behind special tokens, as legacy ones do
    fair = [i for i, line in enumerate(lines) if not any(t in line.decode() for t in odd)
            and not (nfc and unicodedata.normalize("NFC", line.decode()) != line.decode())]
    wrong = [i for i in fair if model.tokenize(lines[i]) != want[i]]
    print(f"{place.name}: {len(fair) - len(wrong)} of {len(fair)} lines have the same ids; {len(lines) - len(fair)} left out (not in NFC "
          "form, or with tokens that llama.cpp knows to cut in its own way only)")
    for i in wrong[:2]:
        print(f"    {lines[i]!r}\n    bifocal   {want[i]}\n    llama.cpp {model.tokenize(lines[i])}")
    model.close()
    if wrong:
        raise SystemExit("other ids")


def main():
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    program = str(Path(sys.argv[1]).resolve())
    load_libraries(sys.argv[2])
    if sys.argv[3:4] == ["--tokens"]:
        check_tokens(program, Path(sys.argv[4]), int((sys.argv[5:] or ["2000"])[0]))
        return
    with tempfile.TemporaryDirectory() as scratch:
        for case in sys.argv[3:] or CASES:
            check_case(program, case, Path(scratch))
    print("ok")


if __name__ == "__main__":
    main()
