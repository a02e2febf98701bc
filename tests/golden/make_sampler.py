"""Orders of LLaVA's length-grouped sampler for given random permutations -> tests/golden/sampler/orders.txt (read by tests/data/test_order.c).

    python make_sampler.py LLaVA/llava/train/llava_trainer.py        (a checkout of github.com/haotian-liu/LLaVA)

Its three functions are taken out of that file and run with a torch of our own, whose randperm gives permutations that are written beside the
result. Needs Python alone.
"""
import ast
import random
import sys
from pathlib import Path

WANTED = ("split_to_even_chunks", "get_modality_length_grouped_indices", "get_length_grouped_indices")


class Permutation(list):
    def __getitem__(self, key):
        value = list.__getitem__(self, key)
        return Permutation(value) if isinstance(key, slice) else value

    def tolist(self):
        return list(self)


class Torch:
    def __init__(self, rng):
        self.rng, self.drawn = rng, []

    def randperm(self, n, generator=None):
        self.drawn.append(self.rng.sample(range(n), n))
        return Permutation(self.drawn[-1])


tree = ast.parse(Path(sys.argv[1]).read_text())
functions = ast.Module([f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name in WANTED], [])
rng = random.Random(7)
lines = []
# samples, share of text-only ones, samples of a micro-batch, micro-batches of a step
for n, text, batch, chunks in [(97, 0.3, 4, 4), (64, 0.25, 2, 4), (60, 0.0, 4, 3), (41, 1.0, 3, 4), (50, 0.5, 5, 1), (30, 0.4, 16, 2), (33, 0.1, 1, 8),
                               (7, 0.3, 4, 4), (48, -1, 4, 2), (2, -1, 1, 1)]:
    few = rng.random() < 0.5  # many equal lengths: the sorts must be stable
    lengths = [rng.randint(1, 4 if few else 200) for _ in range(n)]
    signs = [i % 3 == 1 for i in range(n)] if text < 0 else [rng.random() < text for _ in range(n)]  # < 0: tails that are whole megabatches
    lengths = [-l if s else l for l, s in zip(lengths, signs)]
    torch = Torch(rng)
    space = {"torch": torch}
    exec(compile(functions, sys.argv[1], "exec"), space)
    # Nothing but text: LLaVA's negative lengths sort shortest first and fill one chunk after the other. Bifocal balances them as pictures are.
    given = [-l for l in lengths] if max(lengths) < 0 else lengths
    order = space["get_modality_length_grouped_indices"](given, batch, chunks)
    assert sorted(order) == list(range(n))
    lines.append(f"{n} {batch} {chunks} {len(torch.drawn)}")
    lines += [" ".join(map(str, row)) for row in [lengths, order]]
    lines += [" ".join(map(str, [len(row)] + row)) for row in torch.drawn]
out = Path(__file__).parent / "sampler" / "orders.txt"
out.parent.mkdir(exist_ok=True)
out.write_text("\n".join(lines) + "\n")
print(f"{out}: {len(lines)} lines")
