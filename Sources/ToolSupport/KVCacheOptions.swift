import ArgumentParser
import Tensors
import Transformer

/// `--kv-cache`, for commands that run a model.
package struct KVCacheOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The type in which the cache keeps keys and values: f32, f16, int8 or int4. The default is f32 for perplexity and with "
        + "--arithmetic exact, and f16 otherwise.", valueName: "type"))
  package var kvCache: KVCacheType?

  package init() {}

  package func type(beside arithmetic: Int4Arithmetic) -> KVCacheType {
    kvCache ?? (arithmetic == .exact ? .f32 : .f16)
  }
}

extension KVCacheType: ExpressibleByArgument {}
