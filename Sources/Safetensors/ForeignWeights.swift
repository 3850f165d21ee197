import Files
import Foundation

/// Weights in forms that are not read, and what to do with them.
package enum ForeignWeights {
  /// Why a folder without safetensors files cannot be used, when it is clear why; nil otherwise.
  package static func refusal(ofFolder path: String) -> CheckpointError? {
    let names = ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
    func refuse(_ detail: String) -> CheckpointError { CheckpointError(path: path, detail: detail) }
    if names.contains("adapter_config.json") && !names.contains("config.json") {
      return names.contains("adapter_model.safetensors")
        ? refuse(
          "is an adapter, not a model; merge it into its base: zhinao-convert BASE --merge-lora \(path) -o OUTPUT"
        )
        : names.first(where: isPickle).map { refuse(adapterAdvice($0)) }
    }
    if names.contains(where: { $0.bytes.hasSuffix(".safetensors") }) { return nil }
    if names.contains(where: isPartOfZeRO) || inner(path, names).contains(where: isPartOfZeRO) {
      return refuse(
        "is a DeepSpeed ZeRO checkpoint: its weights lie in pieces among optimizer states. Make safetensors of it with "
          + "the script DeepSpeed put there, python zero_to_fp32.py . OUTPUT --safe_serialization, and copy config.json "
          + "and the tokenizer's files to OUTPUT")
    }
    return names.first(where: isPickle).map { refuse(pickleAdvice($0)) }
  }

  /// Why a file cannot be used as a model; nil when its name tells nothing.
  package static func refusal(ofFile path: String) -> CheckpointError? {
    let name = PathParts(path).name
    guard isPickle(name) else { return nil }
    return CheckpointError(path: path, detail: pickleAdvice(name))
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

  private static func pickleAdvice(_ name: String) -> String {
    "holds pickled weights (\(name)); a pickle can execute code when it is read, so they are not read here. Make "
      + "safetensors of them in their folder: python -c \"import glob, torch; from safetensors.torch import save_file; "
      + "d = {}; [d.update(torch.load(f, map_location='cpu', weights_only=True)) for f in "
      + "sorted(glob.glob('*.bin')) if f != 'training_args.bin']; save_file({k: v.clone() for k, v in d.items()}, "
      + "'model.safetensors', {'format': 'pt'})\""
  }

  private static func adapterAdvice(_ name: String) -> String {
    "holds a pickled adapter (\(name)); a pickle can execute code when it is read, so it is not read here. Make "
      + "safetensors of it there: python -c \"import torch; from safetensors.torch import save_file; "
      + "save_file(torch.load('\(name)', map_location='cpu', weights_only=True), 'adapter_model.safetensors')\""
  }
}
