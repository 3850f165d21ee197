"""Trains a LoRA adapter with PEFT for the other scripts of this folder; run it with torchrun.

    torchrun --nproc-per-node 2 train_peft.py --model FOLDER --data FILE --output FOLDER [--trainer peft|trl] [--steps 6]

FILE has lines {"messages": [{"role", "content"}, …]} that end with an answer. `peft` is transformers' Trainer with labels for the
last answer only; `trl` is SFTTrainer on prompts and completions. Processes exchange gradients through gloo, on the processor.
"""
import argparse
import json

import datasets
import peft
import torch
import transformers

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--trainer", choices=["peft", "trl"], default="peft")
    parser.add_argument("--steps", type=int, default=6)
    return parser.parse_args()


def main():
    options = arguments()
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    lora = peft.LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=PROJECTIONS)
    rows = [json.loads(line)["messages"] for line in open(options.data, encoding="utf-8")]
    settings = dict(
        output_dir=options.output + "-work", max_steps=options.steps, per_device_train_batch_size=2, learning_rate=2e-3,
        logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, ddp_backend="gloo", seed=360,
        lr_scheduler_type="constant")
    if options.trainer == "trl":
        import trl
        data = datasets.Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in rows])
        trainer = trl.SFTTrainer(
            model=model, args=trl.SFTConfig(**settings, max_length=256, bf16=False), train_dataset=data, peft_config=lora,
            processing_class=tokenizer)
    else:
        def ids(row):
            prompt = tokenizer.apply_chat_template(row[:-1], tokenize=False, add_generation_prompt=True)
            whole = tokenizer.apply_chat_template(row, tokenize=False)
            prompt = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            whole = tokenizer(whole, add_special_tokens=False)["input_ids"]
            return {"input_ids": whole, "labels": [-100] * len(prompt) + whole[len(prompt):]}
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        trainer = transformers.Trainer(
            model=peft.get_peft_model(model, lora), args=transformers.TrainingArguments(**settings),
            train_dataset=datasets.Dataset.from_list([ids(row) for row in rows]),
            data_collator=transformers.DataCollatorForSeq2Seq(tokenizer))
    trainer.train()
    if trainer.is_world_process_zero():
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        print("losses", json.dumps(losses))
    trainer.save_model(options.output)


if __name__ == "__main__":
    main()
