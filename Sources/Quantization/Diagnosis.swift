/// What needs a person's attention in a module of a finished quantization.
package struct Diagnosis: Equatable, Sendable {
  package var module: String
  /// A sentence each.
  package var findings: [String]

  /// A module's loss is out of line above this many times the median of the same module in all layers.
  package static let lossFactor = 10.0

  /// The modules with findings.
  package static func findings(_ modules: [ModuleReport]) -> [Diagnosis] {
    // What stands behind the number of the layer, or the last part of a name without one.
    func kind(_ module: ModuleReport) -> String {
      let parts = module.module.utf8.split(separator: UInt8(ascii: ".")).map {
        String(decoding: $0, as: UTF8.self)
      }
      let number = parts.firstIndex { Int($0) != nil }
      return parts[(number.map { $0 + 1 } ?? max(0, parts.count - 1))...].joined(separator: ".")
    }
    let losses = Dictionary(grouping: modules, by: kind).mapValues { $0.map(\.averageLoss).sorted() }
    let medians = losses.mapValues { $0[$0.count / 2] }
    return modules.compactMap { module in
      var found: [String] = []
      if let median = medians[kind(module)], median > 0, module.averageLoss > lossFactor * median {
        let times = (module.averageLoss / median).rounded()
        found.append(
          "its loss is \(times.isFinite ? "\(Int(times))" : "infinitely many") times the median of \(kind(module))"
        )
      }
      if !module.warnings.isEmpty { found.append("damping was raised to \(module.dampPercent)") }
      let isSingular = module.inputs.map { $0.tokens < $0.channels } ?? false
      guard !found.isEmpty || isSingular || module.deadChannels > 0 else { return nil }
      return Diagnosis(module: module.module, findings: found + module.reasons)
    }
  }
}
