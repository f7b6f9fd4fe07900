#!/usr/bin/env python3
"""quantized_table.h: tensors as published models store them in 8 and 4 bits, and what transformers makes of them in float32 and
bfloat16: Fp8Dequantize (DeepSeek-V3) and convert_moe_packed_tensors (gpt-oss).

    make_quantized.py > quantized_table.h        with torch 2.15.0, transformers 5.24.0
"""

import torch
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import convert_moe_packed_tensors


def rows(name, kind, values, digits):
    print("static const %s %s[] = {" % (kind, name))
    for i in range(0, len(values), 12):
        print("    " + " ".join("0x%0*x," % (digits, v) for v in values[i : i + 12]))
    print("};")


def floats(name, x):
    rows(name, "uint32_t", [v & 0xFFFFFFFF for v in x.float().contiguous().view(torch.int32).flatten().tolist()], 8)


def halves(name, x):
    rows(name, "uint16_t", [v & 0xFFFF for v in x.contiguous().view(torch.int16).flatten().tolist()], 4)


def main():
    torch.manual_seed(15)
    print("/* Made by make_quantized.py: what transformers computes. */")
    print("/* clang-format off */")
    # every byte once, 16 x 16 in blocks of 4 x 8
    codes = torch.arange(256, dtype=torch.uint8)[torch.randperm(256)].reshape(16, 16)
    scale = torch.randn(4, 2) * torch.tensor([1e-4, 1.0]) + 1e-5
    to_float = Fp8Dequantize(None)._dequantize_one
    fp8 = codes.view(torch.float8_e4m3fn)
    print("enum { FP8_ROWS = 16, FP8_COLUMNS = 16, FP8_BLOCK_ROWS = 4, FP8_BLOCK_COLUMNS = 8 };")
    rows("fp8_codes", "uint8_t", codes.flatten().tolist(), 2)
    floats("fp8_scales", scale)
    floats("fp8_float32", to_float(fp8, scale, torch.float32))
    halves("fp8_bfloat16", to_float(fp8, scale, torch.bfloat16))
    # powers of two, the smallest and the largest among them; 255 is NaN
    power = torch.tensor([[0, 1], [100, 127], [128, 200], [254, 255]], dtype=torch.uint8)
    rows("fp8_powers", "uint8_t", power.flatten().tolist(), 2)
    floats("fp8_by_powers", to_float(fp8, power.view(torch.float8_e8m0fnu), torch.float32))
    # (experts, rows, groups, 16) and the powers of two of groups
    blocks = torch.randint(0, 256, (2, 6, 2, 16), dtype=torch.uint8)
    blocks[0, 0, 0] = torch.arange(16) * 17
    scales = torch.randint(110, 135, (2, 6, 2), dtype=torch.uint8)
    scales[0, :4, 1] = torch.tensor([0, 1, 253, 255])
    print("enum { FP4_EXPERTS = 2, FP4_ROWS = 6, FP4_GROUPS = 2 };")
    rows("fp4_blocks", "uint8_t", blocks.flatten().tolist(), 2)
    rows("fp4_scales", "uint8_t", scales.flatten().tolist(), 2)
    print("/* (experts, 32 groups, rows) */")
    floats("fp4_float32", convert_moe_packed_tensors(blocks, scales, dtype=torch.float32))
    halves("fp4_bfloat16", convert_moe_packed_tensors(blocks, scales, dtype=torch.bfloat16))


if __name__ == "__main__":
    main()
