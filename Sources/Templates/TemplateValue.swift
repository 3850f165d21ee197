/// A value that a caller gives to a template: what JSON can say, and text that counts as the template's own.
package enum TemplateValue: Equatable, Sendable {
  case null
  case boolean(Bool)
  case integer(Int)
  /// An integer outside of 64 bits, as its decimal digits with an optional sign. It can be printed, not computed with.
  case largeInteger(String)
  case number(Double)
  /// Text from outside. Wherever it ends up, its segments are not from the template.
  case string(String)
  /// Text that is trusted like the template's literals, such as `bos_token`.
  case templateText(String)
  case array([TemplateValue])
  /// Members in their order. Of members with the same key, the last value counts.
  case object([TemplateMember])
}

/// One member of a ``TemplateValue/object(_:)``.
package struct TemplateMember: Equatable, Sendable {
  package var key: String
  package var value: TemplateValue

  package init(_ key: String, _ value: TemplateValue) {
    self.key = key
    self.value = value
  }
}

/// The time that `strftime_now` shows: a date of the Gregorian calendar and a time of day, without a time zone.
package struct TemplateClock: Equatable, Sendable {
  package var year, month, day, hour, minute, second: Int

  package init(year: Int, month: Int, day: Int, hour: Int = 0, minute: Int = 0, second: Int = 0) {
    self.year = year
    self.month = month
    self.day = day
    self.hour = hour
    self.minute = minute
    self.second = second
  }
}

/// A piece of rendered text with one origin.
package struct TemplateSegment: Equatable, Sendable {
  package var text: String
  /// Whether the text comes from the template's literals or from ``TemplateValue/templateText(_:)``. Special
  /// tokens may be recognized there, and nowhere else.
  package var isFromTemplate: Bool

  package init(text: String, isFromTemplate: Bool) {
    self.text = text
    self.isFromTemplate = isFromTemplate
  }
}

/// What a template made of its values.
package struct TemplateRendering: Equatable, Sendable {
  /// The text in order; neighbours differ in their origin, and none is empty.
  package var segments: [TemplateSegment]
  /// The parts of the text that lie in `{% generation %}` blocks, as ranges of UTF-8 bytes of ``text``.
  package var generationRanges: [Range<Int>]

  package init(segments: [TemplateSegment], generationRanges: [Range<Int>]) {
    self.segments = segments
    self.generationRanges = generationRanges
  }

  /// The whole text.
  package var text: String { segments.reduce(into: "") { $0 += $1.text } }
}
