#!/usr/bin/env python3
"""What PyTorch computes on the tokens of documents.sh: documents.txt.

    mkdir kept && KEEP=$PWD/kept sh tests/train/documents.sh     in the build directory: tokens and first weights
    documents.py kept >documents.txt                             needs torch, transformers, safetensors, h5py

A line: model, data (plain or talk: with its mask) and documents (join or separate), step, loss before the step: the sum over the
targets of the step that count by their number. In float64; attention by an explicit mask, positions by position_ids.
"""

import json
import pathlib
import sys

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from transformers import AutoConfig, AutoModelForCausalLM

STEPS, BATCH, T, VOCAB = 20, 8, 32, 384
BETAS, EPS, DECAY, CLIP, LR = (0.9, 0.95), 1e-8, 0.1, 1.0, 1e-3


def model_of(kept, name):
    config = json.loads((kept / f"{name}.json").read_text())
    config["vocab_size"] = VOCAB
    config = AutoConfig.for_model(**config)
    config.attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").double().eval()
    state = {k: torch.from_numpy(v.astype(np.float64)) for k, v in load_file(kept / f"{name}.safetensors").items()}
    if not any(k.startswith(("transformer.", "model.")) for k in state):
        state = {("" if k.startswith("lm_head") else model.base_model_prefix + ".") + k: v for k, v in state.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(k.startswith("lm_head") for k in missing), (missing, unexpected)
    model.tie_weights()
    return model


def optimizer_of(model):
    named = list(model.named_parameters())
    decays = [p for n, p in named if p.dim() > 1]
    others = [p for n, p in named if p.dim() == 1]
    groups = [{"params": decays, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=EPS)


class Data:
    def __init__(self, path, mask, separate):
        with h5py.File(path) as f:
            self.tokens = f["tokens"][:].astype(np.int64)
            self.mask = f["mask"][:].astype(bool) if mask else np.ones(len(self.tokens), bool)
            self.begins = np.zeros(len(self.tokens), bool)
            if separate:
                self.begins[f["documents"][:].astype(np.int64)] = True
        self.windows = (len(self.tokens) - 1) // T

    def batch(self, step):
        ids, targets, document = [], [], []
        for i in range(step * BATCH, (step + 1) * BATCH):
            at = i % self.windows * T
            begins = self.begins[at : at + T].copy()
            begins[0] = True
            ids.append(self.tokens[at : at + T])
            kept = self.mask[at + 1 : at + T + 1] & ~self.begins[at + 1 : at + T + 1]
            targets.append(np.where(kept, self.tokens[at + 1 : at + T + 1], -100))
            document.append(np.maximum.accumulate(np.where(begins, np.arange(T), 0)))
        return (torch.from_numpy(np.stack(x)) for x in (ids, targets, document))


def losses(model, data):
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        ids, targets, document = data.batch(step)
        i = torch.arange(T)
        sees = (i[None, :, None] >= i[None, None, :]) & (document[:, :, None] == document[:, None, :])
        mask = torch.zeros(sees.shape, dtype=torch.float64).masked_fill(~sees, float("-inf"))[:, None]
        logits = model(input_ids=ids, attention_mask=mask, position_ids=i[None] - document).logits
        total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
        count = int((targets >= 0).sum())
        by_sequence = (targets >= 0).sum(1).reshape(2, 2, 2).sum(2)  # replica, microbatch
        optimizer.zero_grad()
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        yield total.item() / count, by_sequence.tolist()


def main():
    kept = pathlib.Path(sys.argv[1])
    empty = {"microbatch": 0, "rank": 0}
    for name in ("gpt2", "llama"):
        for how in ("plain-join", "plain-separate", "talk-join", "talk-separate"):
            data = Data(kept / f"{how.split('-')[0]}.h5", how.startswith("talk"), how.endswith("separate"))
            for step, (loss, counts) in enumerate(losses(model_of(kept, name), data), 1):
                print(name, how, step, f"{loss:.12g}")
                empty["microbatch"] += any(0 in row and any(row) for row in counts)
                empty["rank"] += any(not any(row) for row in counts)
    print(f"steps in which a microbatch alone, or a rank, keeps nothing: {empty}", file=sys.stderr)
    assert all(empty.values())


if __name__ == "__main__":
    main()
