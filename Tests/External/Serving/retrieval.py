"""Tests embeddings, reranking and scores of zhinao-serve with the packages openai, cohere, requests, LangChain and LlamaIndex, beside a
model that generates text in the same server. It needs the PyPI packages openai, cohere, requests, langchain-openai and
llama-index-embeddings-text-embeddings-inference."""

import concurrent.futures, json, socket, struct, tempfile, time

import cohere
import openai
import requests
from langchain_openai import OpenAIEmbeddings
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from openai import OpenAI

from server import BERT, CROSS, TINY, Server, check

SIZE = 96
TEXTS = ["话说天下大势，分久必合，合久必分。", "The king of the island sailed home in spring.", "却说那老王骑马而去。", "x", "西门庆" * 400]
QUERY = "老王骑马"
f32 = lambda value: struct.unpack("<f", struct.pack("<f", value))[0]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def close(a, b, tolerance=1e-6):
    return len(a) == len(b) and all(abs(x - y) < tolerance for x, y in zip(a, b))


def openai_client(server):
    client = OpenAI(api_key="secret", base_url=server.url + "/v1", max_retries=0)
    # The package asks for base64 when nobody says otherwise, and decodes it.
    coded = client.embeddings.create(model="any", input=TEXTS)
    plain = client.embeddings.create(model="tiny-bert", input=TEXTS, encoding_format="float")
    vectors = [item.embedding for item in coded.data]
    check([[f32(x) for x in item.embedding] for item in plain.data] == vectors, "base64 and floats are equal")
    check([item.index for item in coded.data] == list(range(len(TEXTS))) and coded.model == "tiny-bert", "order and model")
    check(all(len(vector) == SIZE and abs(dot(vector, vector) - 1) < 1e-5 for vector in vectors), "vectors of length 1")
    check(coded.usage.prompt_tokens == coded.usage.total_tokens > 512, "usage counts what is computed")
    check("4" in coded.model_extra["warnings"][0], "the text that was cut is named")
    alone = [client.embeddings.create(model="any", input=text).data[0].embedding for text in TEXTS]
    check(alone == vectors, "a vector does not depend on the texts beside it")
    ids = requests.post(server.url + "/tokenize", json={"inputs": TEXTS[:3], "model": "tiny-bert"}, headers=KEY).json()
    ids = [[token["id"] for token in text] for text in ids]
    check([item.embedding for item in client.embeddings.create(model="any", input=ids).data] == vectors[:3], "token arrays")
    check(client.embeddings.create(model="any", input=ids[0]).data[0].embedding == vectors[0], "one token array")
    check(client.embeddings.create(model="any", input="x", dimensions=SIZE).data[0].embedding == vectors[3], "the full size")
    query = client.embeddings.create(model="any", input="x", extra_body={"input_type": "search_query"}).data[0].embedding
    check(query != vectors[3], "queries have a prompt")
    for wrong in ({"dimensions": 10}, {"dimensions": 97}, {"input": []}, {"input": ""}, {"input": ["a"] * 2049}, {"input": [[3000]]},
                  {"input": [-1]}, {"model": "tiny-bert-cross"}, {"model": "tiny-zhinao"}, {"extra_body": {"messages": []}}):
        try:
            client.embeddings.create(**{"model": "any", "input": "a", **wrong})
            check(False, f"{wrong} was taken")
        except openai.BadRequestError as error:
            check(error.type == "invalid_request_error" and error.body["message"], f"{wrong}: {error}")
    chat = client.chat.completions.create(model="gpt-4", messages=[{"role": "user", "content": "你好"}], max_tokens=2)
    check(chat.model == "tiny-zhinao", "the generating model answers beside the others")
    tasks = {model.id: model.model_extra["task"] for model in client.models.list()}
    check(tasks == {"tiny-zhinao": "generate", "tiny-bert": "embed", "tiny-bert-cross": "rerank"}, f"models: {tasks}")
    return vectors


