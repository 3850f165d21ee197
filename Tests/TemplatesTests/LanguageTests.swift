import Templates
import Testing

/// The language against Jinja2, and what differs from it on purpose.
@Suite struct TemplateLanguageTests {
  @Test func thereAreExamples() {
    #expect(Example.all.count > 1_000)
  }

  /// All in one test: a thousand test cases would bury the others in the report.
  @Test func rendersAsJinja2() {
    for example in Example.all {
      let outcome: Example.Outcome
      do throws(TemplateError) {
        outcome = .text(try Template(example.source).render(Example.variables, clock: Example.clock).text)
      } catch {
        if case .raised(let message) = error { outcome = .raised(message) } else { outcome = .fault }
      }
      #expect(outcome == example.outcome, "\(example.source)")
    }
  }

  @Test func trimsBlocksAndStripsTheirIndentation() throws {
    let source = """
      start
        {% if true %}
        inside
        {% endif %}
        {{ 1 }}
      {# comment #}
        {%+ if true %}kept{% endif %}
      {%- if true -%}
         tight
      {%- endif +%}

      end

      """
    #expect(try render(source) == "start\n  inside\n  1\n  kepttight\n\nend")
  }

  @Test func dropsOneEndOfLineAtTheEndOnly() throws {
    #expect(try render("a\n\n") == "a\n")
    #expect(try render("a\r\nb\rc\r\n") == "a\nb\nc")
  }

  @Test func rawBlocksKeepTags() throws {
    #expect(try render("{% raw %}\n {{ x }}{% if %}{%- endraw %}\n.") == "\n {{ x }}{% if %}.")
  }

  /// Assignments stay inside of loops; only members of namespaces get out.
  @Test func assignmentsDoNotLeakOutOfLoops() throws {
    let source = """
      {%- set last = 'none' %}{% set ns = namespace(last='none') %}
      {%- for x in [1, 2] %}{% set last = x %}{% set ns.last = x %}{% endfor %}
      {{- last }} {{ ns.last }}
      """
    #expect(try render(source) == "none 2")
  }

  /// The module's own assignment hides the caller's value from the start, as Jinja2 compiles it.
  @Test func anAssignmentHidesTheValueOfTheCallerFromTheStart() throws {
    let source = "{% macro m() %}[{{ s }}]{% endmacro %}{{ m() }}{% set s = 5 %}{{ m() }}"
    #expect(try render(source) == "[][5]")
  }

  @Test func dictionariesKeepTheirOrder() throws {
    let value: TemplateValue = ["z": 1, "a": ["y": nil, "b": true], "m": [1.0, 2]]
    let text = try render(
      "{{ v | tojson }}{{ v }}{{ v | dictsort | map('first') | join }}", [.init("v", value)])
    #expect(
      text == #"{"z": 1, "a": {"y": null, "b": true}, "m": [1.0, 2]}"#
        + "{'z': 1, 'a': {'y': None, 'b': True}, 'm': [1.0, 2]}amz")
  }

  @Test func theLastOfTwoEqualKeysCounts() throws {
    let value = TemplateValue.object([.init("a", 1), .init("b", 2), .init("a", 3)])
    #expect(try render("{{ v | tojson }}", [.init("v", 0), .init("v", value)]) == #"{"a": 3, "b": 2}"#)
  }

  @Test func integersBeyond64BitsArePrintedButNotComputedWith() throws {
    let variables = [TemplateMember("v", .largeInteger("18446744073709551615"))]
    #expect(
      try render("{{ v }} {{ [v] | tojson }} {{ v is integer }}", variables)
        == "18446744073709551615 [18446744073709551615] True")
    #expect(throws: TemplateError.integerTooLarge(line: 1)) { try render("{{ v + 1 }}", variables) }
  }

  @Test func manyThreadsRenderOneTemplate() async throws {
    let template = try Template("{% for i in range(n) %}{{ i }},{% endfor %}")
    try await withThrowingTaskGroup(of: Bool.self) { group in
      for n in 0..<64 {
        group.addTask {
          try template.render([.init("n", .integer(n))]).text == (0..<n).map { "\($0)," }.joined()
        }
      }
      for try await isRight in group { #expect(isRight) }
    }
  }

  @Test func tellsWhichValuesATemplateLooksUp() throws {
    let template = try Template("{{ tools }}{% set a = 1 %}{{ a }}{% for m in messages %}{{ m }}{% endfor %}")
    #expect(Set(template.variableNames) == ["tools", "messages"])
  }
}

