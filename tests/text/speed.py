#!/usr/bin/env python3
"""speed.py ENCODE FOLDER [SECONDS]: MB/s of one thread, ours and the library's, in turns; for the kinds named in KINDS."""
import os
import struct
import subprocess
import sys
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kinds
from corpus import corpus

encode, folder = sys.argv[1], sys.argv[2]
seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 2
texts = list(corpus(2_000_000, 7))
if len(sys.argv) > 4:  # other texts: files, a document each
    texts = [open(f, "rb").read() for f in sys.argv[4:]]
frames = b"".join(struct.pack("<I", len(t)) + t for t in texts)
words = [t.decode(errors="replace") for t in texts]
size = sum(len(w.encode()) for w in words)
for name in os.environ.get("KINDS", "gpt2 llama3 qwen2 llama2").split():
    path, tokenizer, pattern = kinds.KINDS[name](f"{folder}/{name}")
    ours, theirs = 0.0, 0.0
    for _ in range(2):
        run = subprocess.run([encode, "-t", str(seconds), *(["-p", pattern] if pattern else []), path], input=frames, stderr=subprocess.PIPE, check=True)
        ours = max(ours, float(run.stderr))
        for _ in range(2):
            begin = time.process_time()
            tokenizer.encode_batch_fast(words, add_special_tokens=False)
            theirs = max(theirs, size / 1e6 / (time.process_time() - begin))
    print(f"{name}: {ours:.1f} MB/s, tokenizers {theirs:.2f} MB/s: {ours / theirs:.1f} times", flush=True)
