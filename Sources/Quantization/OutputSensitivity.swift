import Architecture

/// How far the model's predictions go with errors in the outputs of a layer's modules.
///
/// To second order the KL divergence that errors ΔW cause is ½ · E[(Σ g·ΔW·x)²], a sum over tokens and modules, g being the gradient of
/// the cross-entropy of a word drawn from the model (``StatisticsPass``) with respect to a module's output. Errors of different outputs,
/// tokens and modules hardly correlate, so that Σ ½ · E[g[o]²] · E[(ΔW·x)[o]²] over the outputs o of all modules remains.
struct OutputSensitivity {
  /// ½ · E[g[o]²] for each output o.
  private let halfSquares: [ModuleKind: [Double]]

  /// The blocks of output Hessians that statistics for this are made with: only their diagonals are read.
  static let outputBlock = 16

  /// - Parameter statistics: of so many tokens, all of which took part in the output Hessians.
  init(_ statistics: LayerStatistics, tokens: Int) {
    halfSquares = Dictionary(
      uniqueKeysWithValues: statistics.modules.map { kind, module in
        (
          kind,
          module.outputs.blocks.flatMap { block in
            (0..<block.order).map { Double(block.values[$0 * block.order + $0]) / Double(2 * max(1, tokens)) }
          }
        )
      })
  }

  /// KL divergence in nats per token.
  /// - Parameter errors: of the module's outputs, the mean square over tokens of each.
  func divergence(of kind: ModuleKind, errors: [Double]) -> Double {
    zip(halfSquares[kind] ?? [], errors).reduce(0) { $0 + $1.0 * $1.1 }
  }
}
