import ArgumentParser
import Files
import JSON
import Tasks
import ToolSupport

struct TasksCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tasks",
    abstract: "List the tasks, the files each of them reads, and their licences.",
    discussion: """
      Nothing is downloaded: get the files from their publishers.

      EXAMPLES
        zhinao-evaluate tasks
        zhinao-evaluate tasks ceval
      """)

  @Argument(help: "Name of a task; without it, all of them.")
  var name: String?
  @OptionGroup var output: OutputOptions

  func run() throws {
    let all = LoadedTask.catalogue
    let shown =
      try name.map { name in
        let found = all.filter { $0.name.hasSameBytes(as: name) }
        guard !found.isEmpty else { throw TaskError(.unknownTask(known: all.map(\.name)), path: name) }
        return found
      } ?? all
    try output.show(
      .array(
        shown.map {
          [
            "name": .string($0.name), "title": .string($0.title), "files": .string($0.layout),
            "licence": .string($0.licence),
          ]
        })
    ) {
      shown.map { "\($0.name)\n  \($0.title)\n  files: \($0.layout)\n  licence: \($0.licence)" }.joined(
        separator: "\n")
    }
  }
}
