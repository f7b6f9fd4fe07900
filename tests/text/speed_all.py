#!/usr/bin/env python3
"""speed_all.py PIPER FOLDER [MB]: all cores, ours and the library's, in turns: `piper data jsonl` from JSONL to a token file, and encode_batch_fast()
on the same texts in memory, which reads and writes no file; for the kinds named in KINDS. Then the peak of piper's memory for so much text and for
four times as much."""
import json
import os
import subprocess
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "true"
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kinds
from corpus import corpus

piper, folder = sys.argv[1], sys.argv[2]
size = int(float(sys.argv[3]) * 1e6) if len(sys.argv) > 3 else 20_000_000
os.makedirs(folder, exist_ok=True)
few = [t.decode(errors="replace") for t in corpus(2_000_000, 7)]
words = few * (size // 2_000_000)
size = sum(len(w.encode()) for w in words)


def write(path, times):
    with open(path, "w") as f:
        for _ in range(times):
            f.writelines(json.dumps({"text": w}, ensure_ascii=False) + "\n" for w in words)


def ours(jsonl, tokenizer, pattern):
    """Seconds, peak of memory in MB."""
    begin = time.perf_counter()
    p = subprocess.Popen([piper, "data", "jsonl", jsonl, "--tokenizer", tokenizer, *(["--pattern", pattern] if pattern else []), "--eos", "no", "-o", f"{folder}/out.h5"],
                         stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(p.pid, 0)
    assert status == 0
    return time.perf_counter() - begin, used.ru_maxrss / 1e3


write(f"{folder}/one.jsonl", 1)
for name in os.environ.get("KINDS", "llama3 llama2 pieces-llama2 pieces-t5").split():
    path, tokenizer, pattern = kinds.KINDS[name](f"{folder}/{name}")
    mine, theirs = 1e9, 1e9
    for _ in range(2):
        mine = min(mine, ours(f"{folder}/one.jsonl", path, pattern)[0])
        begin = time.perf_counter()
        for i in range(0, len(words), 1000):
            tokenizer.encode_batch_fast(words[i : i + 1000], add_special_tokens=False)
        theirs = min(theirs, time.perf_counter() - begin)
    print(f"{name}: {os.cpu_count()} cores: {size / 1e6 / mine:.1f} MB/s, the library {size / 1e6 / theirs:.1f}: {theirs / mine:.1f} times", flush=True)
write(f"{folder}/four.jsonl", 4)
peak = [ours(f"{folder}/{f}.jsonl", path, pattern)[1] for f in ("one", "four")]
print(f"memory of piper: {peak[0]:.0f} MB for {size / 1e6:.0f} MB of text, {peak[1]:.0f} MB for {4 * size / 1e6:.0f}")
