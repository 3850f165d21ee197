import ArgumentParser
import Contexts
import Files
import Foundation
import Serving
import Tensors
import Terminal
import ToolSupport

/// What the server may use.
struct ResourceOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Maximum memory of the process, for example 6GiB (default: four fifths of the available memory). "
        + "The context limit follows from it and is printed at start.", valueName: "size"))
  var memoryLimit: String?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "The maximum number of tokens of a prompt and its answer (default: the model's, if they fit).",
      valueName: "n"))
  var contextSize: Int?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Number of answers generated at the same time.", valueName: "n"))
  var parallel = 8
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Maximum number of waiting requests. Further ones are answered with status 429.", valueName: "n"))
  var queue = 64
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "The maximum number of tokens of an answer, whatever the request says.", valueName: "n"))
  var maxNewTokens: Int?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Time limit of a request, including the time it waits.", valueName: "seconds"))
  var requestTimeout = 600.0
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Time limit for reading the head of a request; its body has twice this time.", valueName: "seconds"))
  var readTimeout = 15.0
  @Option(help: ArgumentHelp("Maximum size of a request body.", valueName: "size"))
  var maxBody = "4MiB"
  @Option(parsing: .unconditional, help: ArgumentHelp("Maximum number of connections.", valueName: "n"))
  var connections = 1024
  @Option(
    help: ArgumentHelp(
      "Save the keys and values of long prompts in this folder, and use them for prompts that begin with the same tokens, also "
        + "after a restart. The files hold what people asked.", valueName: "folder"),
    completion: .directory)
  var contextCache: String?
  @Option(
    help: ArgumentHelp(
      "Maximum size of the files in --context-cache (default: 16GiB). The files used least recently are removed.",
      valueName: "size"))
  var contextCacheLimit: String?
  @OptionGroup var products: ArithmeticOptions
  @OptionGroup var keysAndValues: KVCacheOptions

  func validate() throws {
    guard (1...256).contains(parallel) else { throw ValidationError("--parallel: expected 1 to 256.") }
    guard (0...100_000).contains(queue) else { throw ValidationError("--queue: expected 0 to 100000.") }
    if let contextSize, contextSize < 16 { throw ValidationError("--context-size: expected at least 16.") }
    if let maxNewTokens, maxNewTokens < 1 { throw ValidationError("--max-new-tokens: expected at least 1.") }
    guard (1...1_000_000).contains(connections) else {
      throw ValidationError("--connections: expected 1 to 1000000.")
    }
    for (name, seconds) in [("--request-timeout", requestTimeout), ("--read-timeout", readTimeout)]
    where !(0.1...1e6).contains(seconds) {
      throw ValidationError("\(name): expected 0.1 to 1000000 seconds.")
    }
    _ = try memoryBytes()
    _ = try OptionRange.byteCount("--context-cache-limit", contextCacheLimit)
    guard contextCacheLimit == nil || contextCache != nil else {
      throw ValidationError("--context-cache-limit: give --context-cache as well.")
    }
    guard Format.byteCount(maxBody) != nil else {
      throw ValidationError("--max-body: expected a size like 4MiB.")
    }
  }

  var arithmetic: Int4Arithmetic { products.arithmetic ?? .fast }
  /// Of vectors and scores: as in zhinao-search, whose indexes are compared with them.
  var retrievalArithmetic: Int4Arithmetic { products.arithmetic ?? .exact }

  func memoryBytes() throws -> Int? { try OptionRange.byteCount("--memory-limit", memoryLimit) }

  /// The folder of saved contexts, opened; nil: none was asked for.
  func contextFolder() throws -> ContextFolder? {
    let limit = try OptionRange.byteCount("--context-cache-limit", contextCacheLimit) ?? 16 << 30
    return try contextCache.map {
      try ContextFolder(path: $0, limitBytes: limit) { Output.remark($0) }
    }
  }

  func forModel(memoryLimit: Int, contexts: ContextFolder?) -> ServedModel.Resources {
    ServedModel.Resources(
      memoryLimit: memoryLimit, context: contextSize, parallel: parallel, queue: queue,
      arithmetic: arithmetic,
      cacheType: keysAndValues.type(beside: arithmetic), contexts: contexts,
      generator: ToolVersion.generator, log: { Output.remark($0) })
  }

  func limits() -> ServerLimits {
    var limits = ServerLimits()
    limits.bodyBytes = Format.byteCount(maxBody) ?? limits.bodyBytes
    limits.headerTime = .seconds(readTimeout)
    limits.bodyTime = .seconds(2 * readTimeout)
    limits.requestTime = .seconds(requestTimeout)
    limits.newTokens = maxNewTokens ?? limits.newTokens
    limits.connections = connections
    return limits
  }
}

