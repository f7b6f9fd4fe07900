#!/usr/bin/env python3
"""equal.py ENCODE FOLDER [BYTES]: in the environment KINDS (names; else all) and POINTS (how code points are tried: 0 not, 1 without
those alone, 2 all of it) make it shorter. Tokens of tests/text/encode against those of the libraries `tokenizers` and `sentencepiece`, for a small
tokenizer of each family's kind, trained here. A line of what is equal: counts and the begin of a SHA-256; equal.txt has the counts of a run.
Exit status 1: they differ; 77: a library is not there."""
import base64
import json
import os
import re
import struct
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from corpus import SPECIALS, corpus, digest, ranges

try:
    import sentencepiece
    import tokenizers
except ImportError:
    print("python3 has not both modules tokenizers and sentencepiece")
    sys.exit(77)
import kinds

encode, folder = sys.argv[1], sys.argv[2]
size = int(sys.argv[3]) if len(sys.argv) > 3 else 5_000_000
detail = int(os.environ.get("POINTS", 2))
failed = False


def ours(path, texts, *options):
    """Token lists of tests/text/encode."""
    frames = b"".join(struct.pack("<I", len(t)) + t for t in texts)
    out = subprocess.run([encode, *options, path], input=frames, stdout=subprocess.PIPE, check=True).stdout
    at, lists = 0, []
    decodes = "-d" in options
    while at < len(out):
        (n,) = struct.unpack_from("<I", out, at)
        at += 4
        if decodes:
            lists.append(out[at : at + n])
            at += n
        else:
            lists.append(list(struct.unpack_from(f"<{n}I", out, at)))
            at += 4 * n
    return lists


def report(name, what, texts, mine, theirs):
    global failed
    tokens = sum(map(len, theirs))
    wrong = [i for i in range(len(texts)) if mine[i] != theirs[i]]
    if not wrong:
        print(f"{name}: {what}: {len(texts)} texts, {tokens} tokens, {digest(theirs)[:16]}", flush=True)
        return
    print(f"{name}: {what}: {len(texts)} texts, {tokens} tokens, {len(wrong)} differ", flush=True)
    for i in wrong[:3]:
        a, b = mine[i], theirs[i]
        k = next((k for k in range(min(len(a), len(b))) if a[k] != b[k]), min(len(a), len(b)))
        print(f"    text {i} ({texts[i][:60]!r}): token {k}: {a[max(0, k - 2):k + 4]}, expected {b[max(0, k - 2):k + 4]}")
    failed = True


def points():
    """All code points that Unicode 15.0 assigns, or leaves alone in every version; later ones are other letters for the library."""
    return [c for first, last in ranges() for c in range(first, last + 1)]


def compare(name, path, tokenizer, pattern):
    options = ["-p", pattern] if pattern else []

    def theirs(texts, specials=True):
        tokenizer.encode_special_tokens = not specials
        return [x.ids for x in tokenizer.encode_batch([t.decode(errors="replace") for t in texts], add_special_tokens=False)]

    texts = list(corpus(size)) + [s.encode() for s in SPECIALS]
    expected = theirs(texts)
    report(name, "mixed", texts, ours(path, texts, *options), expected)
    report(name, "mixed, cut at lines", texts, ours(path, texts, "-c", "700", *options), expected)
    report(name, "mixed, special tokens as text", texts, ours(path, texts, "-s", *options), theirs(texts, False))
    some = points()
    for what, form in [] if detail == 0 else (("alone", "{}"), ("between letters", "x{}y"), ("after a space", " {}"), ("twice, then a digit", "{0}{0}1")):
        if form == "{}" and detail == 1:
            continue
        texts = [form.format(chr(c)) for c in some]
        if form != "{}":  # a line each, since texts of their own take long
            texts = ["\n".join(texts[i : i + 100]) for i in range(0, len(texts), 100)]
        texts = [t.encode() for t in texts]
        report(name, "every code point " + what, texts, ours(path, texts, *options), theirs(texts))
    # the library loses the i of an added token that is not ASCII when it decodes bytes
    whole = [t.decode(errors="replace").encode() for t in corpus(size // 5, 2)]
    whole = [t for t in whole if "naïve".encode() not in t]
    tokenizer.encode_special_tokens = False
    back = [tokenizer.decode(x.ids, skip_special_tokens=False).encode() for x in
            tokenizer.encode_batch([t.decode() for t in whole], add_special_tokens=False)]
    report(name, "decoded", whole, ours(path, whole, "-d", *options), back)
    if name in LOSES:
        return
    pure = [b"".join(part for part in re.split(ADDED, t)) for t in whole]
    report(name, "decoded to the text itself", pure, ours(path, pure, "-d", *options), pure)


# Kinds that lose something by themselves: normal form, spaces, unknown symbols, the space before a text.
LOSES = "gpt2-prefix qwen2 olmo unknown pieces-bpe pieces-rules pieces-t5 pieces-small pieces-folded".split()
ADDED = "|".join(map(re.escape, sorted({s.strip() for s in SPECIALS} | {"naïve"}, key=len, reverse=True))).encode()


os.makedirs(folder, exist_ok=True)
wanted = os.environ.get("KINDS", "").split()
for name, make in kinds.KINDS.items():
    if wanted and name not in wanted:
        continue
    path, tokenizer, pattern = make(f"{folder}/{name}")
    compare(name, path, tokenizer, pattern)
sys.exit(failed)
