import Adapters
import ArgumentParser
import JSON
import Models
import Tensors
import Transformer

/// `--lora`, for commands that run a decoder.
package struct AdapterOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Use a PEFT LoRA adapter beside the model, of two models beside the second, without merging it. May be repeated: adapters "
        + "add up. A number after a colon is a factor, for example my-adapter:0.5.", valueName: "folder"),
    completion: .directory)
  package var lora: [String] = []

  package init() {}

  /// For results; nil: no adapters.
  package var json: JSONValue? { lora.isEmpty ? nil : .array(lora.map { .string($0) }) }

  package func adapters() throws -> [AppliedAdapter] { try lora.map(AppliedAdapter.init(argument:)) }

  /// The decoder of a model with the adapters.
  package func decoder(of model: OpenedModel, arithmetic: Int4Arithmetic) throws -> Decoder {
    let adapters = try adapters()
    return try model.decoder(adapters: adapters, arithmetic: arithmetic) { Output.warn($0) }
  }
}
