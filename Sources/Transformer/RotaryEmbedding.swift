import Architecture
import Compute
import Foundation

/// Cosines and sines of neox rotary embedding: pair `e` is elements `e` and `e + rotaryDim / 2` of a head, its angle at
/// position `p` is `p · θ^(−2e / rotaryDim)`.
///
/// Frequencies and angles are rounded to 32 bits, as the reference computes them (the technical report stresses FP32
/// inverse frequencies); the cosine and sine of that angle are then correctly rounded.
package final class RotaryEmbedding: @unchecked Sendable {
  package let parameters: RotaryParameters
  package let inverseFrequencies: [Float]
  private let lock = NSLock()
  private var cosines: [AlignedBuffer<Float>] = []
  private var sines: [AlignedBuffer<Float>] = []
  private var tabulated = Tables(cosines: [], sines: [], half: 0)
  /// Positions tabulated at a time.
  private static let page = 1024

  package init(_ parameters: RotaryParameters) {
    self.parameters = parameters
    let half = parameters.rotaryDim / 2
    inverseFrequencies = (0..<half).map { index in
      let exponent = Float(2 * index) / Float(parameters.rotaryDim)
      let power = Float(pow(parameters.theta, Double(exponent)))
      return RotaryEmbedding.scaled(1 / power, by: parameters.scaling)
    }
  }

  /// Source of the Llama 3 rule: the function `_compute_llama3_parameters` of transformers.
  private static func scaled(_ frequency: Float, by scaling: RotaryParameters.Scaling) -> Float {
    switch scaling {
    case .none: return frequency
    case .linear(let factor): return frequency / Float(factor)
    case .llama3(let factor, let low, let high, let original):
      let wavelength = 2 * Double.pi / Double(frequency)
      if wavelength > original / low { return frequency / Float(factor) }
      if wavelength < original / high { return frequency }
      let smooth = (original / wavelength - low) / (high - low)
      return Float((1 - smooth) * Double(frequency) / factor + smooth * Double(frequency))
    }
  }

  /// Tables for positions below `count`, then valid for ``cosines(at:)`` and ``sines(at:)`` from any thread.
  package func prepare(positions count: Int) {
    lock.lock()
    defer { lock.unlock() }
    let half = inverseFrequencies.count
    while cosines.count * RotaryEmbedding.page < count {
      let first = cosines.count * RotaryEmbedding.page
      let c = AlignedBuffer<Float>(count: RotaryEmbedding.page * half)
      let s = AlignedBuffer<Float>(count: RotaryEmbedding.page * half)
      for position in 0..<RotaryEmbedding.page {
        for index in 0..<half {
          let angle = Double(Float(first + position) * inverseFrequencies[index])
          c.pointer[position * half + index] = Float(cos(angle))
          s.pointer[position * half + index] = Float(sin(angle))
        }
      }
      cosines.append(c)
      sines.append(s)
      tabulated = Tables(
        cosines: cosines.map { UnsafePointer($0.pointer) }, sines: sines.map { UnsafePointer($0.pointer) },
        half: half)
    }
  }

  /// The pages tabulated so far; take it once per layer, after ``prepare(positions:)``. Pages are never freed, so that
  /// pointers to them will do: threads that count references to the same objects wait for each other.
  struct Tables {
    let cosines: [UnsafePointer<Float>]
    let sines: [UnsafePointer<Float>]
    let half: Int
    func cosines(at position: Int) -> UnsafePointer<Float> {
      cosines[position / page] + position % page * half
    }
    func sines(at position: Int) -> UnsafePointer<Float> {
      sines[position / page] + position % page * half
    }
  }
  var tables: Tables {
    lock.lock()
    defer { lock.unlock() }
    return tabulated
  }
}
