import ArgumentParser
import Tensors

/// `--arithmetic`, for commands that run a model.
package struct ArithmeticOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "How integer weights are multiplied: exact (fp32), fast (quantizes activations to 8 bits on the fly and keeps outliers in "
        + "fp32) or q8_0 (quantizes all activations to 8 bits, as llama.cpp does). The default is fast where text is generated and "
        + "exact where a model is measured.", valueName: "mode"))
  package var arithmetic: Int4Arithmetic?

  package init() {}
}

extension Int4Arithmetic: ExpressibleByArgument {}
