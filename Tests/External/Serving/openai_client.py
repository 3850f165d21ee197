"""Tests zhinao-serve with the official openai package: sync, async, streams, every field, every kind of error.
It needs the PyPI package openai."""

import asyncio, json, math, subprocess, time

import openai
from openai import AsyncOpenAI, OpenAI

from server import TINY, Server, check

HELLO = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "春天来了，"}]
TALE = "却说那老王"


def fails(kind, call, **expected):
    """`call` raises exactly this exception of the package, with these attributes."""
    try:
        call()
    except openai.OpenAIError as error:
        check(type(error) is kind, f"expected {kind.__name__}, got {type(error).__name__}: {error}")
        for name, value in expected.items():
            check(getattr(error, name) == value, f"{name} is {getattr(error, name)!r}, expected {value!r}")
        return error
    check(False, f"expected {kind.__name__}, nothing was raised")


def plain(client, model):
    answer = client.completions.create(model=model, prompt=TALE, max_tokens=24, temperature=0)
    text = answer.choices[0].text
    check(answer.object == "text_completion" and answer.model == model and len(text) >= 24, "completion")
    check(answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 24, "finish, usage")
    check(answer.usage.total_tokens == answer.usage.prompt_tokens + 24, "usage sums up")
    chat = client.chat.completions.create(model=model, messages=HELLO, max_completion_tokens=8)
    check(chat.choices[0].message.role == "assistant" and chat.usage.prompt_tokens > 20, "chat")
    parts = [{"role": "user", "content": [{"type": "text", "text": "春天"}, {"type": "text", "text": "来了，"}]}]
    joined = [{"role": "user", "content": "春天\n来了，"}]
    contents = [client.chat.completions.create(model=model, messages=HELLO[:1] + m, max_tokens=8, temperature=0)
                .choices[0].message.content for m in (parts, joined)]
    check(contents[0] == contents[1], "content in parts")
    return text


def streams(client, model, text):
    pieces, usage = [], None
    for chunk in client.completions.create(model=model, prompt=TALE, max_tokens=24, temperature=0, stream=True,
                                           stream_options={"include_usage": True}):
        if chunk.choices:
            pieces.append(chunk.choices[0].text)
            reason = chunk.choices[0].finish_reason
        usage = chunk.usage or usage
    check("".join(pieces) == text and len(pieces) > 10, "a stream is the same text in pieces")
    check(reason == "length" and usage.completion_tokens == 24, "a stream ends with a reason and usage")
    chunks = list(client.chat.completions.create(model=model, messages=HELLO, max_tokens=30, stream=True,
                                                 logit_bias={"3003": -100, "3010": -100}))
    check(chunks[0].choices[0].delta.role == "assistant", "a chat's stream begins with the role")
    check(len("".join(chunk.choices[0].delta.content or "" for chunk in chunks)) > 20, "a chat streams text")
    check(chunks[-1].choices[0].finish_reason == "length", "a chat's stream ends with a reason")
    whole = client.chat.completions.create(model=model, messages=HELLO, max_tokens=30,
                                           logit_bias={"3003": -100, "3010": -100})
    check("".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content,
          "streamed and whole chats are equal")
    with client.chat.completions.stream(model=model, messages=HELLO, max_tokens=8) as stream:
        check(stream.get_final_completion().choices[0].finish_reason in ("stop", "length"), "the stream helper")


