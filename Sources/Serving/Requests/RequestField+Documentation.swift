import JSON

extension RequestField {
  /// The tables of `Docs/serving.md` that say what becomes of fields that do nothing here.
  package static var documentation: String {
    var lines = [
      "| accepted, whatever the value | because |", "|---|---|",
    ]
    for (reason, fields) in grouped(by: { if case .ignored(let reason) = $0 { reason } else { nil } }) {
      lines.append("| \(names(fields)) | it \(reason) |")
    }
    lines += ["", "| rejected, unless it has the value in parentheses | because |", "|---|---|"]
    for (reason, fields) in grouped(by: { if case .refused(let reason, _) = $0 { reason } else { nil } }) {
      lines.append("| \(names(fields)) | \(reason) |")
    }
    return lines.joined(separator: "\n") + "\n"
  }

  private static func grouped(by reason: (Treatment) -> String?) -> [(String, [RequestField])] {
    var groups: [(String, [RequestField])] = []
    for field in all {
      guard let reason = reason(field.treatment) else { continue }
      if let index = groups.firstIndex(where: { $0.0 == reason }) {
        groups[index].1.append(field)
      } else {
        groups.append((reason, [field]))
      }
    }
    return groups
  }

  private static func names(_ fields: [RequestField]) -> String {
    fields.map { field in
      guard case .refused(_, let harmless) = field.treatment, !harmless.isEmpty else {
        return "`\(field.name)`"
      }
      return "`\(field.name)` (\(harmless.map { "`\($0.serialized())`" }.joined(separator: ", ")))"
    }.joined(separator: ", ")
  }
}
