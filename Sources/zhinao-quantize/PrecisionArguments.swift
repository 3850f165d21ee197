import ArgumentParser
import Quantization
import ToolSupport

/// What bits of single modules are chosen for.
struct PrecisionArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Choose the bits of each module so that they lose least at this average for each weight, scales included (4 bits in groups of 128 "
        + "take 4.125). Instead of --bits. See Docs/mixed-precision.md.", valueName: "x"))
  var targetBits: Double?

  @Option(
    help: ArgumentHelp(
      "Choose the bits of each module so that the mean KL divergence from the float model on held-out text is this, in nats per token, "
        + "with as few bits as possible. Quantizes up to \(PrecisionTarget.mostRounds) times.", valueName: "x"
    ))
  var targetKl: Double?

  @Option(
    help: ArgumentHelp(
      "What --target-bits and --target-kl choose from: bits, or bits:group-size. vLLM needs 4 or 8 bits for its fast kernels, and 4 on "
        + "a CPU.", valueName: "list"))
  var bitChoices = "2,3,4,8"

  @Option(
    name: .customLong("held-out"),
    help: ArgumentHelp(
      "Text on which --target-bits and --target-kl measure; may be repeated (default: part of the calibration windows, which are then "
        + "not calibrated on).", valueName: "file"))
  var heldOut: [String] = []

  func validate() throws {
    guard targetBits == nil || targetKl == nil else {
      throw ValidationError("--target-bits and --target-kl: expected at most one of them.")
    }
    if let targetBits, !(targetBits >= 1 && targetBits <= 16) {
      throw ValidationError("--target-bits: expected a number from 1 to 16.")
    }
    if let targetKl, !(targetKl > 0 && targetKl <= 100) {
      throw ValidationError("--target-kl: expected a number above 0, at most 100.")
    }
    guard isUsed || heldOut.isEmpty else {
      throw ValidationError("--held-out: needs --target-bits or --target-kl.")
    }
    _ = try candidates(groupSize: -1)
  }

  var isUsed: Bool { targetBits != nil || targetKl != nil }

  private func candidates(groupSize: Int) throws -> [ModuleSettings] {
    try bitChoices.split(separator: ",", omittingEmptySubsequences: false).map { text in
      let parts = text.split(separator: ":", omittingEmptySubsequences: false)
      guard (1...2).contains(parts.count), let bits = Int(parts[0]),
        let group = parts.count == 1 ? groupSize : Int(parts[1])
      else {
        throw ValidationError("--bit-choices \(bitChoices): expected a list like 2,3,4,8 or 4:32,4:128.")
      }
      return ModuleSettings(bits: bits, groupSize: group)
    }
  }

  /// - Parameter recipe: its group size is that of choices without one.
  /// - Returns: nil when no target is given.
  func target(_ recipe: QuantizationRecipe) throws -> PrecisionTarget? {
    guard let goal = targetBits.map({ PrecisionTarget.Goal.bits($0) }) ?? targetKl.map({ .divergence($0) })
    else {
      return nil
    }
    return PrecisionTarget(
      goal: goal, candidates: try candidates(groupSize: recipe.groupSize), heldOutPaths: heldOut)
  }
}
