import Files

/// The F1 score of the words of an answer, as SQuAD and LongBench count them.
package enum TokenF1 {
  /// `2·p·r / (p + r)` of the words that both have, each as often as both have it; 0 when there are none.
  ///
  /// Source: `f1_score` of LongBench's `metrics.py`.
  package static func score(_ answer: [ByteText], _ truth: [ByteText]) -> Double {
    var left: [ByteText: Int] = [:]
    for word in truth { left[word, default: 0] += 1 }
    var same = 0
    for word in answer {
      if let count = left[word], count > 0 {
        left[word] = count - 1
        same += 1
      }
    }
    guard same > 0 else { return 0 }
    let (precision, recall) = (Double(same) / Double(answer.count), Double(same) / Double(truth.count))
    return 2 * precision * recall / (precision + recall)
  }

  /// LongBench's `qa_f1`, for English: the words of both in lower case, without ASCII punctuation and without a, an and the.
  package static func english(_ answer: String, _ truth: String) -> Double {
    score(englishWords(answer), englishWords(truth))
  }

  /// The words that ``english(_:_:)`` compares.
  package static func englishWords(_ text: String) -> [ByteText] {
    let plain = PythonText.lowercased(text).filter { !PythonText.isASCIIPunctuation($0) }
    return PythonText.words(PythonText.droppingArticles(plain, replacement: [" "]))
  }

  /// LongBench's `qa_f1_zh` on words that a segmenter made. Each is brought to lower case and loses punctuation and white space; words
  /// of which nothing is left do not count.
  package static func chinese(words answer: [String], _ truth: [String]) -> Double {
    score(answer.compactMap(chineseWord), truth.compactMap(chineseWord))
  }

  /// As ``chinese(words:_:)`` with each character as a word: what this toolchain reports in place of `qa_f1_zh`, which needs the
  /// segmenter jieba. The two differ, so this one has a name of its own, `qa_f1_zh_per_character`.
  package static func chinesePerCharacter(_ answer: String, _ truth: String) -> Double {
    score(chineseCharacters(answer), chineseCharacters(truth))
  }

  private static func chineseCharacters(_ text: String) -> [ByteText] {
    text.unicodeScalars.compactMap { chineseWord(String($0)) }
  }

  private static func chineseWord(_ word: String) -> ByteText? {
    let kept = PythonText.lowercased(word).filter {
      !PythonText.isASCIIPunctuation($0) && !chinesePunctuation.contains($0) && !ByteText.isWhitespace($0)
    }
    return kept.isEmpty ? nil : PythonText.text(kept)
  }

  /// LongBench's list. It has 》 and not 《.
  private static let chinesePunctuation = Set(
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏."
      .unicodeScalars)
}
