import Templates
import Testing

/// `strftime_now`: expected texts from Python 3.11's `datetime.strftime` on Linux.
@Suite struct TemplateClockTests {
  private func show(_ format: String, _ clock: TemplateClock) throws -> String {
    try Template("{{ strftime_now(f) }}").render([.init("f", .string(format))], clock: clock).text
  }

  @Test func formatsAsTheCLibrary() throws {
    let morning = TemplateClock(year: 2024, month: 2, day: 29, hour: 0, minute: 5, second: 9)
    #expect(try show("%Y-%m-%d %H:%M:%S", morning) == "2024-02-29 00:05:09")
    #expect(
      try show("%a %A %b %B %h %p %I %-I %l %k", morning) == "Thu Thursday Feb February Feb AM 12 12 12  0")
    #expect(
      try show("%d %-d %e %_d %j %-j %y %C %D %F %T %R %r", morning)
        == "29 29 29 29 060 60 24 20 02/29/24 2024-02-29 00:05:09 00:05 12:05:09 AM")
    #expect(
      try show("%u %w %U %W %V %G %g %c %x %X %%", morning)
        == "4 4 08 09 09 2024 24 Thu Feb 29 00:05:09 2024 02/29/24 00:05:09 %")
    #expect(try show("%^a %^B %q % x", morning) == "THU FEBRUARY %q % x")
  }

  /// Days whose ISO week belongs to another year.
  @Test(arguments: [
    (2021, 1, 3, "53 2020 20 7 0 01 00"), (2020, 12, 31, "53 2020 20 4 4 52 52"),
    (2018, 12, 31, "01 2019 19 1 1 52 53"),
    (2000, 1, 1, "52 1999 99 6 6 00 00"), (2026, 11, 30, "49 2026 26 1 1 48 48"),
    (2100, 3, 1, "09 2100 00 1 1 09 09"),
  ])
  func weeks(year: Int, month: Int, day: Int, expected: String) throws {
    #expect(try show("%V %G %g %u %w %U %W", TemplateClock(year: year, month: month, day: day)) == expected)
  }

  @Test func withoutADateTheFunctionIsRefused() throws {
    let template = try Template("{{ strftime_now('%Y') }}")
    #expect(throws: TemplateError.unsupported("strftime_now() without a date", line: 1)) {
      try template.render([])
    }
  }
}
