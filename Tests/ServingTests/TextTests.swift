import Serving
import Testing

@Suite struct PrometheusTextTests {
  @Test(arguments: ["", "\u{301}", "\u{FE0F}", "\u{200D}x", "\u{20E3}"])
  func valuesOfLabelsStayOnTheirLine(mark: String) {
    let value = PrometheusText.labelValue("a\"\(mark)\\\(mark)\n\(mark)")
    #expect(value.utf8.elementsEqual("a\\\"\(mark)\\\\\(mark)\\n\(mark)".utf8))
  }

  @Test func aLineFeedAfterACarriageReturnIsEscaped() {
    #expect(PrometheusText.labelValue("a\r\nb").utf8.elementsEqual("a\r\\nb".utf8))
  }
}
