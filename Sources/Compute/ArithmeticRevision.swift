/// Which bits the kernels and the decoder give, as a number that is kept in files whose content has to have the same bits as a
/// computation now (saved contexts, `Formats/saved-context.md`).
package enum ArithmeticRevision {
  /// To be raised by one with every change after which keys and values of some model have other bits: another order of sums,
  /// another approximation of an exponential, another rounding of activations, scales or angles, other codes of a cache, or other
  /// blocks of attention. What only makes the same bits faster does not count. `ArithmeticRevisionTests` fails when bits change;
  /// raise the number and record the new digests there.
  package static let current = 1
}
