import Compute

extension PackedModelFile {
  /// Everything that opening did not look at: checksums, padding, values no writer produces.
  /// - Parameter progress: called with the bytes checked so far.
  /// - Returns: what is wrong, one line each; empty for an intact file.
  package func problems(pool: WorkerPool = .shared, progress: (Int) -> Void = { _ in }) -> [String] {
    var problems: [String] = []
    var end = dataStart
    let parts =
      header.files.map { ("file \($0.name)", $0.range, $0.crc32) }
      + header.tensors.map { ("tensor \($0.name)", $0.range, $0.crc32) }
    for (what, range, crc) in parts.sorted(by: { $0.1.lowerBound < $1.1.lowerBound }) {
      if file.bytes[end..<range.lowerBound].contains(where: { $0 != 0 }) {
        problems.append("bytes \(end) to \(range.lowerBound - 1), before \(what), are not zero (P12)")
      }
      end = range.upperBound
      let found = ParallelChecksum.crc32(UnsafeRawBufferPointer(rebasing: file.bytes[range]), pool: pool)
      if found != crc {
        problems.append(
          "\(what): checksum \(hexadecimal(found)), the header says \(hexadecimal(crc)); bytes \(range.lowerBound) to \(range.upperBound - 1) are damaged (P13)"
        )
      }
      progress(end)
    }
    if file.bytes[end...].contains(where: { $0 != 0 }) {
      problems.append("bytes from \(end) to the end are not zero (P12)")
    }
    for tensor in header.tensors {
      guard case .intPanels(let layout) = tensor.encoding else { continue }
      do { _ = try intPanels(tensor, layout) } catch { problems.append("\(error)") }
    }
    return problems
  }
}
