/// One literal replaced by another wherever it stands, left to right, as `str.replace` does.
package struct ByteReplacement: Equatable, Sendable {
  let pattern: [UInt8]
  let content: [UInt8]

  /// - Parameter pattern: not empty.
  package init(_ pattern: String, _ content: String) {
    self.init(pattern: Array(pattern.utf8), content: Array(content.utf8))
  }

  /// - Parameter pattern: not empty.
  init(pattern: [UInt8], content: [UInt8]) {
    precondition(!pattern.isEmpty)
    self.pattern = pattern
    self.content = content
  }

  package func apply(_ text: [UInt8]) -> [UInt8] {
    text.withUnsafeBufferPointer { bytes in
      var result: [UInt8] = []
      var done = 0
      var i = 0
      while true {
        i = next(in: bytes, from: i)
        guard i + pattern.count <= bytes.count else { break }
        guard isHere(bytes, i) else {
          i += 1
          continue
        }
        result.append(contentsOf: bytes[done..<i])
        result.append(contentsOf: content)
        i += pattern.count
        done = i
      }
      if done == 0 { return text }
      result.append(contentsOf: bytes[done...])
      return result
    }
  }

  /// The first place from `index` on where the pattern may stand.
  private func next(in bytes: UnsafeBufferPointer<UInt8>, from index: Int) -> Int {
    if pattern.count > 1 { return bytes.firstIndex(of: pattern[0], before: pattern[1], from: index) }
    var i = index
    while i < bytes.count && bytes[i] != pattern[0] { i += 1 }
    return i
  }

  private func isHere(_ bytes: UnsafeBufferPointer<UInt8>, _ index: Int) -> Bool {
    for j in 0..<pattern.count where bytes[index + j] != pattern[j] { return false }
    return true
  }
}

extension [ByteReplacement] {
  /// All of them, one after the other.
  func apply(_ text: [UInt8]) -> [UInt8] { reduce(text) { $1.apply($0) } }
}
