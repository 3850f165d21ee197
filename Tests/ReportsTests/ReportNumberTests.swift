import Reports
import Testing

@Suite struct ReportNumberTests {
  @Test(arguments: [
    (0.0, "0"), (0.012345, "0.0123"), (4567.8, "4568"), (1.2345e-7, "1.23e-07"), (-3.14159, "−3.14"),
    (99.99, "100"),
    (12_345_678, "1.23e+07"), (.infinity, "∞"), (-.infinity, "−∞"), (.nan, "–"),
  ])
  func significantDigits(value: Double, text: String) { #expect(ReportNumber.significant(value) == text) }

  @Test func zeroHasNoSign() {
    #expect(ReportNumber.fixed(-0.0001, decimals: 2) == "0.00")
    #expect(ReportNumber.fixed(-0.01, decimals: 2) == "−0.01")
  }
}
