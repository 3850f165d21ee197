import Contexts
import Foundation
import Generation
import Synchronization

/// Numbers for Prometheus, in its text format (version 0.0.4).
final class Metrics: Sendable {
  private struct Response: Hashable {
    var path: String
    var status: Int
  }
  private let responses = Mutex<[Response: Int]>([:])

  func count(path: String, status: Int) {
    responses.withLock { $0[Response(path: path, status: status), default: 0] += 1 }
  }

  func text(models: ServedModels) -> String {
    var page = PrometheusPage()
    let counts = responses.withLock { $0 }
    page.family("zhinao_http_requests_total", "counter", "Requests by path and status.")
    for (response, count) in counts.sorted(by: { ($0.key.path, $0.key.status) < ($1.key.path, $1.key.status) }
    ) {
      page.sample(
        "zhinao_http_requests_total", ["path": response.path, "status": "\(response.status)"], count)
    }
    if let bytes = Metrics.residentBytes() {
      page.family("process_resident_memory_bytes", "gauge", "Resident memory.")
      page.sample("process_resident_memory_bytes", [:], bytes)
    }
    // An adapter's requests are counted with its model's, whose engine computes them.
    let all = models.models(ServedModel.self).filter { $0.parent == nil }
      .map { (model: $0, statistics: $0.engine.statistics) }
    func family(_ name: String, _ kind: String, _ help: String, _ value: (SchedulerStatistics) -> Any) {
      page.family(name, kind, help)
      for (model, statistics) in all { page.sample(name, ["model": model.name], value(statistics)) }
    }
    let batches = Metrics.batches(models)
    family(
      "zhinao_requests_running", "gauge", "Sequences, or requests for vectors and scores, that are computed."
    ) {
      $0.running
    }
    family("zhinao_requests_waiting", "gauge", "Sequences, or requests for vectors and scores, that wait.") {
      $0.waiting
    }
    for entry in batches {
      page.sample("zhinao_requests_running", ["model": entry.name], entry.statistics.running)
      page.sample("zhinao_requests_waiting", ["model": entry.name], entry.statistics.waiting)
    }
    family("zhinao_cache_tokens", "gauge", "Tokens the caches are charged for.") { $0.cachedTokens }
    page.family("zhinao_cache_tokens_limit", "gauge", "Tokens the caches may hold.")
    page.family(
      "zhinao_context_tokens_limit", "gauge", "The maximum number of tokens of a prompt and its answer.")
    for (model, _) in all {
      page.sample("zhinao_cache_tokens_limit", ["model": model.name], model.engine.limits.budgetTokens)
      page.sample("zhinao_context_tokens_limit", ["model": model.name], model.engine.limits.contextLimit)
    }
    family("zhinao_prompt_tokens_total", "counter", "Tokens of prompts.") { $0.promptTokens }
    family("zhinao_reused_tokens_total", "counter", "Tokens of prompts that a cache had.") { $0.reusedTokens }
    family("zhinao_generated_tokens_total", "counter", "Tokens of answers.") { $0.generatedTokens }
    family("zhinao_forward_passes_total", "counter", "Forward passes.") { $0.forwardPasses }
    family("zhinao_busy_seconds_total", "counter", "Seconds in forward passes.") { $0.busySeconds }
    for entry in batches {
      page.sample("zhinao_busy_seconds_total", ["model": entry.name], entry.statistics.busySeconds)
    }
    page.family("zhinao_answers_total", "counter", "Finished answers by reason.")
    for (model, statistics) in all {
      for (reason, count) in statistics.finished.sorted(by: { $0.key < $1.key }) {
        page.sample("zhinao_answers_total", ["model": model.name, "reason": reason], count)
      }
    }
    page.family(
      "zhinao_time_to_first_token_seconds", "histogram", "From a request's arrival to its first token.")
    page.family("zhinao_time_per_token_seconds", "histogram", "Between two tokens of an answer.")
    for (model, statistics) in all {
      page.histogram("zhinao_time_to_first_token_seconds", model.name, statistics.timeToFirstToken)
      page.histogram("zhinao_time_per_token_seconds", model.name, statistics.timePerToken)
    }
    Metrics.add(batches, to: &page)
    // All models share one folder.
    if let folder = all.lazy.compactMap({ $0.model.engine.saved?.folder }).first {
      Metrics.add(folder.statistics, to: &page)
    }
    return page.text
  }

  private static func add(_ saved: ContextFolder.Statistics, to page: inout PrometheusPage) {
    func family(_ name: String, _ kind: String, _ help: String, _ value: Int) {
      page.family("zhinao_context_cache_" + name, kind, help)
      page.sample("zhinao_context_cache_" + name, [:], value)
    }
    family("files", "gauge", "Saved contexts in the folder.", saved.files)
    family("bytes", "gauge", "Size of these files.", saved.bytes)
    family("bytes_limit", "gauge", "Maximum size of these files.", saved.limitBytes)
    family("hits_total", "counter", "Prompts that began with a saved context.", saved.hits)
    family("loaded_tokens_total", "counter", "Tokens of prompts that came from files.", saved.loadedTokens)
    family("saved_total", "counter", "Files written.", saved.saved)
    family("evicted_total", "counter", "Files removed for the limit.", saved.evicted)
    family("skipped_total", "counter", "Files that could not be used.", saved.skipped)
  }

  private typealias Batches = (name: String, task: ModelTask, statistics: BatchStatistics)

  private static func batches(_ models: ServedModels) -> [Batches] {
    models.models(ServedEmbedder.self).map { ($0.name, .embed, $0.engine.statistics) }
      + models.models(ServedReranker.self).map { ($0.name, .rerank, $0.engine.statistics) }
  }

  /// What models do that make vectors and scores.
  private static func add(_ batches: [Batches], to page: inout PrometheusPage) {
    guard !batches.isEmpty else { return }
    func family(_ name: String, _ help: String, _ value: (BatchStatistics) -> Int) {
      page.family(name, "counter", help)
      for (model, task, statistics) in batches {
        page.sample(name, ["model": model, "task": task.rawValue], value(statistics))
      }
    }
    family("zhinao_retrieval_requests_total", "Requests that got their vectors or scores.") {
      $0.finishedRequests
    }
    family("zhinao_retrieval_items_total", "Texts that became vectors, and pairs that got scores.") {
      $0.items
    }
    family("zhinao_retrieval_tokens_total", "Tokens of these texts and pairs.") { $0.tokens }
    family("zhinao_retrieval_truncated_total", "Texts that were longer than the model takes and were cut.") {
      $0.truncated
    }
    family("zhinao_retrieval_batches_total", "Batches.") { $0.batches }
    page.family(
      "zhinao_retrieval_request_seconds", "histogram", "From a request's arrival to its vectors or scores.")
    for (model, _, statistics) in batches {
      page.histogram("zhinao_retrieval_request_seconds", model, statistics.requestSeconds)
    }
  }

  private static func residentBytes() -> Int? {
    guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8) else { return nil }
    return text.split(separator: " ").dropFirst().first.flatMap { Int($0) }.map { $0 * Int(getpagesize()) }
  }
}

/// Prometheus' text format.
package enum PrometheusText {
  /// A label's value between its quotes: backslashes, quotes and line feeds escaped, whatever follows them.
  package static func labelValue(_ text: String) -> String {
    text.bytes.replacing("\\", with: "\\\\").bytes.replacing("\"", with: "\\\"").bytes.replacing(
      "\n", with: "\\n")
  }
}
