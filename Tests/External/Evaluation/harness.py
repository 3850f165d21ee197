"""lm-eval on a folder that transformers reads, with the tasks that `zhinao-evaluate` calls choices: texts and letters."""
import json, logging, os, pathlib, time

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
LETTERS = "ABCDEFGHIJ"
# The same template as the task `choices`: the question, a line for each choice, "Answer:"; or the question alone.
STYLES = {
    "letters": {
        "doc_to_text": "{{question}}\n{% for choice in choices %}{{'" + LETTERS + "'[loop.index0]}}. {{choice}}\n{% endfor %}Answer:",
        "doc_to_choice": "{{'" + LETTERS + "'[:choices|length]|list}}",
    },
    "texts": {"doc_to_text": "{{question}}", "doc_to_choice": "choices"},
}
METRICS = ("acc", "acc_norm", "acc_bytes")


def task(name, questions, dev, shots, style, work):
    """A task of lm-eval on JSON Lines files."""
    from lm_eval.api.task import ConfigurableTask
    files = {"test": str(questions)} | ({"dev": str(dev)} if shots else {})
    examples = {"fewshot_split": "dev", "fewshot_config": {"sampler": "first_n"}} if shots else {}
    return ConfigurableTask(config={
        "task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": files, "cache_dir": str(work / "cache")}, "test_split": "test",
        "output_type": "multiple_choice", "num_fewshot": shots, "doc_to_target": "answer", **examples, **STYLES[style],
        "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in METRICS]})


def load(model, dtype, batch):
    """The model on the CPU; `batch` is a number or "auto"."""
    import torch
    from lm_eval.models.huggingface import HFLM
    logging.disable(logging.WARNING)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    return HFLM(pretrained=str(model), device="cpu", dtype=dtype, batch_size=batch)


def evaluate(lm, questions, dev, shots, style, work):
    """Results by metric, seconds of evaluation without reading the data (and those of all cores), and for each question its log likelihoods and predictions."""
    import numpy as np
    from lm_eval.evaluator import evaluate
    work = pathlib.Path(work)
    prepared = task(f"{style}_{shots}", questions, dev, shots, style, work)
    start, processor = time.perf_counter(), time.process_time()
    found = evaluate(lm, {prepared.config.task: prepared}, log_samples=True, bootstrap_iters=0)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    items = {}
    for sample in found["samples"][prepared.config.task]:
        doc = sample["doc"]
        texts = list(LETTERS[:len(doc["choices"])]) if style == "letters" else doc["choices"]
        sums = [float(response[0]) for response in sample["filtered_resps"]]
        scores = {"acc": sums, "acc_norm": [s / len(t) for s, t in zip(sums, texts)],
                  "acc_bytes": [s / len(t.encode()) for s, t in zip(sums, texts)]}
        items[doc["id"]] = {"log_likelihoods": sums, "scores": scores, "target": doc["answer"],
                            "predictions": {name: int(np.argmax(values)) for name, values in scores.items()}}
        for name in METRICS:
            assert (items[doc["id"]]["predictions"][name] == doc["answer"]) == bool(sample[name])
    results = {name.split(",")[0]: value for name, value in found["results"][prepared.config.task].items() if name.split(",")[0] in METRICS}
    return {"results": results, "seconds": seconds, "processor_seconds": processor, "items": items}


def versions():
    import lm_eval, torch, transformers
    return f"lm-eval {lm_eval.__version__}, transformers {transformers.__version__}, torch {torch.__version__}"


def main():
    """One run in a process of its own: harness.py MODEL QUESTIONS DEV SHOTS STYLE DTYPE BATCH, a JSON object on the last line."""
    import sys, tempfile
    model, questions, dev, shots, style, dtype, batch = sys.argv[1:]
    start = time.perf_counter()
    lm = load(model, dtype, batch)
    loading = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as work:
        answer = evaluate(lm, questions, dev, int(shots), style, work)
    print(json.dumps(answer | {"loading": loading, "versions": versions(), "batch": str(lm.batch_size)}))


if __name__ == "__main__":
    main()
