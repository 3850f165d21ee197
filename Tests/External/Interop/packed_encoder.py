"""Computes encoders and cross-encoders in numpy from a .zhinao file, beside read_packed.py: an implementation that shares nothing with
the toolchain's. It was made from Formats/packed-model.md and the paper (Devlin et al., arXiv:1810.04805), and computes in fp64."""
import json, math, struct
import numpy as np

erf = np.vectorize(math.erf, otypes=[np.float64])
ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
}
RECORD = ".zhinao/self-check.bin"


class PackedEncoder:
    def __init__(self, packed):
        self.packed = packed
        self.config = self.json("config.json")
        assert self.config["model_type"] == "bert", self.config["model_type"]
        self.prefix = "bert." if "bert.embeddings.word_embeddings.weight" in packed.tensors else ""
        self.tensors = {}

    def json(self, name):
        part = self.packed.files.get(name)
        return None if part is None else json.loads(self.packed.bytes(part["offset"], part["bytes"]))

    def tensor(self, name):
        if name not in self.tensors:
            self.tensors[name] = self.packed.tensor(name).astype(np.float64)
        return self.tensors[name]

    def linear(self, x, name):
        return x @ self.tensor(name + ".weight").T + self.tensor(name + ".bias")

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.config["layer_norm_eps"])
        return x * self.tensor(name + ".weight") + self.tensor(name + ".bias")

    def states(self, ids, types):
        """The states [tokens, hidden] after each layer."""
        p, heads = self.prefix, self.config["num_attention_heads"]
        words, positions, kinds = (self.tensor(f"{p}embeddings.{n}_embeddings.weight") for n in ("word", "position", "token_type"))
        x = self.norm(words[ids] + kinds[types] + positions[:len(ids)], p + "embeddings.LayerNorm")
        found = []
        for layer in range(self.config["num_hidden_layers"]):
            q = f"{p}encoder.layer.{layer}."
            parts = [self.linear(x, f"{q}attention.self.{n}").reshape(len(ids), heads, -1).transpose(1, 0, 2)
                     for n in ("query", "key", "value")]
            scores = parts[0] @ parts[1].transpose(0, 2, 1) / math.sqrt(parts[0].shape[-1])
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            mixed = (scores / scores.sum(-1, keepdims=True) @ parts[2]).transpose(1, 0, 2).reshape(len(ids), -1)
            x = self.norm(x + self.linear(mixed, q + "attention.output.dense"), q + "attention.output.LayerNorm")
            inner = ACTIVATIONS[self.config["hidden_act"]](self.linear(x, q + "intermediate.dense"))
            x = self.norm(x + self.linear(inner, q + "output.dense"), q + "output.LayerNorm")
            found.append(x)
        return found

    @property
    def classifies(self):
        return "classifier.weight" in self.packed.tensors

    def labels(self, state):
        """What the classifier makes of the last state of the first token."""
        return self.linear(np.tanh(self.linear(state, self.prefix + "pooler.dense")), "classifier")

    def vector(self, ids, types):
        """What sentence-transformers' files inside say: pooling and normalization."""
        x, normalized, pooled = self.states(ids, types)[-1], False, None
        for module in self.json("modules.json"):
            kind = module["type"].rsplit(".", 1)[-1]
            if kind == "Pooling":
                pooling = self.json(module["path"] + "/config.json")
                modes = {k for k, v in pooling.items() if k.startswith("pooling_mode_") and v is True}
                assert modes in ({"pooling_mode_cls_token"}, {"pooling_mode_mean_tokens"}), modes
                pooled = x[0] if modes == {"pooling_mode_cls_token"} else x.mean(0)
            elif kind == "Normalize":
                normalized = True
            else:
                assert kind == "Transformer", f"{kind} is not computed here"
        return pooled / np.linalg.norm(pooled) if normalized else pooled

    def prompt(self):
        """What is put before a text that is no query."""
        settings = self.json("config_sentence_transformers.json") or {}
        prompts = settings.get("prompts") or {}
        for name in ("document", "passage", "corpus", settings.get("default_prompt_name")):
            if name in prompts:
                return prompts[name]
        return ""

    def self_check(self):
        """The largest difference from the self-check record as a part of the largest magnitude of its vector, and the tolerance."""
        part = self.packed.files[RECORD]
        raw = self.packed.bytes(part["offset"], part["bytes"])
        magic, version, sequences, length, layers, hidden, exact, _ = struct.unpack("<4s5I2f", raw[:32])
        assert (magic, version) == (b"ZNSC", 1), "P14"
        ids = np.frombuffer(raw, "<u4", sequences * length, 32).reshape(sequences, length)
        outputs = len(self.tensor("classifier.bias")) if self.classifies else hidden
        values = np.frombuffer(raw, "<f4", offset=32 + ids.nbytes).reshape(sequences, layers * hidden + outputs)
        largest = 0
        for tokens, recorded in zip(ids, values):
            states = self.states(tokens, np.zeros(length, int))
            last = self.labels(states[-1][0]) if self.classifies else states[-1].mean(0)
            expected = [*(s[0] for s in states), last]
            given = [*recorded[:layers * hidden].reshape(layers, hidden), recorded[layers * hidden:]]
            assert len(expected) == len(given), "P14"
            largest = max(largest, *(np.abs(e - g).max() / np.abs(g).max() for e, g in zip(expected, given)))
        return float(largest), exact
