import Files
import JSON
import Transformer

/// The header of a saved context, and where everything is in the file (`Formats/saved-context.md`).
package struct SavedContextHeader: Equatable, Sendable {
  static let majorVersion: UInt16 = 1
  static let minorVersion: UInt16 = 0
  static let preambleByteCount = 64
  /// As in `.zhinao` files: a byte above 127, line ends and an end-of-file mark show what transfers in text mode do.
  static let magic: [UInt8] = [0x89, 0x5A, 0x48, 0x43, 0x0D, 0x0A, 0x1A, 0x0A]
  static let maximumByteCount = 1 << 20
  /// Sections and planes begin at multiples of it, so that they can be mapped.
  static let pageByteCount = 4096
  static let blockByteCount = 1 << 20
  static let maximumTokens = 1 << 26

  package var generator: String
  package var identity: ContextIdentity
  package var layers: Int
  package var planes: [CachePlane]
  package var tokenCount: Int
  /// Of the section of tokens and of the table of checksums.
  var tokensCRC: UInt32 = 0
  var checksumsCRC: UInt32 = 0

  init(generator: String, identity: ContextIdentity, layers: Int, planes: [CachePlane], tokenCount: Int) {
    (self.generator, self.identity, self.layers) = (generator, identity, layers)
    (self.planes, self.tokenCount) = (planes, tokenCount)
  }

  // MARK: Places

  static func padded(_ count: Int) -> Int { (count + pageByteCount - 1) / pageByteCount * pageByteCount }

  /// Bytes of a plane without its padding.
  func planeBytes(_ plane: CachePlane) -> Int { plane.byteCount(tokenCount) }

  /// Bytes of all planes; nil when they exceed what a file can hold.
  var dataByteCount: Int? {
    var layer = 0
    for plane in planes {
      let (all, tooMany) = SavedContextHeader.padded(planeBytes(plane)).multipliedReportingOverflow(
        by: plane.count)
      let (sum, tooLarge) = layer.addingReportingOverflow(all)
      guard !tooMany, !tooLarge else { return nil }
      layer = sum
    }
    let (bytes, overflow) = layer.multipliedReportingOverflow(by: layers)
    return overflow || bytes > 1 << 60 ? nil : bytes
  }

  static func blocks(in dataByteCount: Int) -> Int {
    (dataByteCount + blockByteCount - 1) / blockByteCount
  }

  /// Where the sections begin and the file ends, for a header that ends at `tokensStart`.
  struct Places: Equatable {
    let tokens, checksums, data, end: Int
  }
  func places(tokensStart: Int) -> Places? {
    guard let dataByteCount else { return nil }
    let checksums = tokensStart + SavedContextHeader.padded(4 * tokenCount)
    let data = checksums + SavedContextHeader.padded(4 * SavedContextHeader.blocks(in: dataByteCount))
    return Places(tokens: tokensStart, checksums: checksums, data: data, end: data + dataByteCount)
  }

  /// Offsets of planes in the data, in their order: layers, kinds, numbers.
  func forEachPlane(
    _ body: (_ layer: Int, _ kind: Int, _ number: Int, _ offset: Int, _ byteCount: Int) throws -> Void
  ) rethrows {
    var offset = 0
    for layer in 0..<layers {
      for (kind, plane) in planes.enumerated() {
        let bytes = planeBytes(plane)
        for number in 0..<plane.count {
          try body(layer, kind, number, offset, bytes)
          offset += SavedContextHeader.padded(bytes)
        }
      }
    }
  }

  // MARK: Writing

  private static func hexadecimal(_ crc: UInt32) -> JSONValue {
    let text = String(crc, radix: 16)
    return .string(String(repeating: "0", count: 8 - text.utf8.count) + text)
  }

  var json: JSONValue {
    [
      "format": "zhinao-context", "generator": .string(generator),
      "model": ["name": .string(identity.modelName), "fingerprint": .string(identity.fingerprint)],
      "adapters": .array(
        identity.adapters.map { ["digest": .string($0.digest), "factor": .init(Double($0.factor))] }),
      "arithmetic": .string(identity.arithmetic), "arithmetic_revision": .init(identity.revision),
      "cache": [
        "encoding": .string(identity.encoding), "layers": .init(layers),
        "planes": .array(
          planes.map {
            [
              "name": .string($0.name), "count": .init($0.count), "unit_tokens": .init($0.unitTokens),
              "unit_bytes": .init($0.unitBytes),
            ]
          }),
      ],
      "tokens": .init(tokenCount), "tokens_crc32": SavedContextHeader.hexadecimal(tokensCRC),
      "block_bytes": .init(SavedContextHeader.blockByteCount),
      "checksums_crc32": SavedContextHeader.hexadecimal(checksumsCRC),
    ]
  }

  /// Where the tokens begin: the end of preamble and header, which does not depend on the checksums.
  var tokensStart: Int {
    SavedContextHeader.padded(SavedContextHeader.preambleByteCount + json.serialized().utf8.count + 1)
  }

  /// Preamble and header as they stand at the start of a file of `fileByteCount` bytes.
  func serialized(fileByteCount: Int) -> [UInt8] {
    var text = Array(json.serialized().utf8)
    let headerByteCount = tokensStart - SavedContextHeader.preambleByteCount
    text += [UInt8](repeating: 32, count: headerByteCount - text.count - 1)
    text.append(10)
    var preamble = SavedContextHeader.magic
    func put<T: FixedWidthInteger>(_ value: T) { withUnsafeBytes(of: value.littleEndian) { preamble += $0 } }
    put(SavedContextHeader.majorVersion)
    put(SavedContextHeader.minorVersion)
    put(UInt32(headerByteCount))
    put(UInt64(fileByteCount))
    put(text.withUnsafeBytes { Checksum.crc32($0) })
    put(preamble.withUnsafeBytes { Checksum.crc32($0) })
    preamble += [UInt8](repeating: 0, count: SavedContextHeader.preambleByteCount - preamble.count)
    return preamble + text
  }
}
