/// How positions become angles.
package struct RotaryParameters: Equatable, Sendable {
  package enum Scaling: Equatable, Sendable {
    case none
    /// Every frequency divided by `factor`.
    case linear(factor: Double)
    /// Llama 3: long wavelengths divided by `factor`, short ones kept, a ramp between.
    case llama3(
      factor: Double, lowFrequencyFactor: Double, highFrequencyFactor: Double, originalContext: Double)
  }
  package var theta: Double
  package var scaling: Scaling
  /// Leading elements of a head that are rotated, an even number; the whole head in every released model.
  package var rotaryDim: Int

  package init(theta: Double, scaling: Scaling = .none, rotaryDim: Int) {
    self.theta = theta
    self.scaling = scaling
    self.rotaryDim = rotaryDim
  }
}
