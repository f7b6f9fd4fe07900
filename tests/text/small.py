#!/usr/bin/env python3
"""small.py: makes tests/text/small: a tokenizer of each kind with a few hundred tokens, some texts, and digests of the tokens that the
library `tokenizers` gives for them. tests/text/small.sh compares."""
import hashlib
import os
import shutil
import struct
import sys
import tempfile

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
import kinds
from corpus import SPECIALS, corpus

kinds.SIZE.update(corpus=60_000, bytes=360, fallback=440, alphabet=120)
WANTED = sys.argv[1:] or ["gpt2", "llama3", "qwen2", "gpt-oss", "deepseek-v3", "smollm", "llama2", "mistral", "gemma", "pcre2", "tiktoken"]
texts = sorted(list(corpus(24_000, 5)) + [s.encode() for s in SPECIALS], key=lambda t: "naïve".encode() in t)
decodable = sum("naïve".encode() not in t for t in texts)  # those first: the library loses an added token's ï when it decodes bytes
texts += [f"{form}".replace("@", chr(c)).encode() for c in list(range(0x250)) + list(range(0x2000, 0x2070)) for form in ("x@y", " @1")]


def digest(lists):
    h = hashlib.sha256()
    for x in lists:
        h.update(struct.pack("<I", len(x)) + (x if isinstance(x, bytes) else struct.pack(f"<{len(x)}I", *x)))
    return h.hexdigest()


os.makedirs(f"{here}/small", exist_ok=True)
with open(f"{here}/small/texts.bin", "wb") as f:
    f.write(b"".join(struct.pack("<I", len(t)) + t for t in texts))
rows = []
for name in WANTED:
    with tempfile.TemporaryDirectory() as folder:
        path, tokenizer, pattern = kinds.KINDS[name](f"{folder}/{name}")
        file = name + (".tiktoken" if pattern else ".json")
        shutil.copy(path, f"{here}/small/{file}")
    words = [t.decode(errors="replace") for t in texts]
    encoded = {}
    for mode, plain in (("special", False), ("plain", True)):
        tokenizer.encode_special_tokens = plain
        encoded[mode] = [tokenizer.encode(w, add_special_tokens=False).ids for w in words]
        rows.append((file, pattern or "-", mode, digest(encoded[mode])))
    back = [tokenizer.decode(ids, skip_special_tokens=False).encode() for ids in encoded["special"][:decodable]]
    rows.append((file, pattern or "-", f"decoded:{decodable}", digest(back)))
with open(f"{here}/small/digests.txt", "w") as f:
    for row in rows:
        f.write(" ".join(row) + "\n")
