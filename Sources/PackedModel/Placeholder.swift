// PackedModel
