import Architecture
import AutoGPTQ
import Files
import Foundation
import GGUF
import JSON
import PackedModel
import Safetensors
import ToolSupport

/// A readable table of a model file.
struct Inspection {
  let path: String

  private struct Row {
    var name: String
    var kind: String
    var shape: [Int]
    var bytes: Int
  }

  func show(_ output: OutputOptions) throws {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw FileError(.cannotOpen, path: path, detail: "no such file or folder")
    }
    var facts: [(String, String)] = []
    let rows: [Row]
    if isFolder.boolValue || path.bytes.hasSuffix(".safetensors") {
      let table = try TensorTable(path: path)
      facts.append(
        ("files", table.files.map { PathParts($0.path).name }.joined(separator: ", "))
      )
      for (key, value) in table.files.first?.metadata ?? [] { facts.append((key, value)) }
      rows = table.inFileOrder.map {
        Row(name: $0.name, kind: $0.dtype.rawValue, shape: $0.shape, bytes: $0.info.byteCount)
      }
      if isFolder.boolValue, let configuration = try? FolderFiles(path).modelConfiguration() {
        facts += describe(configuration)
      }
      if isFolder.boolValue, let quantization = try FolderFiles(path).quantizeConfiguration() {
        facts.append(describe(quantization))
      }
    } else if path.bytes.hasSuffix(".gguf") || GGUFFile.isGGUF(path: path) {
      let file = try GGUFFile(path: path)
      facts.append(("format", "GGUF version \(file.version)"))
      facts += file.metadata.map { ($0.key, describe($0.value)) }
      rows = file.tensors.map {
        Row(name: $0.name, kind: $0.type.name, shape: $0.shape, bytes: $0.range.count)
      }
    } else {
      let file = try PackedModelFile(path: path)
      facts.append(("generator", file.header.generator))
      facts.append(("files", file.header.files.map(\.name).joined(separator: ", ")))
      if let configuration = try? file.files.modelConfiguration() { facts += describe(configuration) }
      if let quantization = file.header.quantization { facts.append(describe(quantization)) }
      for (key, value) in file.header.provenance.members {
        facts.append((key, value.stringValue ?? value.serialized()))
      }
      rows = file.header.tensors.map {
        Row(name: $0.name, kind: describe($0.encoding), shape: $0.shape, bytes: $0.byteCount)
      }
    }
    let total = rows.reduce(0) { $0 + $1.bytes }
    try output.show(json(facts, rows, total)) {
      Format.table(facts.map { [$0.0, $0.1] }) + "\n\n"
        + Format.table(
          [["tensor", "type", "shape", "bytes"]]
            + rows.map {
              [$0.name, $0.kind, $0.shape.map(String.init).joined(separator: "×"), "\($0.bytes)"]
            })
        + "\n\n\(rows.count) tensors, \(Format.bytes(total))"
    }
  }

  private func json(_ facts: [(String, String)], _ rows: [Row], _ total: Int) -> JSONValue {
    [
      "path": .string(path), "facts": .object(JSONObject(facts.map { ($0.0, .string($0.1)) })),
      "bytes": .init(total),
      "tensors": .array(
        rows.map {
          [
            "name": .string($0.name), "type": .string($0.kind), "shape": .array($0.shape.map { .init($0) }),
            "bytes": .init($0.bytes),
          ]
        }),
    ]
  }

  private func describe(_ c: ModelConfiguration) -> [(String, String)] {
    if let encoder = c.encoder {
      return [
        (
          "model",
          "\(c.family.name) encoder, \(c.hiddenLayers) layers, hidden \(c.hiddenSize), inner \(c.intermediateSize), "
            + "\(c.attentionHeads) heads of \(c.headDim), vocabulary \(c.vocabularySize), "
            + "\(encoder.positionCount) positions, activation \(encoder.activation.rawValue)"
            + (encoder.labelCount.map { ", classifier of \($0) labels" } ?? "")
        )
      ]
    }
    return [
      (
        "model",
        "\(c.family.name), \(c.hiddenLayers) layers, hidden \(c.hiddenSize), inner \(c.intermediateSize), "
          + "\(c.attentionHeads) heads of \(c.headDim), \(c.kvHeads) key/value heads, vocabulary \(c.vocabularySize), "
          + "context \(c.maxPositionEmbeddings), rope base \(c.ropeTheta)"
      )
    ]
  }

  private func describe(_ value: GGUFValue) -> String {
    switch value {
    case .integer(let number): number.map(String.init) ?? "more than 2^63"
    case .float32(let number): "\(number)"
    case .float64(let number): "\(number)"
    case .bool(let flag): "\(flag)"
    case .string(let text):
      // A chat template would fill the screen.
      (text.unicodeScalars.count > 80 ? text.bytes.prefix(scalars: 77) + "..." : text).bytes.replacing(
        "\n", with: "\\n")
    case .array(let array): "\(array.count) of \(array.elementType)"
    }
  }

  private func describe(_ q: QuantizeConfiguration) -> (String, String) {
    (
      "quantization",
      "\(q.bits) bits, groups of \(q.groupSize), \(q.isSymmetric ? "symmetric" : "asymmetric"), desc_act "
        + "\(q.descendingActivation), zero points as \(q.zeroPointFormat.rawValue)"
    )
  }

  private func describe(_ encoding: PackedTensor.Encoding) -> String {
    switch encoding {
    case .rows(let dtype): dtype.rawValue
    case .panels(let dtype): "\(dtype.rawValue) panels"
    case .intPanels(let layout):
      "int\(layout.bits) panels, groups of \(layout.groupSize)\(layout.isPermuted ? ", permuted" : "")"
    }
  }
}
