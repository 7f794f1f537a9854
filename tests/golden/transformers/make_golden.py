# SPDX-License-Identifier: Apache-2.0
"""Writes small Mamba2 checkpoints and what Transformers computes with them on a CPU in fp32.

README.md has the commands. Everything is drawn from fixed seeds. One group only: Transformers
normalizes over all channels where the published models normalize group by group.
"""

import json
import os
import shutil

import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
N_TOKENS = 151  # two chunks of 64 and a ragged one, and a last target

COMMON = dict(hidden_size=16, num_hidden_layers=2, state_size=8, head_dim=8, n_groups=1,
              vocab_size=48, chunk_size=32, rms_norm=True, residual_in_fp32=True)
CASES = {
    "tied": dict(num_heads=4, expand=2, conv_kernel=4, use_bias=False, use_conv_bias=True,
                 tie_word_embeddings=True),
    "untied": dict(num_heads=8, expand=4, conv_kernel=4, use_bias=True, use_conv_bias=False,
                   tie_word_embeddings=False, time_step_limit=(0.01, 0.06)),
}
STORED = {"tied": torch.float32, "untied": torch.bfloat16}


def fill(model, generator):
    """Numbers of the size that training leaves, in every tensor, also those that start at 0 or 1."""
    for name, tensor in model.named_parameters():
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("A_log"):
            value = torch.log(1.0 + 15.0 * torch.rand(tensor.shape, generator=generator))
        elif name.endswith("dt_bias"):
            value = -4.0 + noise
        elif name.endswith("norm.weight") or name.endswith("norm_f.weight") or name.endswith(".D"):
            value = 1.0 + 0.2 * noise
        elif tensor.dim() == 1:
            value = 0.2 * noise
        else:
            value = noise / tensor[0].numel() ** 0.5
        tensor.data.copy_(value)


def make(name, options):
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    generator = torch.Generator().manual_seed(1)
    model = transformers.Mamba2ForCausalLM(transformers.Mamba2Config(**COMMON, **options)).eval()
    fill(model, generator)
    model.to(STORED[name]).save_pretrained(folder)
    os.remove(os.path.join(folder, "generation_config.json"))
    # The file's numbers; all arithmetic in fp32.
    model = transformers.Mamba2ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(0, COMMON["vocab_size"], (1, N_TOKENS), generator=generator)
    with torch.no_grad():
        logits = model(ids).logits[0].double()
        # Its cached decode knows no dt limits.
        if "time_step_limit" not in options:
            error = (logits - step_by_step(model, ids)).abs().max().item()
            assert error < 1e-4, f"{name}: prefill and cached decode disagree by {error}"
    nll = -torch.log_softmax(logits[:-1], -1).gather(1, ids[0, 1:, None])[:, 0]
    with open(os.path.join(folder, "expected.json"), "w", encoding="utf-8") as file:
        json.dump({
            "transformers": transformers.__version__,
            "torch": torch.__version__.split("+")[0],
            "ids": ids[0].tolist(),
            "nll": [round(x, 7) for x in nll.tolist()],
            "logits": [round(x, 6) for x in logits[-1].tolist()],
        }, file)
        file.write("\n")


def step_by_step(model, ids):
    cache = None
    out = []
    for t in range(ids.shape[1]):
        result = model(ids[:, t:t + 1], cache_params=cache, use_cache=True,
                       cache_position=torch.tensor([t]))
        cache = result.cache_params
        out.append(result.logits[0, -1].double())
    return torch.stack(out)


if __name__ == "__main__":
    torch.manual_seed(0)
    for case_name, case_options in CASES.items():
        make(case_name, case_options)
