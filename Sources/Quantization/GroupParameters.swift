import Compute
import Tensors

/// Scale and zero point of one group of one output.
struct GroupParameters {
  var scale: Float
  var zero: Float
}

/// AutoGPTQ's `Quantizer.find_params`, or ``ScaleSearch``, on 16 outputs at once.
struct ParameterFinder {
  let maximumCode: Float
  let isSymmetric: Bool
  let mirrorsPositiveGroups: Bool
  /// Nil: the range of the weights decides.
  private let search: ScaleSearch?

  init(_ recipe: QuantizationRecipe, kernels: Kernels) {
    search =
      recipe.searchesScales
      ? ScaleSearch(
        bits: recipe.bits, isSymmetric: recipe.isSymmetric, allowsNegative: recipe.signedScales,
        kernels: kernels) : nil
    maximumCode = recipe.maximumCode
    isSymmetric = recipe.isSymmetric
    mirrorsPositiveGroups = recipe.mirrorsPositiveGroups
  }

  /// Smallest scale that half precision stores without losing digits.
  static let smallestNormal: Float = 0x1p-14

  /// Counters of what deserves a line in a report.
  struct Findings {
    /// Symmetric groups without a negative weight: AutoGPTQ gives them half the codes.
    var positiveGroups = 0
    /// Scales below half precision's normal range.
    var tinyScales = 0

    static func += (a: inout Findings, b: Findings) {
      a.positiveGroups += b.positiveGroups
      a.tinyScales += b.tinyScales
    }
  }

  /// - Parameters:
  ///   - panel: weights `[columns][16]` of one panel.
  ///   - columns: those of the group, as places in `panel`.
  ///   - importance: of each column of `panel`, for a search; nil: all count the same.
  ///   - lanes: outputs that exist.
  func find(
    _ panel: UnsafePointer<Float>, columns: Range<Int>, importance: UnsafePointer<Float>?, lanes: Int,
    scales: UnsafeMutablePointer<Float>,
    zeros: UnsafeMutablePointer<Float>, findings: inout Findings
  ) {
    var low = SIMD16<Float>(repeating: 0)
    var high = SIMD16<Float>(repeating: 0)
    for column in columns {
      let w = UnsafeRawPointer(panel + column * panelWidth).loadUnaligned(as: SIMD16<Float>.self)
      low = low.replacing(with: w, where: w .< low)
      high = high.replacing(with: w, where: w .> high)
    }
    if let search {
      let found = { importance in
        search.run(
          panel + columns.lowerBound * panelWidth, columns: columns.count, importance: importance, low: low,
          high: high, scales: scales, zeros: zeros)
      }
      if let importance {
        found(importance + columns.lowerBound)
      } else {
        [Float](repeating: 1, count: columns.count).withUnsafeBufferPointer { found($0.baseAddress!) }
      }
      for lane in 0..<lanes where abs(scales[lane]) < ParameterFinder.smallestNormal {
        findings.tinyScales += 1
      }
      return
    }
    for lane in 0..<panelWidth {
      let (parameters, isPositive) = parameters(low: low[lane], high: high[lane])
      scales[lane] = parameters.scale
      zeros[lane] = parameters.zero
      guard lane < lanes else { continue }
      if isPositive { findings.positiveGroups += 1 }
      if parameters.scale < ParameterFinder.smallestNormal { findings.tinyScales += 1 }
    }
  }

  /// - Parameters: low <= 0 <= high, the range of the group widened to include 0.
  private func parameters(low: Float, high: Float) -> (GroupParameters, isPositive: Bool) {
    var (low, high) = (low, high)
    var isPositive = false
    if isSymmetric {
      isPositive = low == 0 && high > 0
      high = max(abs(low), high)
      if low < 0 || mirrorsPositiveGroups { low = -high }
    }
    if low == 0 && high == 0 { (low, high) = (-1, 1) }
    var scale = (high - low) / maximumCode
    if scale < ParameterFinder.smallestNormal {
      // Below it half precision rounds coarsely: quantize with the scale that will be stored.
      scale = max(0x1p-24, HalfPrecision.value(of: HalfPrecision.bits(of: scale)))
    }
    let zero = isSymmetric ? (maximumCode + 1) / 2 : (-low / scale).rounded(.toNearestOrEven)
    return (GroupParameters(scale: scale, zero: min(max(zero, 0), maximumCode)), isPositive)
  }
}
