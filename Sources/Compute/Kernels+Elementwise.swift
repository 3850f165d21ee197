extension Kernels {
  // MARK: Element types

  /// `count` elements of any type → floats, exactly.
  package func widen(
    _ y: UnsafeMutablePointer<Float>, from x: UnsafeRawPointer, type: KernelType, count: Int
  ) {
    precondition(count >= 0, "a negative number of elements")
    table.pointee.widen(y, x, type.code, Int64(count))
  }

  /// `count` floats → another float type, rounded to nearest even; overflow gives infinity, NaN stays NaN.
  package func narrow(
    _ y: UnsafeMutableRawPointer, from x: UnsafePointer<Float>, type: KernelType, count: Int
  ) {
    precondition(count >= 0 && type != .int8, "not a float type")
    table.pointee.narrow(y, x, type.code, Int64(count))
  }

  /// q = round(x · 127 / max|x|), to nearest even.
  /// - Returns: the scale max|x| / 127, so that x is about scale · q; zero when all of x is.
  package func quantizeVector(_ q: UnsafeMutablePointer<Int8>, from x: UnsafePointer<Float>, count: Int)
    -> Float
  {
    precondition(count >= 0, "a negative number of elements")
    return table.pointee.quantize_vector(q, x, Int64(count))
  }

  // MARK: Steps of a block

  /// y = x · weight / √(mean(x²) + epsilon); y may be x.
  package func rmsNorm(
    _ y: UnsafeMutablePointer<Float>, x: UnsafePointer<Float>, weight: UnsafePointer<Float>, count: Int,
    epsilon: Float
  ) {
    precondition(count > 0, "the mean of nothing")
    table.pointee.rms_norm(y, x, weight, Int64(count), epsilon)
  }

  /// With s = x + added + residual: y = (s − mean(s)) / √(variance(s) + epsilon) · weight + bias, the variance that of a
  /// population; y may be x or residual.
  /// - Parameters:
  ///   - added, residual: nil: nothing is added.
  package func layerNorm(
    _ y: UnsafeMutablePointer<Float>, x: UnsafePointer<Float>, adding added: UnsafePointer<Float>? = nil,
    residual: UnsafePointer<Float>?, weight: UnsafePointer<Float>, bias: UnsafePointer<Float>, count: Int,
    epsilon: Float
  ) {
    precondition(count > 0, "the mean of nothing")
    table.pointee.layer_norm(y, x, added, residual, weight, bias, Int64(count), epsilon)
  }

  /// x = s / 2 · (1 + erf(s / √2)) in place, s being x + bias.
  /// - Parameter bias: nil: s is x.
  package func gelu(_ x: UnsafeMutablePointer<Float>, bias: UnsafePointer<Float>? = nil, count: Int) {
    precondition(count >= 0, "a negative number of elements")
    table.pointee.gelu(x, bias, Int64(count))
  }

  /// x = s / 2 · (1 + tanh(√(2 / π) · (s + 0.044715 s³))) in place, s being x + bias.
  /// - Parameter bias: nil: s is x.
  package func geluTanh(_ x: UnsafeMutablePointer<Float>, bias: UnsafePointer<Float>? = nil, count: Int) {
    precondition(count >= 0, "a negative number of elements")
    table.pointee.gelu_tanh(x, bias, Int64(count))
  }

  /// A panel `[count][16]`: every lane becomes its softmax over `count`.
  package func softmaxPanel(_ panel: UnsafeMutablePointer<Float>, count: Int) {
    precondition(count > 0, "the softmax of nothing")
    table.pointee.softmax_panel(panel, Int64(count))
  }

  /// x = tanh(x) in place.
  package func hyperbolicTangent(_ x: UnsafeMutablePointer<Float>, count: Int) {
    precondition(count >= 0, "a negative number of elements")
    table.pointee.hyperbolic_tangent(x, Int64(count))
  }

  /// x = max(x + bias, 0) in place.
  package func relu(_ x: UnsafeMutablePointer<Float>, bias: UnsafePointer<Float>? = nil, count: Int) {
    precondition(count >= 0, "a negative number of elements")
    table.pointee.relu(x, bias, Int64(count))
  }

  /// y = silu(gate) · up; y may be gate or up.
  package func siluMultiply(
    _ y: UnsafeMutablePointer<Float>, gate: UnsafePointer<Float>, up: UnsafePointer<Float>, count: Int
  ) {
    precondition(count >= 0, "a negative number of elements")
    table.pointee.silu_multiply(y, gate, up, Int64(count))
  }

  /// The backward step of ``siluMultiply(_:gate:up:count:)``: `gate` and `up` become their gradients.
  /// - Parameter gradient: of y, `[count]`.
  package func siluMultiplyGradient(
    gate: UnsafeMutablePointer<Float>, up: UnsafeMutablePointer<Float>, gradient: UnsafePointer<Float>,
    count: Int
  ) {
    precondition(count >= 0, "a negative number of elements")
    table.pointee.silu_multiply_gradient(gate, up, gradient, Int64(count))
  }

  /// The backward step of ``rmsNorm(_:x:weight:count:epsilon:)``: adds the gradient of x.
  /// - Parameter gradient: of y, `[count]`.
  package func addRMSNormGradient(
    to dx: UnsafeMutablePointer<Float>, gradient: UnsafePointer<Float>, x: UnsafePointer<Float>,
    weight: UnsafePointer<Float>, count: Int, epsilon: Float
  ) {
    precondition(count > 0, "the mean of nothing")
    table.pointee.rms_norm_gradient(dx, gradient, x, weight, Int64(count), epsilon)
  }

  /// The backward step of ``layerNorm(_:x:adding:residual:weight:bias:count:epsilon:)``: adds the gradient of the sum that is normalized.
  /// - Parameters:
  ///   - gradient: of y, `[count]`.
  ///   - x: the sum.
  package func addLayerNormGradient(
    to dx: UnsafeMutablePointer<Float>, gradient: UnsafePointer<Float>, x: UnsafePointer<Float>,
    weight: UnsafePointer<Float>, count: Int, epsilon: Float
  ) {
    precondition(count > 0, "the mean of nothing")
    table.pointee.layer_norm_gradient(dx, gradient, x, weight, Int64(count), epsilon)
  }

  /// The backward step of ``gelu(_:bias:count:)``: x becomes its gradient.
  /// - Parameter gradient: of what `gelu` makes of x, `[count]`.
  package func geluGradient(
    _ x: UnsafeMutablePointer<Float>, bias: UnsafePointer<Float>?, gradient: UnsafePointer<Float>, count: Int
  ) {
    precondition(count >= 0, "a negative number of elements")
    table.pointee.gelu_gradient(x, bias, gradient, Int64(count))
  }

  /// The backward step of ``geluTanh(_:bias:count:)``, as ``geluGradient(_:bias:gradient:count:)``.
  package func geluTanhGradient(
    _ x: UnsafeMutablePointer<Float>, bias: UnsafePointer<Float>?, gradient: UnsafePointer<Float>, count: Int
  ) {
    precondition(count >= 0, "a negative number of elements")
    table.pointee.gelu_tanh_gradient(x, bias, gradient, Int64(count))
  }

  /// The backward step of ``relu(_:bias:count:)``, as ``geluGradient(_:bias:gradient:count:)``; the slope at 0 is 0.
  package func reluGradient(
    _ x: UnsafeMutablePointer<Float>, bias: UnsafePointer<Float>?, gradient: UnsafePointer<Float>, count: Int
  ) {
    precondition(count >= 0, "a negative number of elements")
    table.pointee.relu_gradient(x, bias, gradient, Int64(count))
  }

  /// The backward step of a softmax: `gradient[i] = probabilities[i] · (gradient[i] − mean) · factor`, `mean` being
  /// Σ probabilities · gradient.
  package func softmaxGradient(
    _ gradient: UnsafeMutablePointer<Float>, probabilities: UnsafePointer<Float>, mean: Float, factor: Float,
    count: Int
  ) {
    precondition(count >= 0, "a negative number of elements")
    table.pointee.softmax_gradient(gradient, probabilities, mean, factor, Int64(count))
  }

  /// Σ x · y
  package func dot(_ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>, count: Int) -> Float {
    precondition(count >= 0, "a negative number of elements")
    return table.pointee.dot(x, y, Int64(count))
  }

  /// Rotates one head in place: pair (e, e + rotaryDim / 2) by the angle whose cosine and sine are `cosines[e]` and `sines[e]`.
  package func rotate(
    _ head: UnsafeMutablePointer<Float>, cosines: UnsafePointer<Float>, sines: UnsafePointer<Float>,
    rotaryDim: Int
  ) {
    precondition(rotaryDim >= 0 && rotaryDim % 2 == 0, "elements are rotated in pairs")
    table.pointee.rotate(head, cosines, sines, Int64(rotaryDim))
  }

  // MARK: Arithmetic

  /// y += x
  package func add(_ y: UnsafeMutablePointer<Float>, _ x: UnsafePointer<Float>, count: Int) {
    precondition(count >= 0, "a negative number of elements")
    table.pointee.add(y, x, Int64(count))
  }

  /// y *= x
  package func multiply(_ y: UnsafeMutablePointer<Float>, by x: UnsafePointer<Float>, count: Int) {
    precondition(count >= 0, "a negative number of elements")
    table.pointee.multiply(y, x, Int64(count))
  }

  /// x *= factor
  package func scale(_ x: UnsafeMutablePointer<Float>, by factor: Float, count: Int) {
    precondition(count >= 0, "a negative number of elements")
    table.pointee.scale(x, factor, Int64(count))
  }

  /// The largest of `count` elements; −∞ of none.
  package func maximum(_ x: UnsafePointer<Float>, count: Int) -> Float {
    precondition(count >= 0, "a negative number of elements")
    return table.pointee.maximum(x, Int64(count))
  }

  /// x = exp(x − shift) in place.
  /// - Returns: the sum of the results, in 16 lanes (`CKernels.h`).
  package func expSum(_ x: UnsafeMutablePointer<Float>, shift: Float, count: Int) -> Float {
    precondition(count >= 0, "a negative number of elements")
    return table.pointee.exp_sum(x, shift, Int64(count))
  }

  /// Σ exp(x − shift) in double precision; x stays as it is.
  package func sumExp(_ x: UnsafePointer<Float>, shift: Float, count: Int) -> Double {
    precondition(count >= 0, "a negative number of elements")
    return table.pointee.sum_exp(x, shift, Int64(count))
  }

  // MARK: Checksums and limits

  /// CRC-32 of `bytes`, continuing from `crc`, as zlib computes it; nil when these kernels have no faster way than zlib's.
  package func crc32(_ bytes: UnsafeRawBufferPointer, continuing crc: UInt32) -> UInt32? {
    guard let function = table.pointee.crc32, let base = bytes.baseAddress else { return nil }
    return function(crc, base.assumingMemoryBound(to: UInt8.self), Int64(bytes.count))
  }

  /// A product's register tile without its loads: what products can reach at most.
  /// - Returns: how many multiplications and additions were done.
  package func burn(rounds: Int) -> Double {
    var sink = [Float](repeating: 0, count: panelWidth)
    return table.pointee.burn(Int64(rounds), &sink)
  }

  /// The same for products of pairs of bf16, or of floats where ``attend(_:to:)`` multiplies these.
  package func burnPairs(rounds: Int) -> Double {
    var sink = [Float](repeating: 0, count: panelWidth)
    return table.pointee.burn_pairs(Int64(rounds), &sink)
  }

  /// The same for the byte products of ``gemmInt8``.
  package func burnBytes(rounds: Int) -> Double {
    var sink = [Int32](repeating: 0, count: panelWidth)
    return table.pointee.burn_bytes(Int64(rounds), &sink)
  }
}
