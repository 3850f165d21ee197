import ArgumentParser
import Testing
import ToolSupport

@Suite struct OptionTests {
  @Test func numbersOutOfRangeAreNamed() throws {
    try OptionRange.check("--n", nil, 1...2)
    try OptionRange.check("--n", 1, 1...2)
    let error = #expect(throws: ValidationError.self) { try OptionRange.check("--n", 3, 1...2) }
    #expect(error?.message == "--n: expected a number from 1 to 2, not 3.")
    for value in [Double.nan, .infinity, -1] {
      #expect(throws: ValidationError.self) { try OptionRange.check("--x", value, 0...1.0) }
    }
  }

  @Test(arguments: ["0", "-1", "1000000001", "9223372036854775807", "99999999999999999999", "1.5", "", "１"])
  func sizesOfShardsHaveLimits(text: String) {
    #expect(throws: (any Error).self) { try FolderOptions.parse(["--shard-size=\(text)"]) }
  }

  @Test func foldersAreWrittenAsAsked() throws {
    let options = try FolderOptions.parse(["--shard-size", "1000000000", "--checkpoint-format", "gptq_v2"])
    #expect(options.shardByteLimit == 1_000_000_000_000_000)
    #expect(options.checkpointFormat == .v2)
    #expect(try FolderOptions.parse([]).shardByteLimit == 5_000_000_000)
  }

  /// The cache is as exact as the products, unless the command line says otherwise.
  @Test func theTypeOfTheCacheFollowsTheArithmetic() throws {
    let unset = try KVCacheOptions.parse([])
    #expect(unset.type(beside: .exact) == .f32 && unset.type(beside: .fast) == .f16)
    #expect(try KVCacheOptions.parse(["--kv-cache", "int8"]).type(beside: .exact) == .int8)
    #expect(try ArithmeticOptions.parse([]).arithmetic == nil)
    #expect(try ArithmeticOptions.parse(["--arithmetic", "q8_0"]).arithmetic?.rawValue == "q8_0")
    #expect(throws: (any Error).self) { try ArithmeticOptions.parse(["--arithmetic", "fp32"]) }
  }

  @Test(arguments: ["0", "1025", "-9223372036854775808"])
  func threadsHaveLimits(text: String) {
    #expect(throws: (any Error).self) { try ComputeOptions.parse(["--threads=\(text)"]) }
  }
}