/// Errors say what is wrong, and in which line.
@Suite struct TemplateErrorTests {
  @Test func theMessageOfRaiseExceptionIsTheError() {
    let message = "Roles must alternate: \"x\"\nline 2"
    #expect(throws: TemplateError.raised(message)) {
      try render("{{ raise_exception('Roles must alternate: ' ~ m) }}", [.init("m", "\"x\"\nline 2")])
    }
    #expect(TemplateError.raised(message).description == message)
  }

  @Test(arguments: [
    ("{% include 'x' %}", "include"), ("\n{% import 'x' as y %}", "import"), ("{% extends 'x' %}", "extends"),
    ("{% from 'x' import y %}", "from"), ("{% block x %}{% endblock %}", "block"),
    ("{% for x in y recursive %}{% endfor %}", "recursive"), ("{{ x | pprint }}", "pprint"),
    ("{{ x | striptags }}", "striptags"), ("{{ x | from_json }}", "from_json"), ("{{ x is uuid }}", "uuid"),
    ("{% autoescape true %}{% endautoescape %}", "autoescape"), ("{{ '\\N{BULLET}' }}", "\\N"),
  ])
  func whatIsLeftOutIsRefusedByNameWhenCompiled(source: String, name: String) throws {
    let error = try #require(throws: TemplateError.self) { try Template(source) }
    guard case .unsupported(let description, let line) = error else {
      Issue.record("\(error)")
      return
    }
    #expect(description.contains(name))
    #expect(line == (source.hasPrefix("\n") ? 2 : 1))
  }

  /// Jinja2 too reports a missing filter of a branch only when the branch is taken.
  @Test func missingFiltersInBranchesAreErrorsWhenTheyRun() throws {
    #expect(try render("{% if false %}{{ x | pprint }}{% endif %}ok") == "ok")
    #expect(throws: TemplateError.unsupported("the filter 'pprint'", line: 2)) {
      try render("{% if true %}\n{{ x | pprint }}{% endif %}")
    }
  }

  @Test(arguments: ["lipsum()", "s.encode()", "s.casefold()", "s.translate({})"])
  func whatIsLeftOutIsRefusedByNameWhenCalled(call: String) throws {
    let error = try #require(throws: TemplateError.self) { try render("{{ \(call) }}") }
    guard case .unsupported(_, line: 1) = error else {
      Issue.record("\(error)")
      return
    }
  }

  @Test(arguments: [
    ("a\n{% if x %}\nb", 3), ("{{ 'a }}", 1), ("\n\n{{ (1 }}", 3), ("{% foo %}", 1), ("a\n{% endif %}", 2),
    ("{{ 1 + }}", 1),
    ("\n{# never closed", 2), ("{% raw %}", 0), ("{% break %}", 1), ("{{ a b }}", 1), ("{% set 1 = 2 %}", 1),
  ])
  func syntaxErrorsNameTheirLine(source: String, line: Int) throws {
    if line == 0 {
      #expect(try render(source).isEmpty)
      return
    }
    let error = try #require(throws: TemplateError.self) { try Template(source) }
    guard case .syntax(_, line) = error else {
      Issue.record("\(error)")
      return
    }
  }

  @Test func evaluationErrorsNameTheirLine() {
    #expect(throws: TemplateError.evaluation("'missing' is undefined", line: 3)) {
      try render("a\nb\n{{ missing.x }}")
    }
    #expect(throws: TemplateError.evaluation("division by zero", line: 2)) {
      try render("\n{% set x = 1 / 0 %}")
    }
  }

  /// The sandbox is immutable: what would change a list or a dictionary is no member of it.
  @Test(arguments: [
    "xs.append(1)", "xs.pop()", "d.update({})", "d.pop('a')", "d.setdefault('a', 1)", "xs.sort()",
  ])
  func valuesCannotBeChanged(call: String) throws {
    #expect(throws: TemplateError.self) { try render("{{ \(call) }}") }
    let method = call.prefix { $0 != "(" }
    #expect(try render("{{ \(method) is defined }}") == "False")
  }

  @Test(arguments: ["s.__class__", "d.__init__", "xs.__len__", "s['__class__']"])
  func objectsOfPythonAreOutOfReach(member: String) throws {
    #expect(try render("{{ \(member) is defined }}") == "False")
    #expect(throws: TemplateError.self) { try render("{{ \(member).x }}") }
  }
}
