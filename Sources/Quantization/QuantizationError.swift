import Files

/// Why a quantization cannot be done.
package enum QuantizationError: DiagnosedError, Equatable {
  /// A setting of the recipe makes no sense; `expected` says what it may be.
  case setting(option: String, value: String, expected: String)
  /// A setting that is for decoders only.
  case notForEncoders(option: String, path: String)
  case alreadyQuantized(path: String, bits: Int)
  /// `obstacle` is the end of a sentence whose subject is the module.
  case cannotBeStored(module: String, bits: Int, obstacle: String)
  /// An element of a weight is NaN or infinite.
  case weightNotFinite(module: String, output: Int, input: Int, value: Float)
  /// A scale is beyond what half precision holds.
  case scaleTooLarge(module: String, output: Int)
  /// The calibration inputs of a channel are NaN or infinite.
  case inputsNotFinite(module: String, channel: Int)
  /// `reasons` are sentences about the inputs.
  case notPositiveDefinite(module: String, damp: Double, reasons: [String])
  /// A zero point is 0, which the v1 format cannot hold.
  case zeroPointOfZero
  case headCannotBeStored(bits: Int, obstacle: String)
  case headAlreadyQuantized(path: String)
  case scratchTooSmall(folder: String, byteCount: Int)
  /// `withScratch` is what a run with `--scratch` would need; nil: it has one.
  case memoryLimit(needed: Int, limit: Int, withScratch: Int?)
  /// The folder holds an unfinished quantization of something else.
  case otherQuantization(folder: String, key: String, found: String, expected: String)
  /// The folder holds an unfinished quantization in another format.
  case otherStoreVersion(folder: String, found: Int, expected: Int)
  /// The file of a finished layer does not hold what it must; `detail` is the end of a sentence whose subject is the file.
  case damagedLayer(path: String, detail: String)
  /// Too few calibration windows to keep some of them out.
  case tooFewWindows(count: Int)
  /// A comparison made files that do not pass their own checks.
  case damagedOutput(problems: [String])

  package var category: FailureCategory {
    switch self {
    case .setting, .notForEncoders, .zeroPointOfZero, .memoryLimit, .tooFewWindows: .usage
    case .alreadyQuantized, .cannotBeStored, .weightNotFinite, .scaleTooLarge, .inputsNotFinite,
      .notPositiveDefinite, .headCannotBeStored, .headAlreadyQuantized, .damagedLayer:
      .badInput
    case .scratchTooSmall, .otherQuantization, .otherStoreVersion: .cannotWrite
    case .damagedOutput: .internalFault
    }
  }

  package var description: String {
    switch self {
    case .setting(let option, let value, let expected): "\(option) \(value): expected \(expected)"
    case .notForEncoders(let option, let path):
      "\(path): is an encoder, for which these options are not built: \(option). Use --preset balanced or autogptq"
    case .alreadyQuantized(let path, let bits):
      "\(path): is quantized to \(bits) bits already; give the float model"
    case .cannotBeStored(let module, let bits, let obstacle):
      "\(module) \(obstacle); it cannot be stored in \(bits) bits"
    case .weightNotFinite(let module, let output, let input, let value):
      "\(module).weight: element [\(output), \(input)] is \(value); a model with such weights cannot be quantized"
    case .scaleTooLarge(let module, let output):
      "\(module): the scale of output \(output) is too large for half precision, because its weights are too large"
    case .inputsNotFinite(let module, let channel):
      "\(module): the calibration inputs of channel \(channel) are not finite; a weight before it may be NaN or "
        + "infinite"
    case .notPositiveDefinite(let module, let damp, let reasons):
      "\(module): the Hessian is not positive definite with damp \(damp); give more calibration text or a larger "
        + "--damp" + reasons.map { "; \($0)" }.joined()
    case .zeroPointOfZero:
      "some zero points are 0, which the gptq (v1) format cannot hold; use --checkpoint-format gptq_v2"
    case .headCannotBeStored(let bits, let obstacle):
      "the head cannot be stored in \(bits) bits: \(obstacle)"
    case .headAlreadyQuantized(let path): "\(path): the head is quantized already"
    case .scratchTooSmall(let folder, let byteCount):
      "\(folder): cannot hold \(byteCount) bytes of activations; name another folder with --scratch"
    case .memoryLimit(let needed, let limit, let withScratch):
      "needs \(ByteCount.text(needed)) of memory, the limit is \(ByteCount.text(limit)); "
        + memoryAdvice(needed: needed, limit: limit, withScratch: withScratch)
    case .otherQuantization(let folder, let key, let found, let expected):
      "\(folder) holds an unfinished quantization with another \(key): \(found) there, \(expected) now; finish it "
        + "with the same command, or remove the folder"
    case .otherStoreVersion(let folder, let found, let expected):
      "\(folder) holds an unfinished quantization in format \(found), this version of the program continues format "
        + "\(expected); finish it with the version that began it, or remove the folder to start again"
    case .damagedLayer(let path, let detail):
      "\(path): \(detail); remove this file and run the same command again"
    case .tooFewWindows(let count):
      "there \(count == 1 ? "is 1 calibration window" : "are \(count) calibration windows"), too few to keep some out for "
        + "measuring; give more text, or other text with --held-out"
    case .damagedOutput(let problems): "a file just written is damaged: " + problems.joined(separator: "; ")
    }
  }

  private func memoryAdvice(needed: Int, limit: Int, withScratch: Int?) -> String {
    if let withScratch, withScratch <= limit {
      return "--scratch FOLDER brings it to \(ByteCount.text(withScratch))"
    }
    return "it takes --memory-limit \(needed), or fewer calibration tokens"
  }
}
