import Foundation
import TestSupport
import Testing
import Tuning

@Suite struct JobEventFileTests {
  /// RFC 3720, B.4.
  @Test func checksumIsCastagnolis() {
    #expect(CRC32C.of(Array("123456789".utf8)) == 0xE306_9283)
    #expect(CRC32C.of([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
    #expect(CRC32C.of([UInt8](repeating: 0xFF, count: 32)) == 0x62A8_AB43)
  }

  /// The records of two events as the tensorboard package (2.21) writes them with EventsWriter.
  @Test func recordsAreTensorBoards() throws {
    let folder = try TemporaryFolder()
    let file = try EventFile(folder: folder.path, firstStep: 7, time: Date(timeIntervalSince1970: 1000.5))
    try file.append(
      .validation(.init(step: 8, epoch: 1, loss: 2.5, labels: 3, isBest: true)),
      time: Date(timeIntervalSince1970: 1001))
    let bytes = try Data(contentsOf: URL(fileURLWithPath: file.path))
    #expect(bytes.map { String(format: "%02x", $0) }.joined() == Self.expected)
  }

  static let expected =
    "1800000000000000a37f4b22090000000000448f401a0d627261696e2e4576656e743a32aba333450f000000"
    + "000000006d532b09090000000000448f4010073a020801fd6a56931f00000000000000514b44180900000000"
    + "00488f4010082a120a100a096576616c2f6c6f7373150000204077c32a3b"
}
