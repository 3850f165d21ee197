import ArgumentParser
import AutoGPTQ

/// How a folder of safetensors files is written.
package struct FolderOptions: ParsableArguments {
  @Option(help: ArgumentHelp("The largest size of one safetensors file of a folder, in MB.", valueName: "MB"))
  package var shardSize = 5000

  @Option(
    help: ArgumentHelp(
      "How an AutoGPTQ folder stores zero points: gptq (v1, zero minus one) or gptq_v2. The default is gptq for symmetric codes and "
        + "gptq_v2 for others.", valueName: "format"))
  package var checkpointFormat: ZeroPointFormat?

  package init() {}

  package func validate() throws { try OptionRange.check("--shard-size", shardSize, 1...1_000_000_000) }

  package var shardByteLimit: Int { shardSize * 1_000_000 }
}

extension ZeroPointFormat: ExpressibleByArgument {}
