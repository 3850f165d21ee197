import CKernels

/// IEEE half precision for single values; arrays go through the kernels' `widen` and `narrow`.
package enum HalfPrecision {
  /// The nearest half, ties to even; overflow gives infinity.
  package static func bits(of value: Float) -> UInt16 {
    var bits: UInt16 = 0
    withUnsafePointer(to: value) { Kernels.best.table.pointee.narrow(&bits, $0, ZN_F16, 1) }
    return bits
  }

  package static func value(of bits: UInt16) -> Float {
    var value: Float = 0
    withUnsafePointer(to: bits) { Kernels.best.table.pointee.widen(&value, $0, ZN_F16, 1) }
    return value
  }

  package static func bits(of values: [Float]) -> [UInt16] {
    [UInt16](unsafeUninitializedCapacity: values.count) { buffer, count in
      count = values.count
      values.withUnsafeBufferPointer { source in
        guard let from = source.baseAddress, let to = buffer.baseAddress else { return }
        Kernels.best.table.pointee.narrow(to, from, ZN_F16, Int64(values.count))
      }
    }
  }
}
