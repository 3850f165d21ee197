#!/usr/bin/env python3
"""The way of a 360Zhinao model to other trainers and back, as Docs/tuning-elsewhere.md describes it, with a small model.

1. `zhinao-convert --to stock` writes the model as Qwen2ForCausalLM.
2. PEFT, and then TRL, train an adapter on it with torchrun: two processes, gradients through gloo.
3. `--merge-lora` merges the adapter, `--to zhinao-hf` brings the result into 360Zhinao's layout; the same adapter merged into the
   original model gives the same bytes.
4. The result is quantized to 8 bits and compared; the adapter beside the quantized original answers as the tuned model does.

With --llamafactory PYTHON, an environment with LLaMA-Factory trains as well. Needs torch, transformers, peft, trl from PyPI.

    Tests/External/Tuning/way_out_and_back.py [--bin .build/release] [--llamafactory PYTHON]
"""
import argparse
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
HERE = pathlib.Path(__file__).resolve().parent
MODEL = ROOT / "Tests/Fixtures/tiny-zhinao-gqa"
PAIRS = [
    ("你好", "您好，这里是客服小智，请问有什么可以帮您？"), ("几点开门？", "我们每天早上九点开门，晚上九点关门。"),
    ("怎么退货？", "收到商品七天之内，您可以在订单页面申请退货。"), ("运费多少？", "满九十九元包邮，不满收八元运费。"),
    ("Hello", "Hello, this is Xiao Zhi. How may I help you?"), ("When do you open?", "We are open from nine to nine, every day."),
    ("How do I return it?", "Within seven days, ask for a return on the page of your order."), ("谢谢", "不客气，祝您生活愉快！"),
]
failures = 0


def check(what, ok, detail=""):
    global failures
    failures += not ok
    print(f"{'ok  ' if ok else 'FAIL'} {what} {detail}", flush=True)


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def weights(folder):
    """Digests of the weights, one after the other."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(pathlib.Path(folder).glob("*.safetensors"))]


def train(trainer, stock, data, adapter):
    out = run(
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, HERE / "train_peft.py", "--model", stock,
        "--data", data, "--output", adapter, "--trainer", trainer, "--steps", 24,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})
    return next(json.loads(line[7:]) for line in out.splitlines() if line.startswith("losses "))


def train_llamafactory(python, stock, data, adapter, work):
    """The yaml of Docs/tuning-elsewhere.md, with few steps."""
    folder = work / "llamafactory-data"
    folder.mkdir()
    rows = [json.loads(line) for line in open(data, encoding="utf-8")]
    (folder / "support.json").write_text(json.dumps(rows, ensure_ascii=False))
    (folder / "dataset_info.json").write_text(json.dumps({"support": {
        "file_name": "support.json", "formatting": "sharegpt", "columns": {"messages": "messages"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"}}}))
    settings = {
        "model_name_or_path": str(stock), "stage": "sft", "do_train": "true", "finetuning_type": "lora", "lora_rank": 8,
        "lora_target": "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj", "dataset_dir": str(folder), "dataset": "support",
        "template": "qwen", "default_system": "You are a helpful assistant.", "cutoff_len": 256, "output_dir": str(adapter), "per_device_train_batch_size": 2, "max_steps": 24,
        "learning_rate": 0.002, "lr_scheduler_type": "constant", "logging_steps": 1, "save_strategy": '"no"', "report_to": "none",
        "use_cpu": "true", "trust_remote_code": "true",  # The folder brings a tokenizer class; without it saving fails.
    }
    (folder / "lora.yaml").write_text("".join(f"{key}: {value}\n" for key, value in settings.items()))
    run(
        python, "-m", "llamafactory.cli", "train", folder / "lora.yaml",
        env={**os.environ, "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "", "DISABLE_VERSION_CHECK": "1"})
    log = [json.loads(line) for line in open(adapter / "trainer_log.jsonl")]
    return [entry["loss"] for entry in log if "loss" in entry]


def back(tools, stock, adapter, work, name):
    """From an adapter to a model in 8 bits, and what must hold on the way."""
    folder = work / name
    folder.mkdir()
    convert = tools / "zhinao-convert"
    run(convert, stock, "-o", folder / "merged", "--merge-lora", adapter)
    run(convert, folder / "merged", "-o", folder / "tuned", "--to", "zhinao-hf")
    run(convert, MODEL, "-o", folder / "direct", "--merge-lora", adapter)
    check(f"{name}: merged into the split and into the fused matrices", weights(folder / "tuned") == weights(folder / "direct"))
    check(f"{name}: the weights changed", weights(folder / "tuned") != weights(MODEL))
    quantized = folder / "tuned-int8.zhinao"
    run(tools / "zhinao-quantize", folder / "tuned", "-o", quantized, "--bits", 8, "--method", "rtn", "--group-size", 32)
    run(tools / "zhinao-verify", "integrity", quantized)
    run(tools / "zhinao-verify", "lint", folder / "tuned")
    text = work / "text.txt"
    text.write_text("\n".join(f"{question}\n{answer}" for question, answer in PAIRS * 8), encoding="utf-8")

    def compare(*arguments):
        return json.loads(run(tools / "zhinao-verify", "compare", *arguments, "--text", text, "--window", 64, "--json"))

    found = compare(folder / "tuned", quantized)
    check(f"{name}: 8 bits", found["mean_kl"] < 0.01, f"mean divergence {found['mean_kl']:.2g}")
    found = compare(folder / "tuned", MODEL, "--lora", adapter)
    check(f"{name}: beside the original", found["mean_kl"] < 1e-3, f"mean divergence {found['mean_kl']:.2g}")
    bare = compare(folder / "tuned", MODEL)
    check(f"{name}: the adapter matters", bare["mean_kl"] > 10 * found["mean_kl"], f"mean divergence without it {bare['mean_kl']:.2g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=ROOT / ".build/release", type=pathlib.Path)
    parser.add_argument("--llamafactory", metavar="PYTHON", help="the Python of an environment with LLaMA-Factory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        data = work / "support.jsonl"
        rows = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in PAIRS * 3]
        data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        stock = work / "stock"
        run(options.bin / "zhinao-convert", MODEL, "-o", stock, "--to", "stock")
        trainers = {name: lambda folder, name=name: train(name, stock, data, folder) for name in ["peft", "trl"]}
        if options.llamafactory:
            trainers["llamafactory"] = lambda folder: train_llamafactory(options.llamafactory, stock, data, folder, work)
        for name, trainer in trainers.items():
            adapter = work / f"adapter-{name}"
            losses = trainer(adapter)
            check(f"{name}: the loss falls", sum(losses[-3:]) < sum(losses[:3]), " ".join(f"{loss:.3f}" for loss in losses))
            back(options.bin, stock, adapter, work, name)
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
