# SPDX-License-Identifier: Apache-2.0
"""CLIP's text tower. Names are transformers' CLIPTextModel (`text_model. ...`).

Causal mask only; padding is attended like any token. clip_skip n stops n layers early; the final
norm always runs. Origin: openai/CLIP (MIT), transformers CLIPTextModel.
"""
import torch
from torch import nn
import torch.nn.functional as F

ACTIVATIONS = {"quick_gelu": lambda x: x * torch.sigmoid(1.702 * x), "gelu": F.gelu}


class Embeddings(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.token_embedding = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.position_embedding = nn.Embedding(config["max_position_embeddings"], config["hidden_size"])

    def forward(self, ids):
        return self.token_embedding(ids) + self.position_embedding.weight[:ids.shape[1]]


class SelfAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for f in (self.q_proj, self.k_proj, self.v_proj))
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        p = scores.masked_fill(~causal, -torch.inf).softmax(-1).to(v.dtype)
        return self.out_proj((p @ v).transpose(1, 2).flatten(-2))


class Mlp(nn.Module):
    def __init__(self, width, inner, activation):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x):
        return self.fc2(self.activation(self.fc1(x)))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config["hidden_size"]
        self.self_attn = SelfAttention(width, config["num_attention_heads"])
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = Mlp(width, config["intermediate_size"], config["hidden_act"])

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))


class TextModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config["hidden_size"])


class ClipText(nn.Module):
    """`config` is the "text" section of model.json."""

    def __init__(self, config):
        super().__init__()
        self.text_model = TextModel(config)
        self.num_layers = config["num_hidden_layers"] - config.get("clip_skip", 0)

    def forward(self, ids):
        """ids [B, T] -> [B, T, C]"""
        x = self.text_model.embeddings(ids)
        for layer in self.text_model.encoder.layers[:self.num_layers]:
            x = layer(x)
        return self.text_model.final_layer_norm(x)