def cohere_clients(server, vectors):
    client = cohere.ClientV2(api_key="secret", base_url=server.url)
    best = client.rerank(model="any", query=QUERY, documents=TEXTS, top_n=3)
    order = [result.index for result in best.results]
    scores = [result.relevance_score for result in best.results]
    check(len(order) == 3 and scores == sorted(scores, reverse=True) and all(0 <= score <= 1 for score in scores), "Cohere v2")
    answer = client.embed(model="any", texts=TEXTS, input_type="search_document", embedding_types=["float", "binary", "ubinary"])
    check([[f32(x) for x in vector] for vector in answer.embeddings.float_] == vectors, "Cohere's embeddings")
    bits = [[sum((vector[8 * i + j] > 0) << (7 - j) for j in range(8)) for i in range(SIZE // 8)] for vector in vectors]
    check(answer.embeddings.ubinary == bits and answer.embeddings.binary == [[byte - 128 for byte in row] for row in bits], "signs")
    older = cohere.Client(api_key="secret", base_url=server.url)
    answer = older.rerank(model="any", query=QUERY, documents=[{"text": text} for text in TEXTS], return_documents=True)
    check([result.index for result in answer.results][:3] == order, "Cohere v1")
    check(all(result.document.text == TEXTS[result.index] for result in answer.results), "Cohere v1: documents")
    same = client.rerank(model="any", query=QUERY, documents=["x"] * 5)
    check([result.index for result in same.results] == [0, 1, 2, 3, 4], "equal scores keep the request's order")
    try:
        client.rerank(model="any", query=QUERY, documents=[])
        check(False, "no documents were taken")
    except cohere.errors.BadRequestError as error:
        check("documents" in error.body["message"], f"Cohere: {error}")


def plain_requests(server, vectors):
    session = requests.Session()
    session.headers.update(KEY)

    def post(path, body, status=200):
        answer = session.post(server.url + path, json=body)
        check(answer.status_code == status, f"{path} {body}: {answer.status_code} {answer.text}")
        return answer.json()

    jina = post("/v1/rerank", {"model": "any", "query": QUERY, "documents": TEXTS, "top_n": 2})
    check(jina["results"][0]["document"] == {"text": TEXTS[jina["results"][0]["index"]]} and jina["usage"]["total_tokens"] > 0, "Jina")
    check("4" in jina["warnings"][0], "the pair that was cut is named")
    post("/rerank", {"query": QUERY, "texts": TEXTS, "truncate": False}, 422)
    tei = post("/rerank", {"query": QUERY, "texts": TEXTS, "return_text": True})
    check([one["index"] for one in tei][:2] == [one["index"] for one in jina["results"]], "TEI's order")
    raw = post("/rerank", {"query": QUERY, "texts": TEXTS, "raw_scores": True})
    check([one["index"] for one in raw] == [one["index"] for one in tei], "raw scores have the same order")
    scores = post("/v1/score", {"text_1": QUERY, "text_2": TEXTS})
    by_index = {one["index"]: one["score"] for one in tei}
    check([one["score"] for one in scores["data"]] == [by_index[i] for i in range(len(TEXTS))], "/v1/score in the request's order")
    pairs = post("/score", {"queries": [QUERY, "x"], "documents": TEXTS[:2]})
    check(pairs["data"][0]["score"] == by_index[0], "N:N")
    post("/score", {"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}, 400)
    cosines = post("/score", {"model": "tiny-bert", "text_1": TEXTS[0], "text_2": TEXTS[:3]})
    expected = [dot(vectors[0], vector) for vector in vectors[:3]]
    check(close([one["score"] for one in cosines["data"]], expected), "cosines")
    check(close(post("/similarity", {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS[:3]}}), expected), "/similarity")
    embed = post("/embed", {"inputs": TEXTS})
    check([[f32(x) for x in vector] for vector in embed] == vectors, "/embed")
    check(len(post("/embed", {"inputs": "x", "normalize": False})) == 1, "/embed, one text")
    post("/embed", {"inputs": TEXTS, "truncate": False}, 422)
    predicted = post("/predict", {"inputs": [[QUERY, text] for text in TEXTS]})
    check([one[0]["score"] for one in predicted] == [by_index[i] for i in range(len(TEXTS))] and predicted[0][0]["label"], "/predict")
    check(post("/predict", {"inputs": [QUERY, TEXTS[0]]}) == predicted[0], "/predict, one pair")
    tokens = post("/tokenize", {"inputs": "King of x"})
    check([one["special"] for one in tokens[0]] == [True] + [False] * (len(tokens[0]) - 2) + [True], "/tokenize")
    check("king of x" in post("/decode", {"ids": [one["id"] for one in tokens[0]]})[0], "/decode")
    info = session.get(server.url + "/info").json()
    check(info["model_type"] == {"embedding": {"pooling": "cls"}} and info["max_input_length"] == 512, f"/info: {info}")
    for path, body, status, kind in (("/embed", {"inputs": []}, 400, "Empty"), ("/embed", {"inputs": 3}, 422, "Validation"),
                                     ("/embed", {"inputs": "a", "model": "tiny-zhinao"}, 424, "Backend"),
                                     ("/rerank", {"query": "a", "texts": []}, 400, "Empty")):
        check(post(path, body, status)["error_type"] == kind, f"TEI's errors: {path} {body}")
    answer = requests.post(server.url + "/v1/embeddings", json={"input": "a"})
    check(answer.status_code == 401, "a key is needed")
    answer = requests.post(server.url + "/embed", json={"inputs": "a"})
    check(answer.status_code == 401 and answer.json()["error_type"] == "Unauthorized", "a key is needed, in TEI's words")


def frameworks(server, vectors):
    chain = OpenAIEmbeddings(model="any", api_key="secret", base_url=server.url + "/v1", check_embedding_ctx_length=False)
    check(close(chain.embed_query(TEXTS[0]), vectors[0]), "LangChain: a query")
    check(all(close(a, b) for a, b in zip(chain.embed_documents(TEXTS), vectors)), "LangChain: documents")
    index = TextEmbeddingsInference(model_name="any", base_url=server.url, auth_token="secret", query_instruction="", text_instruction="")
    check(all(close(a, b) for a, b in zip(index.get_text_embedding_batch(TEXTS[:3]), vectors[:3])), "LlamaIndex: texts")
    check(len(index.get_query_embedding("x")) == SIZE, "LlamaIndex: a query")


def many_clients(server, vectors):
    """Batches of many clients at once change no bit, and a client that leaves takes its work with it."""
    def ask(number):
        text = TEXTS[number % 4]
        answer = requests.post(server.url + "/embed", json={"inputs": [text] * (1 + number % 3)}, headers=KEY).json()
        return all([f32(x) for x in vector] == vectors[number % 4] for vector in answer)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        check(all(pool.map(ask, range(200))), "vectors of many clients")
    body = json.dumps({"inputs": ["西门庆" * 200] * 600}).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\nContent-Type: application/json\r\n"
                           b"Content-Length: %d\r\n\r\n" % len(body) + body)
        time.sleep(0.3)
    start = time.monotonic()
    while server.metric("zhinao_requests_running", KEY) + server.metric("zhinao_requests_waiting", KEY) > 0:
        check(time.monotonic() - start < 20, "the work of a client that left goes on")
        time.sleep(0.05)


KEY = {"Authorization": "Bearer secret"}

with Server("--api-key", "secret", models=(TINY, BERT, CROSS)) as server:
    vectors = openai_client(server)
    cohere_clients(server, vectors)
    plain_requests(server, vectors)
    frameworks(server, vectors)
    many_clients(server, vectors)
    check(server.metric("zhinao_retrieval_truncated_total", KEY) > 0, "metrics count cut texts")
    check(server.metric("zhinao_retrieval_tokens_total", KEY) > 1000, "metrics count tokens")
with Server("--queue", "1", "--batch-tokens", "512", models=(BERT,)) as server:
    body = {"inputs": ["西门庆" * 200] * 100}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: requests.post(server.url + "/embed", json=body), range(8)))
    statuses = sorted(answer.status_code for answer in answers)
    check(statuses[0] == 200 and statuses[-1] == 429, f"a full queue: {statuses}")
    check(all(answer.headers["Retry-After"] and answer.json()["error_type"] == "Overloaded" for answer in answers if answer.status_code == 429),
          "a full queue says when to come again")
    chat = requests.post(server.url + "/v1/chat/completions", json={"messages": [{"role": "user", "content": "a"}]})
    check(chat.status_code == 400 and chat.json()["error"]["code"] == "wrong_model_kind", "no model chats here")
with Server("--allow-dimensions", "--no-auto-truncate", models=(BERT,)) as server:
    short = requests.post(server.url + "/v1/embeddings", json={"input": "x", "dimensions": 10}).json()["data"][0]["embedding"]
    kept = [x / dot(vectors[3][:10], vectors[3][:10]) ** 0.5 for x in vectors[3][:10]]
    check(close(short, kept), "shorter vectors have the length 1")
    long = requests.post(server.url + "/v1/embeddings", json={"input": "西门庆" * 400})
    check(long.status_code == 400 and long.json()["error"]["code"] == "context_length_exceeded", f"long texts are refused: {long.text}")
with tempfile.NamedTemporaryFile("w", suffix=".json") as settings:
    json.dump({"template": "qwen3-reranker", "yes": "是", "no": "不", "max_len": 300}, settings)
    settings.flush()
    # The same decoder twice: it generates, and it scores by yes and no.
    with Server("--task", "generate", "--task", "rerank", "--reranker-settings", settings.name, "--served-model-name", "chat",
                "--served-model-name", "scorer", models=(TINY, TINY)) as server:
        scores = requests.post(server.url + "/v1/score", json={"text_1": QUERY, "text_2": TEXTS}).json()
        check(scores["model"] == "scorer" and "4" in scores["warnings"][0], f"a decoder that reranks: {scores}")
        alone = [requests.post(server.url + "/v1/score", json={"text_1": QUERY, "text_2": text}).json()["data"][0]["score"] for text in TEXTS]
        check([one["score"] for one in scores["data"]] == alone, "a score does not depend on the other passages")
        answer = requests.post(server.url + "/v1/completions", json={"model": "chat", "prompt": "却说", "max_tokens": 2})
        check(answer.status_code == 200, "its twin generates")
print(f"openai {openai.__version__}, cohere {cohere.__version__}, requests, LangChain, LlamaIndex: passed")
