#!/usr/bin/env python3
"""Makes the reference numbers of test_reference: five tiny models of transformers, and 20 steps of torch's AdamW.

    python3 -m venv env
    env/bin/pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0 h5py==3.16.0 numpy==2.4.6
    env/bin/python make_reference.py [FOLDER]        (default: the folder of this script)

Weights and tokens come from NumPy's Philox, keyed by SEED, the model and the tensor's name: the same in every version.
transformers loads them with from_pretrained(), names tensors and gradients with save_pretrained(), and computes in
float64, so that the numbers below are exact but for their last rounding to float32.
"""

import contextlib
import copy
import json
import os
import pathlib
import sys
import tempfile
import zlib

os.environ["HF_HUB_OFFLINE"] = "1"

import h5py
import numpy as np
import safetensors
import torch
import torch.nn.functional as F
import transformers
from safetensors.numpy import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MixtralConfig, Qwen3Config, Qwen3MoeConfig

VERSIONS = {"torch": "2.15.0", "transformers": "5.23.0", "safetensors": "0.8.0", "h5py": "3.16.0", "numpy": "2.4.6"}
SEED = 20260611
B, T = 2, 13  # sequences and tokens a sequence
STEPS, BATCH = 20, 4  # of AdamW
TRAIN = {
    "optimizer": {"kind": "adamw", "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1},
    "lr": {"kind": "constant", "peak": 1e-3},
    "clip_norm": 1.0,
    "batch_size": BATCH,
    "seq_len": T,
    "steps": STEPS,
    "seed": 1,
    "dtype": "float32",
    "data": "tokens.h5",
    "shuffle": False,
}

# Vocabularies, feed-forward widths and T are odd, so that every kernel has a remainder to do.
MODELS = {
    "gpt2": GPT2Config(
        vocab_size=61, n_positions=19, n_embd=36, n_layer=2, n_head=3, n_inner=53,
        attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    ),
    "llama": LlamaConfig(
        vocab_size=67, hidden_size=32, intermediate_size=45, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5,
    ),
    "qwen3": Qwen3Config(
        vocab_size=71, hidden_size=40, intermediate_size=51, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, head_dim=10, max_position_embeddings=64, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0}, tie_word_embeddings=True,
    ),
    "qwen3_moe": Qwen3MoeConfig(
        vocab_size=83, hidden_size=24, intermediate_size=43, moe_intermediate_size=17, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=10, num_experts=5, num_experts_per_tok=2,
        norm_topk_prob=True, mlp_only_layers=[1], router_aux_loss_coef=0.0, max_position_embeddings=64,
    ),
    "mixtral": MixtralConfig(
        vocab_size=97, hidden_size=28, intermediate_size=23, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=4, num_experts_per_tok=2, router_aux_loss_coef=0.0,
        max_position_embeddings=64,
    ),
}


def generator(*key):
    return np.random.Generator(np.random.Philox(key=[SEED, zlib.crc32("/".join(key).encode())]))


def random_weight(model, name, shape):
    """No tensor is all 0 or 1, and products keep their size, so that every term shows in the logits."""
    x = generator(model, name).standard_normal(shape)
    if name.endswith(".bias"):
        x *= 0.2
    elif len(shape) == 1:
        x = 1.0 + 0.3 * x
    elif "embed" in name or "wte" in name or "wpe" in name:
        x *= 0.4
    elif model == "gpt2":  # Conv1D: (in, out)
        x *= shape[0] ** -0.5
    else:
        x *= shape[1] ** -0.5
    return x.astype(np.float32)


class Torch64:
    """The module torch with float32 meaning float64: transformers casts norms, softmax and RoPE to float32."""

    def __getattr__(self, name):
        return torch.float64 if name in ("float32", "float") else getattr(torch, name)


