#!/usr/bin/env python3
"""Pictures a second of a PyTorch DataLoader over image files: PIL decode, bicubic resize, centre crop, normalise, as bench_loader does
(without its tokenizing). Usage: loader_vs_torch.py FOLDER SIZE [WORKERS=2] [STEPS=40]"""
import pathlib
import sys
import time

import numpy as np
import torch
from PIL import Image

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


class Pictures(torch.utils.data.Dataset):
    def __init__(self, folder, size):
        self.files = sorted(p for p in pathlib.Path(folder).iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
        self.size = size

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        size = self.size
        with Image.open(self.files[index]) as file:
            image = file.convert("RGB")
        w, h = image.size
        w, h = (int(size * w / h), size) if w > h else (size, int(size * h / w))
        image = image.resize((w, h), Image.Resampling.BICUBIC)
        x, y = (w - size) // 2, (h - size) // 2
        image = image.crop((x, y, x + size, y + size))
        return (torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 - MEAN) / STD


def main():
    folder, size = sys.argv[1], int(sys.argv[2])
    workers = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    steps = int(sys.argv[4]) if len(sys.argv) > 4 else 40
    torch.set_num_threads(1)
    data = Pictures(folder, size)
    sampler = torch.utils.data.RandomSampler(data, replacement=True, num_samples=256 * (steps + 1))
    batches = iter(torch.utils.data.DataLoader(data, batch_size=256, sampler=sampler, num_workers=workers))
    next(batches)
    start, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch)
    seconds = time.perf_counter() - start
    print(f"{len(data)} files, {size} x {size} pixels, {workers} workers: {count / seconds:.0f} pictures/s, {seconds:.3f} s")


if __name__ == "__main__":
    main()
