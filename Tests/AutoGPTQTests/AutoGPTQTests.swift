import AutoGPTQ
import Files
import JSON
import Safetensors
import Tensors
import TestSupport
import Testing

@Suite struct CodePackingTests {
  /// - Parameter codes: `[inputs][columns]`.
  static func tensor(_ codes: [UInt8], columns: Int, bits: Int) -> IntPanelTensor {
    let inputs = codes.count / columns
    return IntPanelTensor(
      packing: QuantizedMatrix(
        bits: bits, groupSize: inputs, inFeatures: inputs, outFeatures: columns, codes: codes,
        scales: [UInt16](repeating: 1, count: columns),
        zeros: [UInt8](repeating: UInt8(1 << (bits - 1)), count: columns),
        groupIndex: [Int32](repeating: 0, count: inputs)))
  }

  @Test(
    arguments: [
      (2, [0x1B1B_1B1B, 0x1B1B_1B1B]), (3, [0x5397_7053, 0x7053_9770, 0x9770_5397]),
      (4, [0x4D6F_81A3, 0xC5E7_092B, 0x4D6F_81A3, 0xC5E7_092B]),
      (
        8,
        [
          0x1811_0A03, 0x342D_261F, 0x5049_423B, 0x6C65_5E57, 0x8881_7A73, 0xA49D_968F, 0xC0B9_B2AB,
          0xDCD5_CEC7,
        ]
      ),
    ] as [(Int, [UInt32])])
  func knownWords(bits: Int, words: [UInt32]) {
    let codes = (0..<32).map { UInt8((7 * $0 + 3) % (1 << bits)) }
    #expect(CodePacking.words(codes, bits: bits) == words)
    // Packed along rows, one column; packed along columns, one row.
    var packed = [UInt32](repeating: 0, count: bits)
    CodePacking.packRows(Self.tensor(codes, columns: 1, bits: bits), into: &packed)
    #expect(packed == words)
    #expect(CodePacking.packZeros(codes, columns: 32, bits: bits, format: .v2) == words)
  }

  @Test(arguments: [2, 3, 4, 8])
  func packingIsLossless(bits: Int) {
    var generator = SplitMix64(seed: 5)
    let (rows, columns) = (96, 40)
    let codes = (0..<rows * columns).map { _ in
      UInt8.random(in: 0...UInt8((1 << bits) - 1), using: &generator)
    }
    var words = [UInt32](repeating: 0, count: rows * bits / 32 * columns)
    CodePacking.packRows(Self.tensor(codes, columns: columns, bits: bits), into: &words)
    var back = [UInt8](repeating: 0, count: codes.count)
    CodePacking.unpackRows(words, rows: rows, columns: columns, bits: bits, into: &back)
    #expect(back == codes)
    for column in [0, 39] {
      let expected = CodePacking.words((0..<rows).map { codes[$0 * columns + column] }, bits: bits)
      #expect((0..<rows * bits / 32).map { words[$0 * columns + column] } == expected)
    }
  }

  @Test(arguments: [2, 3, 4, 8])
  func zeroPointsStayInTheirFields(bits: Int) {
    // A zero point of 0 in v1 wraps to all ones in its own field and nowhere else.
    let top = UInt8((1 << bits) - 1)
    let zeros = (0..<32).map { UInt8($0 % 3 == 0 ? 0 : min(Int(top), $0 % (1 << bits))) }
    let words = CodePacking.packZeros(zeros, columns: 32, bits: bits, format: .v1)
    let fields = CodePacking.zeroFields(words, columns: 32, bits: bits)
    #expect(fields == zeros.map { ($0 &- 1) & top })
  }

  @Test func theDocumentedDefectIsNotCopied() {
    let zeros: [UInt8] = [5, 5, 5, 0, 5, 5, 5, 5]
    #expect(CodePacking.packZeros(zeros, columns: 8, bits: 4, format: .v1) == [0x4444_F444])
  }
}

@Suite struct AutoGPTQModuleTests {
  static func matrix(bits: Int, symmetric: Bool, permuted: Bool) -> QuantizedMatrix {
    randomMatrix(bits: bits, symmetric: symmetric, permuted: permuted, out: 64, inputs: 128, group: 32)
  }

