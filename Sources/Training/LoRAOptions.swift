/// What is trained beside the frozen weights: LoRA (Hu et al., arXiv:2106.09685), in PEFT's terms.
package struct LoRAOptions: Equatable, Sendable {
  /// Columns of B and rows of A.
  package var rank: Int
  /// B · A is multiplied with alpha / rank, or with alpha / √rank.
  package var alpha: Double
  /// alpha / √rank (Kalajdzievski, arXiv:2312.03732).
  package var isRankStabilized: Bool
  /// The part of the inputs of A that is set to zero in training, in 0 ..< 1.
  package var dropout: Double
  /// Ends of module names, for example `qkv_proj`, or split names such as `q_proj` on a model with one fused matrix. Empty: every
  /// projection of every block.
  package var targets: [String]
  /// Ends of module names whose weights are trained as a whole: norms.
  package var savedModules: [String]
  /// Of the first values of A and of the dropout.
  package var seed: UInt64

  package init(
    rank: Int = 8, alpha: Double = 16, isRankStabilized: Bool = false, dropout: Double = 0,
    targets: [String] = [], savedModules: [String] = [], seed: UInt64 = 1024
  ) {
    self.rank = rank
    self.alpha = alpha
    self.isRankStabilized = isRankStabilized
    self.dropout = dropout
    self.targets = targets
    self.savedModules = savedModules
    self.seed = seed
  }

  package var scale: Float {
    Float(alpha / (isRankStabilized ? Double(rank).squareRoot() : Double(rank)))
  }
}
