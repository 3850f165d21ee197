import Architecture
import Compute
import Models
import Tensors

/// The output head in 8 or 4 bits, round to nearest: of a model with a large vocabulary it is a good part of the bytes that
/// every generated token reads.
package enum HeadQuantizer {
  /// Outputs handled at a time.
  private static let rowsAtATime = 4096
  private static let groupSize = 128

  /// Replaces the head, or adds one beside a tied embedding.
  /// - Throws: when the shape cannot be stored, or a weight is not finite.
  package static func apply(bits: Int, to contents: inout ModelContents, pool: WorkerPool = .shared) throws {
    let source = TensorKey.known(TensorID(contents.configuration.tieWordEmbeddings ? .embedding : .head))
    guard let entry = contents.entries.first(where: { $0.key == source }) else { return }
    let (out, inFeatures) = (entry.shape[0], entry.shape[1])
    let recipe = QuantizationRecipe(
      method: .rtn, bits: bits,
      groupSize: inFeatures % groupSize == 0 || inFeatures > groupSize ? groupSize : -1)
    let group = recipe.groupSize(forInputs: inFeatures)
    if let obstacle = IntPanelLayout.obstacle(bits: bits, groupSize: group, in: inFeatures) {
      throw QuantizationError.headCannotBeStored(bits: bits, obstacle: obstacle)
    }
    let weights: WeightMatrix
    switch entry.form {
    case .rows(let dtype, let bytes):
      guard let base = bytes.bytes.baseAddress, [.f32, .f16, .bf16].contains(dtype) else { return }
      weights = .rows(
        RowMatrix(elements: base, dtype: dtype, outFeatures: out, inFeatures: inFeatures, owner: bytes.owner))
    case .panels(let dtype, let bytes):
      guard let base = bytes.bytes.baseAddress else { return }
      weights = .panels(
        PanelMatrix(
          elements: base, dtype: dtype, outFeatures: out, inFeatures: inFeatures, owner: bytes.owner))
    case .made(let dtype, let make):
      let made = try make()
      guard let base = made.bytes.baseAddress else { return }
      weights = .rows(
        RowMatrix(elements: base, dtype: dtype, outFeatures: out, inFeatures: inFeatures, owner: made.owner))
    default: throw QuantizationError.headAlreadyQuantized(path: contents.path)
    }
    let layout = IntPanelLayout(
      bits: bits, groupSize: group, outFeatures: out, inFeatures: inFeatures, isSymmetric: true,
      isPermuted: false)
    let solver = Solver(recipe: recipe, pool: pool)
    let head = ModelEntry(
      key: .known(TensorID(.head)), shape: entry.shape,
      form: .stream(layout) { emit in try stream(weights, layout, solver, emit) })
    if let index = contents.entries.firstIndex(where: { $0.key == head.key }) {
      contents.entries[index] = head
    } else {
      contents.entries.append(head)
    }
  }

  /// Codes as they are made; scales, which come after all codes, at the end.
  private static func stream(
    _ source: WeightMatrix, _ layout: IntPanelLayout, _ solver: Solver,
    _ emit: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    func zeros(_ count: Int) throws {
      if count > 0 { try [UInt8](repeating: 0, count: count).withUnsafeBytes { try emit($0) } }
    }
    var scales: [UInt8] = []
    for first in stride(from: 0, to: layout.outFeatures, by: rowsAtATime) {
      let count = min(rowsAtATime, layout.outFeatures - first)
      let (tensor, _) = try solver.solve(
        source.outputs(first..<first + count), hessian: nil, module: "head")
      let part = tensor.layout
      try withExtendedLifetime(tensor) {
        try emit(UnsafeRawBufferPointer(rebasing: tensor.bytes[..<part.codeByteCount]))
        scales += tensor.bytes[part.scalesOffset..<part.scalesOffset + part.scalesByteCount]
      }
    }
    try zeros(layout.scalesOffset - layout.codeByteCount)
    try scales.withUnsafeBytes { try emit($0) }
    try zeros(layout.byteCount - layout.scalesOffset - layout.scalesByteCount)
  }
}
