import Files
import Foundation

/// Weights in forms that are not read, and what to do with them.
package enum ForeignWeights {
  /// Why a folder without safetensors files cannot be used, when it is clear why; nil otherwise.
  package static func refusal(ofFolder path: String) -> CheckpointError? {
    let names = ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
    func refuse(_ reason: CheckpointError.Reason) -> CheckpointError { CheckpointError(reason, path: path) }
    if names.contains("adapter_config.json") && !names.contains("config.json") {
      return names.contains("adapter_model.safetensors")
        ? refuse(.adapter) : names.first(where: isPickle).map { refuse(.pickledAdapter($0)) }
    }
    if names.contains(where: { $0.bytes.hasSuffix(".safetensors") }) { return nil }
    if names.contains(where: isPartOfZeRO) || inner(path, names).contains(where: isPartOfZeRO) {
      return refuse(.zero)
    }
    if let pickle = names.first(where: isPickle) { return refuse(.pickle(pickle)) }
    let endings: [(String, ForeignContent)] = [
      (".safetensors.zst", .zstandard), (".safetensors.gz", .gzip), (".safetensors.zip", .zip),
      (".parquet", .parquet),
    ]
    for (ending, content) in endings {
      if let name = names.first(where: { $0.bytes.hasSuffix(ending) }) {
        return refuse(.foreignFile(name, content))
      }
    }
    return nil
  }

  /// Why a file cannot be used as a model; nil when its name tells nothing.
  package static func refusal(ofFile path: String) -> CheckpointError? {
    let name = PathParts(path).name
    return isPickle(name) ? CheckpointError(.pickle(name), path: path) : nil
  }

  private static func isPickle(_ name: String) -> Bool {
    [".bin", ".pt", ".pth", ".ckpt", ".pkl"].contains { name.bytes.hasSuffix($0) }
      && name != "training_args.bin"
  }

  private static func isPartOfZeRO(_ name: String) -> Bool {
    name == "zero_to_fp32.py" || name.bytes.contains("zero_pp_rank_") || name.bytes.hasPrefix("global_step")
  }

  /// Names one level below, where `latest` says which step's folder to take.
  private static func inner(_ path: String, _ names: [String]) -> [String] {
    guard names.contains("latest") else { return [] }
    return names.flatMap { (try? FileManager.default.contentsOfDirectory(atPath: "\(path)/\($0)")) ?? [] }
  }
}
