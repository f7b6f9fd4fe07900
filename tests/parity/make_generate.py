#!/usr/bin/env python3
"""What transformers' generate() says, greedily and with its cache, in float64: generate.json, against which tests/parity/generate.c
holds `piper generate`. The models and weights are those of make_parity.py; to be run beside it, with the same libraries.

    make_generate.py [NAME...]

A prompt is chosen (seed) so that no token is ahead of the next by less than GAP and no expert by less than MARGIN. Left out are models
whose rotation changes with the length ("dynamic"; longrope whose original length is passed meanwhile): transformers keeps keys that were turned otherwise in its cache, so that its tokens
depend on how the text came in. minicpm has no class there: its equations (equations.py) say one token after the other, without a cache.
"""

import json
import pathlib
import sys
import tempfile

import torch
import transformers

import equations
import make_parity
from models import MODELS

HERE = pathlib.Path(__file__).parent
PROMPT, ALL, GAP = 9, 19, 1e-3


def positions(config):
    """Tokens that a table of positions has room for."""
    if config["model_type"] in ("gpt2", "gptj"):
        return config.get("n_positions", 1024)
    return config.get("max_position_embeddings", 2048) if config["model_type"] == "opt" else ALL


def turns_otherwise(config):
    """The rotation of the first tokens is not that of the last."""
    scaling = config.get("rope_scaling") or {}
    original = scaling.get("original_max_position_embeddings", config.get("original_max_position_embeddings", 0))
    return "dynamic" in json.dumps(config) or ("short_factor" in scaling and PROMPT <= original < ALL)


def prompt_of(seed):
    return [int(x) for x in make_parity.hash64("prompt %d" % seed, range(PROMPT)) % make_parity.np.uint64(make_parity.VOCAB)]


def step_by_step(model, ids, n):
    scores = []
    for _ in range(n):
        scores.append(model(torch.tensor([ids]))[0, -1])
        ids = ids + [int(scores[-1].argmax())]
    return ids, scores


def say(model, ids, n):
    if type(model) in equations.CLASSES.values():
        return step_by_step(model, ids, n)
    model.generation_config.eos_token_id = None
    out = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), max_new_tokens=n,
                         do_sample=False, use_cache=True, output_logits=True, return_dict_in_generate=True, pad_token_id=0)
    return out.sequences[0].tolist(), [z[0] for z in out.logits]


def describe(row):
    """The model as parity.json has it: its own copy of the configuration, and where its weights lie."""
    config = row["config"]
    make_parity.spread = lambda name, shape, config: row["tensors"][name][1:3]
    n = min(ALL, positions(config)) - PROMPT
    with tempfile.TemporaryDirectory() as folder:
        make_parity.save(config, folder)
        model = make_parity.load(folder, torch.float64).eval()
    for seed in range(200):
        prompt = prompt_of(seed)
        margin = make_parity.routing_margin(model)
        with torch.no_grad(), make_parity.precision(model, torch.float64):
            ids, scores = say(model, prompt, n)
        top = [z.double().topk(2).values for z in scores]
        gap = min(float(t[0] - t[1]) for t in top)
        if gap >= GAP and min((float(x.min()) for x in margin), default=1) >= make_parity.MARGIN:
            return {"prompt": prompt, "ids": ids[PROMPT:]}, gap, seed
    raise RuntimeError("every prompt is a close race")


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    models = {r["name"]: r for r in json.loads((HERE / "parity.json").read_text())["models"]}
    path = HERE / "generate.json"
    rows = json.loads(path.read_text()) if path.exists() else {}
    failed = []
    for name in MODELS:
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        if turns_otherwise(models[name]["config"]):
            continue
        try:
            rows[name], gap, seed = describe(models[name])
            print(f"{name:28} {len(rows[name]['ids']):2} tokens, gap {gap:.1e}, seed {seed}", flush=True)
        except Exception as e:  # the others are worth having
            print(f"{name}: {type(e).__name__}: {e}", file=sys.stderr, flush=True)
            failed.append(name)
    path.write_text("{\n" + ",\n".join(json.dumps(n) + ": " + json.dumps(rows[n]) for n in MODELS if n in rows) + "\n}\n")
    if failed:
        raise SystemExit("failed: " + " ".join(failed))


if __name__ == "__main__":
    main()
