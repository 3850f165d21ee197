import ArgumentParser
import Files
import ToolSupport

@main
enum Entry {
  static func main() { ToolMain.run(Bench.self) }
}

struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zhinao-bench",
    abstract: "How fast models and their parts run here, and how near to what the machine can do.",
    discussion: """
      Without the name of a subcommand, zhinao-bench MODEL measures a model.

      EXAMPLES
        zhinao-bench model-int4.zhinao
        zhinao-bench encoder bge-small/
        zhinao-bench attention --head-dim 64
        zhinao-bench kernels
        zhinao-bench make-model --shape 7b --encoding int4 -o random.zhinao
      """,
    version: ToolVersion.generator,
    subcommands: [
      ModelCommand.self, EncoderCommand.self, AttentionCommand.self, KernelsCommand.self,
      QuantizeCommand.self,
      TokenizeCommand.self, VerifyCommand.self, MakeModelCommand.self,
    ],
    defaultSubcommand: ModelCommand.self)
}

/// Work that needs more memory than the machine has is refused before it starts.
enum MemoryCheck {
  /// - Parameter bytes: what would be allocated; nil: more than 2^63.
  static func require(_ bytes: Int?, for what: String) throws {
    let available = Limits.physicalBytes
    guard let bytes, bytes <= available else {
      throw ValidationError(
        "\(what) needs \(bytes.map(Format.bytes) ?? "too much") of memory; this machine has \(Format.bytes(available))."
      )
    }
  }
}
