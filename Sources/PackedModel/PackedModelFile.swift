import Files
import Tensors

/// A `.zhinao` file, mapped; its header is checked when it is opened, its tensors are used where they lie.
package final class PackedModelFile: Sendable {
  package let file: MappedFile
  package let header: PackedHeader
  package let dataStart: Int
  private let index: [ByteText: Int]

  package var path: String { file.path }

  /// - Parameter checkingHeader: whether the header's checksum is computed; its rules are enforced either way.
  package init(path: String, checkingHeader: Bool = true) throws {
    let file = try MappedFile(path: path)
    let (header, dataStart) = try withExtendedLifetime(file) {
      try PackedHeaderReader(path: path, bytes: file.bytes, checksChecksum: checkingHeader).read()
    }
    self.file = file
    self.header = header
    self.dataStart = dataStart
    index = Dictionary(
      uniqueKeysWithValues: header.tensors.enumerated().map { ($0.element.name.bytes, $0.offset) })
  }

  package func tensor(_ name: String) -> PackedTensor? { index[name].map { header.tensors[$0] } }

  package func bytes(of tensor: PackedTensor) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: file.bytes[tensor.range])
  }

  /// The files inside.
  package var files: EmbeddedFiles {
    EmbeddedFiles(
      location: path,
      contents: Dictionary(
        uniqueKeysWithValues: header.files.map { ($0.name.bytes, Array(file.bytes[$0.range])) }))
  }

  /// An integer matrix where it lies, its permutation checked: a channel number out of range would read elsewhere.
  package func intPanels(_ tensor: PackedTensor, _ layout: IntPanelLayout) throws -> IntPanelMatrix {
    guard let base = bytes(of: tensor).baseAddress else {
      throw PackedModelError(path: path, rule: 9, detail: "tensor \(tensor.name) is empty")
    }
    let matrix = layout.matrix(at: base, owner: file)
    if let permutation = matrix.permutation {
      var seen = [Bool](repeating: false, count: layout.inFeatures)
      for k in 0..<layout.inFeatures {
        let channel = Int(permutation[k])
        guard channel < layout.inFeatures, !seen[channel] else {
          throw PackedModelError(
            path: path, rule: 11, detail: "tensor \(tensor.name): the permutation is not one, at input \(k)")
        }
        seen[channel] = true
      }
    }
    return matrix
  }
}
