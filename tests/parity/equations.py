"""MiniCPM and InternLM2, of which transformers has no classes: their equations in PyTorch, under the names that their published files have
(openbmb/MiniCPM-2B, internlm/internlm2-7b). x is computed in its own type, norms and rotations of bfloat16 in float32."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def wide(x):
    return x.float() if x.dtype == torch.bfloat16 else x


class Norm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        h = wide(x)
        return self.weight * (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype)


def frequencies(c, dim, t):
    theta, scaling = c.get("rope_theta", 10000.0), c.get("rope_scaling") or {}
    longest = c.get("max_position_embeddings", 2048)
    if scaling.get("type") == "dynamic" and t > longest:
        theta *= (scaling["factor"] * t / longest - (scaling["factor"] - 1)) ** (dim / (dim - 2))
    f = theta ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    return f / scaling["factor"] if scaling.get("type") == "linear" else f


def rotate(x, c):
    """(B, heads, T, dim): elements i and i + dim/2."""
    t, dim = x.shape[-2:]
    angle = torch.arange(t, dtype=torch.float64)[:, None] * frequencies(c, dim, t)
    cos, sin = (torch.cat((f, f), -1).to(x.dtype) for f in (angle.cos(), angle.sin()))
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


def attend(q, k, v, c):
    """(B, heads, T, dim), (B, kv heads, T, dim): (B, T, heads * dim)."""
    q, k = rotate(q, c), rotate(k, c)
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    s = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    s = s + torch.full_like(s, -torch.inf).triu(1)
    y = wide(s).softmax(-1).to(q.dtype) @ v
    return y.transpose(1, 2).flatten(2)


def heads(x, n):
    return x.unflatten(-1, (n, -1)).transpose(1, 2)


def linear(a, b, bias=False):
    return nn.Linear(a, b, bias=bias)


class MiniCPM(nn.Module):
    """Factors on embeddings (scale_emb), sublayers (scale_depth / sqrt(layers)) and what the head reads (dim_model_base / width)."""

    class Attention(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.c, self.n = c, c["num_attention_heads"]
            self.kv = c.get("num_key_value_heads") or self.n
            w, d, bias = c["hidden_size"], c["hidden_size"] // self.n, c.get("attention_bias", False)
            self.q_proj, self.k_proj = linear(w, self.n * d, bias), linear(w, self.kv * d, bias)
            self.v_proj, self.o_proj = linear(w, self.kv * d, bias), linear(self.n * d, w, bias)

        def forward(self, x):
            q, k, v = heads(self.q_proj(x), self.n), heads(self.k_proj(x), self.kv), heads(self.v_proj(x), self.kv)
            return self.o_proj(attend(q, k, v, self.c))

    class Mlp(nn.Module):
        def __init__(self, c):
            super().__init__()
            w, inner = c["hidden_size"], c["intermediate_size"]
            self.gate_proj, self.up_proj, self.down_proj = linear(w, inner), linear(w, inner), linear(inner, w)

        def forward(self, x):
            return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))

    class Layer(nn.Module):
        def __init__(self, c):
            super().__init__()
            eps = c.get("rms_norm_eps", 1e-6)
            self.self_attn, self.mlp = MiniCPM.Attention(c), MiniCPM.Mlp(c)
            self.input_layernorm = Norm(c["hidden_size"], eps)
            self.post_attention_layernorm = Norm(c["hidden_size"], eps)
            self.scale = c.get("scale_depth", 1) / math.sqrt(c["num_hidden_layers"])

        def forward(self, x):
            x = x + self.self_attn(self.input_layernorm(x)) * self.scale
            return x + self.mlp(self.post_attention_layernorm(x)) * self.scale

    def __init__(self, c):
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.model.layers = nn.ModuleList(MiniCPM.Layer(c) for _ in range(c["num_hidden_layers"]))
        self.model.norm = Norm(c["hidden_size"], c.get("rms_norm_eps", 1e-6))
        self.head = None if c.get("tie_word_embeddings", True) else True
        if self.head:
            self.lm_head = linear(c["hidden_size"], c["vocab_size"])
        self.embed, self.width = c.get("scale_emb", 1), c["hidden_size"] / c.get("dim_model_base", 1)

    def forward(self, ids):
        x = self.model.embed_tokens(ids) * self.embed
        for layer in self.model.layers:
            x = layer(x)
        x = self.model.norm(x) / self.width
        return F.linear(x, self.lm_head.weight if self.head else self.model.embed_tokens.weight)


class InternLM2(nn.Module):
    """wqkv: for each key/value head its queries, then k, then v. bias: of wqkv and wo."""

    class Attention(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.c, self.n = c, c["num_attention_heads"]
            self.kv = c.get("num_key_value_heads") or self.n
            w, d, bias = c["hidden_size"], c["hidden_size"] // self.n, c.get("bias", True)
            self.wqkv, self.wo = linear(w, (self.n + 2 * self.kv) * d, bias), linear(self.n * d, w, bias)

        def forward(self, x):
            g = self.n // self.kv
            y = self.wqkv(x).unflatten(-1, (self.kv, g + 2, -1))
            q, k, v = y[..., :g, :].flatten(2, 3), y[..., g, :], y[..., g + 1, :]
            return self.wo(attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), self.c))

    class FeedForward(nn.Module):
        def __init__(self, c):
            super().__init__()
            w, inner = c["hidden_size"], c["intermediate_size"]
            self.w1, self.w3, self.w2 = linear(w, inner), linear(w, inner), linear(inner, w)

        def forward(self, x):
            return self.w2(F.silu(self.w1(x)) * self.w3(x))

    class Layer(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.attention, self.feed_forward = InternLM2.Attention(c), InternLM2.FeedForward(c)
            self.attention_norm, self.ffn_norm = (Norm(c["hidden_size"], c.get("rms_norm_eps", 1e-6)) for _ in range(2))

        def forward(self, x):
            x = x + self.attention(self.attention_norm(x))
            return x + self.feed_forward(self.ffn_norm(x))

    def __init__(self, c):
        super().__init__()
        self.model = nn.Module()
        self.model.tok_embeddings = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.model.layers = nn.ModuleList(InternLM2.Layer(c) for _ in range(c["num_hidden_layers"]))
        self.model.norm = Norm(c["hidden_size"], c.get("rms_norm_eps", 1e-6))
        self.tied = c.get("tie_word_embeddings", False)
        if not self.tied:
            self.output = linear(c["hidden_size"], c["vocab_size"])

    def forward(self, ids):
        x = self.model.tok_embeddings(ids)
        for layer in self.model.layers:
            x = layer(x)
        return F.linear(self.model.norm(x), (self.model.tok_embeddings if self.tied else self.output).weight)


CLASSES = {"minicpm": MiniCPM, "internlm2": InternLM2}
