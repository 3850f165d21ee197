"""Runs AutoGPTQ's own class on one Linear with random data: autogptq_linear.py UNPACKED_WHEEL KxN TOKENS; prints seconds as JSON.
Only its quantization module is imported, because the rest requires an old transformers."""
import importlib, json, logging, os, sys, time, types
import torch

wheel, shape, tokens = sys.argv[1], *sys.argv[2:4]
k, n = map(int, shape.split("x"))
torch.set_num_threads(2)
torch.cuda.synchronize = lambda *_: None
package = types.ModuleType("auto_gptq")
package.__path__ = [os.path.join(wheel, "auto_gptq")]
sys.modules["auto_gptq"] = package
logging.disable(logging.CRITICAL)
gptq = importlib.import_module("auto_gptq.quantization.gptq")
quantizer = importlib.import_module("auto_gptq.quantization.quantizer")

torch.manual_seed(1)
linear = torch.nn.Linear(k, n, bias=False)
x = torch.randn(1, 2048, k)
with torch.no_grad():
    solver = gptq.GPTQ(linear)
    solver.quantizer = quantizer.Quantizer()
    solver.quantizer.configure(4, perchannel=True, sym=True, mse=False)
    start = time.perf_counter()
    for _ in range(int(tokens) // 2048):
        solver.add_batch(x, None)
    hessian = time.perf_counter() - start
    solver.fasterquant(percdamp=0.01, group_size=128, actorder=False, static_groups=False)
    whole = time.perf_counter() - start
print(json.dumps({"hessian": hessian, "seconds": whole}))
