"""Trains the same LoRA adapter with zhinao-tune and with PEFT on torch, in fp32, and compares losses, speed and memory.

train_beside_peft.py MODEL --data FILE [--steps 200] [--batch-size 4] [--max-length 512] [--threads 2] [OPTION ...]
MODEL is a folder that transformers loads. PEFT makes the first values; zhinao-tune begins with them (--init-from), says which rows each step had, and PEFT
trains on the same rows in the same order. Needs torch, transformers and peft; uses .build/release. Other options go to zhinao-tune."""

import argparse, json, os, resource, subprocess, sys, tempfile, time

root = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".."))
tool = os.path.join(root, ".build/release/zhinao-tune")
parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("--data", required=True)
parser.add_argument("--steps", type=int, default=200)
parser.add_argument("--batch-size", type=int, default=4)
parser.add_argument("--max-length", type=int, default=512)
parser.add_argument("--rank", type=int, default=8)
parser.add_argument("--learning-rate", type=float, default=2e-4)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--worker", help=argparse.SUPPRESS)
parser.add_argument("--tolerance", type=float, default=0.005, help="of the mean loss of ten steps")
arguments, options = parser.parse_known_args()
targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def peft_model():
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1024)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
    return get_peft_model(model, LoraConfig(r=arguments.rank, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM"))


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def worker(folder):
    """What torch does, in a process of its own, so that its memory is its own."""
    import torch
    from transformers import get_cosine_schedule_with_warmup

    model = peft_model()
    model.train()
    plan = json.load(open(f"{folder}/plan.json"))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=arguments.learning_rate, weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, plan["warm_up_steps"], len(plan["steps"]))
    losses, norms, seconds, tokens = [], [], 0.0, 0
    for rows in plan["steps"]:
        some = [plan["rows"][row] for row in rows]
        longest = max(len(row["input_ids"]) for row in some)
        ids = torch.tensor([row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in some])
        labels = torch.tensor([row["labels"] + [-100] * (longest - len(row["labels"])) for row in some])
        mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in some])
        start = time.time()
        optimizer.zero_grad()
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(parameters, 1.0)))
        optimizer.step()
        schedule.step()
        seconds += time.time() - start
        tokens += int(mask.sum())
        losses.append(loss.item())
        print(f"torch: step {len(losses)}, loss {losses[-1]:.4f}", file=sys.stderr, flush=True)
    json.dump({"losses": losses, "norms": norms, "tokens_per_second": tokens / seconds, "peak": peak()}, open(f"{folder}/torch.json", "w"))
    model.save_pretrained(f"{folder}/torch")


if arguments.worker:
    if os.path.exists(f"{arguments.worker}/plan.json"):
        worker(arguments.worker)
    else:
        peft_model().save_pretrained(f"{arguments.worker}/start")
    sys.exit()

# This process stays small: the system counts the memory of a process that starts another as the other's peak.
again = [sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--worker"]

with tempfile.TemporaryDirectory() as folder:
    subprocess.run([*again, folder], check=True)
    common = [tool, arguments.model, "--data", arguments.data, "--max-length", str(arguments.max_length), "--batch-size", str(arguments.batch_size),
              "--steps", str(arguments.steps), "--learning-rate", str(arguments.learning_rate), "--threads", str(arguments.threads),
              "--init-from", f"{folder}/start", *options]
    rows = [json.loads(line) for line in subprocess.run([*common, "--print-rows"], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()]
    run = subprocess.run([*common, "--output", f"{folder}/adapter", "--json"], check=True, stdout=subprocess.PIPE, text=True)
    ours = json.loads(run.stdout)
    steps = [entry for entry in ours["log"] if "loss" in entry]
    json.dump({"rows": [row for row in rows if row["set"] == "train"], "steps": [step["rows"] for step in steps],
               "warm_up_steps": -(-3 * arguments.steps // 100)}, open(f"{folder}/plan.json", "w"))
    subprocess.run([*again, folder], check=True)
    theirs = json.load(open(f"{folder}/torch.json"))
    worst = max(abs(a["loss"] - b) / b for a, b in zip(steps, theirs["losses"]))
    windows = [(sum(step["loss"] for step in steps[i:i + 10]), sum(theirs["losses"][i:i + 10])) for i in range(0, len(steps), 10)]
    curve = max(abs(a - b) / b for a, b in windows)
    norms = max(abs(a["grad_norm"] - b) / b for a, b in zip(steps, theirs["norms"]))
    print(f"{len(steps)} steps of {arguments.batch_size} rows: loss {steps[0]['loss']:.4f} to {steps[-1]['loss']:.4f}, torch "
          f"{theirs['losses'][0]:.4f} to {theirs['losses'][-1]:.4f}")
    print(f"largest difference: {curve:.4%} of ten steps' mean loss, {worst:.4%} of a step's, {norms:.4%} of a gradient norm")
    print(f"speed: {ours['tokens_per_second']:.1f} tokens/s, torch {theirs['tokens_per_second']:.1f}: "
          f"{ours['tokens_per_second'] / theirs['tokens_per_second']:.2f} times")
    print(f"peak memory: {ours['peak_memory_bytes'] / 1e6:.0f} MB, torch {theirs['peak'] / 1e6:.0f} MB: "
          f"{ours['peak_memory_bytes'] / theirs['peak']:.2f} times")
    if curve > arguments.tolerance:
        sys.exit("FAILED: another curve")