def fields(client, model, text):
    def complete(**options):
        options = {"max_tokens": 24, "temperature": 0, **options}
        return client.completions.create(model=model, prompt=TALE, **options).choices

    def sampled(**options):
        return complete(temperature=1.2, **options)[0].text

    check(sampled(seed=7) == sampled(seed=7) and sampled(seed=7) != sampled(seed=8), "seed")
    check(sampled(seed=7, top_p=0.01) == text, "top_p near 0 is greedy")
    check(sampled(seed=7, extra_body={"top_k": 1}) == text, "top_k 1 is greedy")
    check(sampled(seed=7, extra_body={"min_p": 1.0}) == text, "min_p 1 is greedy")
    for off in (0, -1):
        check(sampled(seed=7, extra_body={"top_k": off}) == sampled(seed=7), f"top_k {off} is off")
    check(sampled(seed=7, extra_body={"do_sample": False}) == text, "do_sample false is greedy")
    check(complete(extra_body={"do_sample": True, "temperature": 1.2}, seed=7)[0].text == sampled(seed=7), "do_sample")
    check(complete(max_tokens=None, extra_body={"max_new_tokens": 5})[0].text == text[:len(
        complete(max_tokens=5)[0].text)], "max_new_tokens")
    check(complete(max_tokens=5)[0].finish_reason == "length", "max_tokens")
    check(complete(stop=text[6:8])[0].text == text[:text.index(text[6:8])], "stop")
    check(complete(stop=[text[9:11], "@@"])[0].finish_reason == "stop", "stop in a list")
    check(complete(presence_penalty=2)[0].text != text, "presence_penalty")
    check(complete(frequency_penalty=2)[0].text != text, "frequency_penalty")
    check(complete(extra_body={"repetition_penalty": 1.5})[0].text != text, "repetition_penalty")
    first = complete(logprobs=3)[0]
    token = first.logprobs.tokens[0]
    check(len(first.logprobs.top_logprobs[0]) == 3 and first.logprobs.top_logprobs[0][token] == first.logprobs.token_logprobs[0],
          "logprobs of completions")
    check(first.logprobs.text_offset[1] == len(token), "text_offset")
    choices = complete(n=3, temperature=1.2, seed=1)
    check([choice.index for choice in choices] == [0, 1, 2] and len({choice.text for choice in choices}) == 3, "n")
    check(complete(echo=True)[0].text == TALE + text, "echo")
    both = client.completions.create(model=model, prompt=[TALE, "春天"], max_tokens=4, temperature=0).choices
    check(len(both) == 2 and both[0].text == text[:len(both[0].text)], "several prompts")
    check(client.completions.create(model=model, prompt=[1, 2, 3], max_tokens=4).choices[0].text != "", "token ids")

    chat = client.chat.completions.create(model=model, messages=HELLO, max_tokens=4, logprobs=True, top_logprobs=2,
                                          logit_bias={"3003": -100, "3010": -100}, user="someone", n=2,
                                          presence_penalty=0, frequency_penalty=0, response_format={"type": "text"})
    for choice in chat.choices:
        content = choice.logprobs.content
        check(len(content) == 4 and "".join(item.token for item in content) == choice.message.content, "logprobs of chats")
        check(all(len(item.top_logprobs) == 2 and math.exp(item.logprob) <= 1 for item in content), "top_logprobs")
        check(all(bytes(item.bytes).decode() == item.token for item in content), "bytes of tokens")


