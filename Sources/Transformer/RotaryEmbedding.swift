import Architecture
import Compute
import Foundation
import Synchronization

/// Cosines and sines of neox rotary embedding: pair `e` is elements `e` and `e + rotaryDim / 2` of a head, its angle at
/// position `p` is `p · θ^(−2e / rotaryDim)`.
///
/// Frequencies are rounded to 32 bits, as the models were trained with them (the technical report stresses FP32 inverse
/// frequencies). The angle is the exact product of position and frequency: it has at most 26 + 24 bits, which a double holds.
/// Rounded to 32 bits, as other programs do it, an angle of 360,000 would be off by up to 0.016. Its cosine and sine are computed
/// in double precision and rounded once.
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
    /// By page; nil until a position of it is needed.
    var cosines: [AlignedBuffer<Float>?] = []
    var sines: [AlignedBuffer<Float>?] = []
    var tables: Tables
  }

  /// Tabulates positions, then valid for ``Tables/cosines(at:)`` and ``Tables/sines(at:)`` from any thread. Positions that nobody
  /// asks for, as those of a saved context, cost nothing.
  package func prepare(_ positions: Range<Int>) {
    guard !positions.isEmpty else { return }
    let page = RotaryEmbedding.page
    pages.withLock { pages in
      let needed = positions.lowerBound / page...(positions.upperBound - 1) / page
      if pages.cosines.count <= needed.upperBound {
        let missing = needed.upperBound + 1 - pages.cosines.count
        pages.cosines += Array(repeating: nil, count: missing)
        pages.sines += Array(repeating: nil, count: missing)
      }
      var isChanged = false
      for index in needed where pages.cosines[index] == nil {
        (pages.cosines[index], pages.sines[index]) = table(from: index * page)
        isChanged = true
      }
      guard isChanged else { return }
      pages.tables = Tables(
        cosines: pages.cosines.map { $0.map { SharedPointer($0.pointer) } },
        sines: pages.sines.map { $0.map { SharedPointer($0.pointer) } }, half: inverseFrequencies.count)
    }
  }

  /// Cosines and sines of a page's positions: `[page, rotaryDim / 2]` each.
  private func table(from first: Int) -> (AlignedBuffer<Float>, AlignedBuffer<Float>) {
    let half = inverseFrequencies.count
    let cosines = AlignedBuffer<Float>(count: RotaryEmbedding.page * half)
    let sines = AlignedBuffer<Float>(count: RotaryEmbedding.page * half)
    for position in 0..<RotaryEmbedding.page {
      for index in 0..<half {
        let angle = Double(first + position) * Double(inverseFrequencies[index])
        cosines.pointer[position * half + index] = Float(cos(angle))
        sines.pointer[position * half + index] = Float(sin(angle))
      }
    }
    return (cosines, sines)
  }

  /// Bytes that the tables take for each position.
  package static func bytesPerPosition(_ parameters: RotaryParameters) -> Int {
    parameters.rotaryDim / 2 * 2 * MemoryLayout<Float>.size
  }

  /// The pages tabulated so far; take it once per layer, after ``prepare(_:)``. Pages are never freed, so that
  /// pointers to them will do: threads that count references to the same objects wait for each other.
  struct Tables: Sendable {
    let cosines: [SharedPointer<Float>?]
    let sines: [SharedPointer<Float>?]
    let half: Int
    func cosines(at position: Int) -> UnsafePointer<Float> { row(cosines, position) }
    func sines(at position: Int) -> UnsafePointer<Float> { row(sines, position) }

    private func row(_ pages: [SharedPointer<Float>?], _ position: Int) -> UnsafePointer<Float> {
      guard let start = pages[position / RotaryEmbedding.page] else {
        preconditionFailure("position \(position) is not prepared")
      }
      return start + position % RotaryEmbedding.page * half
    }
  }
  var tables: Tables { pages.withLock { $0.tables } }

  /// Cosines and sines of a position, `[rotaryDim / 2]` each, after ``prepare(_:)``; valid as long as this object.
  package func angles(at position: Int) -> (cosines: UnsafePointer<Float>, sines: UnsafePointer<Float>) {
    let tables = tables
    return (tables.cosines(at: position), tables.sines(at: position))
  }
}
