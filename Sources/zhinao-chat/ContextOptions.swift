import ArgumentParser
import Contexts
import Files
import Foundation
import Models
import Tensors
import ToolSupport
import Transformer

/// Keys and values that outlive the process.
struct ContextOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Use the keys and values of a saved context for the tokens that the prompt begins with, instead of reading them "
        + "again.", valueName: "file"), completion: .file(extensions: ["zhctx"]))
  var context: String?
  @Option(
    help: ArgumentHelp(
      "Save the keys and values of prompt and answer, or of the conversation when it ends. With Ctrl-C while a prompt is "
        + "read, save what was read.", valueName: "file"), completion: .file(extensions: ["zhctx"]))
  var saveContext: String?

  /// What the files depend on; nil when none is asked for.
  func identity(
    _ model: OpenedModel, adapters: AdapterOptions, arithmetic: Int4Arithmetic, cacheType: KVCacheType
  ) throws -> ContextIdentity? {
    guard context != nil || saveContext != nil else { return nil }
    // Before hours of reading, not after them.
    if let saveContext {
      let parts = PathParts(saveContext)
      var isFolder: ObjCBool = false
      if FileManager.default.fileExists(atPath: saveContext, isDirectory: &isFolder), isFolder.boolValue {
        throw FileError(.cannotWrite, path: saveContext, detail: "is a folder; name a file in it")
      }
      guard FileManager.default.isWritableFile(atPath: parts.folder) else {
        throw FileError(.cannotWrite, path: saveContext, detail: "\(parts.folder) cannot be written to")
      }
    }
    return try ContextIdentity(
      model, adapters: adapters.adapters(), arithmetic: arithmetic, cacheType: cacheType)
  }

  /// Refuses to read what cannot be saved then.
  /// - Parameter byteCount: of the keys and values.
  func checkRoom(for byteCount: Int) throws {
    guard let saveContext, let free = freeBytes(inFolder: PathParts(saveContext).folder),
      free < UInt64(byteCount)
    else { return }
    throw FileError(.cannotWrite, path: saveContext, reason: .noRoom(needed: byteCount, free: free))
  }

  /// The saved context, of which nothing but its head was read.
  /// - Throws: ``SavedContextError`` when it is not of this model, arithmetic, cache and adapters.
  func opened(_ identity: ContextIdentity?, for model: OpenedModel) throws -> SavedContext? {
    guard let context, let identity else { return nil }
    let saved = try SavedContext(path: context)
    try saved.check(identity, configuration: model.decoderConfiguration)
    return saved
  }

  /// Saves what a cache holds, up to a whole number of its panels.
  /// - Returns: what to say about it; nil when nothing was to be saved.
  func save(
    _ held: (tokens: [Int], cache: KVCache)?, identity: ContextIdentity?, model: OpenedModel
  ) throws -> String? {
    guard let saveContext, let identity else { return nil }
    let planes = held?.cache.type.planes(model.decoderConfiguration) ?? []
    let count = planes.wholeTokens(held?.tokens.count ?? 0)
    guard let held, count > 0 else { return "\(saveContext) is not written: too few tokens were read" }
    let bytes = try SavedContextWriter.write(
      to: saveContext, tokens: held.tokens[..<count], of: held.cache,
      planes: planes, identity: identity, generator: ToolVersion.generator)
    return "\(count) tokens saved to \(saveContext), \(Format.bytes(bytes ?? 0))"
  }
}