def other_fields(client, model):
    """Fields that OpenAI's API does not have: each acts, or is refused by name."""
    forever = {"ignore_eos": True}

    def complete(prompt=TALE, max_tokens=24, stream=False, **extra):
        options = {key: extra.pop(key) for key in ("echo", "logprobs", "stop", "n") if key in extra}
        return client.completions.create(model=model, prompt=prompt, max_tokens=max_tokens, temperature=0, stream=stream, **options,
                                         extra_body={**forever, **extra})

    def text(**extra):
        whole = complete(**extra).choices[0].text
        streamed = "".join(chunk.choices[0].text for chunk in complete(stream=True, **extra))
        check(streamed == whole, f"{extra}: streamed {streamed!r}, whole {whole!r}")
        return whole

    def chat(**extra):
        options = {key: extra.pop(key) for key in ("logprobs", "top_logprobs", "stop") if key in extra}
        return client.chat.completions.create(model=model, messages=HELLO, max_tokens=12, temperature=0, **options,
                                              extra_body={**forever, **extra})

    base = text()
    ids = complete(return_token_ids=True).choices[0].token_ids
    check(len(ids) == 24, "return_token_ids")
    # min_tokens: the answer's own tokens may not end it before.
    check(complete(stop_token_ids=[ids[3]]).usage.completion_tokens == 3, "stop_token_ids")
    late = complete(stop_token_ids=[ids[3]], min_tokens=10)
    check(late.usage.completion_tokens >= 10, f"min_tokens: {late.usage.completion_tokens}")
    check(len(text(stop=base[4], min_tokens=20)) > len(text(stop=base[4])), "min_tokens and stop strings")
    check(text(stop=base[6:8], include_stop_str_in_output=True) == base[:base.index(base[6:8]) + 2], "include_stop_str_in_output")
    check(ids[3] not in complete(allowed_token_ids=sorted(set(ids) - {ids[3]}), return_token_ids=True).choices[0].token_ids and
          set(complete(allowed_token_ids=[300, 301], return_token_ids=True).choices[0].token_ids) <= {300, 301}, "allowed_token_ids")
    token = complete(logprobs=0, max_tokens=4).choices[0].logprobs.tokens[2]
    check(token not in complete(bad_words=[token], logprobs=0).choices[0].logprobs.tokens, "bad_words")
    end = "<|im_end|>"
    forced = {"logit_bias": {"3010": 100}, "max_tokens": 3}
    check(text(**forced) == "" and text(**forced, skip_special_tokens=False) == 3 * end, "skip_special_tokens")
    check(complete(truncate_prompt_tokens=2).usage.prompt_tokens == 2, "truncate_prompt_tokens")
    check(chat(truncate_prompt_tokens=5).usage.prompt_tokens == 5, "truncate_prompt_tokens of chats")

    # Prompts: vLLM's form, and lm-evaluation-harness's form.
    scores = chat(prompt_logprobs=2)
    check(len(scores.prompt_logprobs) == scores.usage.prompt_tokens and scores.prompt_logprobs[0] is None, "prompt_logprobs")
    scored = complete(prompt_logprobs=1, echo=True, logprobs=1, max_tokens=0).choices[0]
    lists = scored.logprobs
    check(scored.text == TALE and "".join(lists.tokens) == TALE and lists.token_logprobs[0] is None, "echo with logprobs")
    check(all(top[name] == value for top, name, value in
              list(zip(lists.top_logprobs, lists.tokens, lists.token_logprobs))[1:]), "the prompt's tokens are among the top ones")
    check([next(iter(entry.values()))["logprob"] for entry in scored.prompt_logprobs[1:]] == lists.token_logprobs[1:], "both forms")
    harness = complete(prompt=[[300, 301, 302, 303], [5, 6, 7]], max_tokens=1, logprobs=1, echo=True)
    check([len(choice.logprobs.token_logprobs) for choice in harness.choices] == [5, 4], "lm-evaluation-harness")
    check([len(choice.logprobs.top_logprobs) for choice in complete(n=2, logprobs=1, echo=True, max_tokens=1).choices]
          == 2 * [len(lists.tokens) + 1], "echo with n")

    # Parts of characters: bytes join to the text, keys are distinct, in every answer to Chinese and emoji.
    for stop in (None, base[2]):
        answer = chat(logprobs=True, top_logprobs=20, stop=stop).choices[0]
        joined = b"".join(bytes(item.bytes) for item in answer.logprobs.content)
        check(joined.decode(errors="replace") == answer.message.content, f"bytes of chats: {joined}")
    rare = complete(prompt="\U0001F600\u9F98", logprobs=20).choices[0].logprobs
    check(all(len(top) >= 20 for top in rare.top_logprobs), "distinct keys")
    check(all("\ufffd" not in name for top in rare.top_logprobs for name in top), "parts of characters by their bytes")
    check(complete(logprobs=1, return_tokens_as_token_ids=True).choices[0].logprobs.tokens
          == [f"token_id:{id}" for id in ids], "return_tokens_as_token_ids")

    # A prompt from the client's own template, and the same words in a chat.
    turn = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    special, plain = (complete(prompt=turn, max_tokens=1, **extra).usage.prompt_tokens for extra in ({}, {"allow_special_tokens": False}))
    check(special < plain, f"special tokens in prompts: {special} and {plain} tokens")
    typed = [client.chat.completions.create(model=model, messages=[{"role": "user", "content": content}], max_tokens=1).usage.prompt_tokens
             for content in ("", turn)]
    check(typed[1] - typed[0] >= plain - 2, "special tokens in chats are text")

    refused = {"structured_outputs": {"choice": ["a"]}, "guided_json": {}, "guided_regex": "a", "guided_choice": ["a"],
               "guided_grammar": "a", "structural_tag": {}, "json_schema": {}, "grammar": "root ::= x", "use_beam_search": True,
               "length_penalty": 2, "mirostat": 1, "dry_multiplier": 0.8, "xtc_probability": 0.5, "typical_p": 0.5, "dynatemp_range": 1,
               "top_n_sigma": 1, "samplers": ["top_k"], "repeat_penalty": 1.1, "n_probs": 3, "logprob_token_ids": [1], "chat_template": "x",
               "include_reasoning": False, "thinking_token_budget": 5, "verbosity": "low", "mm_processor_kwargs": {"a": 1},
               "lora": [{"id": 0, "scale": 1}], "priority": 3, "cache_salt": "x", "kv_transfer_params": {"a": 1},
               "web_search_options": {}, "modalities": ["audio"], "suffix": "x", "response_format": {"type": "json_object"},
               "tool_choice": "required", "min_tokens": -1, "bad_words": [""], "allowed_token_ids": [], "truncate_prompt_tokens": 0,
               "prompt_logprobs": -1, "skip_special_tokens": 1, "include_stop_str_in_output": 1}
    for name, value in refused.items():
        for call in (complete, chat):
            error = fails(openai.BadRequestError, lambda: call(**{name: value}), param=name, status_code=400)
            check(name in error.message, f"{name}: {error.message}")
    fails(openai.BadRequestError, lambda: chat(echo=True), param="echo")
    fails(openai.BadRequestError, lambda: chat(add_special_tokens=True), param="add_special_tokens")
    fails(openai.BadRequestError, lambda: complete(best_of=3), param="best_of")
    fails(openai.BadRequestError, lambda: complete(stream=True, prompt_logprobs=1), param="prompt_logprobs")
    accepted = dict(user="u", metadata={"a": "b"}, store=False, service_tier="auto", parallel_tool_calls=False, cache_prompt=True,
                    id_slot=-1, mirostat=0, repeat_penalty=1.0, xtc_threshold=0.1, reasoning_format="auto", priority=0,
                    spaces_between_special_tokens=False, guided_json=None, response_format={"type": "text"})
    for call in (complete, chat):
        check(getattr(call(**accepted), "warnings", None) is None, "fields that ask for nothing are accepted")
        check("temprature" in call(temprature=1).warnings[0], "unknown fields are named")


