import Architecture
import Compute
import Foundation
import Synchronization

/// Cosines and sines of neox rotary embedding: pair `e` is elements `e` and `e + rotaryDim / 2` of a head, its angle at
/// position `p` is `p · θ^(−2e / rotaryDim)`.
///
/// Frequencies and angles are rounded to 32 bits, as the reference computes them (the technical report stresses FP32
/// inverse frequencies); the cosine and sine of that angle are then correctly rounded.
package final class RotaryEmbedding: Sendable {
  package let parameters: RotaryParameters
  package let inverseFrequencies: [Float]
  private let pages: Mutex<Pages>
  /// Positions tabulated at a time.
  private static let page = 1024

  package init(_ parameters: RotaryParameters) {
    self.parameters = parameters
    let half = parameters.rotaryDim / 2
    pages = Mutex(Pages(tables: Tables(cosines: [], sines: [], half: half)))
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

  private struct Pages {
    var cosines: [AlignedBuffer<Float>] = []
    var sines: [AlignedBuffer<Float>] = []
    var tables: Tables
  }

  /// Tables for positions below `count`, then valid for ``Tables/cosines(at:)`` and ``Tables/sines(at:)`` from any thread.
  package func prepare(positions count: Int) {
    let half = inverseFrequencies.count
    pages.withLock { pages in
      while pages.cosines.count * RotaryEmbedding.page < count {
        let first = pages.cosines.count * RotaryEmbedding.page
        let c = AlignedBuffer<Float>(count: RotaryEmbedding.page * half)
        let s = AlignedBuffer<Float>(count: RotaryEmbedding.page * half)
        for position in 0..<RotaryEmbedding.page {
          for index in 0..<half {
            let angle = Double(Float(first + position) * inverseFrequencies[index])
            c.pointer[position * half + index] = Float(cos(angle))
            s.pointer[position * half + index] = Float(sin(angle))
          }
        }
        pages.cosines.append(c)
        pages.sines.append(s)
        pages.tables = Tables(
          cosines: pages.cosines.map { SharedPointer($0.pointer) },
          sines: pages.sines.map { SharedPointer($0.pointer) }, half: half)
      }
    }
  }

  /// The pages tabulated so far; take it once per layer, after ``prepare(positions:)``. Pages are never freed, so that
  /// pointers to them will do: threads that count references to the same objects wait for each other.
  struct Tables: Sendable {
    let cosines: [SharedPointer<Float>]
    let sines: [SharedPointer<Float>]
    let half: Int
    func cosines(at position: Int) -> UnsafePointer<Float> {
      cosines[position / page] + position % page * half
    }
    func sines(at position: Int) -> UnsafePointer<Float> {
      sines[position / page] + position % page * half
    }
  }
  var tables: Tables { pages.withLock { $0.tables } }

  /// Cosines and sines of a position, `[rotaryDim / 2]` each, after ``prepare(positions:)``; valid as long as this object.
  package func angles(at position: Int) -> (cosines: UnsafePointer<Float>, sines: UnsafePointer<Float>) {
    let tables = tables
    return (tables.cosines(at: position), tables.sines(at: position))
  }
}
