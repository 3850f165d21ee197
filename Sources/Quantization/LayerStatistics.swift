import Architecture
import Compute
import Files
import Tensors

/// What a backward pass learned of one layer: for each of its modules, how much each calibration token's output matters, and how the
/// outputs depend on each other.
package struct LayerStatistics {
  package struct Module {
    /// ‖g‖ of each token's gradient g with respect to the module's output, `[tokens]`.
    package var tokenWeights: AlignedBuffer<Float>
    /// Without blocks when nothing depends on it.
    package var outputs: OutputHessian
    fileprivate var width: Int
  }
  package private(set) var modules: [(kind: ModuleKind, statistics: Module)]

  /// Zeros for the modules of a layer.
  /// - Parameter blockSize: outputs of a block of H_O at most; nil: no H_O.
  init(_ table: TensorIndex, tokens: Int, blockSize: Int?) {
    modules = table.stages.flatMap(\.modules).map { kind in
      let outputs = table.shape(of: ModuleID(kind, layer: 0)).out
      return (
        kind,
        Module(
          tokenWeights: AlignedBuffer(zeros: tokens),
          outputs: blockSize.map { OutputHessian(outputs: outputs, blockSize: $0) } ?? OutputHessian(),
          width: outputs)
      )
    }
  }

  package subscript(kind: ModuleKind) -> Module? { modules.first { $0.kind == kind }?.statistics }

  /// Adds some tokens.
  /// - Parameters:
  ///   - gradients: of the module's outputs, rows `rowStride` floats apart.
  ///   - first: number of the first token.
  func add(
    _ gradients: UnsafePointer<Float>, rows: Int, rowStride: Int, of kind: ModuleKind, first: Int,
    pool: WorkerPool
  ) {
    guard let module = self[kind] else { return }
    let width = module.width
    let source = SharedPointer(gradients)
    let weights = DisjointWrites(module.tokenWeights.pointer + first)
    pool.runRanges(rows, grain: 4) { range in
      for row in range {
        let gradient = source + row * rowStride
        (weights + row).pointee = pool.kernels.dot(gradient, gradient, count: width).squareRoot()
      }
    }
    module.outputs.add(gradients, rows: rows, rowStride: rowStride, pool: pool)
  }

  mutating func setTokenWeights(_ weights: AlignedBuffer<Float>, of kind: ModuleKind) {
    for place in modules.indices where modules[place].kind == kind {
      modules[place].statistics.tokenWeights = weights
    }
  }

  // MARK: On disk

  /// What is written, in the order of the modules. Valid while this value lives.
  var parts: [UnsafeRawBufferPointer] {
    modules.flatMap { module in
      [UnsafeRawBufferPointer(module.statistics.tokenWeights.buffer)]
        + module.statistics.outputs.blocks.map { UnsafeRawBufferPointer($0.values.buffer) }
    }
  }
}
