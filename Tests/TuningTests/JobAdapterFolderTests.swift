import Files
import Foundation
import JSON
import Safetensors
import TestSupport
import Testing
import Training
import Tuning

@Suite struct JobAdapterFolderTests {
  private static let options = LoRAOptions(rank: 2, alpha: 16, dropout: 0.05, savedModules: ["norm"])
  private static func parameters(_ factor: Float = 1) -> [Parameter] {
    let shapes: [(String, [Int])] = [
      ("model.layers.0.self_attn.qkv_proj.lora_A.weight", [2, 6]),
      ("model.layers.0.self_attn.qkv_proj.lora_B.weight", [8, 2]),
      ("model.layers.0.mlp.down_proj.lora_A.weight", [2, 5]),
      ("model.layers.0.mlp.down_proj.lora_B.weight", [6, 2]),
      ("model.layers.1.self_attn.qkv_proj.lora_A.weight", [2, 6]),
      ("model.layers.1.self_attn.qkv_proj.lora_B.weight", [8, 2]), ("model.norm.weight", [6]),
    ]
    return shapes.map { name, shape in
      let parameter = Parameter(name: "base_model.model.\(name)", shape: shape)
      for index in 0..<parameter.count { parameter.values[index] = factor * (Float(index) - 3) / 7 }
      return parameter
    }
  }

  @Test(arguments: AdapterFolder.StoredType.allCases)
  func writtenAndReadAgain(type: AdapterFolder.StoredType) throws {
    let folder = try TemporaryFolder()
    let written = Self.parameters()
    try AdapterFolder(options: Self.options, parameters: written, baseModel: "some/model", type: type)
      .write(into: folder.path)
    let json = try JSONValue.parse(file: folder.file("adapter_config.json"))
    #expect(json["target_modules"] == ["qkv_proj", "down_proj"])
    #expect(json["modules_to_save"] == ["norm"])
    #expect(json["lora_alpha"] == 16 && json["r"] == 2 && json["use_rslora"] == false)
    var expected = Self.options
    expected.targets = ["qkv_proj", "down_proj"]
    #expect(try AdapterFolder.options(ofFolder: folder.path) == expected)
    let read = Self.parameters(0)
    try AdapterFolder.load(folder.path, into: read)
    for (a, b) in zip(read, written) {
      for (x, y) in zip(a.values.array, b.values.array) {
        #expect(type == .f32 ? x == y : abs(x - y) <= abs(y) / 256)
      }
    }
  }

  @Test func otherAdaptersAreRefused() throws {
    let folder = try TemporaryFolder()
    let written = Self.parameters()
    try AdapterFolder(options: Self.options, parameters: written, baseModel: "m").write(into: folder.path)
    func reason(_ body: () throws -> Void) -> String {
      do { try body() } catch { return "\(error)" }
      return ""
    }
    #expect(
      reason { try AdapterFolder.load(folder.path, into: Array(Self.parameters().dropLast())) }
        .contains("holds base_model.model.model.norm.weight"))
    #expect(
      reason {
        try AdapterFolder.load(folder.path, into: [Parameter(name: "base_model.model.x", shape: [1])])
      }
      .contains("does not hold base_model.model.x"))
    let other = Parameter(name: written[0].name, shape: [3, 4])
    #expect(reason { try AdapterFolder.load(folder.path, into: [other]) }.contains("has the shape [2, 6]"))
    for (key, value) in [
      ("use_dora", "true"), ("rank_pattern", #"{"a":4}"#), ("peft_type", #""IA3""#), ("bias", #""all""#),
      ("target_modules", #""all-linear""#),
    ] {
      var object = try #require(
        AdapterFolder(options: Self.options, parameters: written, baseModel: "m").configuration.objectValue)
      object[key] = try JSONValue.parse(value)
      try JSONValue.object(object).serialized().write(
        toFile: folder.file("adapter_config.json"), atomically: true, encoding: .utf8)
      #expect(reason { _ = try AdapterFolder.options(ofFolder: folder.path) }.contains(key), "\(key)")
    }
  }
}
