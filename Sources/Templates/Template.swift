/// A chat template: text with statements of the Jinja2 language, as models ship it.
///
/// The language is that of Jinja2 3.1 in the environment that transformers runs templates in: an immutable sandbox with
/// `trim_blocks` and `lstrip_blocks`, the tags `break`, `continue` and `generation`, and the functions
/// `raise_exception` and `strftime_now`. A template sees nothing but the values it is given, and its time, depth and
/// output are bounded.
///
/// A template is compiled once and can then be rendered on several threads at once.
package struct Template: Sendable {
  private let program: Program
  private let limits: TemplateLimits

  /// Compiles a template.
  /// - Throws: ``TemplateError``: what is wrong with the source, and in which line.
  package init(_ source: String, limits: TemplateLimits = TemplateLimits()) throws(TemplateError) {
    guard source.utf8.count <= limits.sourceBytes else {
      throw .sourceTooLong(bytes: source.utf8.count, limit: limits.sourceBytes)
    }
    self.limits = limits
    do {
      program = try Parser.program(of: source, limits: limits)
    } catch let error as TemplateError {
      throw error
    } catch {
      throw .evaluation("\(error)", line: 0)
    }
  }

  /// Renders the template.
  /// - Parameters:
  ///   - variables: The values that the template can see, by their names. Of two with one name, the last one counts.
  ///   - clock: What `strftime_now` shows; templates that call it without one are refused.
  /// - Returns: The text in segments, so that special tokens are looked for only where the template wrote them.
  /// - Throws: ``TemplateError/raised(_:)`` with the message of `raise_exception`, and other cases of ``TemplateError``.
  package func render(
    _ variables: [TemplateMember], clock: TemplateClock? = nil
  ) throws(TemplateError) -> TemplateRendering {
    let interpreter = Interpreter(program, limits: limits, clock: clock)
    do {
      return try interpreter.render(variables)
    } catch let error as TemplateError {
      throw error
    } catch {
      throw .evaluation("\(error)", line: interpreter.line)
    }
  }

  /// The names that the template looks up among the values it is given, such as `tools` or `enable_thinking`.
  package var variableNames: [String] { program.externalNames }
}
