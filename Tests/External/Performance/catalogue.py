"""The list of measurements, shared by the script that measures (rows.py) and the one that writes Docs/performance.md
(make_document.py)."""
from typing import NamedTuple


class Measurement(NamedTuple):
    title: str
    unit: str
    # The program measured beside this toolchain in the same run; empty where the figure stands alone.
    peer: str
    # With a peer: the least ratio that the project accepts. Without: the least figure, or the largest where less is better.
    target: float | None
    less_is_better: bool = False
    # The measurement in whose row this one is shown: a share of what the machine can do at most.
    limit_of: str = ""

    def ratio(self, here, theirs):
        """How many times as fast (or as small) as the peer."""
        return theirs / here if self.less_is_better else here / theirs

    def holds(self, row):
        """Whether a row of results reaches the target; a row that was measured without its peer cannot miss it."""
        if self.target is None or self.peer and "ratio" not in row:
            return True
        if self.peer:
            return row["ratio"][0] >= self.target
        return row["here"][0] <= self.target if self.less_is_better else row["here"][0] >= self.target


MEASUREMENTS = {
    # Running a model. Int4 in groups of 128, `fast` arithmetic, KV cache in half precision; llama.cpp runs Q4_0.
    "generation-7b": Measurement("Generation 7B", "tok/s", "llama.cpp", 1.1),
    "bandwidth-7b": Measurement("Share of the read bandwidth", "%", "", 88, limit_of="generation-7b"),
    "prompt-7b": Measurement("Prompt 7B", "tok/s", "llama.cpp", 2),
    "byte-peak-7b": Measurement("Share of the byte-product peak", "%", "", 60, limit_of="prompt-7b"),
    "generation-1.8b": Measurement("Generation 1.8B", "tok/s", "llama.cpp", 1.1),
    "bandwidth-1.8b": Measurement("Share of the read bandwidth", "%", "", 88, limit_of="generation-1.8b"),
    "prompt-1.8b": Measurement("Prompt 1.8B", "tok/s", "llama.cpp", 2),
    "generation-smollm2": Measurement("Generation SmolLM2", "tok/s", "llama.cpp", 1.5),
    "prompt-smollm2": Measurement("Prompt SmolLM2", "tok/s", "llama.cpp", 2),
    "serving-1": Measurement("Serving 1 client", "tok/s", "llama-server", None),
    "serving-4": Measurement("Serving 4 clients", "tok/s", "llama-server", None),
    "serving-8": Measurement("Serving 8 clients", "tok/s", "llama-server", None),
    "serving-first-token": Measurement("First token, 1,000-token prompt", "ms", "llama-server", None, True),
    "serving-next-turn": Measurement("First token, next turn", "ms", "llama-server", None, True),
    # Quantizing. One Linear: 16,384 tokens of random data, groups of 128.
    "gptq-4096x4096": Measurement("GPTQ 4096×4096", "s", "AutoGPTQ", 3, True),
    "gptq-4096x11008": Measurement("GPTQ 4096×11008", "s", "AutoGPTQ", 3, True),
    "gptq-4096x11008+11008": Measurement("GPTQ 4096×11008, two layers", "s", "AutoGPTQ", 5, True),
    "gptq-11008x4096": Measurement("GPTQ 11008×4096", "s", "AutoGPTQ", 3, True),
    "smollm2-bf16": Measurement("Quantizing SmolLM2, bf16", "s", "GPTQModel", 5, True),
    "smollm2-fp32": Measurement("Quantizing SmolLM2, fp32", "s", "GPTQModel", 5, True),
    "smollm2-memory": Measurement("Quantizing SmolLM2, memory", "GB", "GPTQModel", 2, True),
    # Linear algebra in fp32.
    "product": Measurement("Product", "GFLOP/s", "numpy", 1.0),
    "product-peak": Measurement("Share of the fp32 peak", "%", "", 88, limit_of="product"),
    "gram": Measurement("XᵀX", "GFLOP/s", "numpy", 1.2),
    "factor-4096": Measurement("Factor 4096", "s", "torch", 2.5, True),
    "factor-11008": Measurement("Factor 11008", "s", "torch", 2.5, True),
    # Files and text.
    "perplexity-bf16": Measurement("Perplexity bf16", "tok/s", "llama-perplexity F16", 1.0),
    "perplexity-int4": Measurement("Perplexity Int4", "tok/s", "llama-perplexity Q4_0", 1.3),
    "fast-perplexity": Measurement("Perplexity of fast over exact", "%", "", 0.3, True),
    "conversion": Measurement("Conversion, copying", "s", "cp and sync", 0.8, True),
    "conversion-gguf": Measurement("Conversion, GGUF", "s", "convert_hf_to_gguf", 5, True),
    "opening": Measurement("Opening 7B", "ms", "", 50, True),
    "tokenizing": Measurement("Tokenizing", "MB/s", "tiktoken", 4),
}
