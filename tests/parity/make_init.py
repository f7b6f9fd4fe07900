#!/usr/bin/env python3
"""How transformers initializes the models of models.py: init.json, beside which `parity --init` (init.c) holds Piper.

    make_init.py                  writes init.json anew
    make_init.py NAME...          these models alone, the others stay

Every family once with every key left out (NAME-bare), and once with another deviation (NAME): mean and deviation of every tensor of the
files that transformers saves, over as many seeds as it takes for COUNT numbers; the number of a layer and of an expert does not count. A tensor
whose numbers are all the same has the deviation 0. The last number: whether weight decay acts on it, by role.
"""

import copy
import json
import re
import sys

import equations
import numpy as np
import torch
import transformers
from make_parity import HERE, decays, on_disk
from models import MODELS
from transformers import AutoConfig, AutoModelForCausalLM

COUNT, SEEDS, OTHER = 10000, 2000, 0.07
DEVIATION = {"opt": "init_std"}


def models():
    for name, config in MODELS.items():
        if name == config["model_type"]:
            yield name, {**copy.deepcopy(config), DEVIATION.get(name, "initializer_range"): OTHER, "pad_token_id": None}
        if name == config["model_type"] + "-bare":
            yield name, {**copy.deepcopy(config), "pad_token_id": None}


def initialize(config):
    if config["model_type"] not in equations.CLASSES:
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**copy.deepcopy(config)))
    model = equations.CLASSES[config["model_type"]](config)
    with torch.no_grad():  # _init_weights of both published files
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                p.zero_()
            elif p.ndim > 1:
                p.normal_(0.0, config.get("initializer_range", 0.02))
    return model


def describe(config):
    sums, seed = {}, 0
    while seed < SEEDS and (not sums or any(n < COUNT and most > least for n, _, _, least, most, _ in sums.values())):
        torch.manual_seed(seed)
        seed += 1
        for k, w in on_disk(initialize(config)).items():
            k, w = re.sub(r"\.\d+(?=\.)", ".*", k), w.astype(np.float64)
            n, s, q, least, most, _ = sums.get(k, (0, 0.0, 0.0, np.inf, -np.inf, 0))
            sums[k] = (n + w.size, s + w.sum(), q + (w * w).sum(), min(least, w.min()), max(most, w.max()), int(decays(k, w)))
    return {k: [float("%.4g" % (s / n)), float("%.4g" % np.sqrt(max(q / n - (s / n) ** 2, 0.0))) if most > least else 0, n, d]
            for k, (n, s, q, least, most, d) in sorted(sums.items())}


def write(rows):
    heads = [json.dumps({"name": r["name"], "config": r["config"]})[:-1] + ', "tensors": {\n' + ",\n".join(
        json.dumps(k) + ": " + json.dumps(v, separators=(",", ":")) for k, v in r["tensors"].items()) + "}}" for r in rows]
    (HERE / "init.json").write_text('{"models": [\n' + ",\n".join(heads) + "\n]}\n")


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    names, path = sys.argv[1:], HERE / "init.json"
    rows = {r["name"]: r for r in json.loads(path.read_text())["models"]} if path.exists() else {}
    for name, config in models():
        if not names or name in names:
            rows[name] = {"name": name, "config": config, "tensors": describe(config)}
            print(name, rows[name]["tensors"], flush=True)
            write([rows[n] for n, _ in models() if n in rows])


if __name__ == "__main__":
    main()
