"""What torch.optim.AdamW, clip_grad_norm_ and transformers' schedules give: golden/optimizer.json.

optimizer_fixtures.py FOLDER"""

import json, os, sys

import torch
from transformers import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

torch.manual_seed(360)
runs = []
for settings in (
    dict(lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, norm=1.0),
    dict(lr=3e-4, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0, norm=0.0),
):
    matrix, vector = torch.nn.Parameter(torch.randn(5, 7)), torch.nn.Parameter(torch.randn(6))
    start = [p.detach().clone() for p in (matrix, vector)]
    # As transformers' Trainer groups them: vectors, which are norms, are not decayed.
    optimizer = torch.optim.AdamW(
        [{"params": [matrix], "weight_decay": settings["weight_decay"]}, {"params": [vector], "weight_decay": 0.0}],
        lr=settings["lr"], betas=settings["betas"], eps=settings["eps"])
    gradients, norms = [], []
    for step in range(20):
        for p in (matrix, vector):
            p.grad = torch.randn_like(p) * (3.0 if step % 3 else 0.01)
        gradients.append([p.grad.flatten().tolist() for p in (matrix, vector)])
        if settings["norm"]:
            norms.append(torch.nn.utils.clip_grad_norm_([matrix, vector], settings["norm"]).item())
        else:
            norms.append(torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in (matrix, vector)])).item())
        optimizer.step()
    runs.append(settings | {
        "shapes": [[5, 7], [6]], "start": [p.flatten().tolist() for p in start], "gradients": gradients, "norms": norms,
        "values": [p.detach().flatten().tolist() for p in (matrix, vector)],
        "exp_avg": [optimizer.state[p]["exp_avg"].flatten().tolist() for p in (matrix, vector)],
        "exp_avg_sq": [optimizer.state[p]["exp_avg_sq"].flatten().tolist() for p in (matrix, vector)]})

schedules = []
for name, make in (("constant", get_constant_schedule_with_warmup), ("linear", get_linear_schedule_with_warmup),
                   ("cosine", get_cosine_schedule_with_warmup)):
    for warm_up, total in ((0, 7), (3, 20), (1, 1), (5, 4)):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=5e-6)
        schedule = make(optimizer, warm_up) if name == "constant" else make(optimizer, warm_up, total)
        rates = []
        for _ in range(total):
            rates.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        schedules.append({"shape": name, "warm_up_steps": warm_up, "total_steps": total, "peak": 5e-6, "rates": rates})

with open(os.path.join(sys.argv[1], "optimizer.json"), "w", encoding="utf-8") as file:
    json.dump({"adamw": runs, "schedules": schedules}, file)
    file.write("\n")