class NoFloat32(TorchDispatchMode):
    """Fails when an operation inside `with` gives float32; backwards of float64 operations are float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            assert not isinstance(x, torch.Tensor) or x.dtype != torch.float32, f"{func} gave float32"
        return out


@contextlib.contextmanager
def precision(model, dtype):
    """Everything inside `with` that `model` computes is computed in dtype."""
    if dtype == torch.float32:
        yield
        return
    names = {type(m).__module__ for m in model.modules()}
    patched = [sys.modules[n] for n in names if n.startswith("transformers.") and hasattr(sys.modules[n], "torch")]
    to_float = torch.Tensor.float
    try:
        torch.Tensor.float = torch.Tensor.double
        for m in patched:
            m.torch = Torch64()
        with NoFloat32():
            yield
    finally:
        torch.Tensor.float = to_float
        for m in patched:
            m.torch = torch


def load(folder, dtype):
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", experts_implementation="eager"
    ).train()
    for m in model.modules():
        if hasattr(m, "inv_freq"):  # a float32 buffer: made again, exactly
            d = 2 * m.inv_freq.numel()
            theta = model.config.rope_parameters["rope_theta"]
            m.inv_freq = (1.0 / theta ** (torch.arange(0, d, 2, dtype=torch.float64) / d)).to(dtype)
    return model


def classic(model, values=None):
    """Tensors under the names of hub checkpoints, by transformers' own saving; values(parameter) instead of weights."""
    if values:
        clone = copy.deepcopy(model)
        for p, q in zip(clone.parameters(), model.parameters()):
            p.data = values(q).detach().clone()
        model = clone
    with tempfile.TemporaryDirectory() as tmp:
        model.save_pretrained(tmp)
        return dict(sorted(load_file(tmp + "/model.safetensors").items()))


def logits_and_loss(model, tokens, targets, dtype):
    with precision(model, dtype):
        logits = model(input_ids=torch.as_tensor(tokens.astype(np.int64)), use_cache=False).logits
    assert logits.dtype == dtype
    target = torch.as_tensor(targets.astype(np.int64)).reshape(-1)
    return logits, F.cross_entropy(logits.reshape(target.numel(), -1), target)


def routing_margin(model, tokens, dtype):
    """The smallest gap between the last expert taken and the first not taken, and the tokens each expert got."""
    probs = []
    gates = [m for m in model.modules() if type(m).__name__.endswith("TopKRouter")]
    hooks = [g.register_forward_hook(lambda m, i, out: probs.append(out[0].softmax(-1))) for g in gates]
    logits_and_loss(model, tokens, tokens, dtype)
    for h in hooks:
        h.remove()
    if not probs:
        return 1.0, []
    k = model.config.num_experts_per_tok
    top = [p.topk(k + 1, dim=-1) for p in probs]
    gap = min(float((t.values[:, k - 1] - t.values[:, k]).min().detach()) for t in top)
    return gap, [np.bincount(t.indices[:, :k].reshape(-1), minlength=probs[0].shape[-1]).tolist() for t in top]


def compute(folder, tokens, targets, dtype):
    model = load(folder, dtype)
    logits, loss = logits_and_loss(model, tokens, targets, dtype)
    loss.backward()
    grads = classic(model, lambda p: p.grad)
    return {"logits": logits.detach().numpy(), "loss": float(loss.detach()), "grads": grads, "model": model}


def h5_create(path, schema):
    f = h5py.File(path, "w", libver=("v110", "v110"))
    f.attrs["schema"] = np.bytes_(schema)
    f.attrs["schema_version"] = np.int32(1)
    return f


def h5_put(f, name, x, units="1"):
    f.create_dataset(name, data=x, track_times=False).attrs["units"] = np.bytes_(units)


def worst(a, b):
    """Largest deviation, relative to the tensor's largest element."""
    return float(np.abs(np.asarray(a, np.float64) - b).max() / max(np.abs(b).max(), 1e-30))


