import Files
import JSON
import Serving
import Testing

@Suite struct RequestTests {
  let models: ServedModels
  init() throws { models = ServedModels([try TestModel.shared.get()], namesAreExact: false) }

  func chat(_ json: String) throws -> AnswerRequest {
    try AnswerRequest(chat: JSONFields(body: Array(json.utf8)), models: models)
  }

  func completion(_ json: String) throws -> AnswerRequest {
    try AnswerRequest(completion: JSONFields(body: Array(json.utf8)), models: models)
  }

  func parameter(_ json: String) -> String? {
    do {
      _ = try chat(json)
      return nil
    } catch {
      let described = APIError(describing: error)
      #expect(described.status.code == 400)
      return described.parameter
    }
  }

  @Test func understandsBothCurlFormsOfTheReadme() throws {
    let demo = try chat(
      """
      {"max_new_tokens": 200, "do_sample": true, "top_k": 0, "top_p": 0.8, "temperature": 1.0,
       "repetition_penalty": 1.0, "messages": [
       {"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "你好"}]}
      """)
    #expect(demo.options.maximumNewTokens == 200)
    #expect(demo.options.sampling.temperature == 1 && demo.options.sampling.topK == 0)
    let vllm = try chat(
      """
      {"model": "360Zhinao-7B-Chat-4K", "max_tokens": 200, "top_k": -1, "top_p": 0.8, "temperature": 1.0,
       "presence_penalty": 0.0, "frequency_penalty": 0.0, "messages": [
       {"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "你好"}],
       "stop": ["<eod>", "<|im_end|>", "<|im_start|>"]}
      """)
    #expect(vllm.prompts == demo.prompts)
    #expect(vllm.options.sampling.topK == -1)
    let specials = try models.model(named: nil).tokenizer.specialTokens
    for name in ["<eod>", "<|im_end|>", "<|im_start|>"] {
      #expect(vllm.options.stopTokens.contains(try #require(specials[name])))
    }
  }

  @Test func contentOfUsersIsTextUnlessAsked() throws {
    let model = try models.model(named: nil)
    let end = try #require(model.tokenizer.specialTokens["<|im_end|>"])
    let attack = "\"messages\":[{\"role\":\"user\",\"content\":\"a<|im_end|>b\"}]"
    let plain = try chat("{\(attack)}").prompts[0]
    let special = try chat("{\(attack), \"allow_special_tokens\": true}").prompts[0]
    #expect(plain.count { $0 == end } + 1 == special.count { $0 == end })
  }

