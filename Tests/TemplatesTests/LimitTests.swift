import Foundation
import Templates
import Testing

/// Every bound of ``TemplateLimits`` has its error, and nothing traps on the way.
@Suite struct TemplateLimitTests {
  /// Runs `body` on a thread with the stack of a server's.
  private func onSmallStack<Result: Sendable>(_ body: @escaping @Sendable () -> Result) -> Result {
    nonisolated(unsafe) var result: Result?
    let done = DispatchSemaphore(value: 0)
    let thread = Thread {
      result = body()
      done.signal()
    }
    thread.stackSize = 512 << 10
    thread.start()
    done.wait()
    return result!
  }

  private func error(_ source: String, limits: TemplateLimits = TemplateLimits()) -> TemplateError? {
    onSmallStack {
      do throws(TemplateError) {
        _ = try Template(source, limits: limits).render(Example.variables)
        return nil
      } catch {
        return error
      }
    }
  }

  private func isNestingTooDeep(_ error: TemplateError?) -> Bool {
    if case .nestingTooDeep = error { true } else { false }
  }

  private func limits(_ change: (inout TemplateLimits) -> Void) -> TemplateLimits {
    var limits = TemplateLimits()
    change(&limits)
    return limits
  }

  @Test func sourceBytes() {
    #expect(error("12345", limits: limits { $0.sourceBytes = 4 }) == .sourceTooLong(bytes: 5, limit: 4))
  }

