"""Runs llama.cpp's own script for a model whose vocabulary it does not know: convert_hf_to_gguf.py SCRIPT ARGUMENTS. Only the name
of the vocabulary's pattern is replaced."""
import os, runpy, sys

script = sys.argv[1]
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(script))
import conversion.base

conversion.base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
runpy.run_path(script, run_name="__main__")
