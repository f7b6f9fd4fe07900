# refcheck.py PIPER DEVICE TYPE BATCH LENGTH LAYERS WIDTH HEADS VOCABULARY: the gradient of every tensor of a GPT-2, by piper and by
# PyTorch in float32. Both begin with the same random weights. piper makes one step of SGD; weights before less weights after, over
# the rate, are its gradients. The rate is a power of two, so large that the difference keeps the gradients' bits. In the
# current folder. Prints the worst tensors; the last line says what was found. Exit status 1: too far off.
import ctypes
import json
import math
import os
import struct
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

piper, device, dtype = sys.argv[1:4]
batch, length, layers, width, heads, vocabulary = map(int, sys.argv[4:10])
RATE = 1024.0
LIMIT = {"bfloat16": 2e-2, "float32": 1e-4}[dtype]  # of the worst tensor, relative, in the Euclidean norm
LOSS_LIMIT = {"bfloat16": 5e-3, "float32": 1e-5}[dtype]
NAMES = {"BF16": torch.bfloat16, "F32": torch.float32}


def shapes():
    yield "wte.weight", (vocabulary, width)
    yield "wpe.weight", (length, width)
    for i in range(layers):
        for name, size in (("ln_1", (width,)), ("ln_2", (width,))):
            yield f"h.{i}.{name}.weight", size
            yield f"h.{i}.{name}.bias", size
        for name, size in (("attn.c_attn", (width, 3 * width)), ("attn.c_proj", (width, width)),
                           ("mlp.c_fc", (width, 4 * width)), ("mlp.c_proj", (4 * width, width))):
            yield f"h.{i}.{name}.weight", size
            yield f"h.{i}.{name}.bias", size[1:]
    yield "ln_f.weight", (width,)
    yield "ln_f.bias", (width,)


