"""DataComp's lists of uids as numpy writes them (np.save of dtype "u8,u8", sorted), for tests/cli/selection.sh: the uid of sample n is md5 of "n".
golden/uids/listed.npy wants every third of 60 samples, every sixth twice, and five that no shard has; listed.raw is the same unsorted and
without a header (tofile); kept.npy is what those samples are listed as again; all.npy lists every sample once."""
import hashlib
import pathlib
import random

import numpy as np

OUT = pathlib.Path(__file__).parent / "uids"


def uid(name):
    digits = hashlib.md5(str(name).encode()).hexdigest()
    return int(digits[:16], 16), int(digits[16:], 16)


def array(pairs):
    return np.array(pairs, np.dtype("u8,u8"))


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    kept = [uid(n) for n in range(60) if n % 3 == 0 for _ in range(2 if n % 6 == 0 else 1)]
    listed = kept + [uid(f"absent-{n}") for n in range(5)]
    np.save(OUT / "all.npy", np.sort(array([uid(n) for n in range(60)])))
    np.save(OUT / "kept.npy", np.sort(array(kept)))
    np.save(OUT / "listed.npy", np.sort(array(listed)))
    random.Random(1).shuffle(listed)
    array(listed).tofile(OUT / "listed.raw")
