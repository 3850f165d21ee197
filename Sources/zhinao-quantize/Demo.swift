import FileSupport

struct Demo {
  func run(json: Bool) throws {}
}
