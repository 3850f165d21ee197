import Compute
import Files
import JSON
import Tensors

/// Writes a `.zhinao` file in one pass, holding no more than what a body hands over at a time. The file appears under its
/// name when it is complete.
package enum PackedModelWriter {
  /// Gives the bytes of a tensor, in the tensor's encoding, to `emit`, in pieces if it likes.
  package typealias Body = (_ tensor: PackedTensor, _ emit: (UnsafeRawBufferPointer) throws -> Void) throws ->
    Void

  /// What is known only when everything else is written.
  package struct Completion {
    /// New contents, of the same length, for some of the files inside.
    package var files: [ByteText: [UInt8]]
    /// As long as the one it replaces when written out; nil keeps that.
    package var provenance: JSONObject?
    package init(files: [ByteText: [UInt8]] = [:], provenance: JSONObject? = nil) {
      self.files = files
      self.provenance = provenance
    }
  }

  /// The header with every offset filled in, and the file's length: what a write would produce.
  package static func placed(_ header: PackedHeader) -> (header: PackedHeader, dataStart: Int, byteCount: Int)
  {
    var header = header
    // Offsets have more digits the further they lie, so the header's length depends on them a little: take the least
    // number of pages that holds them all.
    var dataStart = PackedHeader.pageByteCount
    while true {
      let byteCount = header.place(from: dataStart)
      let needed = PackedHeader.preambleByteCount + header.json.serialized().utf8.count + 1
      if needed <= dataStart { return (header, dataStart, byteCount) }
      dataStart =
        (needed + PackedHeader.pageByteCount - 1) / PackedHeader.pageByteCount * PackedHeader.pageByteCount
    }
  }

  /// - Parameters:
  ///   - header: what the file is to hold; offsets and checksums are filled in here.
  ///   - contents: bytes of the header's files, in their order.
  ///   - finish: called with the path of the complete but not yet visible file.
  ///   - check: called with that path when nothing changes any more; when it throws, the file is not kept.
  ///   - body: called for each tensor in order.
  @discardableResult
  package static func write(
    to path: String, header: PackedHeader, contents: [[UInt8]], pool: WorkerPool = .shared,
    finish: ((_ path: String) throws -> Completion)? = nil,
    check: (_ path: String) throws -> Void = { _ in }, body: Body
  ) throws -> PackedHeader {
    precondition(contents.map(\.count) == header.files.map(\.byteCount))
    var (header, dataStart, byteCount) = placed(header)
    let file = try AtomicFile(path: path, expectedByteCount: byteCount)
    try file.write([UInt8](repeating: 0, count: dataStart))
    for (i, bytes) in contents.enumerated() {
      try file.pad(toMultipleOf: 64)
      precondition(file.byteCount == header.files[i].offset)
      try file.write(bytes)
      header.files[i].crc32 = bytes.withUnsafeBytes { Checksum.crc32($0) }
    }
    for i in header.tensors.indices {
      let tensor = header.tensors[i]
      try file.pad(toMultipleOf: tensor.alignment)
      precondition(file.byteCount == tensor.offset)
      var crc: UInt32 = 0
      try body(tensor) { bytes in
        try file.write(bytes)
        crc = ParallelChecksum.crc32(bytes, continuing: crc, pool: pool)
      }
      precondition(file.byteCount == tensor.range.upperBound, "body of \(tensor.name) has the wrong length")
      header.tensors[i].crc32 = crc
    }
    try file.pad(toMultipleOf: 64)
    precondition(file.byteCount == byteCount)
    if let finish {
      try file.overwrite(at: 0, with: header.serialized(dataStart: dataStart, fileByteCount: byteCount))
      let completion = try finish(file.temporaryPath)
      header.provenance = completion.provenance ?? header.provenance
      for (name, bytes) in completion.files {
        guard let i = header.files.firstIndex(where: { $0.name.bytes == name }) else {
          preconditionFailure("no such file: \(name)")
        }
        precondition(bytes.count == header.files[i].byteCount, "\(name) changed its length")
        try file.overwrite(at: header.files[i].offset, with: bytes)
        header.files[i].crc32 = bytes.withUnsafeBytes { Checksum.crc32($0) }
      }
    }
    try file.overwrite(at: 0, with: header.serialized(dataStart: dataStart, fileByteCount: byteCount))
    try file.commit(checking: check)
    return header
  }

  /// Emits a row-major float matrix as panels, a few megabytes at a time.
  package static func emitPanels(
    _ rows: UnsafeRawPointer, dtype: DType, out: Int, in inFeatures: Int, pool: WorkerPool = .shared,
    _ emit: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    let panelBytes = panelWidth * inFeatures * dtype.byteCount
    let perChunk = max(1, (8 << 20) / max(1, panelBytes))
    let panels = (out + panelWidth - 1) / panelWidth
    let chunk = AlignedBuffer<UInt8>(count: min(panels, perChunk) * panelBytes)
    for first in stride(from: 0, to: panels, by: perChunk) {
      let count = min(perChunk, panels - first)
      let height = min(count * panelWidth, out - first * panelWidth)
      FloatPanels.pack(
        rows + first * panelWidth * inFeatures * dtype.byteCount, dtype: dtype, out: height, in: inFeatures,
        into: chunk.pointer, pool: pool)
      try emit(UnsafeRawBufferPointer(start: chunk.pointer, count: count * panelBytes))
    }
  }
}
