import Files
import Tokenization

extension LoRAAdapter {
  /// A sentence on a chat template in the adapter's folder that differs from the base model's; nil: there is none.
  package func templateNote(base: any ModelFiles) -> String? {
    guard let own = try? ModelTemplate(files),
      (try? ModelTemplate(base))??.source.hasSameBytes(as: own.source) != true
    else { return nil }
    return
      "\(path): has another chat template than the base model, whose template is used; give the model that template if the "
      + "adapter was trained with it"
  }
}