/// Who may use the server, and how it is reached.
struct AccessOptions: ParsableArguments {
  @Option(
    parsing: .unconditional, help: ArgumentHelp("Port to listen on; 0 selects a free one.", valueName: "n"))
  var port = 8360
  @Option(help: ArgumentHelp("Address to listen on; 0.0.0.0 listens on all addresses.", valueName: "address"))
  var host = "127.0.0.1"
  @Option(
    help: ArgumentHelp(
      "Name of the model in requests; may be given once for each model (default: the name of its file). "
        + "A single model without such a name answers to every name.", valueName: "name"))
  var servedModelName: [String] = []
  @Option(
    help: ArgumentHelp(
      "Key that requests must contain; may be repeated. Other users of the machine can see command lines, so "
        + "--api-key-file and ZHINAO_API_KEY are safer.",
      valueName: "key"))
  var apiKey: [String] = []
  @Option(help: ArgumentHelp("File with keys, one on each line.", valueName: "file"))
  var apiKeyFile: String?
  @Option(
    help: ArgumentHelp(
      "Origin whose pages may send requests, for example https://example.org; * allows any.",
      valueName: "origin"))
  var cors: [String] = []
  @Option(
    help: ArgumentHelp(
      "Additional name that is accepted in the Host header, for a proxy; may be repeated. On a loopback address "
        + "without keys, only localhost is accepted otherwise.", valueName: "name"))
  var allowedHost: [String] = []
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Maximum number of requests in a minute for each client.", valueName: "n"))
  var rateLimit: Int?
  @Flag(help: "Identify clients by X-Forwarded-For. Use it only behind a proxy that sets this header.")
  var trustForwarded = false
  @Flag(help: "Print a line on standard error for each request.")
  var logRequests = false

  func validate() throws {
    guard (0...65535).contains(port) else { throw ValidationError("--port: expected 0 to 65535.") }
    if let rateLimit, !(1...1_000_000).contains(rateLimit) {
      throw ValidationError("--rate-limit: expected 1 to 1000000.")
    }
    guard apiKey.allSatisfy({ !$0.isEmpty }) else { throw ValidationError("--api-key: expected a key.") }
  }

  func keys() throws -> [String] {
    var keys = apiKey
    if let key = ProcessInfo.processInfo.environment["ZHINAO_API_KEY"], !key.isEmpty { keys.append(key) }
    guard let apiKeyFile else { return keys }
    let file = try MappedFile(path: apiKeyFile)
    // Lines end with \n or \r\n: the spaces that are trimmed include \r.
    let lines = file.bytes.split(separator: UInt8(ascii: "\n")).map {
      String(decoding: $0, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }
    let read = lines.filter { !$0.isEmpty && $0.utf8.first != UInt8(ascii: "#") }
    guard !read.isEmpty else { throw FileError(.badContent, path: apiKeyFile, detail: "holds no key") }
    return keys + read
  }

  func control(keys: [String]) -> AccessControl {
    let isLoopback = host == "localhost" || host == "::1" || host.hasPrefix("127.")
    let names = ["localhost", "127.0.0.1", "[::1]", host] + allowedHost
    let isOpen = !isLoopback || !keys.isEmpty
    return AccessControl(
      keys: keys, corsOrigins: cors, hosts: isOpen && allowedHost.isEmpty ? nil : names,
      requestsPerMinute: rateLimit, trustsForwarding: trustForwarded)
  }
}
