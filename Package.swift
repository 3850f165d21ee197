// swift-tools-version: 6.1
import PackageDescription

// Data flows one way: a target imports only targets listed above it (Docs/architecture.md).

let libraries: [Target] = [
  // MARK: C islands
  .systemLibrary(
    name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
  .target(
    name: "CKernels",
    cSettings: [.define("_GNU_SOURCE", .when(platforms: [.linux]))],
    linkerSettings: [.linkedLibrary("m", .when(platforms: [.linux]))]),

  // MARK: Files, numbers, text
  .target(name: "FileSupport", dependencies: ["CZlib", .product(name: "Crypto", package: "swift-crypto")]),
  .target(name: "Terminal"),
  .target(name: "Numerics", dependencies: ["CKernels"]),
  .target(name: "Checkpoints", dependencies: ["FileSupport", "Numerics"]),
  .target(name: "Tokenization", dependencies: ["FileSupport"]),
  .target(name: "PackedModel", dependencies: ["CKernels", "FileSupport", "Numerics", "Checkpoints"]),

  // MARK: The model
  .target(name: "Transformer", dependencies: ["Numerics", "Checkpoints"]),
  .target(
    name: "Models",
    dependencies: ["FileSupport", "Checkpoints", "Tokenization", "PackedModel", "Transformer"]),

  // MARK: What people do with it
  .target(name: "Calibration", dependencies: ["FileSupport", "Tokenization"]),
  .target(
    name: "GPTQ",
    dependencies: ["Numerics", "Checkpoints", "Transformer", "PackedModel", "Models", "Calibration"]),
  .target(name: "Evaluation", dependencies: ["Numerics", "Transformer", "Models", "Tokenization"]),
  .target(name: "Generation", dependencies: ["Transformer", "Models", "Tokenization"]),
  .target(
    name: "Serving",
    dependencies: [
      "FileSupport", "Numerics", "Checkpoints", "Models", "Tokenization", "Generation",
      .product(name: "Crypto", package: "swift-crypto"),
      .product(name: "Hummingbird", package: "hummingbird"),
      .product(name: "HummingbirdCore", package: "hummingbird"),
      .product(name: "HTTPTypes", package: "swift-http-types"),
      .product(name: "Logging", package: "swift-log"),
      .product(name: "NIOCore", package: "swift-nio"),
      .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
      .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
      // Not used: it gives the target of this name among Hummingbird's dependencies another one than ours.
      .product(name: "Numerics", package: "swift-numerics", moduleAliases: ["Numerics": "SwiftNumerics"]),
    ],
    resources: [
      .embedInCode("Page/index.html"), .embedInCode("Page/style.css"), .embedInCode("Page/markdown.js"),
      .embedInCode("Page/script.js"),
    ]),
  .target(
    name: "Dialogue", dependencies: ["FileSupport", "Generation", "Numerics", "Tokenization", "Transformer"]),
  .target(
    name: "ToolSupport",
    dependencies: [
      "FileSupport", "Terminal", "Numerics", "Checkpoints", "Models", "Transformer",
      .product(name: "ArgumentParser", package: "swift-argument-parser"),
    ]),
]

let tools: [Target] = [
  .executableTarget(
    name: "zhinao-convert",
    dependencies: ["ToolSupport", "Models", "PackedModel", "Checkpoints"]),
  .executableTarget(
    name: "zhinao-quantize",
    dependencies: ["ToolSupport", "GPTQ", "Calibration", "Evaluation", "Models", "Numerics", "PackedModel"],
    resources: [.copy("Resources/tiny-zhinao")]),
  .executableTarget(
    name: "zhinao-verify",
    dependencies: ["ToolSupport", "Evaluation", "Models", "PackedModel", "Numerics", "Transformer"]),
  .executableTarget(
    name: "zhinao-chat",
    dependencies: [
      "ToolSupport", "Dialogue", "Generation", "Models", "Numerics", "Terminal", "Tokenization",
      "Transformer",
    ]),
  .executableTarget(
    name: "zhinao-serve",
    dependencies: [
      "ToolSupport", "Serving", "Generation", "Models", "Numerics",
      .product(name: "Logging", package: "swift-log"),
    ]),
  .executableTarget(
    name: "zhinao-bench",
    dependencies: [
      "ToolSupport", "CKernels", "GPTQ", "Models", "Numerics", "PackedModel", "Tokenization", "Transformer",
    ]),
]

let testedLibraries = libraries.filter {
  $0.type == .regular && !["CKernels", "ToolSupport"].contains($0.name)
}
let tests: [Target] =
  [
    .target(
      name: "TestSupport", dependencies: ["Checkpoints", "Numerics", "FileSupport"], path: "Tests/TestSupport"
    )
  ]
  + testedLibraries.map { library in
    .testTarget(
      name: library.name + "Tests",
      dependencies: library.dependencies + [.target(name: library.name), "TestSupport"])
  }
  + [
    .testTarget(
      name: "CommandLineTests",
      dependencies: [
        "TestSupport", "FileSupport", "Checkpoints", "Numerics", "ToolSupport",
        "zhinao-convert", "zhinao-quantize", "zhinao-verify", "zhinao-chat", "zhinao-bench", "zhinao-serve",
      ])
  ]

// Readers of files from strangers under libFuzzer (Tests/External/Fuzz/run); an ordinary build replays kept findings.
let fuzzing: [Target] = [
  .executableTarget(
    name: "zhinao-fuzz",
    dependencies: ["Calibration", "Models", "PackedModel", "Tokenization", "Transformer"],
    path: "Tests/External/Fuzz", exclude: ["Regressions", "make_seeds.py", "run"])
]

let package = Package(
  name: "zhinao-toolchain",
  products: tools.map { .executable(name: $0.name, targets: [$0.name]) },
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
    .package(url: "https://github.com/apple/swift-numerics", from: "1.1.1"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
  ],
  targets: libraries + tools + fuzzing + tests,
  swiftLanguageModes: [.v6],
  cLanguageStandard: .c17
)
