import Files
import JSON
import Transformer

extension SavedContextHeader {
  /// Reads preamble and header and checks C1 to C7.
  /// - Returns: the header, and where the sections are.
  static func read(_ bytes: UnsafeRawBufferPointer, path: String) throws -> (SavedContextHeader, Places) {
    func broken(_ reason: SavedContextError.Reason) -> SavedContextError {
      SavedContextError(reason, path: path)
    }
    let tokensStart = try checkPreamble(bytes, broken)
    let json: JSONValue
    do throws(JSONError) {
      json = try JSONValue.parse(
        UnsafeRawBufferPointer(rebasing: bytes[preambleByteCount..<tokensStart]), maximumDepth: 16)
    } catch { throw broken(.badHeader("is \(error)")) }
    let header: SavedContextHeader
    do throws(JSONFieldError) { header = try SavedContextHeader(json) } catch {
      throw broken(.badHeader("is not as it must be: \(error.field) \(error.detail)"))
    }
    guard let places = header.places(tokensStart: tokensStart) else {
      throw broken(.badHeader("describes more keys and values than a file can hold"))
    }
    guard places.end == bytes.count else {
      throw broken(.sizeMismatch(expected: places.end, found: bytes.count))
    }
    return (header, places)
  }

  private static func checkPreamble(
    _ bytes: UnsafeRawBufferPointer, _ broken: (SavedContextError.Reason) -> SavedContextError
  ) throws -> Int {
    guard bytes.count >= 8, Array(bytes[0..<8]) == magic else {
      let isDamaged = bytes.count >= 4 && Array(bytes[1..<4]) == Array(magic[1..<4])
      throw broken(isDamaged ? .textModeDamage : .notAContext)
    }
    guard bytes.count >= preambleByteCount else {
      throw broken(.truncatedPreamble(byteCount: bytes.count))
    }
    func get<T: FixedWidthInteger>(_ offset: Int, _: T.Type) -> T {
      T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
    }
    guard get(28, UInt32.self) == Checksum.crc32(UnsafeRawBufferPointer(rebasing: bytes[0..<28])) else {
      throw broken(.preambleChecksum)
    }
    guard !bytes[32..<preambleByteCount].contains(where: { $0 != 0 }) else { throw broken(.reservedBytes) }
    let (major, minor) = (get(8, UInt16.self), get(10, UInt16.self))
    guard major == majorVersion else {
      throw broken(.unknownVersion(major: major, minor: minor, read: majorVersion))
    }
    let length = get(16, UInt64.self)
    guard length == UInt64(bytes.count) else {
      throw broken(.lengthMismatch(found: bytes.count, declared: length))
    }
    let headerByteCount = Int(get(12, UInt32.self))
    let end = preambleByteCount + headerByteCount
    guard headerByteCount <= maximumByteCount, end <= bytes.count, end % pageByteCount == 0, end > 0 else {
      throw broken(.headerLength(headerByteCount))
    }
    let header = UnsafeRawBufferPointer(rebasing: bytes[preambleByteCount..<end])
    guard get(24, UInt32.self) == Checksum.crc32(header) else { throw broken(.headerChecksum) }
    return end
  }

  private init(_ json: JSONValue) throws(JSONFieldError) {
    let root = try JSONFields(json, document: "header")
    guard try root.requiredString("format") == "zhinao-context" else {
      throw root.refusal("format", "is not zhinao-context")
    }
    func inner(_ fields: JSONFields, _ key: String) throws(JSONFieldError) -> JSONFields {
      guard let object = try fields.object(key) else { throw fields.unexpected(key, expected: "an object") }
      return object
    }
    let model = try inner(root, "model")
    let cache = try inner(root, "cache")
    var adapters: [ContextIdentity.Adapter] = []
    for adapter in try root.objects("adapters") ?? [] {
      let factor = try adapter.requiredNumber("factor", in: -1e30...1e30)
      adapters.append(.init(digest: try adapter.requiredString("digest"), factor: Float(factor)))
    }
    let identity = ContextIdentity(
      modelName: try model.requiredString("name"), fingerprint: try model.requiredString("fingerprint"),
      adapters: adapters, arithmetic: try root.requiredString("arithmetic"),
      encoding: try cache.requiredString("encoding"),
      revision: try root.requiredInteger("arithmetic_revision", in: 1...1 << 31))
    let tokens = try root.requiredInteger("tokens", in: 1...SavedContextHeader.maximumTokens)
    var planes: [CachePlane] = []
    for plane in try cache.objects("planes") ?? [] {
      let unit = try plane.requiredInteger("unit_tokens", in: 0...65536)
      guard unit == 0 || tokens % unit == 0 else {
        throw plane.refusal("unit_tokens", "of \(unit) does not divide \(tokens) tokens")
      }
      planes.append(
        CachePlane(
          name: try plane.requiredString("name"), count: try plane.requiredInteger("count", in: 1...65536),
          unitTokens: unit, unitBytes: try plane.requiredInteger("unit_bytes", in: 1...1 << 24)))
    }
    guard (1...64).contains(planes.count) else { throw cache.refusal("planes", "are not 1 to 64") }
    guard try root.requiredInteger("block_bytes") == SavedContextHeader.blockByteCount else {
      throw root.refusal("block_bytes", "is not \(SavedContextHeader.blockByteCount)")
    }
    self.init(
      generator: try root.requiredString("generator"), identity: identity,
      layers: try cache.requiredInteger("layers", in: 1...65536), planes: planes, tokenCount: tokens)
    tokensCRC = try SavedContextHeader.crc(root, "tokens_crc32")
    checksumsCRC = try SavedContextHeader.crc(root, "checksums_crc32")
  }

  private static func crc(_ fields: JSONFields, _ key: String) throws(JSONFieldError) -> UInt32 {
    let text = try fields.requiredString(key)
    guard text.utf8.count == 8, let crc = UInt32(text, radix: 16) else {
      throw fields.refusal(key, "is not a checksum of eight hexadecimal digits")
    }
    return crc
  }
}
