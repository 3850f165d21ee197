import Files
import Foundation

/// The letter of a choice in a written answer, as OpenCompass finds it. Source: `first_option_postprocess` and
/// `first_capital_postprocess` of `opencompass/utils/text_postprocessors.py` at a5acc4b (Apache License 2.0, copyright OpenCompass authors),
/// whose list of patterns is the rule.
package enum OptionLetter {
  /// The first capital letter of the answer; empty when there is none.
  package static func firstCapital(_ answer: String) -> String {
    answer.unicodeScalars.first { $0.properties.isUppercase }.map(String.init) ?? ""
  }

  /// What the first pattern that matches has found; empty when it is none of the options, or nothing matches.
  /// - Parameter options: the letters, for example `ABCD`.
  package static func firstOption(_ answer: String, options: String = "ABCD") -> String {
    let text = answer.bytes.trimmed
    let whole = NSRange(location: 0, length: text.utf16.count)
    for pattern in options.hasSameBytes(as: "ABCD") ? usual : compiled(options) {
      guard let match = pattern.firstMatch(in: text, range: whole) else { continue }
      // The one that stands for the group, unless it is empty.
      let range = match.range(at: 1).length > 0 ? match.range(at: 1) : match.range
      let found = Range(range, in: text).map { String(text[$0]) } ?? ""
      if let option = options.unicodeScalars.first(where: { found.unicodeScalars.contains($0) }) {
        return String(option)
      }
    }
    return ""
  }

  private static let usual = compiled("ABCD")

  private static func compiled(_ options: String) -> [NSRegularExpression] {
    patterns.map { pattern in
      let pattern = pattern.bytes.replacing("@@", with: NSRegularExpression.escapedPattern(for: options))
      guard
        let compiled = try? NSRegularExpression(pattern: pattern, options: [.dotMatchesLineSeparators])
      else { preconditionFailure("\(pattern) is a regular expression") }
      return compiled
    }
  }

  /// `@@` stands for the options.
  private static let patterns = [
    #"答案是?\s*([@@])"#,
    #"答案是?\s*：\s*([@@])"#,
    #"答案是?\s*:\s*([@@])"#,
    #"答案选项应?该?是\s*([@@])"#,
    #"答案选项应?该?为\s*([@@])"#,
    #"答案应该?是\s*([@@])"#,
    #"答案应该?选\s*([@@])"#,
    #"答案选项为?\s*：\s*([@@])"#,
    #"答案选项为?\s+\(?\*?\*?([@@])\*?\*?\)?"#,
    #"答案选项是?\s*:\s*([@@])"#,
    #"答案为\s*([@@])"#,
    #"答案选\s*([@@])"#,
    #"选择?\s*([@@])"#,
    #"故选?\s*([@@])只有选?项?\s?([@@])\s?是?对"#,
    #"只有选?项?\s?([@@])\s?是?错"#,
    #"只有选?项?\s?([@@])\s?不?正确"#,
    #"只有选?项?\s?([@@])\s?错误"#,
    #"说法不?对选?项?的?是\s?([@@])"#,
    #"说法不?正确选?项?的?是\s?([@@])"#,
    #"说法错误选?项?的?是\s?([@@])"#,
    #"([@@])\s?是正确的"#,
    #"([@@])\s?是正确答案"#,
    #"选项\s?([@@])\s?正确"#,
    #"所以答\s?([@@])"#,
    #"所以\s?([@@][.。$]?$)"#,
    #"所有\s?([@@][.。$]?$)"#,
    #"[\s，：:,]([@@])[。，,\.]?$"#,
    #"[\s，,：:][故即]([@@])[。\.]?$"#,
    #"[\s，,：:]因此([@@])[。\.]?$"#,
    #"[是为。]\s?([@@])[。\.]?$"#,
    #"因此\s?([@@])[。\.]?$"#,
    #"显然\s?([@@])[。\.]?$"#,
    #"答案是\s?(\S+)(?:。|$)"#,
    #"答案应该是\s?(\S+)(?:。|$)"#,
    #"答案为\s?(\S+)(?:。|$)"#,
    #"(?i)ANSWER\s*:\s*([@@])"#,
    #"[Tt]he answer is:?\s+\(?([@@])\)?"#,
    #"[Tt]he answer is:?\s+\(?\*?\*?([@@])\*?\*?\)?"#,
    #"[Tt]he answer is option:?\s+\(?([@@])\)?"#,
    #"[Tt]he correct answer is:?\s+\(?([@@])\)?"#,
    #"[Tt]he correct answer is option:?\s+\(?([@@])\)?"#,
    #"[Tt]he correct answer is:?.*?boxed\{([@@])\}"#,
    #"[Tt]he correct option is:?.*?boxed\{([@@])\}"#,
    #"[Tt]he correct answer option is:?.*?boxed\{([@@])\}"#,
    #"[Tt]he answer to the question is:?\s+\(?([@@])\)?"#,
    #"^选项\s?([@@])"#,
    #"^([@@])\s?选?项"#,
    #"(\s|^)[@@][\s。，,：:\.$]"#,
    #"1.\s?(.*?)$"#,
    #"1.\s?([@@])[.。$]?$"#,
    #"([@@]):"#,
    #"([@@])"#,
  ]
}
