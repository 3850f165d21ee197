import Files
import Safetensors
import Tensors

/// One Linear of an AutoGPTQ checkpoint: reading it from its tensors and turning it back into them
/// (`Formats/autogptq-int4.md`).
package enum AutoGPTQModule {
  package static let suffixes = ["qweight", "qzeros", "scales", "g_idx"]

  /// The tensors of a module, with the shapes they have in a file.
  package static func plans(_ module: String, bits: Int, groupCount: Int, out: Int, in inFeatures: Int)
    -> [TensorPlan]
  {
    [
      TensorPlan("\(module).qweight", .i32, [inFeatures * bits / 32, out]),
      TensorPlan("\(module).qzeros", .i32, [groupCount, out * bits / 32]),
      TensorPlan("\(module).scales", .f16, [groupCount, out]),
      TensorPlan("\(module).g_idx", .i32, [inFeatures]),
    ]
  }

  /// What makes a matrix impossible to store, or nil.
  package static func obstacle(bits: Int, out: Int, in inFeatures: Int) -> String? {
    reasonAgainst(bits: bits, out: out, in: inFeatures)?.description
  }

  private static func reasonAgainst(bits: Int, out: Int, in inFeatures: Int) -> AutoGPTQError.Reason? {
    if inFeatures % 32 != 0 { return .inputsNotWhole(inFeatures) }
    if out * bits % 32 != 0 || (bits == 3 && out % 32 != 0) { return .outputsNotWhole(out, bits: bits) }
    return nil
  }

  /// Little-endian bytes of one of the module's tensors, by suffix.
  package static func bytes(of suffix: String, _ tensor: IntPanelTensor, format: ZeroPointFormat) -> [UInt8] {
    let layout = tensor.layout
    switch suffix {
    case "qweight":
      let count = layout.inFeatures * layout.bits / 32 * layout.outFeatures
      return [UInt8](unsafeUninitializedCapacity: count * 4) { buffer, initialized in
        initialized = count * 4
        guard let base = buffer.baseAddress else { return }
        UnsafeMutableRawPointer(base).withMemoryRebound(to: UInt32.self, capacity: count) {
          CodePacking.packRows(tensor, into: $0)
        }
      }
    case "qzeros":
      return CodePacking.packZeros(
        tensor.zeros, columns: layout.outFeatures, bits: layout.bits, format: format
      ).withUnsafeBytes { Array($0) }
    case "scales": return tensor.scales.withUnsafeBytes { Array($0) }
    case "g_idx": return tensor.groupIndex.withUnsafeBytes { Array($0) }
    default: preconditionFailure("not a tensor of a quantized module: \(suffix)")
    }
  }

  /// Scales, zero points and group numbers of a module: everything but the codes.
  package struct Parameters: Sendable {
    package var groupSize: Int
    package var scales: [UInt16]
    package var zeros: [UInt8]
    package var groupIndex: [Int32]
    /// Set when the stored zero points contradict the declared format.
    package var warning: String?
  }

  /// Reads what describes a module's codes. Every rule that a reader relies on is checked: types, shapes, group numbers,
  /// legal zero points, finite scales.
  package static func parameters(
    _ module: String, from table: TensorTable, configuration c: QuantizeConfiguration, out: Int,
    in inFeatures: Int
  ) throws -> Parameters {
    func bad(_ part: AutoGPTQError.Part, _ reason: AutoGPTQError.Reason) -> AutoGPTQError {
      AutoGPTQError(reason, path: table.path, module: module, part: part)
    }
    if let reason = reasonAgainst(bits: c.bits, out: out, in: inFeatures) { throw bad(.qweight, reason) }
    let groupSize = c.groupSize == -1 ? inFeatures : c.groupSize
    let groups = (inFeatures + groupSize - 1) / groupSize
    let plans = plans(module, bits: c.bits, groupCount: groups, out: out, in: inFeatures)
    let (zeros, warning) = try zeroPoints(
      words(plans[1], table) { bad(.qzeros, $0) }, module: module, out: out, configuration: c, bad)
    let groupIndex =
      table[plans[3].name] == nil
      ? (0..<inFeatures).map { Int32($0 / groupSize) }
      : try readGroupIndex(
        words(plans[3], table) { bad(.gIdx, $0) }, groups: groups, groupSize: groupSize, bad)
    return Parameters(
      groupSize: groupSize, scales: try readScales(table.required(plans[2].name, shape: plans[2].shape), bad),
      zeros: zeros, groupIndex: groupIndex, warning: warning)
  }

  /// Reads a whole module.
  package static func read(
    _ module: String, from table: TensorTable, configuration c: QuantizeConfiguration, out: Int,
    in inFeatures: Int
  ) throws -> (matrix: QuantizedMatrix, warning: String?) {
    let p = try parameters(module, from: table, configuration: c, out: out, in: inFeatures)
    let qweight = try words(TensorPlan("\(module).qweight", .i32, [inFeatures * c.bits / 32, out]), table) {
      AutoGPTQError($0, path: table.path, module: module, part: .qweight)
    }
    let codes = [UInt8](unsafeUninitializedCapacity: inFeatures * out) { buffer, count in
      count = inFeatures * out
      qweight.withUnsafeBufferPointer { source in
        guard let from = source.baseAddress, let to = buffer.baseAddress else { return }
        CodePacking.unpackRows(from, rows: inFeatures, columns: out, bits: c.bits, into: to)
      }
    }
    return (
      QuantizedMatrix(
        bits: c.bits, groupSize: p.groupSize, inFeatures: inFeatures, outFeatures: out, codes: codes,
        scales: p.scales, zeros: p.zeros, groupIndex: p.groupIndex), p.warning
    )
  }

  // MARK: Parts

  private static func words(
    _ plan: TensorPlan, _ table: TensorTable, _ bad: (AutoGPTQError.Reason) -> AutoGPTQError
  ) throws -> [UInt32] {
    let tensor = try table.required(plan.name, shape: plan.shape)
    guard tensor.dtype == .i32 else { throw bad(.wrongType(tensor.dtype, expected: .i32)) }
    return copied(tensor.bytes)
  }

  private static func copied<T: BitwiseCopyable>(_ bytes: UnsafeRawBufferPointer) -> [T] {
    let count = bytes.count / MemoryLayout<T>.size
    return [T](unsafeUninitializedCapacity: count) { buffer, initialized in
      UnsafeMutableRawBufferPointer(buffer).copyMemory(from: bytes)
      initialized = count
    }
  }

  private static func zeroPoints(
    _ words: [UInt32], module: String, out: Int, configuration c: QuantizeConfiguration,
    _ bad: (AutoGPTQError.Part, AutoGPTQError.Reason) -> AutoGPTQError
  ) throws -> ([UInt8], String?) {
    let fields = CodePacking.zeroFields(words, columns: out, bits: c.bits)
    let middle = UInt8(1 << (c.bits - 1))
    if c.isSymmetric {
      // Published files exist that declare one format and store the other; the data decides.
      let detected: ZeroPointFormat
      if fields.allSatisfy({ $0 == middle - 1 }) {
        detected = .v1
      } else if fields.allSatisfy({ $0 == middle }) {
        detected = .v2
      } else {
        throw bad(.qzeros, .asymmetricZeros(middle: middle))
      }
      let warning =
        detected == c.zeroPointFormat
        ? nil
        : "\(module).qzeros: stored as \(detected.rawValue) though \(c.zeroPointFormat.rawValue) is declared; the data decides"
      return ([UInt8](repeating: middle, count: fields.count), warning)
    }
    switch c.zeroPointFormat {
    case .v2: return (fields, nil)
    case .v1:
      if c.isFromGPTQModel && c.bits != 3 {
        // GPTQModel subtracts from the whole word, with the borrow; undo exactly that.
        let ones: UInt32 = c.bits == 2 ? 0x5555_5555 : c.bits == 4 ? 0x1111_1111 : 0x0101_0101
        return (CodePacking.zeroFields(words.map { $0 &+ ones }, columns: out, bits: c.bits), nil)
      }
      let mask = UInt8((1 << c.bits) - 1)
      return (fields.map { ($0 &+ 1) & mask }, nil)
    }
  }

  private static func readScales(
    _ tensor: StoredTensor, _ bad: (AutoGPTQError.Part, AutoGPTQError.Reason) -> AutoGPTQError
  ) throws
    -> [UInt16]
  {
    let scales: [UInt16]
    switch tensor.dtype {
    case .f16: scales = copied(tensor.bytes)
    case .bf16, .f32:
      let wide: [Float] =
        tensor.dtype == .f32
        ? copied(tensor.bytes)
        : (copied(tensor.bytes) as [UInt16]).map { Float(bitPattern: UInt32($0) << 16) }
      scales = wide.map(HalfPrecision.bits(of:))
      if let index = zip(wide, scales).enumerated().first(where: { HalfPrecision.value(of: $1.1) != $1.0 })?
        .offset
      {
        throw bad(.scales, .scaleNotHalf(index: index, wide[index]))
      }
    default: throw bad(.scales, .wrongType(tensor.dtype, expected: .f16))
    }
    // Symmetric files of AutoRound have negative scales; only their product with a code counts.
    if let index = scales.firstIndex(where: { $0 & 0x7C00 == 0x7C00 }) {
      throw bad(.scales, .scaleNotFinite(index: index, "\(HalfPrecision.value(of: scales[index]))"))
    }
    return scales
  }

  private static func readGroupIndex(
    _ words: [UInt32], groups: Int, groupSize: Int,
    _ bad: (AutoGPTQError.Part, AutoGPTQError.Reason) -> AutoGPTQError
  ) throws -> [Int32] {
    var sizes = [Int](repeating: 0, count: groups)
    var index: [Int32] = []
    index.reserveCapacity(words.count)
    for (channel, word) in words.enumerated() {
      var group = Int(Int32(bitPattern: word))
      if group < 0 { group += groups }  // A few old files count groups from the end.
      guard group >= 0, group < groups else {
        throw bad(
          .gIdx, .groupOutOfRange(channel: channel, group: Int32(bitPattern: word), groupCount: groups))
      }
      sizes[group] += 1
      guard sizes[group] <= groupSize else {
        throw bad(.gIdx, .groupTooLarge(group: group, groupSize: groupSize))
      }
      index.append(Int32(group))
    }
    if let short = sizes.dropLast().firstIndex(where: { $0 != groupSize }) {
      throw bad(.gIdx, .groupTooSmall(group: short, found: sizes[short], groupSize: groupSize))
    }
    return index
  }
}