  /// - Parameter groupIndex: what the file says instead of the matrix's own.
  static func save(
    _ m: QuantizedMatrix, format: ZeroPointFormat, groupIndex: [Int32]? = nil, to path: String
  ) throws {
    let tensor = IntPanelTensor(packing: m)
    try SafetensorsWriter.write(
      to: path,
      tensors: AutoGPTQModule.plans(
        "m", bits: m.bits, groupCount: m.groupCount, out: m.outFeatures, in: m.inFeatures)
    ) { plan, emit in
      let suffix = String(plan.name.dropFirst(2))
      if suffix == "g_idx", let groupIndex { return try groupIndex.withUnsafeBytes { try emit($0) } }
      try AutoGPTQModule.bytes(of: suffix, tensor, format: format).withUnsafeBytes { try emit($0) }
    }
  }

  @Test(arguments: [2, 3, 4, 8], [true, false])
  func tensorsAndBackAreTheSame(bits: Int, symmetric: Bool) throws {
    let folder = try TemporaryFolder()
    for (permuted, format) in [(false, ZeroPointFormat.v1), (true, .v2), (true, .v1)] {
      let m = Self.matrix(bits: bits, symmetric: symmetric, permuted: permuted)
      try Self.save(m, format: format, to: folder.file("x.safetensors"))
      let (back, warning) = try AutoGPTQModule.read(
        "m", from: TensorTable(path: folder.file("x.safetensors")),
        configuration: QuantizeConfiguration(
          bits: bits, groupSize: 32, isSymmetric: symmetric, zeroPointFormat: format), out: 64, in: 128)
      #expect(back == m)
      #expect(warning == nil)
    }
  }

  @Test func dataDecidesTheZeroPointFormatOfSymmetricFiles() throws {
    let folder = try TemporaryFolder()
    let m = Self.matrix(bits: 4, symmetric: true, permuted: false)
    try Self.save(m, format: .v2, to: folder.file("x.safetensors"))
    let (back, warning) = try AutoGPTQModule.read(
      "m", from: TensorTable(path: folder.file("x.safetensors")),
      configuration: QuantizeConfiguration(groupSize: 32, zeroPointFormat: .v1), out: 64, in: 128)
    #expect(back == m)
    #expect(warning?.contains("gptq_v2") == true)
  }

  @Test func theWholeWordQuirkOfGPTQModelIsUndone() throws {
    let folder = try TemporaryFolder()
    var m = Self.matrix(bits: 4, symmetric: false, permuted: false)
    m.zeros[3] = 0  // The borrow runs into field 4 in such files.
    let path = folder.file("x.safetensors")
    try SafetensorsWriter.write(
      to: path, tensors: AutoGPTQModule.plans("m", bits: 4, groupCount: 4, out: 64, in: 128)
    ) { plan, emit in
      let suffix = String(plan.name.dropFirst(2))
      guard suffix == "qzeros" else {
        return try AutoGPTQModule.bytes(of: suffix, IntPanelTensor(packing: m), format: .v1)
          .withUnsafeBytes { try emit($0) }
      }
      let words = CodePacking.packZeros(m.zeros, columns: 64, bits: 4, format: .v2).map { $0 &- 0x1111_1111 }
      try words.withUnsafeBytes { try emit($0) }
    }
    let (back, _) = try AutoGPTQModule.read(
      "m", from: TensorTable(path: path),
      configuration: QuantizeConfiguration(
        groupSize: 32, isSymmetric: false, zeroPointFormat: .v1, isFromGPTQModel: true), out: 64, in: 128)
    #expect(back == m)
  }

  /// As symmetric checkpoints of AutoRound have them; only the product of scale and code counts.
  @Test func negativeScalesAreScales() throws {
    let folder = try TemporaryFolder()
    var m = Self.matrix(bits: 4, symmetric: true, permuted: false)
    for i in m.scales.indices where i % 2 == 0 { m.scales[i] |= 0x8000 }
    m.scales[5] = 0
    try Self.save(m, format: .v1, to: folder.file("x.safetensors"))
    let (back, warning) = try AutoGPTQModule.read(
      "m", from: TensorTable(path: folder.file("x.safetensors")),
      configuration: QuantizeConfiguration(groupSize: 32), out: 64, in: 128)
    #expect(back == m && warning == nil)
  }

