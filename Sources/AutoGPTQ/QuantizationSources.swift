import Files
import JSON

/// The places in which a checkpoint says how it is quantized, in the order in which they count: `quantization_config` of
/// `config.json`, which transformers and vLLM read, then AutoGPTQ's own file and AWQ's name for it.
package struct QuantizationSources: Sendable {
  package struct Source: Sendable {
    /// The file, and where in it, for messages.
    package var label: String
    /// The file's name.
    package var name: String
    package var settings: JSONObject
    package var configuration: QuantizeConfiguration
  }
  package let sources: [Source]
  /// What the first source says, and what the others add to it; nil: the weights are floats.
  package private(set) var configuration: QuantizeConfiguration?

  /// - Throws: when one of them asks for something that is not supported.
  package init(_ files: any ModelFiles) throws {
    var sources: [Source] = []
    func add(_ json: JSONValue?, _ name: String, _ label: String) throws {
      guard let json, !json.isNull else { return }
      sources.append(
        Source(
          label: label, name: name, settings: json.objectValue ?? JSONObject(),
          configuration: try QuantizeConfiguration(json, label: label)))
    }
    let model = try files.json(named: "config.json")
    if let settings = model?["quantization"], settings["bits"] != nil, settings["group_size"] != nil {
      let fields = try JSONFields(model ?? .null, document: files.label(of: "config.json"))
      throw fields.refusal(
        "quantization",
        "says that the weights are MLX's, which are not read; take the model that they were made of")
    }
    try add(
      model?["quantization_config"], "config.json",
      files.label(of: "config.json") + ": quantization_config")
    for name in ["quantize_config.json", "quant_config.json"] {
      try add(files.json(named: name), name, files.label(of: name))
    }
    self.sources = sources
    guard let first = sources.first else {
      configuration = nil
      return
    }
    var settings = JSONObject()
    for source in sources.reversed() {
      for (key, value) in source.settings.members where !value.isNull { settings[key] = value }
    }
    configuration = try QuantizeConfiguration(.object(settings), label: first.label)
    // Who wrote the file is in one of them only where another tool added the other.
    configuration?.isFromGPTQModel = sources.contains { $0.configuration.isFromGPTQModel }
  }

  /// The first setting on which the sources disagree and that changes what the weights are; nil: they agree. A key that is
  /// missing says nothing, except the zero-point format, for which all engines take v1 then.
  package var contradiction: QuantizationContradiction? {
    guard let first = sources.first else { return nil }
    for other in sources.dropFirst() {
      let (a, b) = (first.configuration, other.configuration)
      func states(_ names: String...) -> Bool {
        [first, other].allSatisfy { source in names.contains { source.settings[$0]?.isNull == false } }
      }
      func find(_ key: String, _ isSame: Bool, _ x: String, _ y: String) -> QuantizationContradiction? {
        isSame ? nil : QuantizationContradiction(key: key, first: (first.label, x), second: (other.label, y))
      }
      func findRules(_ key: String) -> QuantizationContradiction? {
        let (x, y) = (first.text(of: key), other.text(of: key))
        return find(key, x == y || !states(key), x, y)
      }
      let found =
        find("bits", a.bits == b.bits, "\(a.bits)", "\(b.bits)")
        ?? find(
          "checkpoint_format", a.zeroPointFormat == b.zeroPointFormat, first.zeroPointFormatText,
          other.zeroPointFormatText)
        ?? findRules("dynamic") ?? findRules("extra_config")
        ?? find(
          "group_size", a.groupSize == b.groupSize || !states("group_size", "q_group_size"),
          "\(a.groupSize)", "\(b.groupSize)")
        ?? find(
          "sym", a.isSymmetric == b.isSymmetric || !states("sym"), "\(a.isSymmetric)", "\(b.isSymmetric)")
        ?? find(
          "desc_act", a.descendingActivation == b.descendingActivation || !states("desc_act"),
          "\(a.descendingActivation)", "\(b.descendingActivation)")
      if let found { return found }
    }
    return nil
  }
}

extension QuantizationSources.Source {
  /// The zero-point format, and whether the file says it.
  fileprivate var zeroPointFormatText: String {
    let isStated = ["checkpoint_format", "format"].contains { settings[$0]?.isNull == false }
    return configuration.zeroPointFormat.rawValue + (isStated ? "" : " (it has no such key)")
  }

  /// A setting as the file writes it.
  fileprivate func text(of key: String) -> String { settings[key]?.serialized() ?? "absent" }
}

/// Two descriptions of one quantization that cannot both be right.
package struct QuantizationContradiction: DiagnosedError, Equatable {
  package var key: String
  /// The two files and what they say, the one that engines read first.
  package var labels: [String]
  package var values: [String]

  init(key: String, first: (label: String, value: String), second: (label: String, value: String)) {
    self.key = key
    labels = [first.label, second.label]
    values = [first.value, second.value]
  }

  package var category: FailureCategory { .badInput }

  package var description: String {
    "\(key) is \(values[0]) in \(labels[0]), but \(values[1]) in \(labels[1]); transformers and vLLM read the first. "
      + "Find out which one the weights were made with, and correct the other"
  }
}

extension ModelFiles {
  /// The quantization of the checkpoint, or nil when its weights are floats.
  /// - Throws: ``QuantizationContradiction`` when two files disagree on what changes the weights.
  package func quantizeConfiguration() throws -> QuantizeConfiguration? {
    let sources = try QuantizationSources(self)
    if let contradiction = sources.contradiction { throw contradiction }
    return sources.configuration
  }
}
