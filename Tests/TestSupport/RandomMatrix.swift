import Tensors

/// A quantized matrix with random codes, scales and groups; the same for the same arguments.
package func randomMatrix(
  bits: Int, symmetric: Bool, permuted: Bool, out: Int, inputs: Int, group: Int
) -> QuantizedMatrix {
  var generator = SplitMix64(seed: UInt64(out * 7 + bits))
  let groups = (inputs + group - 1) / group
  let channels = permuted ? Array(0..<inputs).shuffled(using: &generator) : Array(0..<inputs)
  var index = [Int32](repeating: 0, count: inputs)
  for (place, channel) in channels.enumerated() { index[channel] = Int32(place / group) }
  let top = (1 << bits) - 1
  return QuantizedMatrix(
    bits: bits, groupSize: group, inFeatures: inputs, outFeatures: out,
    codes: (0..<inputs * out).map { _ in UInt8(Int.random(in: 0...top, using: &generator)) },
    scales: (0..<groups * out).map { _ in UInt16.random(in: 0x1000...0x3000, using: &generator) },
    zeros: (0..<groups * out).map { _ in
      symmetric ? UInt8(1 << (bits - 1)) : UInt8(Int.random(in: 0...top, using: &generator))
    }, groupIndex: index)
}