  @Test func impossibleTensorsAreRefused() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("x.safetensors")
    func refusal(_ change: (inout QuantizedMatrix, inout [Int32]) -> Void) throws -> AutoGPTQError? {
      var m = Self.matrix(bits: 4, symmetric: true, permuted: false)
      var groupIndex = m.groupIndex
      change(&m, &groupIndex)
      try Self.save(m, format: .v1, groupIndex: groupIndex, to: path)
      let error = #expect(throws: AutoGPTQError.self) {
        try AutoGPTQModule.read(
          "m", from: TensorTable(path: path),
          configuration: QuantizeConfiguration(groupSize: 32), out: 64, in: 128)
      }
      return error
    }
    let outside = try refusal { $1[5] = 4 }
    #expect(
      outside?.reason == .groupOutOfRange(channel: 5, group: 4, groupCount: 4) && outside?.part == .gIdx)
    #expect(outside?.description == "\(path): tensor m.g_idx puts channel 5 in group 4 of 4")
    #expect(try refusal { $1[5] = 1 }?.part == .gIdx)
    #expect(try refusal { m, _ in m.zeros[7] = 3 }?.reason == .asymmetricZeros(middle: 8))
    #expect(try refusal { m, _ in m.scales[9] = 0x7C00 }?.reason == .scaleNotFinite(index: 9, "inf"))
    #expect(try refusal { m, _ in m.scales[2] = 0x7E00 }?.reason == .scaleNotFinite(index: 2, "nan"))
  }
}

@Suite struct QuantizeConfigurationTests {
  @Test(arguments: [
    (#"{"bits": 5}"#, "bits"), (#"{"bits": 4, "quant_method": "awq"}"#, "awq"),
    (#"{"bits": 4, "checkpoint_format": "marlin"}"#, "marlin"),
    (#"{"bits": 4, "group_size": 0}"#, "group_size"),
    (#"{"bits": 4, "group_size": 9223372036854775807}"#, "group_size"),
    (#"{"bits": 4, "is_marlin_format": true}"#, "marlin"), (#"{"bits": 4, "dynamic": {"(": {}}}"#, "dynamic"),
    (#"{}"#, "bits"),
  ])
  func quantizationsThatAreNotSupportedAreNamed(json: String, part: String) {
    let error = #expect(throws: JSONFieldError.self) {
      try QuantizeConfiguration(JSONValue.parse(json), label: "quantize_config.json")
    }
    #expect(error?.description.contains(part) == true)
  }

  @Test func quantizeConfigurationSurvivesARoundTrip() throws {
    let c = QuantizeConfiguration(
      bits: 3, groupSize: 64, isSymmetric: false, descendingActivation: true, staticGroups: true,
      dampPercent: 0.05,
      zeroPointFormat: .v2)
    #expect(try QuantizeConfiguration(c.json(toolVersion: "1"), label: "x") == c)
  }
}

@Suite struct QuantizationSourcesTests {
  private static func files(_ config: JSONValue, _ own: JSONValue?) -> EmbeddedFiles {
    var contents: [ByteText: [UInt8]] = [:]
    contents["config.json"] = Array(
      JSONValue.object(JSONObject([("quantization_config", config)])).serialized().utf8)
    contents["quantize_config.json"] = own.map { Array($0.serialized().utf8) }
    return EmbeddedFiles(location: "m", contents: contents)
  }
  private static let base: [(String, JSONValue)] = [
    ("bits", 4), ("group_size", 64), ("sym", false), ("desc_act", false), ("checkpoint_format", "gptq_v2"),
  ]
  private static func settings(_ changes: [(String, JSONValue?)]) -> JSONValue {
    var object = JSONObject(base)
    for (key, value) in changes { object[key] = value }
    return .object(object)
  }

  @Test(
    arguments: [
      ("checkpoint_format", nil, "gptq (it has no such key)"), ("checkpoint_format", "gptq", "gptq"),
      ("bits", 8, "8"), ("group_size", 32, "32"), ("sym", true, "true"), ("desc_act", true, "true"),
    ] as [(String, JSONValue?, String)])
  func whatChangesTheWeightsIsAnError(key: String, value: JSONValue?, text: String) throws {
    let files = Self.files(Self.settings([]), Self.settings([(key, value)]))
    let error = #expect(throws: QuantizationContradiction.self) { try files.quantizeConfiguration() }
    #expect(error?.key == key && error?.values.last == text)
    #expect(error?.labels == ["m: config.json: quantization_config", "m: quantize_config.json"])
    // The other way round as well.
    #expect(
      throws: QuantizationContradiction.self,
      performing: { try Self.files(Self.settings([(key, value)]), Self.settings([])).quantizeConfiguration() }
    )
  }

  @Test func aMissingKeySaysNothing() throws {
    let files = Self.files(
      Self.settings([("group_size", nil), ("sym", nil), ("damp_percent", 0.1)]),
      Self.settings([("damp_percent", 0.05), ("meta", ["quantizer": ["gptqmodel:5.0"]])]))
    let found = try #require(try files.quantizeConfiguration())
    #expect(found.groupSize == 64 && !found.isSymmetric && found.isFromGPTQModel)
    // What does not change the weights: config.json, as transformers and vLLM.
    #expect(found.dampPercent == 0.1)
  }
}