def random_weights():
    g = torch.Generator().manual_seed(1)
    w = {}
    for name, size in shapes():
        x = torch.randn(size, generator=g) * 0.02
        if name.endswith("weight") and len(size) == 1:
            x = 1 + x
        w[name] = x.bfloat16().float()  # exact in both types
    return w


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, x in tensors.items():
        n = 4 * x.numel()
        header["transformer." + name] = {"dtype": "F32", "shape": list(x.shape), "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for x in tensors.values():
            f.write(ctypes.string_at(x.contiguous().data_ptr(), 4 * x.numel()))


def read_safetensors(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = bytearray(f.read())
    tensors = {}
    for name, t in header.items():
        if name != "__metadata__":
            first, end = t["data_offsets"]
            x = torch.frombuffer(data, dtype=NAMES[t["dtype"]], count=(end - first) // NAMES[t["dtype"]].itemsize,
                                 offset=first)
            tensors[name.removeprefix("transformer.")] = x.reshape(t["shape"]).float()
    return tensors


def run(*words):
    environment = dict(os.environ)
    if "PIPER_LIBRARIES" in environment:
        environment["LD_LIBRARY_PATH"] = environment["PIPER_LIBRARIES"]
    done = subprocess.run([piper, *words], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"piper {words[0]} ends with {done.returncode}: {done.stdout[-1000:].strip()}")


def by_piper(weights, text):
    """Loss, norm, and gradients by name."""
    write_safetensors("model.safetensors", weights)
    with open("text", "wb") as f:
        f.write(text)
    with open("model.json", "w") as f:
        json.dump({"model_type": "gpt2", "vocab_size": vocabulary, "n_embd": width, "n_layer": layers, "n_head": heads,
                   "n_positions": length}, f)
    with open("train.json", "w") as f:
        json.dump({"optimizer": {"kind": "sgd", "weight_decay": 0.0}, "lr": {"kind": "constant", "peak": RATE},
                   "clip_norm": 1e9, "batch_size": batch, "seq_len": length, "steps": 1, "seed": 1, "shuffle": False,
                   "dtype": dtype, "data": "tokens.h5"}, f)
    with open("strategy.json", "w") as f:
        f.write("[]")
    run("data", "text", "text", "-o", "tokens.h5")
    run("build", "-m", "model.json", "-s", "strategy.json", "-t", "train.json", "-o", "job.h5")
    run("checkpoint", "import", "job.h5", "model.safetensors", "-o", "run")
    os.remove("model.safetensors")
    run("train", "job.h5", "-o", "run", "--device", device, "--checkpoint", "sync")
    run("checkpoint", "export", "run", "-o", "after.safetensors")
    with open("run/metrics.csv") as f:
        names, row = (line.strip().split(",") for line in f.read().splitlines()[:2])
    row = dict(zip(names, row))
    after = read_safetensors("after.safetensors")
    return float(row["loss"]), float(row["grad_norm"]), {k: (weights[k].double() - after[k].double()) / RATE for k in weights}


def logits(w, x):
    t = x.shape[1]
    h = w["wte.weight"][x] + w["wpe.weight"][:t]
    for i in range(layers):
        def p(name):
            return w[f"h.{i}.{name}.weight"], w[f"h.{i}.{name}.bias"]

        def linear(y, name):
            return y @ p(name)[0] + p(name)[1]
        q, k, v = linear(F.layer_norm(h, (width,), *p("ln_1"), 1e-5), "attn.c_attn").split(width, 2)
        q, k, v = (y.view(-1, t, heads, width // heads).transpose(1, 2) for y in (q, k, v))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(-1, t, width)
        h = h + linear(a, "attn.c_proj")
        m = F.gelu(linear(F.layer_norm(h, (width,), *p("ln_2"), 1e-5), "mlp.c_fc"), approximate="tanh")
        h = h + linear(m, "mlp.c_proj")
    return F.layer_norm(h, (width,), w["ln_f.weight"], w["ln_f.bias"], 1e-5) @ w["wte.weight"].T


def by_torch(weights, tokens):
    where = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = False
    w = {k: x.to(where).requires_grad_() for k, x in weights.items()}
    total = 0.0
    for i in range(0, batch, 8):
        rows = range(i, min(i + 8, batch))
        x = torch.stack([tokens[k * length:(k + 1) * length] for k in rows]).to(where)
        y = torch.stack([tokens[k * length + 1:(k + 1) * length + 1] for k in rows]).to(where)
        loss = F.cross_entropy(logits(w, x).view(-1, vocabulary), y.reshape(-1), reduction="sum") / (batch * length)
        loss.backward()
        total += loss.item()
    grads = {k: x.grad.cpu().double() for k, x in w.items()}
    return total, math.sqrt(sum((g ** 2).sum().item() for g in grads.values())), grads


def main():
    weights = random_weights()
    tokens = torch.randint(32, 127, (batch * length + 4096,), generator=torch.Generator().manual_seed(3))
    began = time.time()
    loss, norm, mine = by_piper(weights, bytes(tokens.tolist()))
    print("piper %.1f s" % (time.time() - began))
    began = time.time()
    their_loss, their_norm, theirs = by_torch(weights, tokens)
    print("PyTorch %s %.1f s" % (torch.__version__, time.time() - began))
    print("loss %.7g and %.7g, norm %.7g and %.7g" % (loss, their_loss, norm, their_norm))
    off = sorted(((mine[k] - g).norm().item() / g.norm().item(), k) for k, g in theirs.items())[::-1]
    for e, name in off[:8]:
        print("%.2e %s (norm %.2e)" % (e, name, theirs[name].norm().item()))
    worst, name = next((x for x in off if math.isnan(x[0])), off[0])
    loss_off = abs(loss - their_loss) / their_loss
    print("worst tensor off by %.1e (%s; limit %.0e), loss by %.1e (limit %.0e), %d tensors" %
          (worst, name, LIMIT, loss_off, LOSS_LIMIT, len(off)))
    return not (worst < LIMIT and loss_off < LOSS_LIMIT)


sys.exit(main())
