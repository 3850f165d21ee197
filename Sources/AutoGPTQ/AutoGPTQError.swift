import Files
import Tensors

/// Why a module of an AutoGPTQ checkpoint was refused.
package struct AutoGPTQError: DiagnosedError, Equatable {
  /// The tensor of the module that breaks the rule.
  package enum Part: String, CaseIterable, Sendable {
    case qweight, qzeros, scales
    case gIdx = "g_idx"
  }

  /// One case per rule of `Formats/autogptq-int4.md`. Tests match on this; people read `description`.
  package enum Reason: Equatable, Sendable {
    /// The inputs are not a multiple of 32.
    case inputsNotWhole(Int)
    /// The zero points of the outputs do not fill whole 32-bit words.
    case outputsNotWhole(Int, bits: Int)
    /// The tensor has another type.
    case wrongType(DType, expected: DType)
    /// Zero points other than the two that `sym: true` allows.
    case asymmetricZeros(middle: UInt8)
    /// A scale that half precision cannot hold.
    case scaleNotHalf(index: Int, Float)
    /// A scale that is infinite or NaN; as text, since NaN equals nothing.
    case scaleNotFinite(index: Int, String)
    /// `g_idx` names a group that does not exist.
    case groupOutOfRange(channel: Int, group: Int32, groupCount: Int)
    /// `g_idx` puts more channels into a group than it has room for.
    case groupTooLarge(group: Int, groupSize: Int)
    /// `g_idx` puts fewer channels into a group that is not the last.
    case groupTooSmall(group: Int, found: Int, groupSize: Int)
  }
  package var reason: Reason
  package var path: String
  package var module: String
  package var part: Part

  package init(_ reason: Reason, path: String, module: String, part: Part) {
    self.reason = reason
    self.path = path
    self.module = module
    self.part = part
  }

  /// The tensor's name.
  package var tensor: String { "\(module).\(part.rawValue)" }

  package var category: FailureCategory { .badInput }

  package var description: String { "\(path): tensor \(tensor) \(reason)" }
}

extension AutoGPTQError.Reason: CustomStringConvertible {
  /// The end of a sentence whose subject is the tensor.
  package var description: String {
    switch self {
    case .inputsNotWhole(let count): "has \(count) inputs, not a multiple of 32"
    case .outputsNotWhole(let count, let bits):
      "has \(count) outputs, whose \(bits)-bit zero points do not fill whole 32-bit words"
    case .wrongType(let found, let expected): "is \(found.rawValue), expected \(expected.rawValue)"
    case .asymmetricZeros(let middle):
      "holds zero points other than \(middle - 1) or \(middle), which sym: true does not allow"
    case .scaleNotHalf(let index, let value): "element \(index) is \(value), which F16 cannot hold exactly"
    case .scaleNotFinite(let index, let value): "element \(index) is \(value), expected a finite number"
    case .groupOutOfRange(let channel, let group, let count):
      "puts channel \(channel) in group \(group) of \(count)"
    case .groupTooLarge(let group, let size): "puts more than \(size) channels in group \(group)"
    case .groupTooSmall(let group, let found, let size):
      "puts \(found) channels in group \(group), expected \(size)"
    }
  }
}
