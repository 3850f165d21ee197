// GPTQ
