"""Calls llama.cpp through the C interface of llama-cpp-python: logits, perplexity, greedy tokens, tokenizer."""
import ctypes, json, math
import llama_cpp as L
import numpy as np
from llama_cpp.llama_cpp import _lib

L.llama_backend_init()
silent = L.llama_log_callback(lambda *_: None)
L.llama_log_set(silent, ctypes.c_void_p(0))
_lib.ggml_backend_reg_by_name.restype = ctypes.c_void_p
# Built with BLAS, llama.cpp multiplies prompts of 32 tokens and more in fp32, whatever the type of the weights.
BLAS = bool(_lib.ggml_backend_reg_by_name(b"BLAS"))
NAME = f"llama.cpp (llama-cpp-python {L.__version__}{', BLAS' if BLAS else ''})"


class Llama:
    """A model, to be used in a `with`. `cache` is f32, without flash attention, or what llama.cpp takes unless told."""

    def __init__(self, path, context=512, threads=2, cache="f32"):
        parameters = L.llama_model_default_params()
        # Weights in an order of their own are out of BLAS's reach.
        parameters.use_extra_bufts = not BLAS
        self.model = L.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {path}")
        c = L.llama_context_default_params()
        c.n_ctx = c.n_batch = c.n_ubatch = context
        c.n_threads = c.n_threads_batch = threads
        if cache == "f32":
            c.type_k = c.type_v = 0
            c.flash_attn_type = 0
        self.context = L.llama_init_from_model(self.model, c)
        self.vocabulary = L.llama_model_get_vocab(self.model)
        self.width = L.llama_vocab_n_tokens(self.vocabulary)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        L.llama_free(self.context)
        L.llama_model_free(self.model)

    def logits(self, ids, last_only=False, first=0):
        """[tokens, vocabulary]; the cache is emptied first unless `first` tokens are in it."""
        if first == 0:
            L.llama_memory_clear(L.llama_get_memory(self.context), True)
        batch = L.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, first + i, 1, 0
            batch.logits[i] = not last_only or i == len(ids) - 1
        assert L.llama_decode(self.context, batch) == 0
        count = 1 if last_only else len(ids)
        pointer = L.llama_get_logits_ith(self.context, -1) if last_only else L.llama_get_logits(self.context)
        result = np.ctypeslib.as_array(pointer, shape=(count * self.width,)).reshape(count, -1).copy()
        L.llama_batch_free(batch)
        return result

    def perplexity(self, ids, window, count):
        """Windows on their own, tokens 2 to L scored."""
        total, scored = 0.0, 0
        for w in range(count):
            part = ids[w * window:(w + 1) * window]
            for x, token in zip(self.logits(part), part[1:]):
                x -= x.max()
                total += math.log(np.exp(x).sum(dtype=np.float64)) - float(x[token])
            scored += len(part) - 1
        return math.exp(total / scored)

    def greedy(self, ids, count):
        """Tokens, and by how much each was ahead of the second."""
        made, margins, x = [], [], self.logits(ids, last_only=True)
        for _ in range(count):
            second, first = np.partition(x[0], -2)[-2:]
            made.append(int(x[0].argmax()))
            margins.append(float(first - second))
            x = self.logits([made[-1]], last_only=True, first=len(ids) + len(made) - 1)
        return made, margins

    def tokens(self, text):
        raw = text.encode()
        room = (L.llama_token * (len(raw) + 16))()
        n = L.llama_tokenize(self.vocabulary, raw, len(raw), room, len(room), False, True)
        assert n >= 0
        return list(room[:n])

    def stops(self):
        return {i for i in range(self.width) if L.llama_vocab_is_eog(self.vocabulary, i)}
