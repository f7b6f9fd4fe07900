#!/usr/bin/env python3
"""small.py [KIND...]: makes tests/text/small: a tokenizer of each kind with a few hundred tokens, some texts, and digests of the tokens that the
library `tokenizers`, or `sentencepiece`, gives for them; and for every code point in the forms of points. tests/text/small.sh compares."""
import os
import shutil
import struct
import sys
import tempfile

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
import kinds
from corpus import SPECIALS, corpus, digest, ranges

kinds.SIZE.update(corpus=60_000, bytes=360, fallback=440, alphabet=120, pieces=500)
WANTED = sys.argv[1:] or ["gpt2", "llama3", "qwen2", "gpt-oss", "deepseek-v3", "smollm", "llama2", "mistral", "gemma", "pcre2", "tiktoken", "pieces-llama2", "pieces-gemma",
                          "pieces-rules", "pieces-unigram", "pieces-small"]  # others keep their digests
texts = sorted(list(corpus(24_000, 5)) + [s.encode() for s in SPECIALS], key=lambda t: "naïve".encode() in t)
decodable = sum("naïve".encode() not in t for t in texts)  # those first: the library loses an added token's ï when it decodes bytes
texts += [f"{form}".replace("@", chr(c)).encode() for c in list(range(0x250)) + list(range(0x2000, 0x2070)) for form in ("x@y", " @1")]


FORMS = ["@", "x@y", "_@", "@@1"]  # @: the code point, _: a space


def points(form):
    """All code points in this form: alone a text each, else a hundred lines a text."""
    form = form.replace("_", " ")
    each = [form.replace("@", chr(c)) for first, last in ranges() for c in range(first, last + 1)]
    return each if form == "@" else ["\n".join(each[i : i + 100]) for i in range(0, len(each), 100)]


os.makedirs(f"{here}/small", exist_ok=True)
with open(f"{here}/small/texts.bin", "wb") as f:
    f.write(b"".join(struct.pack("<I", len(t)) + t for t in texts))
with open(f"{here}/small/points.txt", "w") as f:
    f.writelines(f"{first:x} {last:x}\n" for first, last in ranges())
with open(f"{here}/small/digests.txt") as f:
    known = [line.split() for line in f]
for name in WANTED:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path, tokenizer, pattern = kinds.KINDS[name](f"{folder}/{name}")
        file = name + os.path.splitext(path)[1]
        shutil.copy(path, f"{here}/small/{file}")
    tokenizer.encode_special_tokens = False
    for form in FORMS:
        rows.append((file, pattern or "-", f"points:{form}", digest(x.ids for x in tokenizer.encode_batch(list(points(form)), add_special_tokens=False))))
    words = [t.decode(errors="replace") for t in texts]
    encoded = {}
    for mode, plain in (("special", False), ("plain", True)):
        tokenizer.encode_special_tokens = plain
        encoded[mode] = [tokenizer.encode(w, add_special_tokens=False).ids for w in words]
        rows.append((file, pattern or "-", mode, digest(encoded[mode])))
    back = [tokenizer.decode(ids, skip_special_tokens=False).encode() for ids in encoded["special"][:decodable]]
    rows.append((file, pattern or "-", f"decoded:{decodable}", digest(back)))
    known = [row for row in known if row[0] != file] + rows
    with open(f"{here}/small/digests.txt", "w") as f:
        f.writelines(" ".join(row) + "\n" for row in known)
