extension ModelFamily {
  /// BERT and what has its shape: 360Zhinao-search, bge, MiniLM, cross-encoders. Post-norm blocks, learned positions.
  package static let bert = ModelFamily(
    name: "bert", kind: .encoder, modelClass: "BertModel", qkvLayout: .separate,
    defaults: Defaults(contextLength: 512, qkvBias: .always, outputBias: .always), gguf: nil,
    layerPrefix: "encoder.layer.", bodyPrefix: "bert.", legacyNormParts: ("gamma", "beta"),
    tensors: [
      [
        .lookup(.embedding, .vocabulary, "embeddings.word_embeddings"),
        .lookup(.positionEmbedding, .positions, "embeddings.position_embeddings"),
        .lookup(.typeEmbedding, .textTypes, "embeddings.token_type_embeddings"),
      ],
      TensorRule.layerNorm(.embeddingNorm, "embeddings.LayerNorm"),
      TensorRule.biasedProjection(.query, [.hidden, .hidden], .attentionInput, "attention.self.query"),
      TensorRule.biasedProjection(.key, [.hidden, .hidden], .attentionInput, "attention.self.key"),
      TensorRule.biasedProjection(.value, [.hidden, .hidden], .attentionInput, "attention.self.value"),
      TensorRule.biasedProjection(
        .attentionOutput, [.hidden, .hidden], .attentionOutput, "attention.output.dense"),
      TensorRule.layerNorm(.attentionNorm, "attention.output.LayerNorm"),
      TensorRule.biasedProjection(
        .intermediate, [.intermediate, .hidden], .feedForwardInput, "intermediate.dense"),
      TensorRule.biasedProjection(.output, [.hidden, .intermediate], .feedForwardOutput, "output.dense"),
      TensorRule.layerNorm(.outputNorm, "output.LayerNorm"),
      TensorRule.biasedProjection(.pooler, [.hidden, .hidden], when: .optional, "pooler.dense"),
      TensorRule.biasedProjection(
        .classifier, [.labels, .hidden], when: .classifies, "classifier", isOfBody: false),
    ].flatMap { $0 })
}
