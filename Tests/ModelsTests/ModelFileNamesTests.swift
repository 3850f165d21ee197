import Models
import Testing

@Suite struct ModelFileNamesTests {
  @Test(arguments: [
    "config.json", "vocab/360.tiktoken", "modeling_x.py", "LICENSE", "tokenizer.model", "docs/NOTICE.txt",
  ])
  func filesOfAModel(name: String) { #expect(ModelFileNames.belongsToModel(name)) }

  @Test(arguments: [
    "weights.bin", ".git/config.json", "a/.hidden.py", "sub/x.py", "sub/\u{301}x.py", ".\u{301}x.tiktoken",
    "a/.\u{FE0F}/x.tiktoken",
    "x.py\u{301}", "a/\u{200D}t.model",
  ])
  func otherFiles(name: String) { #expect(!ModelFileNames.belongsToModel(name)) }
}