def errors(client, model, server):
    chat = client.chat.completions.create
    fails(openai.BadRequestError, lambda: chat(model=model, messages=[]), param="messages", status_code=400)
    fails(openai.BadRequestError, lambda: chat(model=model, messages=HELLO, temperature=-1), param="temperature")
    fails(openai.BadRequestError, lambda: chat(model=model, messages=HELLO, response_format={"type": "json_object"}),
          param="response_format", code="unsupported_parameter")
    fails(openai.BadRequestError, lambda: client.completions.create(model=model, prompt="春" * 3000),
          code="context_length_exceeded")
    fails(openai.NotFoundError, lambda: chat(model="gpt-4", messages=HELLO), code="model_not_found", param="model")
    fails(openai.NotFoundError, lambda: client.models.retrieve("gpt-4"), code="model_not_found")
    fails(openai.AuthenticationError, lambda: OpenAI(api_key="wrong", base_url=client.base_url, max_retries=0).models.list(),
          status_code=401, code="invalid_api_key")
    fails(openai.APIConnectionError,
          lambda: OpenAI(api_key="k", base_url="http://127.0.0.1:9/v1", max_retries=0).models.list())
    fails(openai.APITimeoutError, lambda: client.with_options(timeout=0.05).completions.create(
        model=model, prompt=TALE, max_tokens=1900, extra_body={"ignore_eos": True}))
    key = {"Authorization": "Bearer secret"}
    end = time.monotonic() + 5
    while 'zhinao_requests_running{model="%s"} 0' % model not in server.get("/metrics", key) and time.monotonic() < end:
        time.sleep(0.05)
    check('reason="cancelled"' in server.get("/metrics", key), "a client that gives up ends its request")


async def asynchronous(url, model, text):
    async with AsyncOpenAI(api_key="secret", base_url=url) as client:
        async def one():
            stream = await client.completions.create(model=model, prompt=TALE, max_tokens=24, temperature=0, stream=True)
            return "".join([chunk.choices[0].text async for chunk in stream])
        check(set(await asyncio.gather(*(one() for _ in range(12)))) == {text}, "12 async streams at once are all equal")
        whole = await client.completions.create(model=model, prompt=TALE, max_tokens=24, temperature=0)
        check(whole.choices[0].text == text, "async")


