// swift-tools-version: 6.1
import PackageDescription

// Data flows one way: a target imports only targets listed above it (Docs/architecture.md).

let mpi = Context.environment["ZHINAO_MPI"] ?? "mpi-c"

let libraries: [Target] = [
  // MARK: C islands
  .systemLibrary(
    name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
  .target(
    name: "CKernels",
    cSettings: [.define("_GNU_SOURCE", .when(platforms: [.linux]))],
    linkerSettings: [.linkedLibrary("m", .when(platforms: [.linux]))]),
  .target(name: "CSignals", cSettings: [.define("_GNU_SOURCE", .when(platforms: [.linux]))]),
  // Only with the trait MPI (Docs/cluster.md); ZHINAO_MPI=mpich chooses MPICH where the system's default is another.
  .systemLibrary(name: "CMPI", pkgConfig: mpi, providers: [.apt(["libopenmpi-dev"])]),

  // MARK: The outside world
  .target(
    name: "Files", dependencies: ["CZlib", "CSignals", .product(name: "Crypto", package: "swift-crypto")]),
  .target(
    name: "DemoModels", dependencies: ["Files"], resources: [.copy("tiny-zhinao"), .copy("tiny-search")]),
  .target(name: "JSON", dependencies: ["Files"]),
  .target(name: "Terminal", dependencies: ["Files"]),
  .target(name: "Reports", dependencies: ["Files", "JSON", "Terminal"]),

  // MARK: Numbers
  .target(name: "Compute", dependencies: ["CKernels"]),
  .target(name: "Tensors", dependencies: ["Compute"]),
  .target(
    name: "Distribution",
    dependencies: ["Files", "Compute", .target(name: "CMPI", condition: .when(traits: ["MPI"]))]),

  // MARK: Formats
  .target(name: "Safetensors", dependencies: ["Files", "JSON", "Compute", "Tensors"]),
  .target(name: "AutoGPTQ", dependencies: ["Files", "JSON", "Compute", "Tensors", "Safetensors"]),
  .target(name: "GGUF", dependencies: ["Files", "JSON", "Compute", "Tensors", "Safetensors"]),
  .target(
    name: "PackedModel", dependencies: ["Files", "JSON", "Compute", "Tensors", "AutoGPTQ"]),
  .target(name: "Templates"),
  .target(name: "Tokenization", dependencies: ["Files", "JSON", "Templates"]),

  // MARK: The model
  .target(name: "Architecture", dependencies: ["Files", "JSON", "Tensors"]),
  .target(name: "Transformer", dependencies: ["Compute", "Tensors", "Architecture"]),
  .target(
    name: "Models",
    dependencies: [
      "Files", "JSON", "Compute", "Tensors", "Safetensors", "AutoGPTQ", "GGUF", "PackedModel", "Tokenization",
      "Architecture", "Transformer",
    ]),
  .target(
    name: "Adapters",
    dependencies: [
      "Files", "JSON", "Compute", "Tensors", "Safetensors", "Tokenization", "Architecture", "Transformer",
      "Models",
    ]),
  .target(
    name: "Contexts",
    dependencies: [
      "Files", "JSON", "Compute", "Tensors", "Architecture", "Transformer", "Models", "Adapters",
    ]),
  .target(
    name: "Conversion",
    dependencies: [
      "Files", "JSON", "Compute", "Tensors", "Safetensors", "AutoGPTQ", "GGUF", "PackedModel", "Tokenization",
      "Architecture", "Models", "Adapters",
    ]),
  .target(
    name: "Audit",
    dependencies: [
      "Files", "JSON", "Compute", "Tensors", "Safetensors", "AutoGPTQ", "PackedModel", "Tokenization",
      "Architecture", "Models", "Conversion",
    ]),

  // MARK: What people do with it
  .target(name: "Calibration", dependencies: ["Files", "JSON", "Tokenization"]),
  .target(
    name: "Evaluation",
    dependencies: ["Files", "JSON", "Compute", "Distribution", "Tokenization", "Transformer"]),
  .target(
    name: "Training", dependencies: ["Files", "Compute", "Tensors", "Architecture", "Transformer", "Models"]),
  .target(
    name: "Quantization",
    dependencies: [
      "Files", "JSON", "Compute", "Tensors", "Safetensors", "AutoGPTQ", "PackedModel", "Tokenization",
      "Architecture", "Transformer", "Training", "Models", "Conversion", "Calibration", "Evaluation",
      "Distribution",
    ]),
  .target(
    name: "Tuning",
    dependencies: [
      "Files", "JSON", "Compute", "Distribution", "Tensors", "Safetensors", "Templates", "Tokenization",
      "Architecture",
      "Transformer",
      "Models", "Calibration", "Training",
    ]),
  .target(
    name: "Generation",
    dependencies: ["Files", "Compute", "Architecture", "Contexts", "Transformer", "Tokenization"]),
  .target(
    name: "Retrieval",
    dependencies: [
      "Files", "JSON", "Compute", "Distribution", "Tensors", "Safetensors", "Tokenization", "Architecture",
      "Transformer",
      "Models",
    ]),
  .target(
    name: "Tasks",
    dependencies: [
      "Files", "JSON", "Reports", "Compute", "Distribution", "Tensors", "Tokenization", "Architecture",
      "Transformer",
      "Models", "Adapters",
      "Evaluation", "Generation", "Retrieval",
    ]),
  .target(
    name: "Serving",
    dependencies: [
      "Files", "JSON", "Compute", "Tensors", "Architecture", "Transformer", "Models", "Adapters",
      "Contexts", "Tokenization", "Generation", "Retrieval",
      .product(name: "Crypto", package: "swift-crypto"),
      .product(name: "Hummingbird", package: "hummingbird"),
      .product(name: "HummingbirdCore", package: "hummingbird"),
      .product(name: "HTTPTypes", package: "swift-http-types"),
      .product(name: "Logging", package: "swift-log"),
      .product(name: "NIOCore", package: "swift-nio"),
      .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
      .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
    ],
    resources: [
      .embedInCode("Page/index.html"), .embedInCode("Page/style.css"), .embedInCode("Page/markdown.js"),
      .embedInCode("Page/search.js"), .embedInCode("Page/script.js"),
    ]),
  .target(
    name: "Dialogue",
    dependencies: ["Files", "JSON", "Contexts", "Generation", "Tokenization", "Transformer"]),
  .target(
    name: "ToolSupport",
    dependencies: [
      "CSignals", "Files", "JSON", "Terminal", "Reports", "Compute", "Distribution", "Tensors", "AutoGPTQ",
      "Models",
      "Adapters", "Transformer",
      .product(name: "ArgumentParser", package: "swift-argument-parser"),
    ]),
]

let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")

let tools: [Target] = [
  .executableTarget(
    name: "zhinao-convert",
    dependencies: [
      argumentParser, "ToolSupport", "Files", "JSON", "Tensors", "Safetensors", "AutoGPTQ", "GGUF",
      "PackedModel",
      "Tokenization", "Architecture", "Models", "Adapters", "Conversion",
    ]),
  .executableTarget(
    name: "zhinao-quantize",
    dependencies: [
      argumentParser, "ToolSupport", "DemoModels", "Files", "JSON", "Reports", "Tensors", "AutoGPTQ",
      "Transformer", "Distribution",
      "Calibration",
      "Quantization",
    ]),
  .executableTarget(
    name: "zhinao-verify",
    dependencies: [
      argumentParser, "ToolSupport", "Files", "JSON", "Compute", "Tensors", "Safetensors", "GGUF",
      "PackedModel", "Templates",
      "Tokenization", "Transformer", "Models", "Contexts", "Audit", "Distribution", "Evaluation", "Retrieval",
    ]),
  .executableTarget(
    name: "zhinao-chat",
    dependencies: [
      argumentParser, "ToolSupport", "Files", "JSON", "Tensors", "Terminal", "Tokenization", "Transformer",
      "Models", "Adapters", "Contexts", "Generation", "Dialogue",
    ]),
  .executableTarget(
    name: "zhinao-serve",
    dependencies: [
      argumentParser, "ToolSupport", "Files", "JSON", "Tensors", "Terminal", "Tokenization", "Models",
      "Adapters", "Contexts",
      "Generation", "Retrieval", "Serving",
      .product(name: "Logging", package: "swift-log"),
    ]),
  .executableTarget(
    name: "zhinao-search",
    dependencies: [
      argumentParser, "ToolSupport", "DemoModels", "Distribution", "Files", "JSON", "Compute", "Tensors",
      "Safetensors",
      "Terminal",
      "Tokenization", "Transformer", "Models", "Conversion", "Calibration", "Evaluation", "Quantization",
      "Retrieval",
    ]),
  .executableTarget(
    name: "zhinao-evaluate",
    dependencies: [
      argumentParser, "ToolSupport", "DemoModels", "Distribution", "Files", "JSON", "Reports", "Tensors",
      "Terminal",
      "Tokenization",
      "Transformer", "Models", "Adapters", "Evaluation", "Generation", "Retrieval", "Tasks", "Conversion",
      "Calibration",
      "Quantization",
    ],
    resources: [.copy("Resources/demo")]),
  .executableTarget(
    name: "zhinao-tune",
    dependencies: [
      argumentParser, "ToolSupport", "DemoModels", "Distribution", "Files", "JSON", "Reports", "Tensors",
      "Tokenization",
      "Transformer", "Models", "Adapters", "Calibration", "Generation", "Training", "Tuning",
    ],
    resources: [.copy("Resources/demo")]),
  .executableTarget(
    name: "zhinao-bench",
    dependencies: [
      argumentParser, "ToolSupport", "Files", "JSON", "Reports", "Compute", "Tensors", "Safetensors",
      "AutoGPTQ", "PackedModel", "Tokenization", "Architecture", "Transformer", "Models", "Conversion",
      "Quantization", "Generation", "Retrieval",
    ]),
]

let testedLibraries = libraries.filter {
  $0.type == .regular && !["CKernels", "CSignals", "DemoModels"].contains($0.name)
}
// What tests use beside the library they test.
let testDependencies: [String: [Target.Dependency]] = [
  "Adapters": ["Conversion"],
  "Conversion": ["Audit"],
  "Dialogue": ["Compute", "Models", "Tensors"],
  "Evaluation": ["Models", "Safetensors"],
  "Generation": ["JSON", "Models"],
  "PackedModel": ["Safetensors"],
  "Models": ["Conversion"],
  "Training": ["Safetensors"],
  "Retrieval": ["Conversion"],
  "Transformer": ["JSON"],
  "Serving": [.product(name: "HummingbirdTesting", package: "hummingbird")],
]
let tests: [Target] =
  [
    .target(
      name: "TestSupport",
      dependencies: [
        "Files", "JSON", "Compute", "Distribution", "Tensors", "Safetensors", "AutoGPTQ", "GGUF",
        "Architecture",
        "Tokenization",
        "Transformer",
      ],
      path: "Tests/TestSupport")
  ]
  + testedLibraries.map { library in
    .testTarget(
      name: library.name + "Tests",
      dependencies: library.dependencies + [.target(name: library.name), "TestSupport"]
        + (testDependencies[library.name] ?? []))
  }
  + [
    .testTarget(
      name: "CommandLineTests",
      dependencies: [
        "TestSupport", "Files", "JSON", "Compute", "Tensors", "Safetensors", "AutoGPTQ", "GGUF",
        "Architecture",
        "ToolSupport",
        "zhinao-convert", "zhinao-quantize", "zhinao-verify", "zhinao-chat", "zhinao-bench", "zhinao-serve",
        "zhinao-search", "zhinao-evaluate", "zhinao-tune",
      ])
  ]

// Readers of files from strangers under libFuzzer (Tests/External/Fuzz/run); an ordinary build replays kept findings.
let fuzzing: [Target] = [
  .executableTarget(
    name: "zhinao-fuzz",
    dependencies: [
      "Files", "JSON", "Tensors", "Safetensors", "AutoGPTQ", "GGUF", "Architecture", "Calibration", "Models",
      "Adapters", "Conversion", "Audit", "PackedModel", "Templates", "Tokenization", "Transformer",
      "Contexts", "Retrieval", "Evaluation", "Tasks", "Tuning",
    ],
    path: "Tests/External/Fuzz", exclude: ["Regressions", "make_seeds.py", "run", "template.dict"])
]

let package = Package(
  name: "zhinao-toolchain",
  products: tools.map { .executable(name: $0.name, targets: [$0.name]) },
  traits: [
    .trait(name: "MPI", description: "Spreads jobs over the ranks of Open MPI or MPICH (Docs/cluster.md).")
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
  ],
  targets: libraries + tools + fuzzing + tests,
  swiftLanguageModes: [.v6],
  cLanguageStandard: .c17
)