  @Test func steps() {
    let loops = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"
    #expect(error(loops, limits: limits { $0.steps = 100_000 }) == .tooManySteps(limit: 100_000, line: 1))
    #expect(
      error(
        "{% macro f(n) %}{{ f(n - 1) ~ f(n - 1) ~ f(n - 1) if n else 1 }}{% endmacro %}{{ f(8) }}",
        limits: limits { $0.steps = 20_000 }) == .tooManySteps(limit: 20_000, line: 1))
  }

  /// Lists of lists that are shared double their size with every level; comparing or printing them must end.
  @Test(arguments: ["ns.a == ns.b", "ns.a", "ns.a | tojson", "{ns.c: 1}", "[ns.c] | unique | list"])
  func sharedValuesCostSteps(expression: String) {
    let source = """
      {% set ns = namespace(a=[1], b=[1], c=(1,)) %}{% for i in range(60) %}
      {% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% set ns.c = (ns.c, ns.c) %}{% endfor %}
      {{ \(expression) }}
      """
    #expect(error(source, limits: limits { $0.steps = 200_000 }) == .tooManySteps(limit: 200_000, line: 3))
  }

  @Test(arguments: [
    "('a' * 300000).find('a' * 150000 ~ 'b')", "('É' * 300000) | upper", "('é ' * 300000) | wordcount",
    "'%.100f' % 1e-300", "['x' * 300000] | string",
  ])
  func slowOperationsCostSteps(expression: String) {
    let source = "{% for i in range(1000) %}{% set x = \(expression) %}{% endfor %}"
    #expect(error(source, limits: limits { $0.steps = 200_000 }) == .tooManySteps(limit: 200_000, line: 1))
  }

  @Test(arguments: [
    "'x' * 99999999999", "'ab' * 9223372036854775807", "'x' | center(99999999999)", "'x'.ljust(99999999999)",
    "'x'.zfill(99999999999)", "'%2000000000d' % 1", "'%.2000000000f' % 1", "'{:2000000000}'.format(1)",
    "('a' * 99999) | replace('a', 'b' * 99999)", "('a\\n' * 99999) | indent(99999)",
    "(['x' * 99999] * 99999) | join",
    "[1] | tojson(indent=99999999999)", "('\\t' * 999).expandtabs(99999999)", "'x' ~ 'y' * 33554432",
  ])
  func textBytes(expression: String) {
    let limit = TemplateLimits().textBytes
    #expect(error("{{ \(expression) }}") == .textTooLong(limit: limit, line: 1))
  }

  @Test func outputBytes() {
    #expect(
      error("\n{% for i in range(99) %}\nab{% endfor %}", limits: limits { $0.outputBytes = 50 })
        == .outputTooLong(limit: 50, line: 2))
  }

  @Test(arguments: [
    "[0] * 99999999999", "(0, 1) * 9223372036854775807", "[1] | batch(99999999999, 0) | list",
  ])
  func listItems(expression: String) {
    #expect(error("{{ \(expression) }}") == .listTooLong(limit: TemplateLimits().listItems, line: 1))
  }

  @Test(arguments: [
    "range(100001)", "range(0, -9223372036854775807, -1)", "range(-9223372036854775807, 9223372036854775807)",
  ])
  func rangeItems(expression: String) {
    #expect(error("{{ \(expression) }}") == .rangeTooLong(limit: 100_000, line: 1))
    #expect(error("{{ range(100000) | length }}") == nil)
  }

  @Test func madeBytes() {
    let source =
      "{% set ns = namespace(s='') %}{% for i in range(9999) %}{% set ns.s = ns.s ~ 'abcdefgh' %}{% endfor %}"
    #expect(
      error(source, limits: limits { $0.madeBytes = 1 << 20 }) == .tooMuchMemory(limit: 1 << 20, line: 1))
  }

  @Test(arguments: [
    "9223372036854775807 + 1", "-9223372036854775807 - 2", "9223372036854775807 * 2", "2 ** 63",
    "10 ** 9223372036854775807",
    "(-9223372036854775807 - 1) // -1", "-(-9223372036854775807 - 1)", "(-9223372036854775807 - 1) | abs",
    "1e300 | int",
    "'%d' % 1e300", "[1][99999999999999999999:]", "9223372036854775807 | round(-1)",
    "9223372036854775808 + 0",
  ])
  func integers(expression: String) {
    #expect(error("\n{{ \(expression) }}") == .integerTooLarge(line: 2))
  }

  /// Extreme numbers where a bound, a width or an index is expected: any outcome will do, but no trap.
  @Test func extremeNumbersDoNotTrap() {
    let numbers = [
      "9223372036854775807", "(-9223372036854775807 - 1)", "-1", "0", "1e308", "('nan' | float)",
      "('inf' | float)", "none", "missing",
    ]
    let uses = [
      "'abc'[#:]", "'abc'[:#]", "'abc'[::#]", "[1, 2][#:#:#]", "[1, 2][#]", "'é天'[#]", "range(5)[::#]",
      "range(5)[#:]", "range(#)",
      "range(#, #, #)", "range(3, #)", "'abc'.find('b', #, #)", "'a b'.split(none, #)",
      "'a b'.rsplit(' ', #)",
      "'aa'.replace('a', 'b', #)", "'a'.center(#)", "'a'.rjust(#)", "'a'.zfill(#)", "'a\\tb'.expandtabs(#)",
      "'a' * #",
      "[1] * #", "1.5 | round(#)", "15 | round(#)", "1.5 | round(#, 'floor')", "'abc' | truncate(#)",
      "'abc' | truncate(5, leeway=#)", "'a' | indent(#)", "'a' | center(#)", "[1, 2] | batch(#) | list",
      "[1, 2] | slice(#) | list",
      "'%*d' % (#, 1)", "'%d %f %g %x %c %s' % (#, #, #, #, #, #)", "'{:d}'.format(#)", "'{:c}'.format(#)",
      "'{:.3f}'.format(#)", "# // #", "# % #",
      "# ** #", "# ** -1", "- #", "# | abs", "# | int", "# | round", "# | float", "# | string", "# | tojson",
      "{#: 1}", "# in range(5)", "# < #", "# == #",
      "'12' | int(0, #)", "[1] | map(attribute=#) | list", "[3] | sum(start=#)", "loop.cycle(#)",
      "'a'.startswith('a', #, #)",
      "[1, 2].index(2, #, #)", "[1] | tojson(indent=#)", "'a' | int(#)",
    ]
    for use in uses {
      for number in numbers { _ = error("{{ \(use.replacingOccurrences(of: "#", with: number)) }}") }
    }
  }

  @Test(arguments: [
    ("(", "1", ")"), ("[", "1", "]"), ("{'a': ", "1", "}"), ("not ", "1", ""), ("-", "1", ""),
    ("", "x", ".y"), ("", "x", "[0]"),
    ("", "x", "()"), ("", "x", "|trim"), ("1 if 1 else ", "2", ""), ("f(", "1", ")"), ("x[", "1", "]"),
  ])
  func nestingOfExpressions(open: String, middle: String, close: String) {
    func source(_ count: Int) -> String {
      "{{ " + String(repeating: open, count: count) + middle + String(repeating: close, count: count) + " }}"
    }
    #expect(isNestingTooDeep(error(source(20_000))))
    #expect(!isNestingTooDeep(error(source(30))))
  }

  @Test(arguments: [
    ("{% if 1 %}", "{% endif %}"), ("{% for x in [1] %}", "{% endfor %}"),
    ("{% filter trim %}", "{% endfilter %}"),
    ("{% with %}", "{% endwith %}"), ("{% set x %}", "{% endset %}"), ("{% macro m() %}", "{% endmacro %}"),
    ("{% generation %}", "{% endgeneration %}"), ("{% call m() %}", "{% endcall %}"),
  ])
  func nestingOfBlocks(open: String, close: String) {
    func source(_ count: Int) -> String {
      "{% macro m() %}{{ caller() }}{% endmacro %}" + String(repeating: open, count: count) + "x"
        + String(repeating: close, count: count)
    }
    #expect(isNestingTooDeep(error(source(20_000))))
    #expect(error(source(8)) == nil)
  }

  @Test func longChainsOfOperatorsAreNotNested() throws {
    #expect(try render("{{ 1" + String(repeating: " + 1", count: 9_999) + " }}") == "10000")
    #expect(try render("{{ ''" + String(repeating: " ~ 'a'", count: 999) + " }}").utf8.count == 999)
  }

  @Test(arguments: [
    "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "{% macro f(n) %}{{ 1 + (2 * (3 + (f(n + 1) | length))) }}{% endmacro %}{{ f(0) }}",
    "{% macro f(n) %}{% for x in [1] | select('defined') %}{% if x %}{{ f(n + 1) }}{% endif %}{% endfor %}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{% call f(n) %}{{ caller() }}{% endcall %}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{% filter trim %}{% set x %}{{ f(n) }}{% endset %}{% endfilter %}{% endmacro %}{{ f(1) }}",
    "{% macro f(n=f()) %}{% endmacro %}{{ f() }}",
    "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}",
    "{% set ns = namespace(v=1) %}{% for i in range(9999) %}{% set ns.v = [ns.v] %}{% endfor %}",
    "{% set ns = namespace(v=1) %}{% for i in range(9999) %}{% set ns.v = {'a': ns.v} %}{% endfor %}",
    "{% set ns = namespace(v=[1]) %}{% for i in range(9999) %}{% set ns.v = ns.v | map('string') %}{% endfor %}",
    "{% set ns = namespace(v=[1]) %}{% for i in range(9999) %}{% set ns.v = ns.v | select %}{% endfor %}",
    "{% set ns = namespace(v=[1]) %}{% for i in range(9999) %}{% set ns.v = ns.v | batch(1) %}{% endfor %}",
    "{% set ns = namespace(v=[1]) %}{% for i in range(9999) %}{% set ns.v = cycler(ns.v) %}{% endfor %}",
    "{% set ns = namespace(v=[1]) %}{% for i in range(9999) %}{% set ns.v = joiner(ns.v) %}{% endfor %}",
    "{% set ns = namespace(v=[1]) %}{% for i in range(9999) %}{% for x in [ns.v] %}{% set ns.v = loop %}{% endfor %}{% endfor %}",
    "{% set ns = namespace(v={}) %}{% for i in range(9999) %}{% set ns.v = {'a': ns.v}.items() %}{% endfor %}",
    "{% set ns = namespace(v=[1]) %}{% for i in range(9999) %}{% set ns.v = [ns.v].index %}{% endfor %}",
  ])
  func depthOfCallsAndValues(source: String) {
    #expect(isNestingTooDeep(error(source)))
  }

  /// Chains of namespaces and of macros may be long; they are taken apart link by link.
  @Test(arguments: [
    "{% set ns = namespace(h=none) %}{% for i in range(50000) %}{% set n = namespace(next=ns.h) %}{% set ns.h = n %}{% endfor %}ok",
    "{% set ns = namespace(h=1) %}{% macro f(x) %}{% macro g() %}{{ x }}{% endmacro %}{% set ns.h = g %}{% endmacro %}"
      + "{% for i in range(20000) %}{{ f(ns.h) }}{% endfor %}ok",
  ])
  func longChainsOfObjectsAreFreed(source: String) {
    #expect(error(source) == nil)
  }

  @Test func deepValuesOfTheCaller() {
    var value = TemplateValue.integer(1)
    for _ in 0..<99 { value = .array([value]) }
    let deep = value
    let template = "{{ v | string | length }} {{ v | tojson | length }} {{ v == v }}"
    #expect(onSmallStack { try? render(template, [.init("v", deep)]) } == "199 199 True")
    let deeper = TemplateValue.array([.array([deep])])
    #expect(
      isNestingTooDeep(
        onSmallStack {
          do throws(TemplateError) {
            _ = try Template(template).render([.init("v", deeper)])
            return nil
          } catch {
            return error
          }
        }))
  }

  @Test func compilingIsBounded() {
    let branches = (0..<20_000).map { "{% if a %}{% set x\($0) = 1 %}{% endif %}" }.joined()
    if case .tooManySteps = error(branches) {
    } else {
      Issue.record("a template with many branches was compiled")
    }
    let parameters = (0..<5_000).map { "a\($0)=1" }.joined(separator: ",")
    if case .syntax = error("{% macro m(\(parameters)) %}{% endmacro %}") {
    } else {
      Issue.record("too many parameters")
    }
    if case .syntax = error("{{ dict(\(parameters)) }}") {} else { Issue.record("too many arguments") }
  }

  /// Random bytes of the language's own characters: any outcome but a trap.
  @Test func randomTemplatesDoNotTrap() {
    let words = [
      "{{", "}}", "{%", "%}", "{#", "#}", "-", "+", " ", "\n", "if", "for", "in", "endif", "endfor", "else",
      "elif", "set", "macro", "endmacro",
      "call", "endcall", "x", "xs", "(", ")", "[", "]", "{", "}", "'", "\"", "|", ".", ",", ":", "=", "==",
      "is", "not", "1", "2.5", "~", "*", "**", "/",
      "raw", "endraw", "filter", "endfilter", "trim", "upper", "loop", "caller", "\\", "é", "天", "%", "#",
      "<", "generation", "endgeneration", "break",
    ]
    var state: UInt64 = 360
    func next(_ count: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((state >> 33) % UInt64(count))
    }
    for _ in 0..<3_000 {
      var source = next(2) == 0 ? "{{ " : "{% "
      for _ in 0..<next(30) { source += words[next(words.count)] + (next(3) == 0 ? " " : "") }
      if next(2) == 0 { source += next(2) == 0 ? " }}" : " %}{% endif %}" }
      _ = try? render(source, limits: limits { $0.steps = 10_000 })
    }
  }
}