def limits():
    with Server("--rate-limit", "2") as server:
        client = OpenAI(api_key="any", base_url=server.url + "/v1", max_retries=0)
        for _ in range(2):
            client.completions.create(model="any name", prompt="一", max_tokens=1)
        error = fails(openai.RateLimitError, lambda: client.completions.create(model="x", prompt="一", max_tokens=1),
                      code="rate_limit_exceeded")
        check(1 <= int(error.response.headers["retry-after"]) <= 60, "Retry-After")
    with Server("--parallel", "1", "--queue", "0", "--max-new-tokens", "1500") as server:
        client = OpenAI(api_key="any", base_url=server.url + "/v1", max_retries=0)
        stream = client.completions.create(model="x", prompt=TALE, max_tokens=10**9, stream=True, temperature=1.3,
                                           extra_body={"ignore_eos": True})
        next(iter(stream))
        error = fails(openai.RateLimitError, lambda: client.completions.create(model="x", prompt="一", max_tokens=1),
                      code="queue_full")
        check(int(error.response.headers["retry-after"]) >= 1, "Retry-After")
        stream.close()
        # With its one place free again the package's own retries succeed.
        client.with_options(max_retries=5).completions.create(model="x", prompt="一", max_tokens=1)


def curl_forms(server):
    """The two requests of 360Zhinao's README as they stand, but for the port, and fields of other servers."""
    demo = r"""curl -s 'http://localhost:8360/v1/chat/completions' \
-H 'Content-Type: application/json' \
-d '{
    "max_new_tokens": 200,
    "do_sample": true,
    "top_k": 0,
    "top_p": 0.8,
    "temperature": 1.0,
    "repetition_penalty": 1.0,
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "你好"}
    ]
}'"""
    vllm = r"""curl -s http://localhost:8360/v1/chat/completions \
-H "Content-Type: application/json" \
-d '{
    "model": "360Zhinao-7B-Chat-4K",
    "max_tokens": 200,
    "top_k": -1,
    "top_p": 0.8,
    "temperature": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "你好"}
    ],
    "stop": [
        "<eod>",
        "<|im_end|>",
        "<|im_start|>"
    ]
}'"""
    scored = r"""curl -s http://localhost:8360/v1/completions -H 'Content-Type: application/json' \
-d '{"prompt": "Hello there", "max_tokens": 0, "echo": true, "logprobs": 1, "min_tokens": 0, "skip_special_tokens": true}'"""
    output = json.loads(subprocess.run(scored.replace("8360", str(server.port)), shell=True, capture_output=True, text=True).stdout)
    check(output["choices"][0]["logprobs"]["token_logprobs"][0] is None, f"curl: {output}")
    for name, value in (("structured_outputs", '{"choice": ["a"]}'), ("use_beam_search", "true"), ("chat_template", '"x"')):
        form = f"""curl -s -w '%{{http_code}}' http://localhost:{server.port}/v1/chat/completions -H 'Content-Type: application/json' \
-d '{{"messages": [{{"role": "user", "content": "a"}}], "{name}": {value}}}'"""
        output = subprocess.run(form, shell=True, capture_output=True, text=True).stdout
        check(f'"param":"{name}"' in output and output.endswith("400"), f"curl: {output}")
    for form in (demo, vllm):
        output = subprocess.run(form.replace("8360", str(server.port)), shell=True, capture_output=True, text=True).stdout
        check('"role":"assistant"' in output and '"finish_reason":"' in output, f"README request: {output}")


with Server("--api-key", "secret", "--served-model-name", "360Zhinao-7B-Chat-4K", "--served-model-name", "second",
            models=(TINY, TINY)) as server:
    client = OpenAI(api_key="secret", base_url=server.url + "/v1", max_retries=0)
    model = "360Zhinao-7B-Chat-4K"
    check([item.id for item in client.models.list()] == [model, "second"], "models")
    check(client.models.retrieve("second").id == "second", "one model")
    text = plain(client, model)
    check(plain(client, "second") == text, "both models answer")
    streams(client, model, text)
    fields(client, model, text)
    other_fields(client, model)
    errors(client, model, server)
    asyncio.run(asynchronous(server.url + "/v1", model, text))
with Server() as server:
    curl_forms(server)
limits()
print(f"openai {openai.__version__}: passed")
