import ArgumentParser
import Tensors
import Transformer

/// `--kv-cache` of commands that generate.
package struct KVCacheOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Keys and values are kept as f32, f16 or int8 (default: f16; f32 with --arithmetic exact).",
      valueName: "type"))
  package var kvCache: KVCacheType?

  package init() {}

  package func type(beside arithmetic: Int4Arithmetic) -> KVCacheType {
    kvCache ?? (arithmetic == .exact ? .f32 : .f16)
  }
}