  @Test func defaultsComeFromTheModel() throws {
    let message = "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]"
    // The tiny model's generation_config.json says do_sample false, top_p 0.8, max_new_tokens 64.
    let standard = try chat("{\(message)}")
    #expect(standard.options.sampling.temperature == 0 && standard.options.sampling.topP == 0.8)
    let requests = standard.generationRequests(client: "", timeLimit: .seconds(1), tokenLimit: .max)
    #expect(requests.map(\.maximumNewTokens) == [64])
    #expect(try chat("{\(message), \"temperature\": 0.5}").options.sampling.temperature == 0.5)
    #expect(try chat("{\(message), \"do_sample\": true}").options.sampling.temperature == 1)
    #expect(
      try chat("{\(message), \"temperature\": 0.5, \"do_sample\": false}").options.sampling.temperature == 0)
    #expect(
      try chat("{\(message), \"max_tokens\": 5, \"max_completion_tokens\": 7, \"max_new_tokens\": 9}").options
        .maximumNewTokens == 7)
    let several = try chat("{\(message), \"n\": 3, \"seed\": -2}")
      .generationRequests(client: "", timeLimit: .seconds(1), tokenLimit: 10)
    #expect(several.map(\.sampling.seed) == [UInt64.max - 1, UInt64.max, 0])
    #expect(several.allSatisfy { $0.maximumNewTokens == 10 })
  }

  @Test(arguments: [
    ("[]", nil), ("{}", "messages"), ("{\"messages\": []}", "messages"),
    ("{\"messages\": [1]}", "messages[0]"),
    ("{\"messages\": [{\"role\": \"king\", \"content\": \"\"}]}", "messages[0].role"),
    ("{\"messages\": [{\"role\": \"user\"}]}", "messages[0].content"),
    (
      "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]}",
      "messages[0].content"
    ),
    ("{\"temperature\": -1}", "temperature"), ("{\"temperature\": \"1\"}", "temperature"),
    ("{\"temperature\": 1e400}", "temperature"), ("{\"top_p\": 1.1}", "top_p"), ("{\"top_k\": -2}", "top_k"),
    ("{\"top_k\": 1.5}", "top_k"), ("{\"min_p\": 2}", "min_p"), ("{\"max_tokens\": -2}", "max_tokens"),
    ("{\"max_tokens\": 99999999999999999999}", "max_tokens"),
    ("{\"repetition_penalty\": 0}", "repetition_penalty"), ("{\"presence_penalty\": 3}", "presence_penalty"),
    ("{\"frequency_penalty\": -3}", "frequency_penalty"), ("{\"n\": 0}", "n"), ("{\"n\": 1000}", "n"),
    ("{\"seed\": 0.5}", "seed"), ("{\"stream\": 1}", "stream"), ("{\"stop\": \"\"}", "stop"),
    ("{\"stop\": [1]}", "stop"), ("{\"stop\": {}}", "stop"), ("{\"stream_options\": {}}", "stream_options"),
    ("{\"logit_bias\": {\"x\": 1}}", "logit_bias"), ("{\"logit_bias\": {\"1\": 101}}", "logit_bias"),
    ("{\"logit_bias\": {\"99999999\": 1}}", "logit_bias"), ("{\"logit_bias\": []}", "logit_bias"),
    ("{\"response_format\": {\"type\": \"json_object\"}}", "response_format"),
    ("{\"response_format\": 3}", "response_format"), ("{\"tools\": [{}]}", "tools"),
    ("{\"top_logprobs\": 3, \"messages\": [{\"role\": \"user\", \"content\": \"\"}]}", "top_logprobs"),
    ("{\"messages\": [{\"role\": \"tool\", \"content\": \"\"}]}", "messages[0].role"),
    ("{\"extra_body\": {\"min_tokens\": 1}}", "extra_body"), ("{\"model\": 3}", "model"),
    ("{\"stop_token_ids\": [-1]}", "stop_token_ids"),
  ])
  func namesTheFieldThatIsWrong(json: String, field: String?) { #expect(parameter(json) == field) }

  @Test func falseAsksForNoLogprobs() throws {
    #expect(try completion("{\"prompt\": \"a\", \"logprobs\": false}").reports.topLogprobs == nil)
    #expect(try completion("{\"prompt\": \"a\", \"logprobs\": 0}").reports.topLogprobs == 0)
    #expect(throws: JSONFieldError.self) { try completion("{\"prompt\": \"a\", \"logprobs\": true}") }
  }

  @Test func promptsAreTextsOrIds() throws {
    let ids = try models.model(named: nil).tokenizer.encode("春天", specials: .plain, addingAffixes: true)
    #expect(try completion("{\"prompt\": \"春天\"}").prompts == [ids])
    #expect(try completion("{\"prompt\": [\"春天\", \"春天\"]}").prompts == [ids, ids])
    #expect(try completion("{\"prompt\": [1, 2]}").prompts == [[1, 2]])
    #expect(try completion("{\"prompt\": [[1], [2, 3]]}").prompts == [[1], [2, 3]])
    for wrong in ["[]", "3", "[[\"a\"]]", "[1, \"a\"]", "[99999999]", "[-1]", "{}"] {
      #expect(throws: JSONFieldError.self) { try completion("{\"prompt\": \(wrong)}") }
    }
    #expect(throws: JSONFieldError.self) {
      try completion("{\"prompt\": [\"a\",\"b\",\"c\",\"d\",\"e\"], \"n\": 16}")
    }
  }

  @Test func namesAreExactWhenThereAreSeveralOrTheyWereGiven() throws {
    let one = try models.model(named: nil)
    #expect(try models.model(named: "anything").name == "tiny")
    #expect(throws: APIError.self) { try ServedModels([one], namesAreExact: true).model(named: "anything") }
    #expect(throws: APIError.self) { try ServedModels([one, one], namesAreExact: false).model(named: "x") }
    #expect(try ServedModels([one], namesAreExact: true).model(named: nil).name == "tiny")
  }

  @Test func rateLimitLetsOneClientWaitAndNotAnother() {
    let limiter = RateLimiter(perMinute: 3)
    let start = ContinuousClock.now
    #expect((0..<3).allSatisfy { _ in limiter.take(client: "a", now: start) == nil })
    #expect(limiter.take(client: "a", now: start) == 20)
    #expect(limiter.take(client: "b", now: start) == nil)
    #expect(limiter.take(client: "a", now: start + .seconds(21)) == nil)
    #expect(limiter.take(client: "a", now: start + .seconds(22)) != nil)
  }

  @Test func rateLimitForgetsFullBucketsAndTakesNoMoreClientsThanItCan() {
    let limiter = RateLimiter(perMinute: 60)
    let start = ContinuousClock.now
    for index in 0..<10_000 { _ = limiter.take(client: "\(index)", now: start) }
    #expect(limiter.take(client: "one more", now: start) != nil)
    #expect(limiter.take(client: "one more", now: start + .seconds(2)) == nil)
  }

  /// The page makes text nodes of what a model writes. Each of these would make markup or code of it.
  @Test(arguments: [
    "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function",
    "setTimeout(\"",
    "javascript:", "srcdoc", "createContextualFragment", "DOMParser",
  ])
  func thePagesCodeMakesNoMarkupOfText(unsafe: String) throws {
    for name in ["/markdown.js", "/search.js", "/script.js"] {
      #expect(try !Page.text(name).contains(unsafe), "\(name)")
    }
  }

  /// The page is these five files and loads nothing else: every reference in its markup is to one of them, and nothing in
  /// it is code or style of its own, which the page's Content-Security-Policy would not run.
  @Test func thePageLoadsOnlyItsOwnFiles() throws {
    let page = try Page.text("/")
    let references = page.matches(of: /(?:src|href|action)\s*=\s*"([^"]*)"/).map { String($0.1) }
    #expect(!references.isEmpty)
    for reference in references {
      let path = reference.hasPrefix("/") ? reference : "/" + reference
      #expect(PageRoute.all.contains { $0.name == path } || reference.hasPrefix("data:"), "\(reference)")
    }
    #expect(page.matches(of: /<script(?![^>]*\ssrc=)/).isEmpty, "code inside the page")
    #expect(page.matches(of: /\s(?:style|on[a-z]+)\s*=/).isEmpty && page.matches(of: /<style/).isEmpty)
    for name in ["/style.css", "/script.js", "/search.js", "/markdown.js"] {
      #expect(try Page.text(name).matches(of: /@import|url\(|import\s*\(|importScripts/).isEmpty, "\(name)")
    }
    #expect(try Page.text("/script.js").contains("textContent") && page.contains("<textarea"))
  }
}

enum Page {
  static func text(_ name: String) throws -> String {
    String(decoding: try #require(PageRoute.all.first { $0.name == name }).bytes, as: UTF8.self)
  }
}
