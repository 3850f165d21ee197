import ArgumentParser
import ToolSupport

@main
enum Entry {
  static func main() {
    // As in zhinao-quantize: a command with an argument of its own cannot have subcommands beside it.
    let arguments = Array(CommandLine.arguments.dropFirst())
    let rest = Array(arguments.dropFirst())
    switch arguments.first {
    case "kernels": ToolMain.run(KernelsCommand.self, arguments: rest)
    case "quantize": ToolMain.run(QuantizeCommand.self, arguments: rest)
    case "verify": ToolMain.run(VerifyCommand.self, arguments: rest)
    case "tokenize": ToolMain.run(TokenizeCommand.self, arguments: rest)
    case "make-model": ToolMain.run(MakeModelCommand.self, arguments: rest)
    default: ToolMain.run(ModelCommand.self, arguments: arguments)
    }
  }
}
