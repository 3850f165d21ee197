import Tokenization

/// What bounds a request.
package struct ServerLimits: Sendable {
  /// Bytes of a body.
  package var bodyBytes = 4 << 20
  /// Bytes of all header fields, and of one.
  package var headerBytes = 32 << 10
  package var headerFields = 100
  /// Until a new connection has sent a request's head.
  package var headerTime = Duration.seconds(15)
  /// Until a body is complete.
  package var bodyTime = Duration.seconds(30)
  /// Until an idle connection is closed.
  package var idleTime = Duration.seconds(75)
  /// Until an answer ends, waiting included.
  package var requestTime = Duration.seconds(600)
  /// Tokens of an answer.
  package var newTokens = Int.max
  package var connections = 1024
  /// Texts, documents or pairs of one request.
  package var inputs = 2048
  /// Whether texts longer than the model takes are cut when a request does not say.
  package var truncates = true
  /// Whether vectors of models that were not trained for it may be shortened.
  package var shortensVectors = false
  /// Whether names of special tokens in texts that become vectors are tokens when a request does not say.
  package var specials = SpecialTokens.recognized

  package init() {}
}
