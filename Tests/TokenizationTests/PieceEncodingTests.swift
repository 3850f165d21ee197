import Files
import Foundation
import TestSupport
import Testing
import Tokenization

@Suite struct PieceEncoding {
  /// Cutting pieces between characters, merging by bits and remembering pieces beside the plainest merging there is.
  @Test(arguments: ["tiny", "micro"])
  func agreesWithMergingAllBytes(name: String) throws {
    let path =
      name == "tiny" ? Fixture.tinyZhinao + "/vocab/360.tiktoken" : Fixture.path("golden/micro.tiktoken")
    let tokenizer = try ZhinaoTokenizer(
      vocabulary: Array(Data(contentsOf: URL(fileURLWithPath: path))), path: path)
    var ranks: [[UInt8]: Int] = [:]
    for id in 0..<tokenizer.rankCount {
      ranks[try tokenizer.bytes(of: id, skippingSpecials: false) ?? []] = id
    }
    func merged(_ piece: [UInt8]) -> [Int] {
      if let whole = ranks[piece] { return [whole] }
      var parts = piece.map { [$0] }
      while let best = parts.indices.dropLast().min(by: {
        ranks[parts[$0] + parts[$0 + 1]] ?? .max < ranks[parts[$1] + parts[$1 + 1]] ?? .max
      }), ranks[parts[best] + parts[best + 1]] != nil {
        parts[best] += parts.remove(at: best + 1)
      }
      return parts.compactMap { ranks[$0] }
    }
    var random = SplitMix64(seed: 1)
    let alphabet = Array("的一是了不在人有我他数据，。“ \nabeinorst'é😀𠀀日本ตัว".unicodeScalars)
    for _ in 0..<400 {
      var text = String.UnicodeScalarView()
      let length = Int.random(in: 0..<90, using: &random)
      while text.count < length {
        if Int.random(in: 0..<3, using: &random) > 0 {
          text.append(alphabet.randomElement(using: &random)!)
        } else {
          // Tokens side by side; those that are parts of characters become U+FFFD.
          let id = Int.random(in: 0..<tokenizer.rankCount, using: &random)
          let token = try tokenizer.bytes(of: id, skippingSpecials: false) ?? []
          text.append(contentsOf: String(decoding: token, as: UTF8.self).unicodeScalars)
        }
      }
      var bytes = Array(String(text).utf8)
      // Twice, so that pieces come again; no runs of spaces, which are tokens of their own.
      bytes = Array((bytes + [10] + bytes).split(separator: 32).joined(separator: [32]))
      let found = tokenizer.encode(
        String(decoding: bytes, as: UTF8.self), specials: .plain, addingAffixes: false)
      var expected: [Int] = []
      bytes.withUnsafeBufferPointer { all in
        SplitPattern.cl100k(digits: 1).forEachPiece(of: all) { expected += merged(Array(all[$0])) }
      }
      #expect(found == expected, "\(String(decoding: bytes, as: UTF8.self).debugDescription)")
    }
  }

  @Test func takesLinearTimeOnOnePiece() throws {
    let tokenizer = try TokenizerLoader.load(FolderFiles(Fixture.tinyZhinao))
    for unit in ["a", "的", "a的", "𠀀", "="] {
      let text = String(repeating: unit, count: 300_000)
      #expect(try tokenizer.decode(tokenizer.encode(text)) == text)
    }
  }
}
