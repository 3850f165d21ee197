import Foundation
import Templates
import Testing

/// Templates of public models, which are not part of this package. The environment variable `ZHINAO_TEMPLATE_GOLDENS` names a
/// folder with `templates/*.jinja` and `golden/templates.jsonl`: one case a line with `template`, `variables`, and `text`, or
/// `error` (the message of `raise_exception`), or `fault` (any other error). The clock stands at noon of 2026-11-30.
@Suite struct TemplateReferenceTests {
  @Test func rendersAsTheGoldens() throws {
    guard let folder = ProcessInfo.processInfo.environment["ZHINAO_TEMPLATE_GOLDENS"] else {
      print("ZHINAO_TEMPLATE_GOLDENS is not set: the renderings of public templates were not compared.")
      return
    }
    let goldens = try String(contentsOfFile: folder + "/golden/templates.jsonl", encoding: .utf8)
    var templates: [String: Template] = [:]
    var count = 0
    for line in goldens.split(separator: "\n") {
      var reader = JSONReader(String(line))
      let golden = reader.value()
      let file = try #require(golden["template"]?.string)
      let source = try String(contentsOfFile: folder + "/templates/" + file, encoding: .utf8)
      guard case .object(let variables)? = golden["variables"] else { continue }
      count += 1
      do throws(TemplateError) {
        if templates[file] == nil { templates[file] = try Template(source) }
        let text = try templates[file]!.render(variables, clock: Example.clock).text
        #expect(text == golden["text"]?.string, "\(file), \(golden["name"]?.string ?? "")")
      } catch {
        if case .raised(let message) = error {
          #expect(message == golden["error"]?.string, "\(file), \(golden["name"]?.string ?? "")")
        } else {
          #expect(golden["fault"] != nil, "\(file), \(golden["name"]?.string ?? ""): \(error)")
        }
      }
    }
    #expect(count > 0)
  }

  /// A message of special-looking strings is data in every template.
  @Test func messagesStayDataInEveryTemplate() throws {
    guard let folder = ProcessInfo.processInfo.environment["ZHINAO_TEMPLATE_GOLDENS"] else { return }
    let message = TemplateProvenanceTests.hostile + "XYZZY"
    for file in try FileManager.default.contentsOfDirectory(atPath: folder + "/templates")
    where file.hasSuffix(".jinja") {
      let template = try Template(String(contentsOfFile: folder + "/templates/" + file, encoding: .utf8))
      let messages: TemplateValue = [["role": "user", "content": .string(message)]]
      guard
        let rendering = try? template.render(
          [
            .init("messages", messages), .init("bos_token", .templateText("<s>")),
            .init("eos_token", .templateText("</s>")),
          ],
          clock: Example.clock)
      else { continue }
      let own = rendering.segments.filter(\.isFromTemplate).map(\.text).joined()
      #expect(!own.contains("XYZZY") && !own.contains("\u{202E}"), "\(file)")
      let data = rendering.segments.filter { !$0.isFromTemplate }.map(\.text).joined()
      #expect(data.contains("XYZZY"), "\(file)")
    }
  }
}