def make_model(name, config, out):
    """The folder of one model: model.json, weights.safetensors, reference.h5."""
    out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as tmp:
        config.dtype = "float32"
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp)
        shapes = {k: v.shape for k, v in load_file(tmp + "/model.safetensors").items()}
        weights = {k: random_weight(name, k, s) for k, s in sorted(shapes.items())}
        save_file(weights, tmp + "/model.safetensors", metadata={"format": "pt"})
        (out / "weights.safetensors").write_bytes(pathlib.Path(tmp, "model.safetensors").read_bytes())
        os.remove(tmp + "/model.safetensors")
        (out / "model.json").write_text(pathlib.Path(tmp, "config.json").read_text())
        os.symlink(out.resolve() / "weights.safetensors", tmp + "/model.safetensors")

        text = generator(name, "tokens").integers(0, config.vocab_size, (B, T + 1), dtype=np.int32)
        tokens, targets = text[:, :-1], text[:, 1:]
        r64 = compute(tmp, tokens, targets, torch.float64)
        r32 = compute(tmp, tokens, targets, torch.float32)

    got = classic(r64["model"])
    assert list(got) == list(weights) == list(r64["grads"])
    assert all(np.array_equal(got[k], weights[k]) for k in weights), "transformers loaded something else"
    gap, counts = routing_margin(r64["model"], tokens, torch.float64)
    assert gap > 2e-3, "a token is routed by a hair: change SEED"
    off = {"logits": worst(r32["logits"], r64["logits"]), "loss": abs(r32["loss"] / r64["loss"] - 1)}
    off["grads"] = max(worst(r32["grads"][k], r64["grads"][k]) for k in weights)

    with h5_create(out / "reference.h5", "piper-reference") as f:
        for k, v in VERSIONS.items():
            f.attrs[k] = np.bytes_(v)
        for k, v in off.items():
            f.attrs["float32_deviation_" + k] = v
        h5_put(f, "tokens", tokens)
        h5_put(f, "targets", targets)
        h5_put(f, "logits", r64["logits"].astype(np.float32))
        h5_put(f, "loss", np.float64(r64["loss"]), "nat")
        for k, g in r64["grads"].items():
            h5_put(f, "grads/" + k, g.astype(np.float32), "nat")
    size = sum(w.size for w in weights.values())
    print(f"{name:10} {size:6} parameters, loss {r64['loss']:.6f}, float32 is off by",
          ", ".join(f"{k} {v:.1e}" for k, v in off.items()), f"routing gap {gap:.1e} {counts}" if counts else "")


def adamw_run(folder, text, dtype):
    model = load(folder, dtype)
    o = TRAIN["optimizer"]
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": o["weight_decay"]},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=TRAIN["lr"]["peak"], betas=tuple(o["betas"]), eps=o["eps"], foreach=False)
    losses, norms = [], []
    for step in range(STEPS):
        rows = np.stack([text[i * T : i * T + T + 1] for i in range(step * BATCH, (step + 1) * BATCH)])
        optimizer.zero_grad()
        _, loss = logits_and_loss(model, rows[:, :-1], rows[:, 1:], dtype)
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), TRAIN["clip_norm"])))
        losses.append(float(loss.detach()))
        optimizer.step()
    return losses, norms, classic(model)


def make_adamw(config, out):
    """adamw.h5, train.json and tokens.h5 beside the llama model."""
    need = STEPS * BATCH * T + 1
    text = generator("llama", "text").integers(0, config.vocab_size, need, dtype=np.uint16)
    (out / "train.json").write_text(json.dumps(TRAIN, indent=2) + "\n")
    with h5_create(out / "tokens.h5", "piper-tokens") as f:
        f.attrs["vocab_size"] = np.int32(config.vocab_size)
        h5_put(f, "tokens", text)
    with tempfile.TemporaryDirectory() as tmp:
        os.symlink(out.resolve() / "weights.safetensors", tmp + "/model.safetensors")
        os.symlink(out.resolve() / "model.json", tmp + "/config.json")
        runs = {"float64": adamw_run(tmp, text, torch.float64), "float32": adamw_run(tmp, text, torch.float32)}
    with h5_create(out / "adamw.h5", "piper-reference-adamw") as f:
        for k, v in VERSIONS.items():
            f.attrs[k] = np.bytes_(v)
        for name, (losses, norms, weights) in runs.items():
            h5_put(f, name + "/loss", np.array(losses), "nat")
            h5_put(f, name + "/grad_norm", np.array(norms), "nat")
            for k, w in weights.items():
                h5_put(f, f"{name}/params/{k}", w.astype(np.float32))
    a, b = runs["float32"], runs["float64"]
    print(f"adamw      loss {b[0][0]:.4f} -> {b[0][-1]:.4f}, norm {min(b[1]):.3f} .. {max(b[1]):.3f};",
          f"float32 is off by loss {worst(a[0], np.array(b[0])):.1e}, norm {worst(a[1], np.array(b[1])):.1e}, weights",
          f"{max(worst(a[2][k], b[2][k]) for k in b[2]):.1e}")


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    for k, v in VERSIONS.items():
        found = getattr(sys.modules[k], "__version__").split("+")[0]
        if found != v:
            print(f"warning: {k} is {found}, these files were made with {v}", file=sys.stderr)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name, config in MODELS.items():
        make_model(name, config, out / name)
    make_adamw(MODELS["llama"], out / "llama")


if __name__ == "__main__":
    main()
