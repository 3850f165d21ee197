import Foundation

/// Files of `Tests/Fixtures`. `Tests/Fixtures/README.md` records where each came from.
package enum Fixture {
  /// The folder `Tests/Fixtures` of this checkout.
  package static let folder: String = {
    let thisFile = URL(fileURLWithPath: #filePath)
    return thisFile.deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Fixtures")
      .path
  }()

  package static func path(_ name: String) -> String { "\(folder)/\(name)" }

  /// The tiny trained Zhinao model that the package embeds for its demo.
  package static let tinyZhinao: String = {
    let root = URL(fileURLWithPath: folder).deletingLastPathComponent().deletingLastPathComponent()
    return root.appendingPathComponent("Sources/DemoModels/tiny-zhinao").path
  }()

  package static func data(_ name: String) throws -> Data {
    try Data(contentsOf: URL(fileURLWithPath: path(name)))
  }
}

/// A folder that is removed when the object goes.
package final class TemporaryFolder {
  package let path: String
  package init() throws {
    path = NSTemporaryDirectory() + "zhinao-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }
  package func file(_ name: String) -> String { "\(path)/\(name)" }
}

/// Steele, Lea and Flood's SplitMix64: a small generator whose sequence never changes.
package struct SplitMix64: RandomNumberGenerator {
  private var state: UInt64
  package init(seed: UInt64) { state = seed }
  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
