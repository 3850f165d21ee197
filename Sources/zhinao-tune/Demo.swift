import ToolSupport

struct Demo {
  let options: Tune
  func run() throws {}
}
