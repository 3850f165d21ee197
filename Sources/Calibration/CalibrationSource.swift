import Files
import JSON
import Tokenization

/// What a chat template does with parts of a conversation that it may not know.
package struct TemplateAbilities: Sendable {
  let takesParts: Bool
  let writesToolCalls: Bool
  let writesTools: Bool

  package init(_ template: ChatTemplate) {
    takesParts = template.takesParts
    writesToolCalls = template.writesToolCalls
    writesTools = template.writesTools
  }
}

/// The records of one calibration file, gzip'd or not, and those that were left out.
struct CalibrationSource {
  private(set) var records: [(place: String, record: CalibrationRecord)] = []
  private(set) var format: CalibrationFormat
  private(set) var leftOut = CalibrationReport.LeftOut()
  /// How many records have a field that says nothing here, by its name.
  private(set) var unusedFields: [ByteText: Int] = [:]

  /// - Parameters:
  ///   - abilities: those of the model's chat template; nil: it has none.
  ///   - pairs: whether the model is an encoder, which reads pairs of texts.
  init(ofFile path: String, format: CalibrationFormat, abilities: TemplateAbilities?, pairs: Bool = false)
    throws
  {
    switch try CalibrationContent(ofFile: path, format: format) {
    case .text(let text):
      self.format = .text
      if pairs {
        // An encoder reads sentences and passages: each line is one.
        let lines = text.bytes.split(separator: "\n").enumerated()
        records = lines.filter { !$0.element.bytes.trimmed.isEmpty }.map {
          ("line \($0.offset + 1)", .text($0.element))
        }
      } else if !text.isEmpty {
        records = [("the text", .text(text))]
      }
    case .records(let values, let format):
      self.format = format
      for (place, value) in values {
        var unused: Set<ByteText> = []
        do throws(CalibrationProblem) {
          let record = try CalibrationRecord(value, pairs: pairs, unused: &unused)
          records.append((place, try record.written(abilities, unused: &unused)))
        } catch { leftOut.add(error, place: place) }
        for name in unused { unusedFields[name, default: 0] += 1 }
      }
    }
  }

  /// The ids of every record that gives some; the others are left out.
  /// - Throws: when the model is at fault: it has no template, or the template is wrong.
  mutating func sequences(
    path: String, keepingShort: Bool, _ encode: (CalibrationRecord, String) throws -> [Int]
  ) throws -> [[Int]] {
    var sequences: [[Int]] = []
    var kept = records
    kept.removeAll()
    for (place, record) in records {
      let ids: [Int]
      do { ids = try encode(record, place) } catch let error as ChatTemplateError
        where error.concernsConversation
      {
        leftOut.add(.template(error.detail.bytes), place: place)
        continue
      }
      if ids.count < 2 && !keepingShort {
        leftOut.add(.tooShort, place: place)
        continue
      }
      sequences.append(ids)
      kept.append((place, record))
    }
    records = kept
    // Where nothing is left, a count would hide the reason.
    if records.isEmpty, let first = leftOut.reasons.first {
      throw CalibrationError(.record(place: first.place, first.problem), path: path)
    }
    return sequences
  }
}
