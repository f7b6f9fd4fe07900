#!/usr/bin/env python3
"""Makes rope_table.h, the table of test_op: inverse frequencies and the factor of cos and sin as transformers gives them.

    env/bin/python make_rope.py > rope_table.h       (env: as in tests/num/reference/make_reference.py)
"""

import sys

import transformers
from transformers import LlamaConfig, Phi3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

SHORT, LONG = [1.0, 1.05, 1.25, 2.0], [1.1, 2.5, 8.0, 31.5]
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=8192)
YARN = dict(rope_type="yarn", factor=40, original_max_position_embeddings=4096)

# theta, width of a head, share that turns, max_position_embeddings, tokens, the parameters of the kind
CASES = [
    (1e4, 16, 1.0, 64, 64, dict(rope_type="linear", factor=2.5)),
    (1e4, 16, 1.0, 64, 64, dict(rope_type="dynamic", factor=4.0)),
    (1e4, 16, 1.0, 64, 200, dict(rope_type="dynamic", factor=4.0)),
    (5e5, 32, 1.0, 131072, 64, LLAMA3),
    (5e5, 32, 0.5, 131072, 64, dict(LLAMA3, factor=32.0)),
    (1e4, 32, 1.0, 163840, 64, dict(YARN, beta_fast=32, beta_slow=1, mscale=1.0, mscale_all_dim=1.0)),
    (1e4, 32, 1.0, 163840, 64, dict(YARN, mscale=0.707, mscale_all_dim=1.0)),
    (1e6, 32, 0.75, 32768, 64, dict(YARN, factor=4.0, original_max_position_embeddings=8192)),
    (15e4, 32, 1.0, 131072, 64, dict(YARN, factor=32.0, truncate=False)),
    (1e4, 16, 1.0, 131072, 64, dict(YARN, factor=None, attention_factor=1.2, beta_fast=16, beta_slow=2)),
    (1e2, 16, 1.0, 163840, 64, YARN),  # the ramp ends behind the last pair
    (1e4, 16, 0.5, 131072, 64, dict(rope_type="longrope", short_factor=SHORT, long_factor=LONG)),
    (1e4, 16, 0.5, 131072, 5000, dict(rope_type="longrope", short_factor=SHORT, long_factor=LONG)),
    (1e4, 16, 0.5, 8192, 64, dict(rope_type="longrope", short_factor=SHORT, long_factor=LONG, attention_factor=1.5)),
]
KEYS = dict(factor="factor", low_freq_factor="low_freq_factor", high_freq_factor="high_freq_factor",
            original_max_position_embeddings="original", beta_fast="beta_fast", beta_slow="beta_slow",
            attention_factor="attention_factor", mscale="mscale", mscale_all_dim="mscale_all_dim")


def row(theta, width, share, positions, tokens, given):
    kind, given = given["rope_type"], dict(given)
    if kind == "longrope":
        given["original_max_position_embeddings"] = 4096
    config = (Phi3Config if kind == "longrope" else LlamaConfig)(
        hidden_size=2 * width, num_attention_heads=2, num_key_value_heads=2, head_dim=width, max_position_embeddings=positions,
        **(dict(original_max_position_embeddings=4096) if kind == "longrope" else {}),
        rope_parameters=dict(given, rope_theta=theta, partial_rotary_factor=share), pad_token_id=0)
    inv_freq, scale = ROPE_INIT_FUNCTIONS[kind](config, None, seq_len=tokens)
    dim = 2 * len(inv_freq)
    fields = [f".kind = IR_ROPE_{kind.upper()}", f".theta = {theta:.9g}", f".dim = {dim}", f".max_positions = {positions}"]
    fields += [f".{c} = {given[k]:.9g}" for k, c in KEYS.items() if given.get(k) is not None]
    if given.get("truncate") is False:
        fields.append(".no_truncate = true")
    if kind == "longrope":
        fields += [".short_factor = rope_short", ".long_factor = rope_long"]
    numbers = ", ".join(f"{x:.9g}" for x in inv_freq.tolist())
    return f"{{ {{ {', '.join(fields)} }}, {tokens}, {scale:.9g}, {{ {numbers} }} }},"


def main():
    print(f"/* Made by make_rope.py with transformers {transformers.__version__}: scaling, tokens, factor of cos and sin, inv_freq. */")
    print("/* clang-format off */")
    print(f"static const double rope_short[] = {{ {', '.join(map(str, SHORT))} }}, rope_long[] = {{ {', '.join(map(str, LONG))} }};")
    print("static const struct rope_case {\n    struct ir_rope r;\n    uint32_t t;\n    double scale;\n    float inv_freq[16];\n} rope_cases[] = {")
    for case in CASES:
        print("    " + row(*case))
    print("};\n/* clang-format on */")


sys.exit(main())
