import Files
import Foundation

/// A file of scalars for TensorBoard: records of TensorFlow's format (length, checksum, data, checksum), each an `Event` in
/// protocol buffers. Only what scalars need is written, under the tags of transformers' callback.
///
/// A run that continues begins a file of its own in the same folder. Its first event says that steps from there on are new, so that
/// TensorBoard forgets what an older file has of them.
package final class EventFile {
  package let path: String
  private let file: FileHandle

  /// - Parameters:
  ///   - folder: is made when there is none.
  ///   - firstStep: the first step that this file may hold.
  ///   - time: of the file's name and of its first events.
  package init(folder: String, firstStep: Int, time: Date = Date()) throws {
    do { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) } catch {
      throw FileError(.cannotWrite, path: folder, reason: .cannotCreate(error.localizedDescription))
    }
    let host = ProcessInfo.processInfo.hostName.replacing("/", with: "-")
    let path =
      "\(folder)/events.out.tfevents.\(Int(time.timeIntervalSince1970)).\(host).\(getpid()).\(firstStep)"
    let descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw FileError.fromErrno(.cannotWrite, path: path, doing: "cannot create") }
    self.path = path
    file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    try write(EventFile.event(time: time, step: 0) { $0.text(3, "brain.Event:2") })
    // SessionLog with the status START.
    if firstStep > 0 {
      try write(EventFile.event(time: time, step: firstStep) { $0.message(7) { $0.whole(1, 1) } })
    }
  }

  package func append(_ entry: TuningLogEntry, time: Date = Date()) throws {
    let scalars: [(String, Double)] =
      switch entry {
      case .step(let entry):
        [
          ("train/loss", entry.loss), ("train/learning_rate", entry.learningRate),
          ("train/grad_norm", entry.gradientNorm), ("train/epoch", entry.epoch),
          ("train/tokens_per_second", entry.tokensPerSecond),
        ]
      case .validation(let entry): [("eval/loss", entry.loss)]
      }
    try write(
      EventFile.event(time: time, step: entry.step) { event in
        event.message(5) { summary in
          for (tag, value) in scalars {
            summary.message(1) { scalar in
              scalar.text(1, tag)
              scalar.float(2, Float(value))
            }
          }
        }
      })
  }

  private func write(_ data: [UInt8]) throws {
    let record = EventFile.record(data)
    let count = record.withUnsafeBytes { Foundation.write(file.fileDescriptor, $0.baseAddress, $0.count) }
    guard count == record.count else {
      throw FileError.fromErrno(.cannotWrite, path: path, doing: "cannot write")
    }
  }

  // MARK: Bytes

  /// Length, masked checksum of the length, data, masked checksum of the data.
  package static func record(_ data: [UInt8]) -> [UInt8] {
    let length = withUnsafeBytes(of: UInt64(data.count).littleEndian) { Array($0) }
    func checksum(_ bytes: [UInt8]) -> [UInt8] {
      let crc = CRC32C.of(bytes)
      let masked = (crc >> 15 | crc << 17) &+ 0xA282_EAD8
      return withUnsafeBytes(of: masked.littleEndian) { Array($0) }
    }
    return length + checksum(length) + data + checksum(data)
  }

  static func event(time: Date, step: Int, _ content: (inout ProtocolBuffer) -> Void) -> [UInt8] {
    var event = ProtocolBuffer()
    event.double(1, time.timeIntervalSince1970)
    // Zero is what a missing field means.
    if step > 0 { event.whole(2, UInt64(step)) }
    content(&event)
    return event.bytes
  }
}

/// Fields of a message in protocol buffers' encoding.
struct ProtocolBuffer {
  private(set) var bytes: [UInt8] = []

  private mutating func key(_ field: Int, _ type: UInt8) { bytes.append(UInt8(field) << 3 | type) }

  private mutating func variable(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }

  mutating func whole(_ field: Int, _ value: UInt64) {
    key(field, 0)
    variable(value)
  }

  mutating func double(_ field: Int, _ value: Double) {
    key(field, 1)
    withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes += $0 }
  }

  mutating func float(_ field: Int, _ value: Float) {
    key(field, 5)
    withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes += $0 }
  }

  mutating func text(_ field: Int, _ value: String) { block(field, Array(value.utf8)) }

  mutating func message(_ field: Int, _ content: (inout ProtocolBuffer) -> Void) {
    var inner = ProtocolBuffer()
    content(&inner)
    block(field, inner.bytes)
  }

  private mutating func block(_ field: Int, _ content: [UInt8]) {
    key(field, 2)
    variable(UInt64(content.count))
    bytes += content
  }
}

/// CRC-32C (Castagnoli: polynomial 0x82F63B78, reflected).
package enum CRC32C {
  private static let table: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { crc, _ in crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
  }

  package static func of(_ bytes: [UInt8]) -> UInt32 {
    ~bytes.reduce(~0) { crc, byte in crc >> 8 ^ table[Int(UInt8(truncatingIfNeeded: crc) ^ byte)] }
  }
}
