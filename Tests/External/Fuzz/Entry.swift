#if FUZZING
  import Foundation

  private let target =
    FuzzTarget(rawValue: ProcessInfo.processInfo.environment["ZHINAO_FUZZ"] ?? "")
    ?? { fatalError("set ZHINAO_FUZZ to one of \(FuzzTarget.allCases.map(\.rawValue))") }()

  private typealias Arguments = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>

  @_silgen_name("LLVMFuzzerRunDriver")
  private func runDriver(
    _ count: UnsafeMutablePointer<CInt>, _ arguments: UnsafeMutablePointer<Arguments>,
    _ body: @convention(c) (UnsafeRawPointer?, Int) -> CInt
  ) -> CInt

  /// The package manager makes this the program's `main`.
  @_cdecl("zhinao_fuzz_main")
  public func fuzzMain(_ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> CInt
  {
    var count = count
    var arguments = arguments
    return runDriver(&count, &arguments, fuzzOneInput)
  }

  @_cdecl("LLVMFuzzerTestOneInput")
  public func fuzzOneInput(_ start: UnsafeRawPointer?, _ count: Int) -> CInt {
    target.run(UnsafeRawBufferPointer(start: start, count: count))
    return 0
  }
#else
  import Foundation

  /// Without libFuzzer: `zhinao-fuzz TARGET FILE…` runs a target once on each file, for findings kept as regressions.
  @main
  struct Replay {
    static func main() {
      let arguments = CommandLine.arguments.dropFirst()
      guard let target = arguments.first.flatMap(FuzzTarget.init(rawValue:)) else {
        print("usage: zhinao-fuzz \(FuzzTarget.allCases.map(\.rawValue).joined(separator: "|")) FILE…")
        exit(64)
      }
      for path in arguments.dropFirst() {
        guard let data = FileManager.default.contents(atPath: path) else {
          print("cannot read \(path)")
          exit(66)
        }
        data.withUnsafeBytes { target.run($0) }
      }
      print("\(target.rawValue): \(arguments.count - 1) inputs, no crash")
    }
  }
#endif
