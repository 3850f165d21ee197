"""Tests zhinao-serve with the official openai package: sync, async, streams, every field, every kind of error.
It needs the PyPI package openai."""

import asyncio, math, subprocess, time

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
    """The two requests of 360Zhinao's README as they stand, but for the port."""
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
    errors(client, model, server)
    asyncio.run(asynchronous(server.url + "/v1", model, text))
with Server() as server:
    curl_forms(server)
limits()
print(f"openai {openai.__version__}: passed")
