"use strict";
// The part of the page that searches: a query, passages, and how well each of them answers it. Shown when a model for it is served.

let searching = null; // the AbortController of the running search

const post = async (path, fields, signal) => {
  const response = await fetch(path, { method: "POST", headers: headers(), body: JSON.stringify(fields), signal });
  const answer = await response.json().catch(() => null);
  if (response.status === 401) openSettings(true);
  if (!response.ok) throw new Error(answer?.error?.message ?? `HTTP ${response.status}`);
  return answer;
};

const cosine = (a, b) => {
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i += 1) { dot += a[i] * b[i]; aa += a[i] * a[i]; bb += b[i] * b[i]; }
  return aa && bb ? dot / Math.sqrt(aa * bb) : 0;
};

/** Places of the passages with their scores, best first. */
async function ranked(model, task, query, passages, signal) {
  if (task === "rerank") {
    const { results } = await post("v1/rerank", { model, query, documents: passages, return_documents: false }, signal);
    return results.map((result) => ({ index: result.index, score: result.relevance_score }));
  }
  const embed = async (input, type) =>
    (await post("v1/embeddings", { model, input, input_type: type, encoding_format: "float" }, signal)).data.map((item) => item.embedding);
  const [[question], vectors] = await Promise.all([embed([query], "search_query"), embed(passages, "search_document")]);
  return vectors.map((vector, index) => ({ index, score: cosine(question, vector) })).sort((a, b) => b.score - a.score);
}

async function search() {
  const query = $("query").value.trim();
  const passages = $("passages").value.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  const chosen = $("ranker").selectedOptions[0];
  if (query === "" || passages.length === 0 || !chosen) return;
  searching?.abort();
  const controller = new AbortController();
  searching = controller;
  notify("");
  $("rank").disabled = true;
  try {
    const results = await ranked(chosen.value, chosen.dataset.task, query, passages, controller.signal);
    const [low, high] = [Math.min(0, ...results.map((one) => one.score)), Math.max(1e-9, ...results.map((one) => one.score))];
    $("results").replaceChildren(...results.map(({ index, score }) => {
      const item = make("li", "result");
      const meter = item.appendChild(make("meter"));
      [meter.min, meter.max, meter.value] = [low, high, score];
      item.append(make("span", "score", score.toFixed(4)), make("span", "passage", passages[index]));
      return item;
    }));
  } catch (error) {
    if (!controller.signal.aborted) notify(error instanceof TypeError ? say("offline") : error.message);
  }
  if (searching === controller) {
    searching = null;
    $("rank").disabled = false;
  }
}

function showView(isSearch) {
  document.body.classList.toggle("searching", isSearch);
  $("search-toggle").setAttribute("aria-pressed", String(isSearch));
  remember(sessionStorage, "searching", isSearch);
}

/** Shows what the served models can do. */
function offerSearch(models) {
  const rankers = models.filter((model) => model.task !== "generate");
  // Rerankers first: their scores say most.
  rankers.sort((a, b) => (b.task === "rerank") - (a.task === "rerank"));
  const chosen = $("ranker").value;
  $("ranker").replaceChildren(...rankers.map((model) => {
    const option = new Option(model.id, model.id);
    option.dataset.task = model.task;
    return option;
  }));
  if (rankers.some((model) => model.id === chosen)) $("ranker").value = chosen;
  const chats = rankers.length < models.length;
  $("search-toggle").hidden = rankers.length === 0 || !chats;
  showView(rankers.length > 0 && (!chats || recall(sessionStorage, "searching", false)));
}

function startSearch() {
  $("search").addEventListener("submit", (event) => { event.preventDefault(); search(); });
  $("search-toggle").addEventListener("click", () => showView(!document.body.classList.contains("searching")));
  for (const name of ["query", "passages"]) {
    $(name).value = recall(sessionStorage, name, "");
    $(name).addEventListener("input", () => remember(sessionStorage, name, $(name).value));
  }
}
