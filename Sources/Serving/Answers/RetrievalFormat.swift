import Foundation
import JSON
import Retrieval

/// Vectors and scores in the JSON of a response.
enum RetrievalFormat {
  /// An id that no other response has.
  static func id(_ prefix: String) -> JSONValue {
    .string(prefix + String(UInt64.random(in: UInt64.max / 2...UInt64.max), radix: 16))
  }

  static var now: JSONValue { .init(Int(Date().timeIntervalSince1970)) }

  /// The shortest number that is read as this float again.
  static func number(_ value: Float) -> JSONValue { value.isFinite ? .number("\(value)") : .null }

  static func floats(_ vector: [Float]) -> JSONValue { .array(vector.map(number)) }

  /// The vector's 32-bit floats, lowest byte first, in base64: what the openai package asks for when nobody says otherwise.
  static func base64(_ vector: [Float]) -> JSONValue {
    var bytes = Data(capacity: 4 * vector.count)
    for value in vector {
      withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes.append(contentsOf: $0) }
    }
    return .string(bytes.base64EncodedString())
  }

  /// The signs of the components, eight in a byte, the first one highest; 1 is positive. Components that fill no byte are left out.
  static func signs(_ vector: [Float]) -> [UInt8] {
    (0..<vector.count / 8).map { byte in
      vector[8 * byte..<8 * byte + 8].reduce(0) { $0 << 1 | ($1 > 0 ? 1 : 0) }
    }
  }

  static func usage(_ tokens: Int) -> JSONValue {
    ["prompt_tokens": .init(tokens), "total_tokens": .init(tokens)]
  }

  /// Adds `warnings` to a response, if there are any.
  static func adding(_ warnings: [String], to members: JSONObject) -> JSONValue {
    var members = members
    if !warnings.isEmpty { members["warnings"] = .array(warnings.map(JSONValue.string)) }
    return .object(members)
  }

  /// Places of the passages, best first; passages with equal scores stay in the request's order.
  static func ranking(_ scores: [RerankScore]) -> [Int] {
    scores.indices.sorted { (scores[$0].raw, $1) > (scores[$1].raw, $0) }
  }

  /// The inner product of two vectors of length one, in double precision.
  static func cosine(_ a: [Float], _ b: [Float]) -> Float {
    var (dot, aa, bb) = (0.0, 0.0, 0.0)
    for (x, y) in zip(a, b) {
      dot += Double(x) * Double(y)
      aa += Double(x) * Double(x)
      bb += Double(y) * Double(y)
    }
    let length = (aa * bb).squareRoot()
    return length > 0 ? Float(dot / length) : 0
  }
}
